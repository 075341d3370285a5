//! Running a future that never waits.
//!
//! Promises: the output, without a thread or an executor.
//! Invariants: only for storages whose every future is ready when first polled.
//! Fails by: panic, when a future waits after all: it was made for another kind of storage.
//! Not here: waiting. A storage that waits belongs to an executor.
//! Source: none.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The output of a future of a blocking or simulated storage.
///
/// # Panics
///
/// When the future is not ready at once.
pub fn ready<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a blocking storage never waits; use an executor for others"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_future_gives_its_output() {
        assert_eq!(ready(async { 7 }), 7);
    }

    #[test]
    #[should_panic(expected = "never waits")]
    fn a_waiting_future_is_refused() {
        ready(std::future::pending::<()>());
    }
}
