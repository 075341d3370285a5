//! A feed: what trends everywhere (`top_k`), and the order of one user's candidates (`rank`).
//!
//! `top_k` is kept up to date by writes and scans nothing. `rank` reads many numbers of given
//! entities as of one instant, weighs them and sorts.

use ebbtide::{Ack, Engine, EntityId, Event, Plan, Schema, Timestamp};
use std::error::Error;
use std::time::Duration;

const SCHEMA: &str = r#"
    [signals.like]
    half_lives = ["1h", "7d"]
    windows = ["1h", "24h"]
    [signals.view]
    half_lives = ["1h"]
    windows = ["5min", "1h"]
    velocity = true
"#;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Schema::from_toml(SCHEMA)?;
    let [like, view] = ["like", "view"].map(|name| schema.signal(name).expect("it is above"));
    let plan = Plan::over(&schema)
        .score("like", "1h")?
        .score("like", "7d")?
        .velocity("view", "5min")?
        .build();
    let engine = Engine::in_memory().schema(schema).open()?;

    // Two days: a post every ten minutes, viewed for ten hours, less and less; some have charm.
    let mut producer = engine.producer()?;
    let start = Timestamp::from_seconds(1_700_000_000);
    for minute in 0..2 * 24 * 60_u64 {
        let newest = minute / 10;
        for post in newest.saturating_sub(60)..=newest {
            let (age, charm) = (newest - post, post * 37 % 11);
            if (minute + post) % (1 + age) > charm {
                continue;
            }
            let time = start.plus(Duration::from_mins(minute));
            // No event is waited for by itself: the flush below waits for all.
            let _ticket =
                producer.offer_within(Event::new(EntityId(post), view, time), PATIENCE)?;
            if charm > 7 {
                let liked = Event::new(EntityId(post), like, time).with_weight(3.0);
                let _ticket = producer.offer_within(liked, PATIENCE)?;
            }
        }
    }
    producer.flush(Ack::Applied, PATIENCE)?;

    let mut reader = engine.reader()?;
    let now = start.plus(Duration::from_hours(48));
    println!("likes that count now (half-life 1 h):");
    for place in reader.top_k(like, 0, 5, now)? {
        println!("  post {:>3}  {:.2}", place.entity, place.score);
    }

    // One weight for each column of the plan: fresh likes, lasting likes, views per second.
    let candidates: Vec<_> = (200..288).step_by(4).map(EntityId).collect();
    let weights = [1.0, 0.05, 20.0];
    println!("the best of {} candidates for one user:", candidates.len());
    for place in reader.rank(&candidates, (&plan, &weights), 5, now)? {
        println!("  post {:>3}  {:.2}", place.entity, place.value);
    }
    engine.close(PATIENCE)?;
    Ok(())
}
