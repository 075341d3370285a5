//! Rows of durable events: how many a second, how long each takes, beside the bare device.
//!
//! Both sides write to the same file system, in turn, and from the same core: the last, which the
//! shard has. The producer has the first.

use super::criteria::{
    DURABLE_ACK_P50, DURABLE_OPEN_P50, DURABLE_OPEN_P99, DURABLE_THROUGHPUT, DURABLE_VS_DEVICE,
    LOG_BYTES,
};
use super::device::{BestSize, block_writes, commit_groups, open_loop_writes};
use super::measure::{millions, wall_seconds};
use super::open_loop::{LatenciesUs, Schedule, offer_on_schedule};
use super::stores::{failed, record_durably};
use super::tables::{Decays, schema};
use super::workload::{START_NS, Stream};
use super::{Run, cores, engines};
use crate::fault::Fault;
use crate::rivals::{ENTRY_OVERHEAD_BYTES, GroupCommitLog, RawDevice, Syncing, files_below};
use ebbtide::{Ack, Event, Producer};
use ebbtide_shard::record::EVENT_BYTES;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events of a second in the rows with a steady rate.
const RATE: u32 = 10_000;

/// Measures every row that waits for the disk.
///
/// # Errors
///
/// If the engine does not run, or the file system does not.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let throughput = [DURABLE_THROUGHPUT, DURABLE_VS_DEVICE, LOG_BYTES];
    let latency = [DURABLE_ACK_P50, DURABLE_OPEN_P50, DURABLE_OPEN_P99];
    if !run.wants(&[&throughput[..], &latency].concat()) {
        return Ok(());
    }
    let folder = run.stores.fresh("durable");
    let history = (run.effort.entities_memory, START_NS);
    let engine = run.stores.with_history(&folder, schema(Decays::Three)?, history)?;
    let mut producer = engine.producer()?;
    let mut stream = Stream::new((run.effort.entities_memory, 0.0), START_NS, 12);
    if run.wants(&throughput) {
        cores::on_first(|| as_fast_as_it_goes(run, &mut producer, &mut stream))?;
    }
    drop(producer);
    engines::close(&engine)?;
    if run.wants(&[LOG_BYTES]) {
        log_bytes(run, &folder, engine.metrics().events_applied())?;
    }
    if !run.wants(&latency) {
        return Ok(());
    }
    let engine = run.stores.open(&folder, schema(Decays::Three)?)?;
    let mut producer = engine.producer()?;
    cores::on_first(|| {
        one_at_a_time(run, &mut producer, &mut stream)?;
        at_a_rate(run, &mut producer, &mut stream)
    })?;
    engines::close(&engine)
}

fn as_fast_as_it_goes(
    run: &mut Run,
    producer: &mut Producer,
    stream: &mut Stream,
) -> Result<(), Fault> {
    let (turns, events) = (run.effort.turns, run.effort.events_durable);
    let (stores, bytes) = (Arc::clone(&run.stores), run.effort.device_bytes);
    let failed = failed(stores.root());
    let mut best = BestSize::find(&stores, bytes).map_err(&failed)?;
    let mut log = GroupCommitLog::new(device(run)?);
    run.rows_of_turns([DURABLE_THROUGHPUT, DURABLE_VS_DEVICE], turns, || {
        let events = engines::unrouted(&stream.take(events));
        let ours = wall_seconds(|| record_durably(producer, &events))?;
        // The rival needs far more time for each event, and goes on evenly.
        let some = events.len().div_ceil(10);
        let groups = cores::on_last(|| commit_groups(&mut log, some)).map_err(&failed)?;
        let bytes = cores::on_last(|| best.bytes_per_second()).map_err(&failed)?;
        Ok([
            (millions(events.len(), ours), millions(some, groups)),
            (millions(events.len() * EVENT_BYTES, ours), bytes / 1e6),
        ])
    })
}

/// Weighs the log's files, beside what the original design writes for each event.
fn log_bytes(run: &mut Run, folder: &Path, recorded: u64) -> Result<(), Fault> {
    let files = files_below(&folder.join("log")).map_err(failed(folder))?;
    let bytes: u64 = files.iter().map(|file| file.1).sum();
    let each = (bytes as f64 / recorded as f64, (ENTRY_OVERHEAD_BYTES + EVENT_BYTES) as f64);
    // Each turn would give the same bytes.
    run.row_of_turns(LOG_BYTES, 1, || Ok(each))
}

fn one_at_a_time(run: &mut Run, producer: &mut Producer, stream: &mut Stream) -> Result<(), Fault> {
    let acks = run.effort.acks;
    let mut device = device(run)?;
    let root = run.stores.root().to_owned();
    run.row(DURABLE_ACK_P50, || {
        let events = engines::unrouted(&stream.take(acks));
        let ours = events.iter().map(|event| durable(producer, *event));
        let ours = ours.collect::<Result<Vec<_>, _>>()?;
        let writes = cores::on_last(|| block_writes(&mut device, acks)).map_err(failed(&root))?;
        Ok((LatenciesUs::of(&ours).at(0.5), LatenciesUs::of(&writes).at(0.5)))
    })
}

/// How long one event takes.
fn durable(producer: &mut Producer, event: Event) -> Result<Duration, Fault> {
    let begun = Instant::now();
    let ticket = producer.offer(event).map_err(Fault::environment)?;
    producer.wait(ticket, Ack::Durable, engines::PATIENCE).map_err(Fault::environment)?;
    Ok(begun.elapsed())
}

fn at_a_rate(run: &mut Run, producer: &mut Producer, stream: &mut Stream) -> Result<(), Fault> {
    let (turns, events) = (run.effort.turns, run.effort.events_open);
    let mut device = device(run)?;
    let root = run.stores.root().to_owned();
    let schedule = Schedule::per_second(RATE);
    run.rows_of_turns([DURABLE_OPEN_P50, DURABLE_OPEN_P99], turns, || {
        let events = engines::unrouted(&stream.take(events));
        let ours = offer_on_schedule(producer, &events, (schedule, Ack::Durable), || false)?;
        let writes = cores::on_last(|| open_loop_writes(&mut device, schedule, events.len()));
        let writes = LatenciesUs::of(&writes.map_err(failed(&root))?);
        Ok([0.5, 0.99].map(|part| (ours.at(part), writes.at(part))))
    })
}

fn device(run: &Run) -> Result<RawDevice, Fault> {
    let path = run.stores.fresh("writes");
    let device = RawDevice::create(&path, run.effort.device_bytes, Syncing::Dsync);
    device.map_err(failed(run.stores.root()))
}
