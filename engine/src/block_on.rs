//! Waits for a future on a plain thread, with or without an end to the patience.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
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
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

/// Waits until `future` is done.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    WAKER.with(|waker| {
        loop {
            match future.as_mut().poll(&mut Context::from_waker(waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::park(),
            }
        }
    })
}

/// Waits until `future` is done or `patience` has passed.
pub(crate) fn block_on_for<F: Future>(future: F, patience: Duration) -> Option<F::Output> {
    let (mut future, waker) = (pin!(future), WAKER.with(Waker::clone));
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

/// When a thread that waits should look again, woken or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm(Rc<Cell<Option<Instant>>>);

impl Alarm {
    /// Done after so long, on a thread in [`block_on_with_alarm`].
    pub(crate) async fn sleep(&self, length: Duration) {
        let end = Instant::now() + length;
        poll_fn(|_| {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            self.0.set(Some(end));
            Poll::Pending
        })
        .await;
    }
}

/// Runs `future` to its end and looks at it again when `alarm` says so, and at least every `tick`.
pub(crate) fn block_on_with_alarm<F: Future>(
    future: F,
    alarm: &Alarm,
    tick: Duration,
) -> F::Output {
    let (mut future, waker) = (pin!(future), WAKER.with(Waker::clone));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => {
                let left = |end: Instant| end.saturating_duration_since(Instant::now());
                thread::park_timeout(alarm.0.take().map_or(tick, left).min(tick));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

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
        block_on_with_alarm(third_look, &Alarm::default(), Duration::from_millis(1));
    }

    #[test]
    fn an_alarm_ends_a_sleep_long_before_the_tick() {
        let alarm = Alarm::default();
        let begun = Instant::now();
        let nap = alarm.sleep(Duration::from_millis(2));
        block_on_with_alarm(nap, &alarm, Duration::from_mins(10));
        assert!(begun.elapsed() >= Duration::from_millis(2));
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
