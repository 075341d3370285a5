//! The thread that takes the checkpoints: it alone writes to the storage.
//!
//! ```text
//! time, log size, or a host asks ─▶ all shards begin ─parts─▶ batches ─▶ finish ─▶ all logs note
//! ```
//!
//! Invariants: no checkpoint begins after one was given up. What its shards had made counts as
//! saved there, so a later one would miss it; only a shard that is down, a storage that failed and
//! the end of the engine give one up, and all three are for good.
//! Fails by: what it tells whoever asked, and the metrics.
//! Not here: the engine's side (`checkpointer`), what a part holds (`ebbtide_shard::saving`).

use super::checkpointer::{CheckpointError, CheckpointMetrics, Pace, lock};
use super::files::{self, StoreFiles};
use super::part_lane::{PartLane, UnderWay, part_bytes};
use super::recover::LEAVING;
use super::savers::Savers;
use super::{StoreError, StoreLock, background, backup, seal};
use crate::runtime::panic_message;
use ebbtide_router::Placement;
use ebbtide_shard::ShardPort;
use ebbtide_shard::checkpoint::{
    CheckpointDone, IdsRecord, Key, SaveError, SourceRecord, StorageError,
};
use ebbtide_shard::port::Mail;
use ebbtide_shard::saving::SavePart;
use ebbtide_shard::source::{SourceId, SourceName};
use ebbtide_wal::{CheckpointNote, Lsn};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Time between checkpoints at least, unless a host asks.
const SPACING: Duration = Duration::from_secs(1);
/// How often the size of the logs is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What the thread is told.
pub(super) enum Order {
    Part(usize, SavePart),
    Checkpoint(Sender<Result<CheckpointDone, CheckpointError>>),
    Backup(PathBuf, Sender<Result<(), StoreError>>),
    Close(Sender<Result<(), StoreError>>),
}

/// What the thread begins with.
pub(crate) struct Charge {
    pub(crate) files: StoreFiles,
    pub(crate) savers: Savers,
    pub(crate) ports: Vec<Arc<ShardPort>>,
    pub(crate) placement: Placement,
    pub(crate) pace: Pace,
    /// Logs of shards that there are no more.
    pub(crate) leaving: Vec<u32>,
    /// Held until the storage is closed; each shard holds it until its log is.
    pub(crate) lock: Arc<StoreLock>,
}

/// A checkpoint that is being taken.
struct Running {
    begun: Instant,
    under_way: Arc<UnderWay>,
    covered: Vec<Option<Lsn>>,
    sources: BTreeMap<SourceId, SourceParts>,
    waiting: Vec<Sender<Result<CheckpointDone, CheckpointError>>>,
}

/// A source, put together from all shards.
struct SourceParts {
    name: SourceName,
    /// The runs of each shard, whose partitions lie one behind the other.
    by_shard: BTreeMap<usize, Vec<(u16, u64)>>,
}

impl SourceParts {
    /// The record of all shards together. One that did not know the source when it made its part
    /// had nothing of it: those known at the opening are known to all.
    fn into_record(mut self, placement: Placement) -> SourceRecord {
        for shard in 0..placement.shards() {
            let first = placement.partitions(shard).start;
            let first = u16::try_from(first).expect("there are 4096 partitions");
            self.by_shard.entry(shard).or_insert_with(|| vec![(first, 0)]);
        }
        let mut runs: Vec<(u16, u64)> = self.by_shard.into_values().flatten().collect();
        runs.dedup_by_key(|&mut (_, offset)| offset);
        SourceRecord { name: self.name.as_str().to_owned(), runs }
    }
}

/// Which records of ids a shard has in the storage, by generation.
#[derive(Default)]
struct IdsWritten {
    by_generation: BTreeMap<u64, Vec<Key>>,
    next: u32,
}

pub(super) struct Keeper {
    charge: Charge,
    orders: Sender<Order>,
    metrics: Arc<Mutex<CheckpointMetrics>>,
    running: Option<Running>,
    /// How far the last checkpoint covers each shard's log.
    covered: Vec<u64>,
    asked: Vec<Sender<Result<CheckpointDone, CheckpointError>>>,
    last: Instant,
    failed: Option<SaveError>,
    /// Who waits for the end, which comes when every shard has ended.
    closing: Option<Sender<Result<(), StoreError>>>,
    ids: Vec<IdsWritten>,
    /// Records of ids of earlier openings; what is still known of them is saved again.
    old_ids: Vec<Key>,
}

