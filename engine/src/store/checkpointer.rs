//! The thread that owns the checkpoint's storage and writes to it while the shards go on.
//!
//! ```text
//! host ─asks─▶ keeper (a thread): all shards begin ─parts─▶ batches ─▶ finish ─▶ all logs note
//! ```
//!
//! Promises: one checkpoint at a time; what it covers is durable and was read back before a log is
//! told that it may let go; a storage that fails ends checkpoints and nothing else: the shards go
//! on, their logs grow, and the engine says that it is degraded.
//! Invariants: a shard never calls the storage. Parts are written in the order each shard made
//! them.
//! Fails by: [`CheckpointError`] to whoever asked, and in [`CheckpointMetrics`].
//! Not here: what a part holds (`ebbtide_shard::saving`), how it is written (`Saver`).

use super::keeper::{Charge, Keeper, Order};
use super::{StoreError, background, files};
use ebbtide_shard::ShardDown;
use ebbtide_shard::checkpoint::{CheckpointDone, SaveError};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

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

/// When checkpoints are taken unasked, and which are written anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    /// Bytes of log of any one shard.
    pub(crate) log_bytes: u64,
    /// Bytes of pairs from which on one may be written anew.
    pub(crate) anew_bytes: u64,
}

/// What the checkpoints of a store have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointMetrics {
    /// Checkpoints finished since the store was opened.
    pub finished: u64,
    /// Of these, how many were written anew, to a directory of their own.
    pub anew: u64,
    /// Why the last one that was to be written anew was not, but beside what is old: no space for a
    /// second one, or a file system that exchanges no directories.
    pub not_anew: Option<String>,
    /// Pairs, and records of sources and ids, written since then.
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

/// The running thread, seen from the engine.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    orders: Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Mutex<CheckpointMetrics>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(crate) fn start(charge: Charge) -> Result<Self, StoreError> {
        let (orders, inbox) = channel();
        let metrics: Arc<Mutex<CheckpointMetrics>> = Arc::default();
        let keeper = Keeper::new(charge, orders.clone(), Arc::clone(&metrics));
        let thread = std::thread::Builder::new().name("ebbtide-checkpoint".into());
        let spawned = thread.spawn(move || {
            background::stand_back();
            keeper.run(&inbox);
        });
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

/// The thread closes the storage once every shard has ended, also when nobody waits for it.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        if lock(&self.thread).take().is_some() {
            let (tell, _nobody_listens) = channel();
            let _ended = self.orders.send(Order::Close(tell));
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
