//! Rows of durable events: how many a second, how long each takes, beside the bare device.
//!
//! Both sides write to the same file system, in turn, and from the same core: the last, which the
//! shard has. The producer has the first.

use super::criteria::{
    DURABLE_ACK_P50, DURABLE_OPEN_P50, DURABLE_OPEN_P99, DURABLE_THROUGHPUT, DURABLE_VS_DEVICE,
    DURABLE_VS_REDIS, LOG_BYTES,
};
use super::device::{BestSize, block_writes, commit_groups, open_loop_writes};
use super::log::REST;
use super::measure::{Sides, millions, wall_seconds};
use super::open_loop::{LatenciesUs, Schedule, offer_on_schedule};
use super::redis::Recording;
use super::stores::{Stores, failed, record_durably};
use super::tables::{Decays, history_ns, schema};
use super::workload::{START_NS, Stream};
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use crate::rivals::{ENTRY_OVERHEAD_BYTES, GROUP_ENTRIES, GroupCommitLog, RawDevice, Syncing};
use crate::stalls::Stalls;
use ebbtide::{Ack, Engine, Event, Idle, Producer};
use ebbtide_shard::record::EVENT_BYTES;
use ebbtide_wal::limits::BLOCK_BYTES;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events of a second in the rows with a steady rate.
const RATE: u32 = 10_000;
/// Bytes of a log that a checkpoint makes ready to be written again: a segment, of two.
const SPARES_BYTES: u64 = 32 << 20;

/// Measures every row that waits for the disk.
///
/// # Errors
///
/// If the engine does not run, or the file system does not.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let throughput = [DURABLE_THROUGHPUT, DURABLE_VS_REDIS, DURABLE_VS_DEVICE, LOG_BYTES];
    let latency = [DURABLE_ACK_P50, DURABLE_OPEN_P50, DURABLE_OPEN_P99];
    if !run.wants(&[&throughput[..], &latency].concat()) {
        return Ok(());
    }
    let folder = run.stores.fresh("durable");
    let history = (run.effort.entities_memory, START_NS);
    let engine = run.stores.with_history(&folder, schema(Decays::Three)?, history)?;
    if run.wants(&throughput) {
        cores::on_first(|| as_fast_as_it_goes(run, &engine))?;
    }
    if run.wants(&[LOG_BYTES]) {
        log_bytes(run, &engine)?;
    }
    engines::close(&engine)?;
    if !run.wants(&latency) {
        return Ok(());
    }
    let quick = Quick::new(run)?;
    one_at_a_time(run, &quick)?;
    at_a_rate(run, &quick)
}

fn as_fast_as_it_goes(run: &mut Run, engine: &Engine) -> Result<(), Fault> {
    let (turns, count) = (run.effort.turns, run.effort.events_durable);
    let (stores, bytes) = (Arc::clone(&run.stores), run.effort.device_bytes);
    let failed = failed(stores.root());
    let mut producer = engine.producer()?;
    // The row beside the device is of the log: events of few entities, so that it is the limit.
    let (few, many) = (run.effort.entities_cache, run.effort.entities_memory);
    let [mut many, mut few] =
        [many, few].map(|entities| Stream::new((entities, 0.0), START_NS, 12));
    let mut log = GroupCommitLog::new(device(run)?);
    let mut covered = 0;
    let redis = Recording::start(run, (&mut many, &history_ns(START_NS)))?;
    let mut recorded = || -> Result<(Vec<Event>, Sides), Fault> {
        let events = engines::unrouted(&many.take(count));
        let (ours, _) = durably((engine, &mut covered), &mut producer, &events)?;
        // The rival needs far more time for each event, and goes on evenly.
        let some = events.len().div_ceil(10);
        let groups = cores::on_last(|| commit_groups(&mut log, some)).map_err(&failed)?;
        let reference_best = millions(GROUP_ENTRIES, groups.least_seconds);
        let (ours, reference) = (millions(events.len(), ours), millions(some, groups.seconds));
        Ok((events, Sides { ours, reference, reference_best, stall_us: None }))
    };
    match redis {
        None => run.row_of_turns(DURABLE_THROUGHPUT, turns, || Ok(recorded()?.1))?,
        Some(mut redis) => {
            run.rows_of_turns([DURABLE_THROUGHPUT, DURABLE_VS_REDIS], turns, || {
                let (events, sides) = recorded()?;
                Ok([sides, (sides.ours, redis.rate(&events)?).into()])
            })?;
        }
    }
    if !run.wants(&[DURABLE_VS_DEVICE]) {
        return Ok(());
    }
    let mut best = BestSize::find(&stores, bytes).map_err(&failed)?;
    run.row_of_turns(DURABLE_VS_DEVICE, turns, || {
        let events = engines::unrouted(&few.take(count));
        let (ours, written) = durably((engine, &mut covered), &mut producer, &events)?;
        let bytes = cores::on_last(|| best.bytes_per_second()).map_err(&failed)?;
        Ok((written / ours / 1e6, bytes / 1e6))
    })
}

