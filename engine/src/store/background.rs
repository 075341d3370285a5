//! Threads that stand back: the checkpoint's, which have time, beside shards that have none.
//!
//! Promises: where both want a core, a shard or a thread of the host has it nearly always; where
//! nobody does, they run as fast as any. Fails by: nothing; where the system does not let a thread
//! stand back, it stays as it is.
//! Not here: cores of their own. A shard that sleeps leaves its core to them.

use std::io;
use std::thread;

/// How far they stand back: some tenth of the time of a thread that does not.
const NICENESS: i32 = 10;

/// Makes the calling thread stand back for good, and those it starts from now on.
pub(super) fn stand_back() {
    // Of a thread, not of the process, on Linux.
    let _as_well_as_can_be = rustix::process::nice(NICENESS);
}

/// Does `work`, which starts threads that are to stand back, on a thread that does.
pub(super) fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> io::Result<R> {
    thread::scope(|scope| {
        let aside = thread::Builder::new().name("ebbtide-open".into());
        let done = aside.spawn_scoped(scope, || {
            stand_back();
            work()
        })?;
        Ok(done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::nice(0).unwrap()
    }

    #[test]
    fn what_is_started_apart_stands_back_and_the_caller_does_not() {
        let before = niceness();
        let inside = apart(|| (niceness(), thread::spawn(niceness).join().unwrap())).unwrap();
        let back = (before + NICENESS).min(19);
        assert_eq!(inside, (back, back));
        assert_eq!(niceness(), before);
    }
}
