//! The atomics and locks of the crossings between threads, swapped for loom's when it checks them.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence},
};

/// Locks, also after a panic elsewhere: what these locks guard is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits on a loom thread until `poll` is ready; loom reports a deadlock if it is never woken.
#[cfg(all(test, loom))]
pub(crate) fn loom_block_on<T>(
    mut poll: impl FnMut(&std::task::Context<'_>) -> std::task::Poll<T>,
) -> T {
    struct Unpark(loom::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = std::sync::Arc::new(Unpark(loom::thread::current())).into();
    loop {
        match poll(&std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => loom::thread::park(),
        }
    }
}
