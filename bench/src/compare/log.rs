//! Rows of the log alone: what it costs a core, and how fast it fills a device.

use super::Run;
use super::criteria::{LOG_VS_DEVICE, WAL_CPU};
use super::device::BestSize;
use super::engines::PATIENCE;
use super::measure::{core_seconds, wall_seconds};
use super::stores::failed;
use super::workload::{START_NS, Stream};
use crate::cores;
use crate::fault::Fault;
use ebbtide_shard::RoutedEvent;
use ebbtide_shard::limits::BATCH_EVENTS_MAX;
use ebbtide_shard::record::{BatchForm, EVENT_BYTES, EventsEncoder};
use ebbtide_wal::storage::{Storage, sim::SimDisk, threads::Threads};
use ebbtide_wal::{
    CheckpointNote, IoThreads, Log, LogIdentity, LogOptions, Lsn, ReplayOptions, StartOptions,
    Started, StoreId, WalWriter as _, ready, replay,
};
use std::hint::black_box;
use std::time::Duration;

/// Time for a log to come to rest.
pub(super) const REST: Duration = Duration::from_millis(200);

/// Measures both rows.
///
/// # Errors
///
/// If the file system does not let it.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    if run.wants(&[WAL_CPU]) {
        let mut log = started(&SimDisk::new(1))?.log;
        cores::on_first(|| cpu(run, &mut log))?;
    }
    if run.wants(&[LOG_VS_DEVICE]) {
        beside_device(run)?;
    }
    Ok(())
}

pub(crate) fn started<S: Storage>(storage: &S) -> Result<Started<S>, Fault> {
    let identity = LogIdentity { store: StoreId([7; 16]), shard: 0 };
    let read = ready(replay(storage, identity, ReplayOptions::default(), |_| Ok(())));
    let (log, seed) = (LogOptions::default(), [7; 32]);
    let options = StartOptions { log, seed, lsn_first_min: Lsn::NONE };
    let started = ready(read.map_err(Fault::environment)?.start(storage, options));
    started.map_err(Fault::environment)
}

/// Puts events in batches as a turn does, and makes room whenever the log has none.
pub(crate) fn append(
    log: &mut Log,
    events: &[RoutedEvent],
    mut make_room: impl FnMut(&mut Log, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut bytes = Vec::new();
    for batch in events.chunks(BATCH_EVENTS_MAX) {
        let mut encoder = EventsEncoder::begin(BatchForm::default(), &mut bytes);
        for event in batch {
            encoder.push(event, event.signal.0, 0, None);
        }
        let count = encoder.finish(0);
        if log.room() < bytes.len() {
            make_room(log, bytes.len())?;
        }
        log.append(&bytes, count).map_err(Fault::environment)?;
    }
    Ok(())
}

/// The log's own work, on a disk that takes everything at once.
fn cpu(run: &mut Run, log: &mut Log) -> Result<(), Fault> {
    let mut stream = Stream::new((run.effort.entities_cache, 0.0), START_NS, 13);
    let events = run.effort.events_cache;
    run.row(WAL_CPU, || {
        let events = stream.take(events);
        let mut outcome = Ok(());
        let ours = core_seconds(|| {
            outcome = append(log, &events, |log, _| {
                take_all(log);
                Ok(())
            });
            take_all(log);
        });
        outcome?;
        let records: Vec<u8> = events.iter().flat_map(record).collect();
        let each = core_seconds(|| {
            for record in records.chunks_exact(EVENT_BYTES) {
                black_box(blake3::hash(record));
            }
        });
        let cost = |seconds: f64| seconds * 1e9 / events.len() as f64;
        Ok((cost(ours), cost(each)))
    })
}

/// The bytes that the log keeps of an event.
fn record(event: &RoutedEvent) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = EventsEncoder::begin(BatchForm::default(), &mut bytes);
    encoder.push(event, event.signal.0, 0, None);
    let _one = encoder.finish(0);
    bytes.split_off(bytes.len() - EVENT_BYTES)
}

