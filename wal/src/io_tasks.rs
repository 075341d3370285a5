//! A driver for storages that wait: each lane is one long-lived task of the owner's executor.
//!
//! Promises: the log's owner never waits for the disk; `wake` is called after every answer.
//! Invariants: one task per lane for the log's whole life. A task is polled only when its own
//! request moved on, never because its owner is busy: some executors count every poll of a
//! waiting request against a small limit.
//! Fails by: poisoning the log, when a task was dropped: what it was doing is unknown.
//! Not here: an executor; the owner spawns the two futures on its own, and keeps them.
//! Source: observed with glommio 0.9.0, whose count of a task's wakers is 16 bits wide: a request
//! that was polled 32,768 times while it waited ended the executor.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::io::{CommitDone, CommitIo, UpkeepDone, UpkeepIo};
use crate::lane::{CommitLane, Lane, UpkeepLane};
use crate::log::Log;
use crate::storage::Storage;

/// A lane's life: it ends when its [`IoTasks`] are dropped, its last request is performed, and what
/// it does ahead of the next is done.
pub type LaneTask = Pin<Box<dyn Future<Output = ()>>>;

/// Both lanes of one log, on two tasks.
///
/// Dropping it lets the tasks finish what they are doing and end. Await their ends before the
/// same log is opened again, and do not cancel them: whether a cancelled write happens is not
/// known.
#[derive(Debug)]
pub struct IoTasks {
    commit: OwnerEnd<CommitIo, CommitDone>,
    upkeep: OwnerEnd<UpkeepIo, UpkeepDone>,
}

/// What lies between an owner and a lane's task.
#[derive(Debug)]
struct Slot<Q, A> {
    request: Option<Q>,
    answer: Option<A>,
    /// The task, while it waits for a request.
    waiting: Option<Waker>,
    owner_gone: bool,
    task_gone: bool,
}

#[derive(Debug)]
struct OwnerEnd<Q, A> {
    slot: Rc<RefCell<Slot<Q, A>>>,
    busy: bool,
}

struct TaskEnd<Q, A> {
    slot: Rc<RefCell<Slot<Q, A>>>,
}

/// A lane's task is gone.
struct Gone;

fn slot<Q, A>() -> (OwnerEnd<Q, A>, TaskEnd<Q, A>) {
    let slot =
        Slot { request: None, answer: None, waiting: None, owner_gone: false, task_gone: false };
    let slot = Rc::new(RefCell::new(slot));
    (OwnerEnd { slot: Rc::clone(&slot), busy: false }, TaskEnd { slot })
}

impl<Q, A> OwnerEnd<Q, A> {
    fn ask(&mut self, request: Q) {
        assert!(!self.busy, "one request of a lane is out at a time");
        self.busy = true;
        self.slot.borrow_mut().request = Some(request);
        self.wake_task();
    }

    /// The answer, if it is there.
    fn answer(&mut self) -> Result<Option<A>, Gone> {
        let mut slot = self.slot.borrow_mut();
        let answer = slot.answer.take();
        if answer.is_some() {
            self.busy = false;
        } else if slot.task_gone {
            return Err(Gone);
        }
        Ok(answer)
    }

    fn wake_task(&self) {
        let waiting = self.slot.borrow_mut().waiting.take();
        if let Some(task) = waiting {
            task.wake();
        }
    }
}

impl<Q, A> Drop for OwnerEnd<Q, A> {
    fn drop(&mut self) {
        self.slot.borrow_mut().owner_gone = true;
        self.wake_task();
    }
}

