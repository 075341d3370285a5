//! Threads that stand back: the checkpoint's, which have time, beside shards that have none.
//!
//! Promises: where both want a core, a shard or a thread of the host has it nearly always, and
//! waits for it no longer than a stint while the other gives way; where nobody does, they run as
//! fast as any. Fails by: nothing; where the system does not let a thread stand back, it stays as
//! it is.
//! Not here: cores of their own. A shard that sleeps leaves its core to them.

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How far they stand back: some tenth of the time of a thread that does not.
const NICENESS: i32 = 10;
/// How long a thread that was let in keeps a core that others wait for. The scheduler by itself
/// would leave it there until its next tick, some milliseconds.
const STINT: Duration = Duration::from_micros(400);

/// Makes the calling thread stand back for good, and those it starts from now on.
pub(super) fn stand_back() {
    // Of a thread, not of the process, on Linux.
    let _as_well_as_can_be = rustix::process::nice(NICENESS);
}

/// Lets whoever waits for the calling thread's core have it, if the thread has kept it for a stint.
/// To be called between small pieces of work.
pub(super) fn give_way() {
    thread_local! {
        static LET_IN: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if is_over(LET_IN.get(), Instant::now()) {
        thread::yield_now();
        LET_IN.set(Some(Instant::now()));
    }
}

/// Whether a stint that began at `let_in`, if that is known, is over.
fn is_over(let_in: Option<Instant>, now: Instant) -> bool {
    let_in.is_none_or(|let_in| now.saturating_duration_since(let_in) >= STINT)
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
    fn a_stint_is_short_and_one_of_unknown_length_is_over() {
        let now = Instant::now();
        assert!(is_over(None, now) && is_over(Some(now), now + STINT));
        assert!(!is_over(Some(now), now) && !is_over(Some(now + STINT), now));
        assert!(STINT < Duration::from_millis(1), "less than any tick");
        give_way();
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
