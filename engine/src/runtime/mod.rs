//! Where shards run: one pinned thread each, on io_uring or on plain threads, behind one seam.
//!
//! Promises: the same loop drives a shard on either runtime; which one was chosen, and why, is part
//! of the engine; a panic in a shard ends that shard, not the process. Not here: what a turn does
//! ([`ebbtide_shard::shard`]).

mod affinity;
mod log_io;
pub mod probe;
mod shard_loop;
mod threads;
mod uring;

pub(crate) use affinity::Affinity;
pub(crate) use shard_loop::message as panic_message;

use crate::store::StoreLock;
use ebbtide_shard::{Shard, ShardPort};
use ebbtide_wal::{Log, NoWal, Replayed, StartOptions};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Which runtime the shards should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring where the host allows it and shards park, otherwise plain threads.
    #[default]
    Auto,
    /// io_uring; refuse to open where the host does not allow it. Shards that spin take plain
    /// threads all the same.
    Uring,
    /// Plain threads.
    Threads,
}

/// The runtime in use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendChoice {
    /// [`Backend::Uring`] or [`Backend::Threads`].
    pub backend: Backend,
    /// The reason, for people.
    pub why: String,
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.backend == Backend::Uring { "io_uring" } else { "threads" };
        write!(f, "{name} ({})", self.why)
    }
}

/// What an idle shard does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idle {
    /// It sleeps until somebody rings: an idle engine costs next to nothing.
    #[default]
    Park,
    /// It keeps looking: the shortest latency, and a whole core for it. It and its log are on plain
    /// threads then, on io_uring too; those of the log do best with another core. While its log
    /// does not get on for 40 us it sleeps like one that parks.
    Spin,
}

/// One shard to be run.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) core: usize,
    pub(crate) idle: Idle,
    pub(crate) work: Work,
}

/// Makes the shard, on its own thread, so that its memory is local to its core.
pub(crate) enum Work {
    /// A shard that lives in memory only.
    InMemory(Box<dyn FnOnce() -> Shard<NoWal> + Send>),
    /// A shard with a log.
    Durable(DurableWork),
}

/// A shard that is rebuilt from what is stored, and then goes on with its log.
pub(crate) struct DurableWork {
    pub(crate) port: Arc<ShardPort>,
    /// Where its log lies.
    pub(crate) directory: PathBuf,
    /// Held for as long as the log is in use.
    pub(crate) lock: Arc<StoreLock>,
    /// Takes in what is stored, to the end; `None` if there will be no end.
    pub(crate) recover: Recover,
}

/// Rebuilds a shard's state, or says why it cannot.
pub(crate) type Recover = Box<dyn FnOnce() -> Result<Option<Recovered>, String> + Send>;

/// A shard whose state is rebuilt.
pub(crate) struct Recovered {
    /// Its log, read to the end.
    pub(crate) replayed: Replayed,
    pub(crate) options: StartOptions,
    /// Makes the shard over its started log.
    pub(crate) make: Box<dyn FnOnce(Log) -> Result<Shard<Log>, String>>,
}

/// What a shard says when it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// Whether its log is written past the page cache.
    pub(crate) direct_io: bool,
}

/// A running shard's thread.
pub(crate) struct ShardThread {
    join: Box<dyn FnOnce() + Send>,
    started: mpsc::Receiver<Result<Started, String>>,
    /// Hangs up when the shard has ended.
    ended: mpsc::Receiver<()>,
}

impl fmt::Debug for ShardThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardThread")
    }
}

impl ShardThread {
    /// Waits until the shard runs.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub(crate) fn wait_until_started(&self) -> Result<Started, String> {
        let ended = || Err("its thread ended before it began".to_owned());
        self.started.recv().unwrap_or_else(|mpsc::RecvError| ended())
    }

    /// Waits for the shard to end and joins its thread; gives itself back if that takes longer.
    pub(crate) fn join_within(self, patience: Duration) -> Result<(), Self> {
        match self.ended.recv_timeout(patience) {
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self),
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                (self.join)();
                Ok(())
            }
        }
    }
}

/// Decides between the runtimes. Shards that spin are on plain threads always: the kernel's workers
/// are bound to the core of a shard on io_uring, and would not get it (an event was durable after
/// 290 us that takes 75 with threads beside the shard), and a plain thread that sleeps is woken
/// sooner.
///
/// # Errors
///
/// Why io_uring cannot be used, if it was insisted on.
pub(crate) fn choose(asked: Backend, idle: Idle, shards: usize) -> Result<BackendChoice, String> {
    let threads = |why| BackendChoice { backend: Backend::Threads, why };
    if asked == Backend::Threads {
        return Ok(threads("as asked".into()));
    }
    if idle == Idle::Spin {
        return Ok(threads("its shards spin".into()));
    }
    match (asked, probe::io_uring(shards)) {
        (Backend::Uring, Ok(_)) => {
            Ok(BackendChoice { backend: Backend::Uring, why: "as asked".into() })
        }
        (Backend::Uring, Err(why)) => Err(why),
        (_, Ok(why)) => Ok(BackendChoice { backend: Backend::Uring, why }),
        (_, Err(why)) => Ok(threads(why)),
    }
}

/// Starts a shard's thread on the chosen runtime; [`ShardThread::wait_until_started`] tells when
/// the shard runs.
///
/// # Errors
///
/// Why the thread could not be started.
pub(crate) fn launch(backend: Backend, job: Job) -> Result<ShardThread, String> {
    let (starting, started) = mpsc::sync_channel(1);
    let (ending, ended) = mpsc::channel();
    let run = Run { job, starting, ending };
    let join = if backend == Backend::Uring { uring::spawn(run) } else { threads::spawn(run) }?;
    Ok(ShardThread { join, started, ended })
}

/// A job with the signals of its beginning and end.
struct Run {
    job: Job,
    starting: mpsc::SyncSender<Result<Started, String>>,
    /// Dropped when the shard has ended, whatever way.
    ending: mpsc::Sender<()>,
}