/// Does `work`, and turns its panics into values.
fn caught<T>(work: impl FnOnce() -> Result<T, SaveError>) -> Result<T, SaveError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(SaveError::Failed { cause: format!("it panicked: {}", panic_message(&*panic)) })
    })
}

impl Keeper {
    pub(super) fn new(
        charge: Charge,
        orders: Sender<Order>,
        metrics: Arc<Mutex<CheckpointMetrics>>,
    ) -> Self {
        let is_ids = |key: &Key| matches!(key, Key::Ids { .. });
        Self {
            old_ids: charge.savers.other_keys().filter(is_ids).collect(),
            ids: charge.ports.iter().map(|_| IdsWritten::default()).collect(),
            covered: vec![0; charge.ports.len()],
            charge,
            orders,
            metrics,
            running: None,
            asked: Vec::new(),
            last: Instant::now(),
            failed: None,
            closing: None,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Order>) {
        let tell = loop {
            match inbox.recv_timeout(LOOK) {
                Ok(Order::Part(shard, part)) => self.part(shard, part),
                Ok(Order::Checkpoint(tell)) => self.asked.push(tell),
                Ok(Order::Backup(to, tell)) => {
                    let _nobody_waits = tell.send(self.back_up(&to));
                }
                Ok(Order::Close(tell)) => self.closing = Some(tell),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // A shard may still save while it takes what it has.
            if self.charge.ports.iter().all(|port| port.down().is_some())
                && let Some(tell) = self.closing.take()
            {
                break tell;
            }
            self.look_around();
        };
        self.give_up(&CheckpointError::Closing);
        let Charge { files, savers, lock, .. } = self.charge;
        let path = files.checkpoint();
        let storage = |source: StorageError| StoreError::Storage { path: path.clone(), source };
        let closed = savers.close().map_err(storage);
        // A storage that failed may have files that do not hold together; no seal vouches for it.
        let sealed = match (closed, self.failed) {
            (Ok(()), None) => seal::write(&files),
            (outcome, _) => outcome,
        };
        // Whoever is told may open the store again.
        drop(lock);
        let _nobody_waits = tell.send(sealed);
    }

    fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        let Charge { files, savers, .. } = &self.charge;
        let path = files.checkpoint();
        let known = |error| self.failed.clone().unwrap_or(error);
        let storage = savers.storage().map_err(known);
        let storage = storage.map_err(|source| StoreError::Save { path, source })?;
        backup::write(files, storage, to)
    }

    fn look_around(&mut self) {
        if let Some(running) = &self.running {
            let down = self.charge.ports.iter().find_map(|port| port.down().cloned());
            let done = running.covered.iter().all(Option::is_some);
            if let Some(down) = down.filter(|_| !done) {
                self.give_up(&CheckpointError::Down(down));
            }
            return;
        }
        if !self.asked.is_empty() || self.is_due() {
            self.begin();
        }
    }

    /// Whether it is time for a checkpoint, and one would cover anything new.
    fn is_due(&self) -> bool {
        let since = self.last.elapsed();
        let Pace { every, log_bytes, .. } = self.charge.pace;
        let counters = self.charge.ports.iter().map(|port| port.counters().snapshot());
        let mut new =
            counters.zip(&self.covered).filter(|(now, covered)| now.wal_appended > **covered);
        self.failed.is_none()
            && since >= SPACING
            && new.any(|(now, _)| since >= every || now.wal_file_bytes >= log_bytes)
    }

    fn begin(&mut self) {
        self.last = Instant::now();
        let waiting = std::mem::take(&mut self.asked);
        if let Some(error) = &self.failed {
            let error = CheckpointError::Save(error.clone());
            for tell in waiting {
                let _nobody_waits = tell.send(Err(error.clone()));
            }
            return;
        }
        // Before any shard is told: one that is down is so for good.
        if let Some(down) = self.charge.ports.iter().find_map(|port| port.down().cloned()) {
            self.asked = waiting;
            return self.give_up(&CheckpointError::Down(down));
        }
        let shards = self.charge.ports.len();
        let under_way = Arc::new(UnderWay::of(shards));
        let running = Running {
            begun: Instant::now(),
            under_way: Arc::clone(&under_way),
            covered: vec![None; shards],
            sources: BTreeMap::new(),
            waiting,
        };
        self.running = Some(running);
        let walk = caught(|| self.charge.savers.begin_walk(&self.old_ids));
        lock(&self.metrics).not_anew = self.charge.savers.refused().cloned();
        let walk = match walk {
            Ok(walk) => walk,
            Err(error) => return self.fail(error),
        };
        for (shard, port) in self.charge.ports.iter().enumerate() {
            let (orders, under_way) = (self.orders.clone(), Arc::clone(&under_way));
            let lane = PartLane::new(shard, orders, under_way);
            if let Err(down) = port.post(Mail::Checkpoint(walk, Box::new(lane))) {
                return self.give_up(&CheckpointError::Down(down));
            }
        }
    }

    fn part(&mut self, shard: usize, part: SavePart) {
        background::give_way();
        let bytes = part_bytes(&part);
        let saved = caught(|| self.save(shard, part));
        if let Some(running) = &self.running {
            running.under_way.leave(shard, bytes);
        }
        self.charge.ports[shard].doorbell().ring();
        let finished = match saved {
            Ok(true) => caught(|| self.finish()),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = finished {
            self.fail(error);
        }
    }

    /// Writes a part. Says whether it was the last one of the checkpoint.
    fn save(&mut self, shard: usize, part: SavePart) -> Result<bool, SaveError> {
        // What comes of a checkpoint that was given up is no part of any.
        if self.failed.is_some() || self.running.is_none() {
            return Ok(false);
        }
        let saver = self.charge.savers.saver()?;
        match part {
            SavePart::Pairs(chunk) => saver.commit(&chunk)?,
            SavePart::Sources(sources) => {
                let Some(running) = &mut self.running else { return Ok(false) };
                for (name, runs) in sources {
                    let named = || SourceParts { name: name.clone(), by_shard: BTreeMap::new() };
                    let parts = running.sources.entry(name.id()).or_insert_with(named);
                    parts.by_shard.insert(shard, runs);
                }
            }
            SavePart::Ids(unsaved) => {
                let opening = saver.meta().openings;
                let written = &mut self.ids[shard];
                let shard = u16::try_from(shard).expect("there are at most 1024 shards");
                let key = Key::Ids { opening, shard, sequence: written.next };
                written.next += 1;
                written.by_generation.entry(unsaved.generation).or_default().push(key);
                let entries = unsaved.ids.iter().map(|&(hash, key)| (hash.0, key)).collect();
                saver.put_ids(vec![(key, IdsRecord { entries })])?;
            }
            SavePart::Done { covered, oldest_generation } => {
                let kept = self.ids[shard].by_generation.split_off(&oldest_generation);
                let gone = std::mem::replace(&mut self.ids[shard].by_generation, kept);
                let gone: Vec<Key> = gone.into_values().flatten().collect();
                saver.delete(&gone)?;
                // Another shard may take long.
                saver.write_run()?;
                let Some(running) = &mut self.running else { return Ok(false) };
                running.covered[shard] = Some(covered);
                return Ok(running.covered.iter().all(Option::is_some));
            }
        }
        Ok(false)
    }

    /// Every part is written: makes the checkpoint count, and tells those who asked and the logs.
    fn finish(&mut self) -> Result<(), SaveError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Charge { savers, ports, placement, leaving, files, .. } = &mut self.charge;
        let saver = savers.saver()?;
        let sources = std::mem::take(&mut running.sources).into_iter();
        let record = |(id, parts): (SourceId, SourceParts)| (id.0, parts.into_record(*placement));
        saver.put_sources(sources.map(record).collect())?;
        saver.delete(&std::mem::take(&mut self.old_ids))?;
        self.covered = running.covered.iter().flatten().map(|lsn| lsn.get()).collect();
        let covered = (0..).zip(self.covered.iter().copied());
        let covered = covered.chain(leaving.iter().map(|&log| (log, LEAVING)));
        let layout = u32::try_from(ports.len()).expect("there are at most 1024 shards");
        let done = savers.finish(layout, covered.collect())?;
        for (port, &covered) in ports.iter().zip(&self.covered) {
            let note = CheckpointNote { covered: Lsn::new(covered), digest: done.digest };
            // A shard that is gone keeps its log as it is.
            let _gone = port.post(Mail::Note(note));
        }
        // All of it is in the checkpoint; what cannot be removed stays on the list.
        leaving.retain(|&log| files::remove_directory(&files.log(log)).is_err());
        self.tell_done(&done);
        Ok(())
    }

    fn tell_done(&mut self, done: &CheckpointDone) {
        let Some(running) = self.running.take() else { return };
        let mut metrics = lock(&self.metrics);
        metrics.finished += 1;
        metrics.anew = self.charge.savers.replaced();
        metrics.records += done.records;
        metrics.bytes += done.bytes;
        metrics.last_duration = running.begun.elapsed();
        metrics.last_at = Some(SystemTime::now());
        drop(metrics);
        for tell in running.waiting {
            let _nobody_waits = tell.send(Ok(done.clone()));
        }
    }

    fn fail(&mut self, error: SaveError) {
        lock(&self.metrics).failure = Some(error.to_string());
        self.failed = Some(error.clone());
        self.give_up(&CheckpointError::Save(error));
    }

    fn give_up(&mut self, error: &CheckpointError) {
        self.charge.savers.give_up();
        let running = self.running.take();
        let waiting = running.into_iter().flat_map(|running| running.waiting);
        for tell in waiting.chain(self.asked.drain(..)) {
            let _nobody_waits = tell.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FjallStorage;
    use super::*;
    use ebbtide_shard::EntityHash;
    use ebbtide_shard::checkpoint::{Chunk, Opening, Round, Saver};
    use ebbtide_shard::dedup::UnsavedIds;
    use ebbtide_shard::saving::SaveSink as _;

    /// A keeper of a new store's checkpoints, and the folder it lies in.
    fn keeper() -> (tempfile::TempDir, Keeper) {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let storage = FjallStorage::open(&files.checkpoint()).unwrap();
        let opening = Opening {
            number: 1,
            schema_toml: String::new(),
            signal_names: Vec::new(),
            covered: Vec::new(),
        };
        let saver = Saver::create(storage, [1; 16], opening).unwrap();
        let charge = Charge {
            savers: Savers::new(files.clone(), saver),
            ports: vec![Arc::new(ShardPort::new(0))],
            placement: Placement::over(1).unwrap(),
            pace: Pace { every: Duration::MAX, log_bytes: u64::MAX, anew_bytes: 0 },
            leaving: Vec::new(),
            lock: Arc::new(StoreLock::take(&files).unwrap()),
            files,
        };
        (folder, Keeper::new(charge, std::sync::mpsc::channel().0, Arc::default()))
    }

    #[test]
    fn what_comes_of_a_checkpoint_that_was_given_up_is_left_out() {
        let (_folder, mut keeper) = keeper();
        keeper.begin();
        keeper.give_up(&CheckpointError::Closing);
        let later = Round::new(99).unwrap();
        keeper.part(0, SavePart::Pairs(Chunk::new(Lsn::NONE, later)));
        keeper.part(0, SavePart::Done { covered: Lsn::new(7), oldest_generation: 0 });
        assert_eq!(keeper.failed, None);
        assert_eq!(keeper.charge.savers.saver().unwrap().meta().checkpoint, 0);
    }

    #[test]
    fn what_has_arrived_makes_room_for_more() {
        let (_folder, mut keeper) = keeper();
        keeper.begin();
        let under_way = Arc::clone(&keeper.running.as_ref().unwrap().under_way);
        let (orders, arriving) = std::sync::mpsc::channel();
        let mut lane = PartLane::new(0, orders, Arc::clone(&under_way));
        for first in 0..9 {
            let ids = vec![(EntityHash(7), u128::from(first)); 100];
            assert!(lane.take(SavePart::Ids(UnsavedIds { generation: 1, first, ids })));
        }
        assert!(!under_way.is_empty());
        for order in arriving.try_iter() {
            let Order::Part(shard, part) = order else { panic!("only parts were sent") };
            keeper.part(shard, part);
        }
        assert_eq!(keeper.failed, None);
        assert!(under_way.is_empty());
    }

    #[test]
    fn a_shard_that_did_not_know_a_source_yet_had_nothing_of_it() {
        let placement = Placement::over(3).unwrap();
        let runs = |reported: &[(usize, Vec<(u16, u64)>)]| {
            let name = SourceName::new("feed").unwrap();
            let by_shard = reported.iter().cloned().collect();
            SourceParts { name, by_shard }.into_record(placement).runs
        };
        let [_, second, third] = [0, 1366, 2731];
        assert_eq!(runs(&[(0, vec![(0, 7)])]), [(0, 7), (second, 0)]);
        assert_eq!(runs(&[(1, vec![(second, 7)])]), [(0, 0), (second, 7), (third, 0)]);
        let all = [(0, vec![(0, 7), (9, 8)]), (1, vec![(second, 8)]), (2, vec![(third, 9)])];
        assert_eq!(runs(&all), [(0, 7), (9, 8), (third, 9)]);
    }
}
