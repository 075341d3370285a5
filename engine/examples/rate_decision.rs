//! Rate limiting: failed logins by address, and a decision for each attempt.
//!
//! The windows give hard limits, the velocity a pace, the score a memory that fades: an address
//! that has behaved for a while is let in again without anybody clearing a counter.

use ebbtide::{Ack, Engine, EntityId, Event, ManualClock, Schema, SignalReading, Timestamp};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const SCHEMA: &str = r#"
    [signals.login_failed]
    half_lives = ["10min"]
    windows = ["1min", "1h"]
    velocity = true
"#;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Decision {
    Allow,
    Challenge,
    Block,
}

/// Decides from what is known of an address.
fn decide(known: Option<&SignalReading>) -> Decision {
    let Some(seen) = known else { return Decision::Allow };
    let in_last_minute = seen.counts()[0];
    let per_minute_over_hour = seen.velocities()[1] * 60.0;
    if in_last_minute >= 10 || per_minute_over_hour >= 2.0 {
        Decision::Block
    } else if seen.scores()[0] >= 3.0 {
        Decision::Challenge
    } else {
        Decision::Allow
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Schema::from_toml(SCHEMA)?;
    let login_failed = schema.signal("login_failed").expect("the schema above has it");
    // A clock that this program sets, so that a day passes in an instant.
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_700_000_000)));
    let engine = Engine::in_memory().schema(schema).shards(1).clock(clock.clone()).open()?;
    let (mut producer, mut reader) = (engine.producer()?, engine.reader()?);

    let address = EntityId::of_name("203.0.113.9");
    println!("  after  decision   score  last minute");
    for (wait, failures) in [(0, 1), (20, 2), (20, 3), (10, 9), (120, 0), (1500, 0), (3600, 0)] {
        clock.advance_to(engine.now().plus(Duration::from_secs(wait)));
        for _ in 0..failures {
            let ticket = producer.offer(Event::new(address, login_failed, engine.now()))?;
            // Waiting makes the next decision see this failure.
            producer.wait(ticket, Ack::Applied, PATIENCE)?;
        }
        let reading = reader.read(address, login_failed, engine.now())?;
        let decision = format!("{:?}", decide(reading.as_ref()));
        let seen = reading.expect("it has failed before");
        println!("{wait:>5} s  {decision:<9} {:>6.2} {:>12}", seen.scores()[0], seen.counts()[0]);
    }
    engine.close(PATIENCE)?;
    Ok(())
}
