//! Records one event and reads what it amounts to.

use ebbtide::{Ack, Engine, EntityId, Event, Schema};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [hour, week] = [1, 7 * 24].map(Duration::from_hours);
    let schema = Schema::builder()
        .signal("view", |s| s.half_lives([hour, week]).windows([hour, week]))
        .build()?;
    let view = schema.signal("view").expect("it was just defined");
    let folder = tempfile::tempdir()?; // for the example: a store wants a place that stays
    let engine = Engine::builder(folder.path().join("signals")).schema(schema).open()?;

    let mut producer = engine.producer()?;
    let event = Event::new(EntityId::of_name("post-42"), view, engine.now()).with_weight(2.0);
    let ticket = producer.offer(event)?;
    producer.wait(ticket, Ack::Durable, Duration::from_secs(5))?;

    let mut reader = engine.reader()?;
    let reading = reader.read(event.entity, view, reader.now())?.expect("it has an event");
    println!("score {:.3}, {} in the last hour", reading.scores()[0], reading.counts()[0]);
    engine.close(Duration::from_secs(5))?;
    Ok(())
}
