//! The wake protocol: how a sleeper learns that there is work, and nobody pays while it is awake.
//!
//! ```text
//! sleeper                              waker
//!   leave a waker, parked = true         publish the work
//!   fence                                fence
//!   look for work once more              parked? then take the waker and wake
//! ```
//!
//! Promises: work published before [`Doorbell::ring`] is seen by the sleeper, either in its last
//! look or because it is woken; never neither. Ringing an awake sleeper costs one fence and one
//! load. Why: the two fences order "parked, then look" against "publish, then look at parked";
//! whichever fence comes second sees the other side's store. Every interleaving is checked by loom
//! (`loom_no_ring_is_lost`). Not here: what the work is; how a thread sleeps (any [`Waker`] will
//! do).

use crate::primitives::{AtomicBool, Mutex, Ordering, fence, lock};
use std::task::{Context, Poll, Waker};

/// Wakes one sleeper: a shard with rings to drain, or a reader with a reply to take.
#[derive(Debug)]
pub struct Doorbell {
    parked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self { parked: AtomicBool::new(false), waker: Mutex::new(None) }
    }
}

impl Doorbell {
    /// Tells the sleeper to look. Call it after the work is published.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Whether the sleeper is, or is about to be, asleep. A hint: it may have changed already.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Ready when `has_work` says so; otherwise the task of `cx` is woken by the next ring.
    ///
    /// One task at a time: a later poll with another waker takes the place of an earlier one.
    pub fn poll_work(&self, cx: &Context<'_>, mut has_work: impl FnMut() -> bool) -> Poll<()> {
        if has_work() {
            return Poll::Ready(());
        }
        *lock(&self.waker) = Some(cx.waker().clone());
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.parked.store(false, Ordering::Relaxed);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    #[cold]
    fn wake(&self) {
        self.parked.store(false, Ordering::Relaxed);
        let waker = lock(&self.waker).take();
        // The lock is released: what is woken may come straight back to it.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitives::{AtomicU64, loom_block_on};
    use loom::sync::Arc;

    /// Sleeps until `work` reaches each number.
    fn sleeper(shared: &Arc<(Doorbell, AtomicU64)>, until: u64) -> loom::thread::JoinHandle<()> {
        let shared = Arc::clone(shared);
        loom::thread::spawn(move || {
            for want in 1..=until {
                let done = || shared.1.load(Ordering::Acquire) >= want;
                loom_block_on(|cx| shared.0.poll_work(cx, done));
            }
        })
    }

    fn work_and_ring(shared: &(Doorbell, AtomicU64)) {
        shared.1.fetch_add(1, Ordering::Release);
        shared.0.ring();
    }

    #[test]
    fn loom_no_ring_is_lost() {
        loom::model(|| {
            let shared = Arc::new((Doorbell::default(), AtomicU64::new(0)));
            let sleeper = sleeper(&shared, 2);
            work_and_ring(&shared);
            work_and_ring(&shared);
            sleeper.join().unwrap();
        });
    }

    #[test]
    fn loom_two_ringers_wake_one_sleeper() {
        // Three threads: all interleavings of up to two preemptions.
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        bounded.check(|| {
            let shared = Arc::new((Doorbell::default(), AtomicU64::new(0)));
            let sleeper = sleeper(&shared, 2);
            let other = Arc::clone(&shared);
            let ringer = loom::thread::spawn(move || work_and_ring(&other));
            work_and_ring(&shared);
            ringer.join().unwrap();
            sleeper.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bell_nobody_listens_to_may_be_rung() {
        let bell = Doorbell::default();
        bell.ring();
        let cx = Context::from_waker(Waker::noop());
        assert!(bell.poll_work(&cx, || true).is_ready());
        assert!(!bell.is_parked());
        assert!(bell.poll_work(&cx, || false).is_pending());
        assert!(bell.is_parked());
        bell.ring();
        assert!(!bell.is_parked());
    }
}
