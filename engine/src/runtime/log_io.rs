//! What performs a shard's log I/O beside its turns.
//!
//! Promises: a turn never waits for the disk; answers ring the shard's doorbell; a log that rests
//! is asked for its watermark frame, one that lacks space is asked to try again.
//! Invariants: one log, one driver, one shard; the driver outlives the log's last request.
//! Not here: what the log asks for (`ebbtide_wal::Log`), executors ([`super::uring`]).

use super::Started;
use crate::store::StoreLock;
use ebbtide_shard::ShardPort;
use ebbtide_wal::limits::{IDLE_WATERMARK_US, SPACE_RETRY_MS};
use ebbtide_wal::{IoTasks, IoThreads, Log, Lsn, NoWal, WalWriter, Watermarks};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a sleeping shard looks around unasked: a belt beside the braces of the wake protocol.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// How long a log rests before a watermark frame vouches for its last group.
const IDLE_WATERMARK: Duration = Duration::from_micros(IDLE_WATERMARK_US);
/// How often a log without space is told to try again.
const SPACE_RETRY: Duration = Duration::from_millis(SPACE_RETRY_MS);
/// How long a shard that spins looks for its log to get on before it sleeps. What performs the I/O,
/// threads of the log and of the kernel, may wait for the shard's core, or for the device. Where it
/// waited for the core, up to one tick of the scheduler after the other, events took 4 to 16 ms. A
/// step of a commit takes 35 us where nobody waits: the shard sleeps in none that is as it should
/// be. After 100 us, 99 in 100 events took up to 250 us for 200; at once, half took 120 us for 70.
const OVERDUE: Duration = Duration::from_micros(40);

/// The part of a shard's loop that concerns its log.
pub(super) trait LogDriver<W: WalWriter> {
    /// Takes answers and sends requests; never waits.
    fn pump(&mut self, wal: &mut W);

    /// Why the log can go on no more, if so.
    fn failure(&self, wal: &W) -> Option<String>;

    /// Whether an answer came since the last [`LogDriver::pump`].
    fn has_answer(&self) -> bool;

    /// Whether a commit takes so long that a shard which spins should sleep until it is done.
    fn is_overdue(&self) -> bool;

    /// How long the shard may sleep before it should call [`LogDriver::look_around`].
    fn patience(&self, wal: &W) -> Duration;

    /// Does what time brings: a watermark frame for a log at rest, another try for space.
    fn look_around(&mut self, wal: &mut W);

    /// Asks for the log's orderly end; says whether it has come.
    fn close(&mut self, wal: &mut W) -> bool;

    /// Lets go of what performs the I/O, after its last request.
    async fn stop(self);
}

/// For a shard that keeps no log.
pub(super) struct NoLog;

impl LogDriver<NoWal> for NoLog {
    fn pump(&mut self, _: &mut NoWal) {}

    fn failure(&self, _: &NoWal) -> Option<String> {
        None
    }

    fn has_answer(&self) -> bool {
        false
    }

    fn is_overdue(&self) -> bool {
        false
    }

    fn patience(&self, _: &NoWal) -> Duration {
        TICK
    }

    fn look_around(&mut self, _: &mut NoWal) {}

    fn close(&mut self, _: &mut NoWal) -> bool {
        true
    }

    async fn stop(self) {}
}

/// Who performs the I/O of a log.
pub(super) enum Lanes {
    /// Two threads.
    Threads(IoThreads),
    /// Two tasks of the shard's executor; what waits for their end.
    Tasks(IoTasks, std::pin::Pin<Box<dyn Future<Output = ()>>>),
}

/// Tells a shard that its log has an answer.
#[derive(Clone)]
pub(super) struct Answer {
    there: Arc<AtomicBool>,
    port: Arc<ShardPort>,
}

impl Answer {
    pub(super) fn to(port: &Arc<ShardPort>) -> Self {
        Self { there: Arc::default(), port: Arc::clone(port) }
    }

    /// Rings the shard.
    pub(super) fn tell(&self) {
        self.there.store(true, Ordering::Release);
        self.port.doorbell().ring();
    }
}

/// How far a log has come, written and durable, and since when it is to come further.
#[derive(Debug, Default)]
struct Wait {
    reached: [Option<Lsn>; 2],
    since: Option<Instant>,
}

