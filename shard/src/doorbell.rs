//! The wake protocol: how a sleeper learns that there is work, and nobody pays while it is awake.
//!
//! ```text
//! sleeper                              waker
//!   leave a waker, parked = true         publish the work
//!   fence                                fence
//!   look for work once more              parked? then take the waker and wake
//! ```
//!
//! Promises: work published before [`Doorbell::ring`] is seen by the sleeper, either in its last look or
//! because it is woken; never neither. Ringing an awake sleeper costs one fence and one load.
//! Why: the two fences order "parked, then look" against "publish, then look at parked"; whichever
//! fence comes second sees the other side's store. Every interleaving is checked by loom
//! (`loom_no_ring_is_lost`).
//! Not here: what the work is; how a thread sleeps (any [`Waker`] will do).

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
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitives::AtomicU64;
    use loom::sync::Arc;
    use std::task::Wake;

    /// Unparks the loom thread it was made on.
    struct Unpark(loom::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Sleeps until `seen` reaches `want`; loom reports a deadlock if a ring is lost.
    fn sleep_until(bell: &Doorbell, work: &AtomicU64, want: u64) {
        let waker = Waker::from(std::sync::Arc::new(Unpark(loom::thread::current())));
        let cx = Context::from_waker(&waker);
        while bell.poll_work(&cx, || work.load(Ordering::Acquire) >= want).is_pending() {
            loom::thread::park();
        }
    }

    #[test]
    fn loom_no_ring_is_lost() {
        loom::model(|| {
            let shared = Arc::new((Doorbell::default(), AtomicU64::new(0)));
            let ringer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    for _ in 0..2 {
                        shared.1.fetch_add(1, Ordering::Release);
                        shared.0.ring();
                    }
                })
            };
            sleep_until(&shared.0, &shared.1, 1);
            sleep_until(&shared.0, &shared.1, 2);
            ringer.join().unwrap();
        });
    }

    #[test]
    fn loom_two_ringers_wake_one_sleeper() {
        loom::model(|| {
            let shared = Arc::new((Doorbell::default(), AtomicU64::new(0)));
            let ringers = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Release);
                    shared.0.ring();
                })
            });
            sleep_until(&shared.0, &shared.1, 2);
            ringers.into_iter().for_each(|ringer| ringer.join().unwrap());
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
