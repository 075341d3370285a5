//! What a shard carries: events applied a second and bytes of memory for each pair, by the number
//! of entities, with one shard and with one on each of two cores. For `docs/SCALING.md`.
//!
//! ```text
//! cargo run --release -p ebbtide-bench --example scaling [-- ENTITIES…]
//! ```
//!
//! Each ledger first takes two events of every entity it owns, twenty minutes apart, and then, in
//! turns, a stream of them: 10,000 events a second in their own time, every entity alike, two in a
//! hundred up to an hour late; three half-lives, windows of 1 h, 24 h and 7 d. The rate is of the
//! median turn. Fifty million entities take some 10 GB.

use std::error::Error;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_bench::synthetic::{Spec, Synthetic};
use ebbtide_shard::limits::{BATCH_EVENTS_MAX, PARTITIONS};
use ebbtide_shard::{
    EntityId, PartitionKey, RoutedEvent, Schema, SignalId, SignalLedger, Timestamp,
};

const ENTITIES: [u64; 4] = [10_000, 1_000_000, 8_000_000, 50_000_000];
const KEY: [u8; 16] = *b"what one carries";
const START_NS: u64 = 1_704_067_200_000_000_000;
const MINUTE_NS: u64 = 60 * 1_000_000_000;
const TURNS: usize = 7;
/// Events of a turn, of all shards together.
const TURN_EVENTS: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Result<Vec<u64>, _> = std::env::args().skip(1).map(|n| n.parse()).collect();
    let arguments = arguments?;
    let counts = if arguments.is_empty() { &ENTITIES[..] } else { &arguments[..] };
    let hours = [1, 24, 168].map(Duration::from_hours);
    let schema = Schema::builder().signal("view", |s| s.half_lives(hours).windows(hours));
    let schema = Arc::new(schema.build()?);
    println!("{:>12} {:>7} {:>16} {:>12}", "entities", "shards", "M events/s", "bytes/pair");
    for &entities in counts {
        for shards in [1, 2] {
            let (rate, bytes) = carried(&schema, entities, shards);
            println!("{entities:>12} {shards:>7} {:>16.2} {bytes:>12.1}", rate / 1e6);
        }
    }
    Ok(())
}

/// Events a second of all shards together, and bytes for each pair.
fn carried(schema: &Arc<Schema>, entities: u64, shards: usize) -> (f64, f64) {
    let turn = &Barrier::new(shards);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let of_each: Vec<(Vec<f64>, usize)> = thread::scope(|scope| {
        let shard = |n: usize| {
            let core = cores.get(n).copied();
            scope.spawn(move || {
                core.map(core_affinity::set_for_current);
                let part = PARTITIONS / shards;
                let own = n * part..(n + 1) * part;
                let mut ledger = SignalLedger::new(schema.clone(), PartitionKey::new(KEY), own);
                let rates = fill_and_measure(&mut ledger, entities, turn);
                (rates, ledger.memory_bytes())
            })
        };
        let threads: Vec<_> = (0..shards).map(shard).collect();
        threads.into_iter().map(|thread| thread.join().expect("a shard ends well")).collect()
    });
    let bytes: usize = of_each.iter().map(|(_, bytes)| bytes).sum();
    let rate = of_each.iter().map(|(rates, _)| rates[TURNS / 2]).sum();
    (rate, bytes as f64 / entities as f64)
}

/// The rates of a ledger's turns, sorted.
fn fill_and_measure(ledger: &mut SignalLedger, entities: u64, turn: &Barrier) -> Vec<f64> {
    let key = *ledger.key();
    let routed = |entity, time_ns, weight| {
        let (entity, time, signal) = (EntityId(entity), Timestamp(time_ns), SignalId(0));
        RoutedEvent { entity, time, weight, hash: key.hash(entity), signal }
    };
    for minutes_ago in [40, 20] {
        let time_ns = START_NS - minutes_ago * MINUTE_NS;
        let mut history = (0..entities).map(|entity| routed(entity, time_ns, 1.0));
        let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
        loop {
            let own = history.by_ref().filter(|event| ledger.owns(event.hash));
            batch.extend(own.take(BATCH_EVENTS_MAX));
            if batch.is_empty() {
                break;
            }
            ledger.apply_batch(&batch);
            batch.clear();
        }
    }
    let mut stream = Synthetic::new(Spec {
        events: u64::MAX,
        entities,
        zipf: 0.0,
        late: 0.02,
        late_max_ns: 60 * MINUTE_NS,
        dup: 0.0,
        burst: 0.0,
        signals: 1,
        start_ns: START_NS,
        step_ns: 100_000,
        ids: false,
        seed: 1,
    });
    let mut rates: Vec<f64> = (0..TURNS)
        .map(|_| {
            let events = stream.by_ref().take(TURN_EVENTS);
            let events = events.map(|event| routed(event.entity, event.time_ns, event.weight));
            let own: Vec<_> = events.filter(|event| ledger.owns(event.hash)).collect();
            turn.wait();
            let started = Instant::now();
            own.chunks(BATCH_EVENTS_MAX).for_each(|batch| ledger.apply_batch(batch));
            own.len() as f64 / started.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates
}
