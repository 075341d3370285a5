//! The thread that owns the checkpoint's storage and writes to it while the shards go on.
//!
//! ```text
//! time, log size, or a host asks ─▶ all shards begin ─parts─▶ batches ─▶ finish ─▶ all logs note
//! ```
//!
//! Promises: one checkpoint at a time; what it covers is durable and was read back before a log is
//! told that it may let go; a storage that fails ends checkpoints and nothing else: the shards go
//! on, their logs grow, and the engine says that it is degraded.
//! Invariants: a shard never calls the storage. Parts are written in the order each shard made
//! them.
//! Fails by: [`CheckpointError`] to whoever asked, and in [`CheckpointMetrics`].
//! Not here: what a part holds (`ebbtide_shard::saving`), how it is written (`Saver`).

use super::files::{self, StoreFiles};
use super::recover::LEAVING;
use super::{FjallStorage, StoreError, StoreLock, backup, seal};
use crate::runtime::panic_message;
use ebbtide_shard::checkpoint::{
    CheckpointDone, IdsRecord, Key, SaveError, Saver, SourceRecord, StorageError,
};
use ebbtide_shard::port::Mail;
use ebbtide_shard::saving::{SavePart, SaveSink};
use ebbtide_shard::source::{SourceId, SourceName};
use ebbtide_shard::{ShardDown, ShardPort};
use ebbtide_wal::{CheckpointNote, Lsn};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Parts of one shard that may be on their way.
const PARTS_UNDER_WAY: usize = 4;
/// Time between checkpoints at least, unless a host asks.
const SPACING: Duration = Duration::from_secs(5);
/// How often the size of the logs is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Why a checkpoint was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The engine lives in memory only.
    #[error("the engine lives in memory only; open one on a directory to have checkpoints")]
    InMemory,
    /// The storage failed, and takes nothing more until the store is opened again. Nothing is lost:
    /// the logs keep what no checkpoint covers.
    #[error("{0}")]
    Save(#[from] SaveError),
    /// A shard is down, so its state cannot be saved. Open the store again.
    #[error("the checkpoint was given up: {0}")]
    Down(#[from] ShardDown),
    /// The engine is being closed.
    #[error("the checkpoint was given up: the engine is being closed")]
    Closing,
}

/// When checkpoints are taken unasked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    /// Bytes of log of any one shard.
    pub(crate) log_bytes: u64,
}

/// What the checkpoints of a store have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointMetrics {
    /// Checkpoints finished since the store was opened.
    pub finished: u64,
    /// Records written since then.
    pub records: u64,
    /// Bytes of keys and values written since then.
    pub bytes: u64,
    /// How long the last one took.
    pub last_duration: Duration,
    /// When the last one was finished.
    pub last_at: Option<SystemTime>,
    /// Why there will be no more until the store is opened again.
    pub failure: Option<String>,
}

/// What the thread is told.
enum Order {
    Part(usize, SavePart),
    Checkpoint(Sender<Result<CheckpointDone, CheckpointError>>),
    Backup(PathBuf, Sender<Result<(), StoreError>>),
    Close(Sender<Result<(), StoreError>>),
}

/// The running thread, seen from the engine.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    orders: Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Mutex<CheckpointMetrics>>,
}

/// What the thread begins with.
pub(crate) struct Charge {
    pub(crate) files: StoreFiles,
    pub(crate) saver: Saver<FjallStorage>,
    pub(crate) ports: Vec<Arc<ShardPort>>,
    pub(crate) pace: Pace,
    /// Logs of shards that there are no more.
    pub(crate) leaving: Vec<u32>,
    /// Held until the storage is closed; each shard holds it until its log is.
    pub(crate) lock: Arc<StoreLock>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(crate) fn start(charge: Charge) -> Result<Self, StoreError> {
        let (orders, inbox) = channel();
        let metrics: Arc<Mutex<CheckpointMetrics>> = Arc::default();
        let charge_shards = charge.ports.len();
        let keeper = Keeper {
            old_ids: charge.saver.other_keys().filter(|key| is_ids(*key)).collect(),
            ids: charge.ports.iter().map(|_| IdsWritten::default()).collect(),
            charge,
            orders: orders.clone(),
            metrics: Arc::clone(&metrics),
            running: None,
            covered: vec![0; charge_shards],
            asked: Vec::new(),
            last: Instant::now(),
            failed: None,
        };
        let thread = std::thread::Builder::new().name("ebbtide-checkpoint".into());
        let spawned = thread.spawn(move || keeper.run(&inbox));
        let thread = spawned.map_err(files::failed("starting a thread for", Path::new("it")))?;
        Ok(Self { orders, thread: Mutex::new(Some(thread)), metrics })
    }