impl<Q, A> TaskEnd<Q, A> {
    /// Waits for a request; `None` when there will be none.
    async fn next(&self) -> Option<Q> {
        poll_fn(|context| {
            let mut slot = self.slot.borrow_mut();
            if let Some(request) = slot.request.take() {
                Poll::Ready(Some(request))
            } else if slot.owner_gone {
                Poll::Ready(None)
            } else {
                slot.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    async fn serve(self, mut lane: impl Lane<Request = Q, Answer = A>, wake: impl Fn()) {
        while let Some(request) = self.next().await {
            let answer = lane.perform(request).await;
            self.slot.borrow_mut().answer = Some(answer);
            wake();
            lane.ahead().await;
        }
    }
}

impl<Q, A> Drop for TaskEnd<Q, A> {
    fn drop(&mut self) {
        self.slot.borrow_mut().task_gone = true;
    }
}

impl IoTasks {
    /// The owner's end, and the two tasks to spawn. `wake` is called after every answer, on the
    /// executor's thread; it may do nothing when the owner pumps in a loop anyway.
    pub fn new<S: Storage + 'static>(
        commit: CommitLane<S>,
        upkeep: UpkeepLane<S>,
        wake: impl Fn() + Clone + 'static,
    ) -> (Self, [LaneTask; 2]) {
        let (commit_owner, commit_task) = slot();
        let (upkeep_owner, upkeep_task) = slot();
        let also_wake = wake.clone();
        let commit_task: LaneTask = Box::pin(commit_task.serve(commit, wake));
        let upkeep_task: LaneTask = Box::pin(upkeep_task.serve(upkeep, also_wake));
        (Self { commit: commit_owner, upkeep: upkeep_owner }, [commit_task, upkeep_task])
    }

    /// Takes the answers that are there and hands over what the log asks for next; never waits.
    /// Says whether an answer came.
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
            self.commit.ask(request);
        }
        if !self.upkeep.busy
            && let Some(request) = log.next_upkeep()
        {
            self.upkeep.ask(request);
        }
        Ok(answered)
    }

    /// Whether no request is out. A sync that nobody asked for yet may still be under way, so wait
    /// for the ends of the tasks all the same.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        !self.commit.busy && !self.upkeep.busy
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Context;

    use super::*;
    use crate::writer::WalWriter;
    use crate::{
        LogIdentity, LogOptions, Lsn, ReplayOptions, StartOptions, StoreId, ready, replay,
        storage::sim::SimDisk,
    };

    fn started() -> (Log, IoTasks, [LaneTask; 2], Rc<Cell<u32>>) {
        let disk = SimDisk::new(1);
        let identity = LogIdentity { store: StoreId([1; 16]), shard: 0 };
        let fresh = ReplayOptions::default();
        let found = ready(replay(&disk, identity, fresh, |_| Ok(()))).unwrap();
        let log = LogOptions { group_bytes: 8192, segment_bytes: 65536, ..LogOptions::default() };
        let options = StartOptions { log, seed: [1; 32], lsn_first_min: Lsn::NONE };
        let started = ready(found.start(&disk, options)).unwrap();
        let woken = Rc::new(Cell::new(0));
        let count = Rc::clone(&woken);
        let wake = move || count.set(count.get() + 1);
        let (tasks, lanes) = IoTasks::new(started.commit, started.upkeep, wake);
        (started.log, tasks, lanes, woken)
    }

    /// Whether the tasks have ended.
    fn poll(lanes: &mut [LaneTask; 2]) -> [bool; 2] {
        let mut context = Context::from_waker(Waker::noop());
        [0, 1].map(|lane: usize| lanes[lane].as_mut().poll(&mut context).is_ready())
    }

    #[test]
    fn two_tasks_take_a_log_from_append_to_close() {
        let (mut log, mut io, mut lanes, woken) = started();
        for lsn in 1..=50 {
            log.append(&[5; 3000], 1).unwrap();
            while log.watermarks().durable < Some(Lsn::new(lsn)) {
                io.pump(&mut log);
                assert_eq!(poll(&mut lanes), [false, false]);
            }
        }
        assert!(log.stats().rotations > 1);
        assert!(woken.get() > 100);
        log.close();
        while !log.is_closed() {
            io.pump(&mut log);
            poll(&mut lanes);
        }
        assert!(io.is_idle());
        drop(io);
        assert_eq!(poll(&mut lanes), [true, true], "the tasks end with their owner");
    }

    #[test]
    fn a_dropped_task_poisons_the_log() {
        let (mut log, mut io, lanes, _) = started();
        log.append(b"x", 1).unwrap();
        io.pump(&mut log);
        drop(lanes);
        io.pump(&mut log);
        assert!(log.poison().is_some());
        assert!(log.append(b"x", 1).is_err());
    }
}
