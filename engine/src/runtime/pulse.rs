//! A knock on an executor's door now and then, from a thread outside of it.
//!
//! Why: glommio 0.9.0 may go to sleep although a task waits to be run. Its loop sets the preemption
//! timer, then runs tasks until that fires; if it has fired before the first task was run, as it
//! does when the thread lost its core in between, the loop takes this for having nothing to run,
//! and sleeps. Nobody wakes a task a second time that was woken already, and no timer is set for
//! one that did not run, so the shard would sleep for ever. A wake-up from another thread ends it.
//! Promises: a sleep of that kind lasts no longer than [`TICK`].
//! Invariants: the thread ends before its executor does.
//! Fails by: the system's error, if there can be no thread.

use super::log_io::TICK;
use std::future::poll_fn;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::task::{Poll, Waker};
use std::thread::{Builder, JoinHandle};

/// Knocks until it is dropped.
pub(super) struct Pulse {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Begins to wake the task that this is called from.
    pub(super) async fn of_this_task(name: &str) -> io::Result<Self> {
        let task: Waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let (end, ended) = channel::<()>();
        let knock = move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                task.wake_by_ref();
            }
        };
        let thread = Builder::new().name(format!("{name}-pulse")).spawn(knock)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics.
            let _ended = thread.join();
        }
    }
}
