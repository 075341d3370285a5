//! Where shards run: one pinned thread each, on io_uring or on plain threads, behind one seam.
//!
//! Promises: the same loop drives a shard on either runtime; which one was chosen, and why, is part
//! of the engine; a panic in a shard ends that shard, not the process. Not here: what a turn does
//! ([`ebbtide_shard::shard`]).

pub mod probe;
mod shard_loop;
mod threads;
mod uring;

pub(crate) use shard_loop::message as panic_message;

use ebbtide_shard::Shard;
use ebbtide_wal::NoWal;
use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

/// Which runtime the shards should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring where the host allows it, otherwise plain threads.
    #[default]
    Auto,
    /// io_uring; refuse to open where the host does not allow it.
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
    /// It keeps looking: the shortest latency, and a whole core for it.
    Spin,
}

/// How often a sleeping shard looks around unasked: a belt beside the braces of the wake protocol.
const TICK: Duration = Duration::from_millis(250);

/// One shard to be run.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) core: usize,
    pub(crate) idle: Idle,
    /// Makes the shard on its own thread, so that its memory is local to its core.
    pub(crate) build: Box<dyn FnOnce() -> Shard<NoWal> + Send>,
}

/// A running shard's thread.
pub(crate) struct ShardThread {
    join: Box<dyn FnOnce() + Send>,
    /// Hangs up when the shard has ended.
    ended: mpsc::Receiver<()>,
}

impl fmt::Debug for ShardThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardThread")
    }
}

impl ShardThread {
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

/// Decides between the runtimes.
///
/// # Errors
///
/// Why io_uring cannot be used, if it was insisted on.
pub(crate) fn choose(asked: Backend, shards: usize) -> Result<BackendChoice, String> {
    let threads = |why| BackendChoice { backend: Backend::Threads, why };
    match (asked, probe::io_uring(shards)) {
        (Backend::Threads, _) => Ok(threads("as asked".into())),
        (Backend::Uring, Ok(_)) => {
            Ok(BackendChoice { backend: Backend::Uring, why: "as asked".into() })
        }
        (Backend::Uring, Err(why)) => Err(why),
        (Backend::Auto, Ok(why)) => Ok(BackendChoice { backend: Backend::Uring, why }),
        (Backend::Auto, Err(why)) => Ok(threads(why)),
    }
}

/// Starts a shard on the chosen runtime and waits until it runs.
///
/// # Errors
///
/// Why it could not be started.
pub(crate) fn launch(backend: Backend, job: Job) -> Result<ShardThread, String> {
    let (started, has_started) = mpsc::sync_channel(1);
    let (ending, ended) = mpsc::channel();
    let run = Run { job, started, ending };
    let join = if backend == Backend::Uring { uring::spawn(run) } else { threads::spawn(run) }?;
    if has_started.recv().is_ok() {
        return Ok(ShardThread { join, ended });
    }
    join();
    Err("its thread ended before it began".into())
}

/// A job with the signals of its beginning and end.
struct Run {
    job: Job,
    started: mpsc::SyncSender<()>,
    /// Dropped when the shard has ended, whatever way.
    ending: mpsc::Sender<()>,
}
