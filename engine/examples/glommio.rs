//! A glommio host: its executor records and reads while the engine runs on executors of its own.
//!
//! Needs io_uring. Where the kernel or a container forbids it, this ends with exit code 3.

use ebbtide::{
    Ack, AsyncReader, Backend, Engine, EntityId, Event, OpenError, Producer, Schema, SignalId,
    Timestamp,
};
use glommio::{LocalExecutorBuilder, Placement};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

const SCHEMA: &str = "[signals.bid]\nhalf_lives = [\"1min\"]\nwindows = [\"1min\"]\n";
const CAMPAIGN: EntityId = EntityId(3);
const BIDS: u64 = 2_000;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    let schema = Schema::from_toml(SCHEMA)?;
    let bid = schema.signal("bid").expect("the schema above has it");
    // An engine that insists on io_uring is the probe: a refusal is an error, never a panic.
    let engine = match Engine::in_memory().schema(schema).shards(1).backend(Backend::Uring).open() {
        Err(OpenError::Backend { why }) => {
            eprintln!("error: this example needs io_uring: {why}");
            return Ok(ExitCode::from(3));
        }
        opened => opened?,
    };
    println!("the engine runs on {}", engine.backend());

    let (producer, reader) = (engine.producer()?, engine.async_reader()?);
    let host = LocalExecutorBuilder::new(Placement::Unbound)
        .name("host")
        .spawn(move || host(producer, reader, bid))
        .map_err(|error| error.to_string())?;
    host.join().map_err(|error| error.to_string())??;
    engine.close(Duration::from_secs(5))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything here runs on the host's executor; the handles are moved to it and stay.
async fn host(
    mut producer: Producer,
    mut reader: AsyncReader,
    bid: SignalId,
) -> Result<(), Failure> {
    let watching = glommio::spawn_local(async move {
        let mut reads = 0;
        loop {
            let reading = reader.read(CAMPAIGN, bid, reader.now()).await?;
            reads += 1;
            if let Some(seen) = reading.filter(|seen| seen.all_time == BIDS) {
                return Ok::<_, Failure>((reads, seen.scores()[0]));
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    });
    for _ in 0..BIDS {
        let now = Timestamp::from(SystemTime::now());
        let ticket = producer.offer(Event::new(CAMPAIGN, bid, now))?;
        producer.acked(ticket, Ack::Applied).await?;
    }
    let (reads, score) = watching.await?;
    println!(
        "{BIDS} bids, each awaited until applied; {reads} reads beside them; score {score:.1}"
    );
    Ok(())
}
