//! A stream that can be read again is recorded in two lives of an engine, and every line counts
//! once, although the second life does not know where the first one broke off.

use ebbtide::{
    Ack, Engine, EntityId, Event, Schema, SignalId, SourceEvent, SourceProducer, Timestamp,
};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]";
const PATIENCE: Duration = Duration::from_secs(10);
/// The stream's name; the engine keeps under it how far it has come.
const SOURCE: &str = "views.csv";
const LINES: u64 = 10_000;
const PAGES: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("store");

    // The first life ends in the middle, and nobody asked how far it had come.
    let engine = open(&directory, 2)?;
    record(&engine, 1, 6_000)?;
    drop(engine);

    // The second life has other shards. It may begin anywhere at or before the resume offset; here
    // it begins a thousand lines too early.
    let engine = open(&directory, 3)?;
    let resume = engine.resume_offset(SOURCE)?.unwrap_or(0);
    println!("the source resumes behind line {resume}");
    let mut producer = record(&engine, resume.saturating_sub(1_000) + 1, LINES)?;
    producer.flush(Ack::Durable, PATIENCE)?;

    let metrics = engine.metrics();
    let repeated: u64 = metrics.shards.iter().map(|shard| shard.events_repeated).sum();
    println!("{repeated} lines came again and were left out");
    let view = engine.schema().signal("view").expect("the schema above has it");
    let mut reader = engine.reader()?;
    for page in 0..PAGES {
        let reading = reader.read(EntityId(page), view, engine.now())?.expect("it was viewed");
        assert_eq!(reading.all_time, LINES / PAGES, "page {page}");
    }
    println!("each of {PAGES} pages has its {} views, none twice", LINES / PAGES);
    engine.close(PATIENCE)?;
    Ok(())
}

fn open(directory: &Path, shards: usize) -> Result<Engine, Box<dyn Error>> {
    let schema = Schema::from_toml(SCHEMA)?;
    Ok(Engine::builder(directory).schema(schema).shards(shards).open()?)
}

/// The n-th line of the stream. It must say the same each time it is read.
fn line(n: u64, view: SignalId) -> SourceEvent {
    let time = Timestamp::from_seconds(1_772_368_200 + n);
    SourceEvent::new(n, Event::new(EntityId(n % PAGES), view, time))
}

fn record(engine: &Engine, first: u64, last: u64) -> Result<SourceProducer, Box<dyn Error>> {
    let view = engine.schema().signal("view").expect("the schema above has it");
    let mut producer = engine.producer_for(SOURCE)?;
    for n in first..=last {
        producer.offer_within(line(n, view), PATIENCE)?;
    }
    Ok(producer)
}
