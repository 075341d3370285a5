//! Rows of what is stored: taking a checkpoint, reading it and the log back, and the first answer.
//!
//! Files are read from the page cache on both sides, as after the end of a process.

use super::criteria::{
    CHECKPOINT, CHECKPOINT_TAIL, REPLAY, RESTORE, RESTORE_VS_READ, TIME_TO_READY,
};
use super::measure::{Sides, wall_seconds};
use super::open_loop::{Schedule, offer_on_schedule};
use super::redis::Snapshot;
use super::stores::{failed, record_durably};
use super::tables::{Decays, history_ns, schema};
use super::workload::{START_NS, Stream, VIEW, one_each};
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use crate::rivals::{PlainCheckpoint, files_below, read_and_hash};
use crate::stalls::Stalls;
use ebbtide::{Ack, Engine, EntityId, Event, Producer, Timestamp};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Events of a second while a checkpoint is taken.
const RATE: u32 = 50_000;
/// Between two rounds in which every entity has an event.
const ROUND_NS: u64 = 60_000_000_000;
/// Events of the log, for each record of the checkpoint.
const EVENTS_PER_RECORD: usize = 2;

/// Measures every row that takes a checkpoint or opens a store again.
///
/// # Errors
///
/// If the engine does not run, or the file system does not.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let reopening = [REPLAY, RESTORE_VS_READ, TIME_TO_READY, RESTORE];
    let checkpoints = [CHECKPOINT, CHECKPOINT_TAIL];
    if !run.wants(&[&reopening[..], &checkpoints].concat()) {
        return Ok(());
    }
    let folder = run.stores.fresh("reopened");
    let pairs = run.effort.pairs_stored;
    let engine = run.stores.with_history(&folder, schema(Decays::Three)?, (pairs, START_NS))?;
    let mut all = Everyone { producer: engine.producer()?, pairs, rounds: 0 };
    engine.checkpoint().map_err(Fault::environment)?;
    cores::on_first(|| {
        if run.wants(&[CHECKPOINT]) {
            checkpoint(run, &engine, &mut all)?;
        }
        if run.wants(&[CHECKPOINT_TAIL]) {
            tail(run, &engine, &mut all)?;
        }
        engine.checkpoint().map_err(Fault::environment)?;
        if run.wants(&reopening) {
            let events = usize::try_from(pairs).unwrap_or(usize::MAX) * EVENTS_PER_RECORD;
            let mut stream = Stream::new((pairs, 0.0), all.now_ns(), 15);
            record_durably(&mut all.producer, &engines::unrouted(&stream.take(events)))?;
        }
        engines::close(&engine)
    })?;
    if !run.wants(&reopening) {
        return Ok(());
    }
    let rounds = (1..=all.rounds).map(|round| START_NS + round * ROUND_NS);
    let events_ns: Vec<u64> = history_ns(START_NS).into_iter().chain(rounds).collect();
    let snapshot = Snapshot::take(run, pairs, &events_ns)?;
    reopen(run, (&folder, pairs), snapshot.as_ref())
}

/// A producer that changes every pair.
struct Everyone {
    producer: Producer,
    pairs: u64,
    rounds: u64,
}

impl Everyone {
    /// When the next events happen.
    fn now_ns(&self) -> u64 {
        START_NS + self.rounds * ROUND_NS
    }

    /// An event for each.
    fn change(&mut self) -> Result<(), Fault> {
        self.rounds += 1;
        let events: Vec<_> = one_each(self.pairs, self.now_ns()).collect();
        record_durably(&mut self.producer, &engines::unrouted(&events))
    }

    /// Some more events, spread over all.
    fn some(&mut self, count: usize) -> Vec<Event> {
        let mut stream = Stream::new((self.pairs, 0.0), self.now_ns(), 16 + self.rounds);
        engines::unrouted(&stream.take(count))
    }
}