impl Wait {
    /// Notes whether more is to come from others, and how far it has come.
    fn note(&mut self, is_awaited: bool, reached: [Option<Lsn>; 2]) {
        let since = self.since.filter(|_| reached == self.reached);
        self.since = is_awaited.then(|| since.unwrap_or_else(Instant::now));
        self.reached = reached;
    }

    fn is_overdue(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= OVERDUE)
    }
}

/// For a shard with a log.
pub(super) struct LogIo {
    lanes: Lanes,
    direct_io: bool,
    /// The store is in use for as long as its log is.
    _lock: Arc<StoreLock>,
    answer: Answer,
    /// How far the log is durable, and since when.
    durable: (Option<Lsn>, Instant),
    wait: Wait,
    /// When it was last told that space may be back.
    space_tried: Instant,
}

impl LogIo {
    pub(super) fn new(lanes: Lanes, answer: Answer, lock: Arc<StoreLock>, direct_io: bool) -> Self {
        let now = Instant::now();
        Self {
            lanes,
            direct_io,
            _lock: lock,
            answer,
            durable: (None, now),
            wait: Wait::default(),
            space_tried: now,
        }
    }

    /// Whether threads of its own perform its I/O.
    pub(super) fn is_on_threads(&self) -> bool {
        matches!(self.lanes, Lanes::Threads(_))
    }

    /// Whether others than the shard itself are at work for its log.
    fn is_with_others(&self) -> bool {
        match &self.lanes {
            Lanes::Threads(io) => !io.is_idle(),
            // They go on when the shard lets them.
            Lanes::Tasks(..) => false,
        }
    }

    /// What its shard says of it.
    pub(super) fn started(&self) -> Started {
        Started { direct_io: self.direct_io }
    }
}

impl LogDriver<Log> for LogIo {
    fn pump(&mut self, log: &mut Log) {
        // Before the answers are taken: one that comes meanwhile is seen next time.
        self.answer.there.swap(false, Ordering::SeqCst);
        let answered = match &mut self.lanes {
            Lanes::Threads(io) => io.pump(log),
            Lanes::Tasks(io, _) => io.pump(log),
        };
        let Watermarks { appended, written, durable } = log.watermarks();
        let is_awaited = durable < Some(appended) && self.is_with_others();
        self.wait.note(is_awaited, [written, durable]);
        if answered && durable != self.durable.0 {
            self.durable = (durable, Instant::now());
        }
    }

    fn failure(&self, log: &Log) -> Option<String> {
        log.poison().map(|fault| format!("its log failed: {fault}"))
    }

    fn has_answer(&self) -> bool {
        self.answer.there.load(Ordering::Acquire)
    }

    fn is_overdue(&self) -> bool {
        self.wait.is_overdue()
    }

    fn patience(&self, log: &Log) -> Duration {
        if !log.has_rested() {
            IDLE_WATERMARK.saturating_sub(self.durable.1.elapsed())
        } else if log.space_fault().is_some() {
            SPACE_RETRY
        } else {
            TICK
        }
    }

    fn look_around(&mut self, log: &mut Log) {
        if !log.has_rested() && self.durable.1.elapsed() >= IDLE_WATERMARK {
            log.rest();
        }
        if log.space_fault().is_some() && self.space_tried.elapsed() >= SPACE_RETRY {
            self.space_tried = Instant::now();
            log.retry_space();
        }
    }

    fn close(&mut self, log: &mut Log) -> bool {
        log.close();
        log.is_closed()
    }

    async fn stop(self) {
        match self.lanes {
            Lanes::Threads(io) => io.stop(),
            Lanes::Tasks(io, ended) => {
                drop(io);
                ended.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_overdue_when_the_log_did_not_get_on_for_too_long() {
        let written = |lsn| [Some(Lsn::new(lsn)), None];
        let mut wait = Wait::default();
        wait.note(false, written(1));
        std::thread::sleep(OVERDUE);
        assert!(!wait.is_overdue(), "nothing is to come");
        wait.note(true, written(1));
        let asked = wait.since;
        std::thread::sleep(OVERDUE);
        wait.note(true, written(1));
        assert_eq!(wait.since, asked, "it is where it was");
        assert!(wait.is_overdue());
        wait.note(true, written(2));
        assert!(wait.since > asked, "it got on just now");
        wait.note(false, written(3));
        assert_eq!(wait.since, None);
    }
}
