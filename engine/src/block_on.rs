//! Waits for a future on a plain thread, with or without an end to the patience.

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: RefCell<Waker> = RefCell::new(Waker::from(Arc::new(Unpark(thread::current()))));
}

/// Waits until `future` is done.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let (mut future, waker) = (pin!(future), WAKER.with_borrow(Waker::clone));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Waits until `future` is done or `patience` has passed.
pub(crate) fn block_on_for<F: Future>(future: F, patience: Duration) -> Option<F::Output> {
    let (mut future, waker) = (pin!(future), WAKER.with_borrow(Waker::clone));
    // A patience too long to have an end is one of a century.
    let century = Duration::from_hours(100 * 365 * 24);
    let end = Instant::now() + patience.min(century);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// Runs `future` to its end and looks at it again at least every `tick`, woken or not.
pub(crate) fn block_on_ticking<F: Future>(future: F, tick: Duration) -> F::Output {
    let (mut future, waker) = (pin!(future), WAKER.with_borrow(Waker::clone));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(tick),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};

    #[test]
    fn a_wait_ends_with_the_future_or_with_the_patience() {
        assert_eq!(block_on(async { 5 }), 5);
        assert_eq!(block_on_for(async { 5 }, Duration::ZERO), Some(5));
        assert_eq!(block_on_for(pending::<()>(), Duration::from_millis(5)), None);
        let mut polls = 0;
        let third_look = poll_fn(|_| {
            polls += 1;
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        block_on_ticking(third_look, Duration::from_millis(1));
    }

    #[test]
    fn another_thread_can_end_the_wait() {
        let (mut other, mut rung) = (None, false);
        block_on(poll_fn(|cx| {
            if std::mem::replace(&mut rung, true) {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            other = Some(thread::spawn(move || waker.wake()));
            Poll::Pending
        }));
        other.unwrap().join().unwrap();
    }
}
