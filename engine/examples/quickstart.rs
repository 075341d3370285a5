//! Records one event and reads what it amounts to.

use ebbtide::{Ack, Engine, EntityId, Event, Schema};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hours = |h: u64| Duration::from_secs(h * 3600);
    let schema = Schema::builder()
        .signal("view", |s| s.half_lives([hours(1), hours(24)]).windows([hours(1), hours(168)]))
        .build()?;
    let view = schema.signal("view").expect("it was just defined");
    let engine = Engine::in_memory().schema(schema).open()?;

    let mut producer = engine.producer()?;
    let event = Event::new(EntityId::of_name("post-42"), view, engine.now());
    let ticket = producer.offer(event.with_weight(2.0))?;
    producer.wait(ticket, Ack::Applied, hours(1))?;

    let mut reader = engine.reader()?;
    let reading = reader.read(event.entity, view, reader.now())?.expect("it has an event");
    println!("score {:.3}, {} in the last hour", reading.scores()[0], reading.counts()[0]);
    engine.close(hours(1))?;
    Ok(())
}