/// Seconds until all `events` are durable, and the bytes that the log wrote for them. A checkpoint
/// comes first when the last one covers too little, so that the log has segments to use again as it
/// has in a store that runs for long: a new one is filled with zeroes beside the events.
fn durably(
    (engine, covered): (&Engine, &mut u64),
    producer: &mut Producer,
    events: &[Event],
) -> Result<(f64, f64), Fault> {
    let before = log_written(engine);
    if before - *covered >= SPARES_BYTES {
        engine.checkpoint().map_err(Fault::environment)?;
        *covered = before;
    }
    let before = log_written(engine);
    let seconds = wall_seconds(|| record_durably(producer, events))?;
    Ok((seconds, (log_written(engine) - before) as f64))
}

fn log_written(engine: &Engine) -> u64 {
    engine.metrics().shards.iter().map(|shard| shard.wal_written_bytes).sum()
}

/// What the log wrote, beside what the original design writes for each event.
fn log_bytes(run: &mut Run, engine: &Engine) -> Result<(), Fault> {
    let each = log_written(engine) as f64 / engine.metrics().events_applied() as f64;
    let original = (ENTRY_OVERHEAD_BYTES + EVENT_BYTES) as f64;
    // Each turn would give the same bytes.
    run.row_of_turns(LOG_BYTES, 1, || Ok((each, original)))
}

/// A store of few entities, as a host that cares for latency would have it: its shard spins. It is
/// open in our part of a turn only: shard and reference want the last core for themselves.
struct Quick {
    stores: Arc<Stores>,
    folder: PathBuf,
    entities: u64,
}

impl Quick {
    fn new(run: &Run) -> Result<Self, Fault> {
        let (stores, entities) = (Arc::clone(&run.stores), run.effort.entities_cache);
        let folder = stores.fresh("spinning");
        let history = (entities, START_NS);
        let engine = stores.with_history(&folder, schema(Decays::Three)?, history)?;
        engine.checkpoint().map_err(Fault::environment)?;
        engines::close(&engine)?;
        Ok(Self { stores, folder, entities })
    }

    fn stream(&self) -> Stream {
        Stream::new((self.entities, 0.0), START_NS, 17)
    }

    /// Gives `work` a producer, on the first core. The log has segments to use again for as many
    /// events, each written by itself, as in a store that runs for long.
    fn with<R: Send>(
        &self,
        events: usize,
        work: impl FnOnce(&mut Producer) -> Result<R, Fault> + Send,
    ) -> Result<R, Fault> {
        let schema = schema(Decays::Three)?;
        let engine = self.stores.open_idle(&self.folder, (schema, Idle::Spin))?;
        let mut producer = engine.producer()?;
        let as_many_bytes = self.stream().take(events * BLOCK_BYTES / EVENT_BYTES);
        let done = cores::on_first(|| {
            record_durably(&mut producer, &engines::unrouted(&as_many_bytes))?;
            engine.checkpoint().map_err(Fault::environment)?;
            std::thread::sleep(REST);
            work(&mut producer)
        })?;
        // What the next opening reads stays short.
        engine.checkpoint().map_err(Fault::environment)?;
        engines::close(&engine)?;
        Ok(done)
    }
}

