//! How far something has come, and waiting until it has come far enough.
//!
//! Promises: a watermark never goes back; a waiter whose number is reached is woken, and every
//! waiter is woken when the other side goes away. Moving a watermark nobody waits on costs a store,
//! a fence and a load. The crossing is that of [`crate::doorbell`], with many sleepers; loom checks
//! it (`loom_every_waiter_is_woken`).

use crate::primitives::{AtomicBool, AtomicU64, Mutex, Ordering, fence, lock};
use std::task::{Context, Poll, Waker};

/// A number that only rises, with those who wait for it.
#[derive(Debug)]
pub struct Watermark {
    reached: AtomicU64,
    waiting: AtomicBool,
    abandoned: AtomicBool,
    waiters: Mutex<Vec<(u64, Waker)>>,
}

/// The number will not be reached: whoever moved the watermark is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl Default for Watermark {
    fn default() -> Self {
        Self {
            reached: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
        }
    }
}

impl Watermark {
    /// How far it has come.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Whether it will move no further. What it has reached by then is seen by a look after this
    /// one.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Moves it to `to`. One thread only: the one that makes the progress.
    #[inline]
    pub fn advance(&self, to: u64) {
        debug_assert!(to >= self.reached.load(Ordering::Relaxed), "a watermark never goes back");
        self.reached.store(to, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) {
            self.wake(to);
        }
    }

    /// Says that it will move no further, and wakes everyone.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.wake(u64::MAX);
    }

    /// Ready once it has come to `number`, or with [`Abandoned`] if it never will.
    pub fn poll_reached(&self, number: u64, cx: &Context<'_>) -> Poll<Result<(), Abandoned>> {
        let now = self.settled(number);
        if now.is_ready() {
            return now;
        }
        {
            let mut waiters = lock(&self.waiters);
            let known = |(n, waker): &(u64, Waker)| *n == number && waker.will_wake(cx.waker());
            if !waiters.iter().any(known) {
                waiters.push((number, cx.waker().clone()));
            }
            self.waiting.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        self.settled(number)
    }

    fn settled(&self, number: u64) -> Poll<Result<(), Abandoned>> {
        // Abandoned is looked at first: progress made before it is then seen as well.
        let abandoned = self.is_abandoned();
        if self.reached() >= number {
            Poll::Ready(Ok(()))
        } else if abandoned {
            Poll::Ready(Err(Abandoned))
        } else {
            Poll::Pending
        }
    }

    #[cold]
    fn wake(&self, reached: u64) {
        let mut waiters = lock(&self.waiters);
        let woken: Vec<_> = waiters.extract_if(.., |(number, _)| *number <= reached).collect();
        self.waiting.store(!waiters.is_empty(), Ordering::Relaxed);
        drop(waiters);
        for (_, waker) in woken {
            waker.wake();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::primitives::loom_block_on;
    use loom::sync::Arc;

    fn wait(mark: &Watermark, number: u64) -> Result<(), Abandoned> {
        loom_block_on(|cx| mark.poll_reached(number, cx))
    }

    #[test]
    fn loom_every_waiter_is_woken() {
        loom::model(|| {
            let mark = Arc::new(Watermark::default());
            let waiter = {
                let mark = Arc::clone(&mark);
                loom::thread::spawn(move || wait(&mark, 2))
            };
            mark.advance(1);
            mark.advance(2);
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn loom_a_waiter_hears_of_the_end_and_of_progress_before_it() {
        loom::model(|| {
            let mark = Arc::new(Watermark::default());
            let waiter = {
                let mark = Arc::clone(&mark);
                loom::thread::spawn(move || (wait(&mark, 1), wait(&mark, 2)))
            };
            mark.advance(1);
            mark.abandon();
            assert_eq!(waiter.join().unwrap(), (Ok(()), Err(Abandoned)));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_are_reached_stop_waiting() {
        let mark = Watermark::default();
        let cx = Context::from_waker(Waker::noop());
        assert!(mark.poll_reached(0, &cx).is_ready());
        assert!(mark.poll_reached(5, &cx).is_pending());
        assert!(mark.poll_reached(5, &cx).is_pending());
        assert!(mark.poll_reached(9, &cx).is_pending());
        assert_eq!(lock(&mark.waiters).len(), 2, "asking twice is one waiter");
        mark.advance(5);
        assert_eq!(mark.poll_reached(5, &cx), Poll::Ready(Ok(())));
        assert_eq!(lock(&mark.waiters).len(), 1);
        mark.abandon();
        assert_eq!(mark.poll_reached(5, &cx), Poll::Ready(Ok(())), "reached stays reached");
        assert_eq!(mark.poll_reached(9, &cx), Poll::Ready(Err(Abandoned)));
    }
}
