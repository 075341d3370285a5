//! Threads that stand back: the checkpoint's, which have time, beside shards that have none.
//!
//! Promises: where both want a core, a shard or a thread of the host has it nearly always, and
//! while the other works in small pieces it waits for no more than a stint; where nobody does, they
//! run as fast as any. Sorting a run, finishing its table and the database's own thread are no
//! small pieces. Fails by: nothing; where the system does not let a thread stand back, it stays as
//! it is.
//! Not here: cores of their own. A shard that sleeps leaves its core to them.

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::io;
use std::thread;
use std::time::Duration;

/// How far they stand back: some tenth of the time of a thread that does not.
const NICENESS: i32 = 10;
/// Work after which a thread gives way. The scheduler by itself would leave one that was let in
/// where it is until the next tick, some milliseconds.
const STINT: Duration = Duration::from_micros(400);

/// Makes the calling thread stand back for good, and those it starts from now on.
pub(super) fn stand_back() {
    // Of a thread, not of the process, on Linux.
    let _as_well_as_can_be = rustix::process::nice(NICENESS);
}

/// Lets whoever waits for the calling thread's core have it, once the thread has worked for a stint
/// since it last did; what it slept or waited does not count. To be called between small pieces of
/// work.
pub(super) fn give_way() {
    thread_local! {
        static GAVE_WAY_AT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }
    let worked = clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or(Duration::ZERO);
    if is_over(GAVE_WAY_AT.get(), worked) {
        GAVE_WAY_AT.set(worked);
        thread::yield_now();
    }
}

/// Whether a stint is over, of a thread that has `worked` so long and gave way at `last`.
fn is_over(last: Duration, worked: Duration) -> bool {
    worked.saturating_sub(last) >= STINT
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
    fn a_stint_is_of_work() {
        let last = Duration::from_secs(5);
        assert!(!is_over(last, last) && !is_over(last, last + STINT / 2));
        assert!(is_over(last, last + STINT));
        assert!(!is_over(last, Duration::ZERO), "a clock that cannot be read");
        assert!(STINT < Duration::from_millis(1), "less than any tick");
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
