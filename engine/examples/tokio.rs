//! A tokio host: tickets are futures, and so are reads. The engine knows nothing of tokio.

use ebbtide::{Ack, AsyncReader, Engine, EntityId, Event, OfferError, Producer, Schema, SignalId};
use std::error::Error;
use std::time::Duration;

const SCHEMA: &str = "[signals.click]\nhalf_lives = [\"30s\"]\nwindows = [\"5min\"]\n";
const AD: EntityId = EntityId(7);
const CLICKS: u64 = 20_000;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let schema = Schema::from_toml(SCHEMA)?;
    let click = schema.signal("click").expect("the schema above has it");
    let engine = Engine::in_memory().schema(schema).shards(1).open()?;

    let mut producer = engine.producer()?;
    let reader = engine.async_reader()?;
    let watching = tokio::spawn(watch(reader, click));
    for n in 0..CLICKS {
        let ticket = offer(&mut producer, Event::new(AD, click, engine.now())).await?;
        // The future needs no executor in particular, and may be dropped at any time.
        if n % 100 == 99 {
            producer.acked(ticket, Ack::Applied).await?;
        }
    }
    let reads = watching.await??;
    println!("{CLICKS} clicks recorded and {reads} reads answered beside them");

    // Closing waits on a thread, so it goes where waiting is allowed.
    tokio::task::spawn_blocking(move || engine.close(Duration::from_secs(5))).await??;
    Ok(())
}

/// Offers one event; while its ring is full, lets other tasks run.
async fn offer(producer: &mut Producer, event: Event) -> Result<ebbtide::Ticket, OfferError> {
    loop {
        match producer.offer(event) {
            Err(OfferError::Full { .. }) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}

/// Reads in a task of its own until every click is there, and shows some of the answers.
async fn watch(mut reader: AsyncReader, click: SignalId) -> Result<u64, Failure> {
    let mut reads = 0;
    let mut shown = 0;
    loop {
        let reading = reader.read(AD, click, reader.now()).await?;
        reads += 1;
        if let Some(seen) = reading
            && seen.all_time >= shown
        {
            shown = seen.all_time + CLICKS / 4;
            println!("{:>6} clicks, score {:>8.1}", seen.all_time, seen.scores()[0]);
        }
        if reading.is_some_and(|seen| seen.all_time == CLICKS) {
            return Ok(reads);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
