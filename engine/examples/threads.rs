//! Plain threads: four record at once while one reads; then a table of what came of it.
//!
//! Each thread has a handle of its own. Handles can be moved to a thread, not shared.

use ebbtide::{
    Ack, Engine, EntityId, Event, OfferError, Producer, Reader, Schema, SignalId, Timestamp,
};
use std::error::Error;
use std::thread;
use std::time::Duration;

const SCHEMA: &str = r#"
    [signals.view]
    half_lives = ["10min"]
    windows = ["5min", "1h"]
    velocity = true
"#;
const PRODUCERS: u64 = 4;
const EVENTS_EACH: u64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Schema::from_toml(SCHEMA)?;
    let view = schema.signal("view").expect("the schema above has it");
    let engine = Engine::in_memory().schema(schema).shards(2).open()?;
    println!("{} shards on {}", engine.shards(), engine.backend());

    let now = engine.now();
    let recorders = (0..PRODUCERS).map(|_| {
        let mut producer = engine.producer()?;
        Ok(thread::spawn(move || record(&mut producer, view, now)))
    });
    let recorders = recorders.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let mut reader = engine.reader()?;
    watch(&mut reader, view, now)?;
    for recorder in recorders {
        recorder.join().expect("a recorder does not panic")?;
    }

    println!("page    score  in 5 min    in 1 h  per second");
    for page in 1..=5 {
        let of = reader.read(EntityId(page), view, now)?.expect("every page was viewed");
        let (score, counts, per_second) = (of.scores()[0], of.counts(), of.velocities()[1]);
        println!("{page:>4} {score:>8.1} {:>9} {:>9} {per_second:>11.3}", counts[0], counts[1]);
    }
    engine.close(PATIENCE)?;
    Ok(())
}

/// Records views of the last hour; page 1 is twice as popular as page 2, and so on.
fn record(producer: &mut Producer, view: SignalId, now: Timestamp) -> Result<(), OfferError> {
    for n in 0..EVENTS_EACH {
        let page = 1 + u64::from(n.trailing_zeros().min(19));
        let ago = Duration::from_secs(n % 3600);
        let time = Timestamp::from_seconds(now.as_nanos() / 1_000_000_000 - ago.as_secs());
        // A full ring is a value, not a wait: here the thread has time, so it chooses to wait.
        let _ticket = producer.offer_within(Event::new(EntityId(page), view, time), PATIENCE)?;
    }
    producer.flush(Ack::Applied, PATIENCE).expect("the shards run");
    Ok(())
}

/// Reads beside the recorders until half of all events, the views of page 1, have been applied.
fn watch(reader: &mut Reader, view: SignalId, now: Timestamp) -> Result<(), Box<dyn Error>> {
    let mut reads = 0;
    while reader.read(EntityId(1), view, now)?.map_or(0, |of| of.all_time)
        < PRODUCERS * EVENTS_EACH / 2
    {
        reads += 1;
    }
    println!("{reads} reads while {} events were recorded", PRODUCERS * EVENTS_EACH);
    Ok(())
}