/// Answers all that a log asks for with success, and does nothing.
pub(crate) fn take_all(log: &mut Log) {
    while let Some(request) = log.next_commit() {
        log.commit_done(request.succeeded());
        while log.next_upkeep().is_some() {
            log.upkeep_done(Ok(()));
        }
    }
}

fn beside_device(run: &mut Run) -> Result<(), Fault> {
    let root = run.stores.root().to_owned();
    let failed = failed(&root);
    let storage = Threads::open(&run.stores.fresh("log")).map_err(&failed)?;
    let Started { mut log, commit, upkeep } = started(&storage)?;
    // Beside the core that fills the log: woken there, they would wait until it is full again.
    let io = cores::on_last(|| IoThreads::start("ebbtide-compare", commit, upkeep, || {}));
    let io = io.map_err(&failed)?;
    let mut best = BestSize::find(&run.stores, run.effort.device_bytes).map_err(&failed)?;
    cores::on_first(|| turns_beside_device(run, (&mut log, io), &mut best))
}

fn turns_beside_device(
    run: &mut Run,
    (log, mut io): (&mut Log, IoThreads),
    best: &mut BestSize,
) -> Result<(), Fault> {
    let root = run.stores.root().to_owned();
    let failed = failed(&root);
    let mut stream = Stream::new((run.effort.entities_cache, 0.0), START_NS, 14);
    let events = run.effort.events_durable;
    run.row(LOG_VS_DEVICE, || {
        let events = stream.take(events);
        give_up_segments(&mut io, log)?;
        let before = log.written_bytes();
        let ours = wall_seconds(|| {
            append(log, &events, |log, bytes| pump(&mut io, log, |log| log.room() >= bytes))?;
            let last = Some(log.watermarks().appended);
            pump(&mut io, log, |log| log.watermarks().durable >= last)
        })?;
        let written = (log.written_bytes() - before) as f64;
        let device = cores::on_last(|| best.bytes_per_second()).map_err(&failed)?;
        Ok((written / ours / 1e6, device / 1e6))
    })?;
    io.stop();
    Ok(())
}

/// Tells the log that a checkpoint covers all it has, so that it uses its segments again as in a
/// store that runs for long, and lets it come to rest: new ones would be filled with zeroes beside
/// the events.
fn give_up_segments(io: &mut IoThreads, log: &mut Log) -> Result<(), Fault> {
    let covered = log.watermarks().appended;
    log.note_checkpoint(CheckpointNote { covered, digest: [7; 32] }).map_err(Fault::environment)?;
    log.rest();
    let _it_rests = io.pump_until(log, REST, |_| false);
    Ok(())
}

fn pump(io: &mut IoThreads, log: &mut Log, done: impl FnMut(&Log) -> bool) -> Result<(), Fault> {
    if io.pump_until(log, PATIENCE, done) {
        return Ok(());
    }
    Err(match log.poison() {
        Some(fault) => Fault::environment(fault),
        None => Fault::environment("the log takes nothing more"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide_shard::record::decode_batch;

    #[test]
    fn every_event_goes_through_the_log_once() {
        let mut log = started(&SimDisk::new(2)).unwrap().log;
        let events = Stream::new((100, 0.0), START_NS, 1).take(100_000);
        append(&mut log, &events, |log, _| {
            take_all(log);
            Ok(())
        })
        .unwrap();
        take_all(&mut log);
        let watermarks = log.watermarks();
        assert_eq!(watermarks.durable, Some(Lsn::new(100_000)));
        assert_eq!(watermarks.durable, Some(watermarks.appended));
        assert!(log.stats().groups >= 2, "full groups: {:?}", log.stats());
    }

    #[test]
    fn a_record_is_what_the_log_keeps() {
        let event = Stream::new((100, 0.0), START_NS, 1).take(1)[0];
        let record = record(&event);
        assert_eq!(record.len(), EVENT_BYTES);
        let batch = [&[4, 0][..], &record].concat();
        let decoded = format!("{:?}", decode_batch(&batch, 1).unwrap());
        assert!(decoded.starts_with("Events"), "{decoded}");
    }
}
