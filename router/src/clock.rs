//! Clocks: what "now" is, at the edge. Inside the engine time is a field or an argument.

use ebbtide_shard::Timestamp;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock somebody sets: for tests, and for replays whose present is that of the trace.
///
/// ```
/// use ebbtide_router::{Clock, ManualClock};
/// use ebbtide_shard::Timestamp;
/// let clock = ManualClock::at(Timestamp::from_seconds(5));
/// clock.advance_to(Timestamp::from_seconds(9));
/// clock.advance_to(Timestamp::from_seconds(7));
/// assert_eq!(clock.now(), Timestamp::from_seconds(9), "it never goes back");
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves the clock to `now`, unless it is past that.
    pub fn advance_to(&self, now: Timestamp) {
        self.0.fetch_max(now.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}
