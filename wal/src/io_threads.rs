//! A driver for storages that block: each lane on a thread of its own.
//!
//! Promises: the log's owner never blocks on the disk; answers come in the order of requests;
//! `wake` is called after each, from the lane's thread.
//! Invariants: the log stays with its owner; only requests and answers cross, through channels.
//! Fails by: poisoning the log, when a lane's thread ended by panic: what it was doing is unknown.
//! Not here: the storage (`storage::threads`), pinning and priorities.
//! Source: none.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::blocking::ready;
use crate::io::{CommitDone, CommitIo, UpkeepDone, UpkeepIo};
use crate::lane::{CommitLane, Lane, UpkeepLane};
use crate::log::Log;
use crate::storage::Storage;

/// Both lanes of one log, on two threads.
///
/// Dropping it lets the threads finish what they are doing, unobserved; [`stop`](Self::stop)
/// waits for that, and must be called before the same log is opened again.
#[derive(Debug)]
pub struct IoThreads {
    commit: Worker<CommitIo, CommitDone>,
    upkeep: Worker<UpkeepIo, UpkeepDone>,
}

#[derive(Debug)]
struct Worker<Q, A> {
    requests: Sender<Q>,
    answers: Receiver<A>,
    busy: bool,
    thread: JoinHandle<()>,
}

/// A lane's thread is gone.
struct Gone;

impl<Q: Send + 'static, A: Send + 'static> Worker<Q, A> {
    fn start(
        name: String,
        mut lane: impl Lane<Request = Q, Answer = A> + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, asked) = channel::<Q>();
        let (answer, answers) = channel();
        let thread = Builder::new().name(name).spawn(move || {
            for request in asked {
                if answer.send(ready(lane.perform(request))).is_err() {
                    return;
                }
                wake();
                ready(lane.ahead());
            }
        })?;
        Ok(Self { requests, answers, busy: false, thread })
    }

    fn ask(&mut self, request: Q) -> Result<(), Gone> {
        assert!(!self.busy, "one request of a lane is out at a time");
        self.busy = true;
        self.requests.send(request).map_err(|_| Gone)
    }

    /// The answer, if it is there.
    fn answer(&mut self) -> Result<Option<A>, Gone> {
        match self.answers.try_recv() {
            Ok(answer) => {
                self.busy = false;
                Ok(Some(answer))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    fn stop(self) {
        drop(self.requests);
        // A panic was already noticed, as a missing answer.
        let _ = self.thread.join();
    }
}

impl IoThreads {
    /// Starts the threads, named after `name`. `wake` is called after every answer.
    ///
    /// # Errors
    ///
    /// When the system gives no more threads.
    pub fn start<S>(
        name: &str,
        commit: CommitLane<S>,
        upkeep: UpkeepLane<S>,
        wake: impl Fn() + Send + Clone + 'static,
    ) -> io::Result<Self>
    where
        S: Storage + Send + 'static,
        S::File: Send,
    {
        let commit = Worker::start(format!("{name}-commit"), commit, wake.clone())?;
        let upkeep = Worker::start(format!("{name}-upkeep"), upkeep, wake)?;
        Ok(Self { commit, upkeep })
    }

    /// Takes the answers that are there and sends what the log asks for next; never blocks. Says
    /// whether an answer came.
    pub fn pump(&mut self, log: &mut Log) -> bool {
        self.try_pump(log).unwrap_or_else(|Gone| {
            log.driver_lost();
            false
        })
    }

    fn try_pump(&mut self, log: &mut Log) -> Result<bool, Gone> {
        let mut answered = false;
        if self.commit.busy
            && let Some(done) = self.commit.answer()?
        {
            log.commit_done(done);
            answered = true;
        }
        if self.upkeep.busy
            && let Some(done) = self.upkeep.answer()?
        {
            log.upkeep_done(done);
            answered = true;
        }
        if !self.commit.busy
            && let Some(request) = log.next_commit()
        {
            self.commit.ask(request)?;
        }
        if !self.upkeep.busy
            && let Some(request) = log.next_upkeep()
        {
            self.upkeep.ask(request)?;
        }
        Ok(answered)
    }

    /// Pumps until `done` says so, the log is poisoned, or the time is over; says which it was:
    /// true for `done`. Blocks between answers of the commit lane, and looks at the other one
    /// every few milliseconds.
    pub fn pump_until(
        &mut self,
        log: &mut Log,
        timeout: Duration,
        mut done: impl FnMut(&Log) -> bool,
    ) -> bool {
        const GLANCE: Duration = Duration::from_millis(5);
        let end = Instant::now() + timeout;
        loop {
            self.pump(log);
            if done(log) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || log.poison().is_some() {
                return false;
            }
            if !self.commit.busy {
                std::thread::sleep(GLANCE.min(left));
                continue;
            }
            match self.commit.answers.recv_timeout(GLANCE.min(left)) {
                Ok(answer) => {
                    self.commit.busy = false;
                    log.commit_done(answer);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => log.driver_lost(),
            }
        }
    }

    /// Whether no request is out. A sync that nobody asked for yet may still be under way.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        !self.commit.busy && !self.upkeep.busy
    }

    /// Waits until both threads have finished what they were asked for. Blocks as long as the
    /// device does.
    pub fn stop(self) {
        self.commit.stop();
        self.upkeep.stop();
    }
}