    /// Takes a checkpoint of everything applied by now, and waits for it.
    pub(crate) fn checkpoint(&self) -> Result<CheckpointDone, CheckpointError> {
        let (tell, told) = channel();
        let asked = self.orders.send(Order::Checkpoint(tell));
        let answer = asked.ok().and_then(|()| told.recv().ok());
        answer.unwrap_or(Err(CheckpointError::Closing))
    }

    /// Writes a copy of the store to another directory.
    pub(crate) fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let (tell, told) = channel();
        let asked = self.orders.send(Order::Backup(to.to_owned(), tell));
        asked.ok().and_then(|()| told.recv().ok()).unwrap_or(Err(StoreError::Closed))
    }

    /// Closes the storage and seals it. The shards have ended before.
    pub(crate) fn close(&self, patience: Duration) -> Result<(), StoreError> {
        let Some(thread) = lock(&self.thread).take() else { return Ok(()) };
        let (tell, told) = channel();
        let asked = self.orders.send(Order::Close(tell));
        // A storage that hangs is left behind: what matters of it is durable already.
        let answer = asked.ok().map(|()| told.recv_timeout(patience));
        match answer {
            Some(Ok(outcome)) => {
                // What it said last counts.
                let _ended = thread.join();
                outcome
            }
            Some(Err(RecvTimeoutError::Timeout)) => Err(StoreError::SlowClose { patience }),
            Some(Err(RecvTimeoutError::Disconnected)) | None => Err(StoreError::Closed),
        }
    }

    pub(crate) fn metrics(&self) -> CheckpointMetrics {
        lock(&self.metrics).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn is_ids(key: Key) -> bool {
    matches!(key, Key::Ids { .. })
}

/// The way of one shard's parts to the thread.
struct PartLane {
    shard: usize,
    orders: Sender<Order>,
    under_way: Arc<AtomicUsize>,
}

impl SaveSink for PartLane {
    fn has_room(&self) -> bool {
        self.under_way.load(Ordering::Acquire) < PARTS_UNDER_WAY
    }

    fn take(&mut self, part: SavePart) -> bool {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        self.orders.send(Order::Part(self.shard, part)).is_ok()
    }
}

/// A checkpoint that is being taken.
struct Running {
    begun: Instant,
    under_way: Vec<Arc<AtomicUsize>>,
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
    fn into_record(self) -> SourceRecord {
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

struct Keeper {
    charge: Charge,
    orders: Sender<Order>,
    metrics: Arc<Mutex<CheckpointMetrics>>,
    running: Option<Running>,
    /// How far the last checkpoint covers each shard's log.
    covered: Vec<u64>,
    asked: Vec<Sender<Result<CheckpointDone, CheckpointError>>>,
    last: Instant,
    failed: Option<SaveError>,
    ids: Vec<IdsWritten>,
    /// Records of ids of earlier openings; what is still known of them is saved again.
    old_ids: Vec<Key>,
}

impl Keeper {
    fn run(mut self, inbox: &Receiver<Order>) {
        let tell = loop {
            match inbox.recv_timeout(LOOK) {
                Ok(Order::Part(shard, part)) => self.part(shard, part),
                Ok(Order::Checkpoint(tell)) => self.asked.push(tell),
                Ok(Order::Backup(to, tell)) => {
                    let Charge { files, saver, .. } = &self.charge;
                    let outcome = backup::write(files, saver.storage(), &to);
                    let _nobody_waits = tell.send(outcome);
                }
                Ok(Order::Close(tell)) => break tell,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look_around();
        };
        self.give_up(&CheckpointError::Closing);
        let Charge { files, saver, lock, .. } = self.charge;
        let path = files.checkpoint();
        let storage = |source: StorageError| StoreError::Storage { path: path.clone(), source };
        let closed = saver.into_storage().close().map_err(storage);
        // A storage that failed may have files that do not hold together; no seal vouches for it.
        let sealed = match (closed, self.failed) {
            (Ok(()), None) => seal::write(&files),
            (outcome, _) => outcome,
        };
        // Whoever is told may open the store again.
        drop(lock);
        let _nobody_waits = tell.send(sealed);
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
        let Pace { every, log_bytes } = self.charge.pace;
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
        let shards = self.charge.ports.len();
        let under_way: Vec<_> = (0..shards).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let running = Running {
            begun: Instant::now(),
            under_way: under_way.clone(),
            covered: vec![None; shards],
            sources: BTreeMap::new(),
            waiting,
        };
        self.running = Some(running);
        for (shard, (port, under_way)) in self.charge.ports.iter().zip(under_way).enumerate() {
            let lane = PartLane { shard, orders: self.orders.clone(), under_way };
            if let Err(down) = port.post(Mail::Checkpoint(Box::new(lane))) {
                return self.give_up(&CheckpointError::Down(down));
            }
        }
    }

    fn part(&mut self, shard: usize, part: SavePart) {
        let saved = catch_unwind(AssertUnwindSafe(|| self.save(shard, part)));
        if let Some(running) = &self.running {
            running.under_way[shard].fetch_sub(1, Ordering::AcqRel);
        }
        self.charge.ports[shard].doorbell().ring();
        let finished = match saved {
            Ok(Ok(true)) => catch_unwind(AssertUnwindSafe(|| self.finish())),
            Ok(Ok(false)) => return,
            Ok(Err(error)) => Ok(Err(error)),
            Err(panic) => Err(panic),
        };
        match finished {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(panic) => {
                let cause = format!("it panicked: {}", panic_message(&*panic));
                self.fail(SaveError::Failed { cause });
            }
        }
    }

    /// Writes a part. Says whether it was the last one of the checkpoint.
    fn save(&mut self, shard: usize, part: SavePart) -> Result<bool, SaveError> {
        if self.failed.is_some() {
            return Ok(false);
        }
        match part {
            SavePart::Pairs(chunk) => self.charge.saver.commit(chunk)?,
            SavePart::Sources(sources) => {
                let Some(running) = &mut self.running else { return Ok(false) };
                for (name, runs) in sources {
                    let named = || SourceParts { name: name.clone(), by_shard: BTreeMap::new() };
                    let parts = running.sources.entry(name.id()).or_insert_with(named);
                    parts.by_shard.insert(shard, runs);
                }
            }
            SavePart::Ids(unsaved) => {
                let opening = self.charge.saver.meta().openings;
                let written = &mut self.ids[shard];
                let shard = u16::try_from(shard).expect("there are at most 1024 shards");
                let key = Key::Ids { opening, shard, sequence: written.next };
                written.next += 1;
                written.by_generation.entry(unsaved.generation).or_default().push(key);
                let entries = unsaved.ids.iter().map(|&(hash, key)| (hash.0, key)).collect();
                self.charge.saver.put_ids(vec![(key, IdsRecord { entries })])?;
            }
            SavePart::Done { covered, oldest_generation } => {
                let kept = self.ids[shard].by_generation.split_off(&oldest_generation);
                let gone = std::mem::replace(&mut self.ids[shard].by_generation, kept);
                let gone: Vec<Key> = gone.into_values().flatten().collect();
                self.charge.saver.delete(&gone)?;
                let Some(running) = &mut self.running else { return Ok(false) };
                running.covered[shard] = Some(covered);
                return Ok(running.covered.iter().all(Option::is_some));
            }
        }
        Ok(false)
    }

    /// Every part is written: makes the checkpoint count.
    fn finish(&mut self) -> Result<(), SaveError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let Charge { saver, ports, leaving, files, .. } = &mut self.charge;
        let sources = running.sources.into_iter();
        saver.put_sources(sources.map(|(id, parts)| (id.0, parts.into_record())).collect())?;
        saver.delete(&std::mem::take(&mut self.old_ids))?;
        let shards = running.covered.iter().flatten().map(|lsn| lsn.get());
        let covered = (0..).zip(shards).chain(leaving.iter().map(|&log| (log, LEAVING)));
        let layout = u32::try_from(ports.len()).expect("there are at most 1024 shards");
        let done = saver.finish(layout, covered.collect())?;
        self.covered = running.covered.iter().flatten().map(|lsn| lsn.get()).collect();
        for (port, covered) in ports.iter().zip(running.covered.iter().flatten()) {
            let note = CheckpointNote { covered: *covered, digest: done.digest };
            // A shard that is gone keeps its log as it is.
            let _gone = port.post(Mail::Note(note));
        }
        for log in leaving.drain(..) {
            // All of it is in the checkpoint; what cannot be removed now is at the next opening.
            let _left = files::remove_directory(&files.log(log));
        }
        let mut metrics = lock(&self.metrics);
        metrics.finished += 1;
        metrics.records += done.records;
        metrics.bytes += done.bytes;
        metrics.last_duration = running.begun.elapsed();
        metrics.last_at = Some(SystemTime::now());
        drop(metrics);
        for tell in running.waiting {
            let _nobody_waits = tell.send(Ok(done.clone()));
        }
        Ok(())
    }

    fn fail(&mut self, error: SaveError) {
        lock(&self.metrics).failure = Some(error.to_string());
        self.failed = Some(error.clone());
        self.give_up(&CheckpointError::Save(error));
    }

    fn give_up(&mut self, error: &CheckpointError) {
        let running = self.running.take();
        let waiting = running.into_iter().flat_map(|running| running.waiting);
        for tell in waiting.chain(self.asked.drain(..)) {
            let _nobody_waits = tell.send(Err(error.clone()));
        }
    }
}