fn checkpoint(run: &mut Run, engine: &Engine, all: &mut Everyone) -> Result<(), Fault> {
    let written = |engine: &Engine| {
        let metrics = engine.metrics().checkpoints.unwrap_or_default();
        (metrics.records, metrics.bytes)
    };
    let mut plain: Option<PlainCheckpoint> = None;
    let (turns, path) = (run.effort.turns_stored, run.stores.fresh("checkpoint"));
    run.row_of_turns(CHECKPOINT, turns, || {
        all.change()?;
        let before = written(engine);
        let ours = wall_seconds(|| engine.checkpoint().map(drop).map_err(Fault::environment))?;
        let after = written(engine);
        let (records, bytes) = (after.0 - before.0, after.1 - before.1);
        let files = |error| failed(&path)(error);
        if plain.is_none() {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            plain = Some(PlainCheckpoint::create(&path, bytes).map_err(files)?);
        }
        let Some(file) = &mut plain else { unreachable!("it was just made") };
        let theirs = wall_seconds(|| file.save().map_err(files))?;
        // Its file is made of whole pieces.
        let whole = file.bytes() as f64 / bytes as f64;
        let rate = |seconds: f64| records as f64 / seconds / 1e6;
        Ok((rate(ours), rate(theirs) * whole))
    })
}

/// The late ones among events that are applied while a checkpoint is taken, and while none is.
fn tail(run: &mut Run, engine: &Engine, all: &mut Everyone) -> Result<(), Fault> {
    let (turns, most) = (run.effort.turns_stored, run.effort.events_tail);
    let schedule = (Schedule::per_second(RATE), Ack::Applied);
    run.row_of_turns(CHECKPOINT_TAIL, turns, || {
        all.change()?;
        let (ended, events) = (AtomicBool::new(false), all.some(most));
        let mut stalls = Stalls::default();
        let saved_meanwhile = || {
            std::thread::scope(|scope| {
                let saving = scope.spawn(|| {
                    let saved = engine.checkpoint();
                    ended.store(true, Ordering::Release);
                    saved
                });
                let ended = || ended.load(Ordering::Acquire);
                let with = offer_on_schedule(&mut all.producer, &events, schedule, ended);
                let saved = saving.join().expect("a checkpoint does not panic");
                saved.map_err(Fault::environment)?;
                with
            })
        };
        let with = stalls.beside(saved_meanwhile)?;
        let as_many = all.some(with.len());
        let alone = || offer_on_schedule(&mut all.producer, &as_many, schedule, || false);
        let without = stalls.beside(alone)?;
        let stall_us = stalls.at_us(0.999);
        Ok(Sides { stall_us, ..(with.at(0.999), without.at(0.999)).into() })
    })
}

/// Opens the same store again and again. Closing takes no checkpoint, so each opening finds the
/// same records and the same events.
fn reopen(
    run: &mut Run,
    (folder, pairs): (&Path, u64),
    snapshot: Option<&Snapshot>,
) -> Result<(), Fault> {
    let (stores, schema) = (Arc::clone(&run.stores), schema(Decays::Three)?);
    let opening = || {
        let begun = Instant::now();
        let engine = stores.open(folder, Arc::clone(&schema))?;
        let found = engine.reader()?.read(EntityId(pairs / 2), VIEW, Timestamp::MAX);
        let ready = begun.elapsed().as_secs_f64();
        let found = found.map_err(Fault::environment)?.is_some();
        let report = engine.recovery().cloned().unwrap_or_default();
        engines::close(&engine)?;
        if !found || report.records_restored < pairs || report.events_read == 0 {
            return Err(Fault::difference("a store that was opened again lacks what it held"));
        }
        let (log, checkpoint) = (read(&folder.join("log"))?, read(&folder.join("checkpoint"))?);
        let rate = |count: u64, seconds| count as f64 / seconds / 1e6;
        let (replay, restore) = (report.replay_duration, report.restore_duration);
        let restored = rate(report.records_restored, restore.as_secs_f64());
        Ok([
            (rate(report.events_read, replay.as_secs_f64()), rate(report.events_read, log)),
            (restored, rate(report.records_restored, checkpoint)),
            (ready * 1e3, (log + checkpoint) * 1e3),
        ])
    };
    let (criteria, turns) = ([REPLAY, RESTORE_VS_READ, TIME_TO_READY], run.effort.turns_stored);
    let Some(snapshot) = snapshot else { return run.rows_of_turns(criteria, turns, opening) };
    let [replay, restore_vs_read, ready] = criteria;
    run.rows_of_turns([replay, restore_vs_read, RESTORE, ready], turns, || {
        let [replay, restored, ready] = opening()?;
        Ok([replay, restored, (restored.0, snapshot.load()?), ready])
    })
}

/// Seconds that it takes to read and hash all files below a folder.
fn read(folder: &Path) -> Result<f64, Fault> {
    let failed = failed(folder);
    wall_seconds(|| {
        let files = files_below(folder).map_err(&failed)?;
        black_box(read_and_hash(files.iter().map(|file| &*file.0)).map_err(&failed)?);
        Ok(())
    })
}
