//! How fast the rival is by itself: events recorded and states read a second, by one thread and
//! by two that share the map.
//!
//! ```text
//! cargo run --release -p ebbtide-bench --example shared_map_rate [-- ENTITIES…]
//! ```
//!
//! Each event updates three decays and both rings. The events are drawn before the clock starts,
//! and each measurement goes on in time where the one before ended: a replay of old times would
//! find every event late. Two threads take every other event each.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ebbtide_bench::rivals::SharedMap;
use ebbtide_bench::synthetic::{Spec, Synthetic};
use ebbtide_bench::trace::TraceEvent;

const HALF_LIVES: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(24), Duration::from_hours(168)];
/// Events recorded at each measurement.
const EVENTS: usize = 2_000_000;
/// Measurements, of which the median is printed.
const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let entities =
        if arguments.is_empty() { vec!["1e4".to_owned(), "1e6".to_owned()] } else { arguments };
    for entities in &entities {
        for zipf in ["0", "1"] {
            let text = format!("events={EVENTS},entities={entities},zipf={zipf},late=0.02");
            measure(&text)?;
        }
    }
    Ok(())
}

fn measure(text: &str) -> Result<(), Box<dyn Error>> {
    let spec = Spec::parse(text, 1)?;
    let events: Vec<TraceEvent> = Synthetic::new(spec).collect();
    let map = SharedMap::with_capacity(usize::try_from(spec.entities)?, &[&HALF_LIVES]);
    for entity in 0..spec.entities {
        map.record(entity, 0, spec.start_ns, 1.0);
    }
    let span_ns = spec.step_ns * spec.events;
    let mut shift_ns = 0;
    let one = median_rate(|| {
        record(&map, &events, shift_ns);
        shift_ns += span_ns;
    });
    let halves: [Vec<TraceEvent>; 2] =
        [0, 1].map(|skip| events.iter().skip(skip).step_by(2).copied().collect());
    let two = median_rate(|| {
        std::thread::scope(|scope| {
            for half in &halves {
                scope.spawn(|| record(&map, half, shift_ns));
            }
        });
        shift_ns += span_ns;
    });
    let now_ns = spec.start_ns + shift_ns;
    let read = median_rate(|| {
        for event in &events {
            black_box(map.read(event.entity, 0, now_ns));
        }
    });
    println!(
        "{text}: record {one:.2} M/s, two threads {two:.2} M/s, read {read:.2} M/s, \
         {} bytes a state",
        map.memory_bytes() / map.len()
    );
    Ok(())
}

fn record(map: &SharedMap, events: &[TraceEvent], shift_ns: u64) {
    for event in events {
        map.record(event.entity, 0, event.time_ns + shift_ns, event.weight);
    }
}

fn median_rate(mut work: impl FnMut()) -> f64 {
    let mut rates: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let started = Instant::now();
            work();
            EVENTS as f64 / started.elapsed().as_secs_f64() / 1e6
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[REPEATS / 2]
}