fn one_at_a_time(run: &mut Run, quick: &Quick) -> Result<(), Fault> {
    let acks = run.effort.acks;
    let mut device = device(run)?;
    let (root, mut stream) = (run.stores.root().to_owned(), quick.stream());
    run.row(DURABLE_ACK_P50, || {
        let events = engines::unrouted(&stream.take(acks));
        let mut stalls = Stalls::default();
        let ours = quick.with(acks, |producer| {
            let mut each = events.iter().map(|event| durable(producer, *event));
            stalls.beside(|| each.by_ref().collect::<Result<Vec<_>, _>>())
        })?;
        let writes = stalls.beside(|| cores::on_last(|| block_writes(&mut device, acks)));
        let writes = writes.map_err(failed(&root))?;
        let (ours, writes) = (LatenciesUs::of(&ours), LatenciesUs::of(&writes));
        let (reference, reference_best) = (writes.at(0.5), writes.at(0.0));
        Ok(Sides { ours: ours.at(0.5), reference, reference_best, stall_us: stalls.at_us(0.5) })
    })
}

/// How long one event takes.
fn durable(producer: &mut Producer, event: Event) -> Result<Duration, Fault> {
    let begun = Instant::now();
    let ticket = producer.offer(event).map_err(Fault::environment)?;
    while !producer.is_acked(ticket, Ack::Durable) {
        if begun.elapsed() > engines::PATIENCE {
            return Err(Fault::environment("the engine acknowledges no more events"));
        }
        // What writes for the shard may need this core.
        std::thread::yield_now();
    }
    Ok(begun.elapsed())
}

fn at_a_rate(run: &mut Run, quick: &Quick) -> Result<(), Fault> {
    let (turns, events) = (run.effort.turns, run.effort.events_open);
    let mut device = device(run)?;
    let (root, mut stream) = (run.stores.root().to_owned(), quick.stream());
    let schedule = Schedule::per_second(RATE);
    run.rows_of_turns([DURABLE_OPEN_P50, DURABLE_OPEN_P99], turns, || {
        let events = engines::unrouted(&stream.take(events));
        let mut stalls = Stalls::default();
        let ours = quick.with(events.len(), |producer| {
            let schedule = (schedule, Ack::Durable);
            stalls.beside(|| offer_on_schedule(producer, &events, schedule, || false))
        })?;
        let mut write = || open_loop_writes(&mut device, schedule, events.len());
        let writes = stalls.beside(|| cores::on_last(&mut write));
        let writes = LatenciesUs::of(&writes.map_err(failed(&root))?);
        Ok([0.5, 0.99].map(|part| Sides {
            stall_us: stalls.at_us(part),
            ..(ours.at(part), writes.at(part)).into()
        }))
    })
}

fn device(run: &Run) -> Result<RawDevice, Fault> {
    let path = run.stores.fresh("writes");
    let device = RawDevice::create(&path, run.effort.device_bytes, Syncing::Dsync);
    device.map_err(failed(run.stores.root()))
}

#[cfg(test)]
mod tests {
    use super::super::Effort;
    use super::*;
    use ebbtide::Backend;

    /// The row was there only where all rows are measured, which takes minutes beside Redis.
    #[test]
    fn the_same_turns_are_measured_beside_redis_or_the_row_says_why_not() {
        let stores = Stores::within(None, Backend::Auto).unwrap();
        let mut run = Run::new(Effort::LEAST, vec![DURABLE_VS_REDIS.key], stores);
        rows(&mut run).unwrap();
        match (&run.rows[..], &run.skipped[..]) {
            ([row], []) => {
                let row = serde_json::to_value(row).unwrap();
                assert_eq!(row["key"], DURABLE_VS_REDIS.key);
                let [ours, reference, ratio] =
                    ["ours", "reference", "ratio"].map(|key| row[key].as_f64().unwrap());
                assert!(ours > 0.0 && reference > 0.0, "{row}");
                assert!((ratio * reference / ours - 1.0).abs() < 1e-9, "one turn: {row}");
            }
            ([], [skipped]) => {
                assert_eq!(skipped.key, DURABLE_VS_REDIS.key);
                assert!(skipped.reason.contains("redis-server"), "{}", skipped.reason);
            }
            other => panic!("one row, measured or skipped, and not {other:?}"),
        }
    }
}
