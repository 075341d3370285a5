//! The edge: which events may enter.
//!
//! Promises: an event that passes has a known signal type, a weight that can be stored and a time
//! not further ahead of the clock than allowed. One that does not is refused with a typed reason,
//! counted, and goes no further. The clock is asked only when an event is newer than anything
//! already known to be admissible, so a stream in order costs no clock read per event.

use crate::clock::Clock;
use ebbtide_shard::{Dedup, Event, Schema, SignalId, Timestamp, WeightError, checked_weight};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why an event may not enter.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The schema has no signal type of this id. Take ids from the engine's own schema.
    #[error("signal type {} is not in the schema of {known} types", .signal.0)]
    UnknownSignal {
        /// The id.
        signal: SignalId,
        /// How many types the schema has.
        known: usize,
    },
    /// The weight cannot be stored.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// The time is further ahead of the clock than allowed: one such event would push every window
    /// of its entity out of reach. Check the source's clock, or allow more skew.
    #[error(
        "time {} ns is {} ns ahead of the clock; at most {} ns are allowed",
        .time.as_nanos(), .ahead.as_nanos(), .allowed.as_nanos()
    )]
    Future {
        /// The event's time.
        time: Timestamp,
        /// How far ahead of the clock that is.
        ahead: Duration,
        /// How far ahead it may be.
        allowed: Duration,
    },
}

/// How many events were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// For a signal type the schema does not have.
    pub unknown_signal: u64,
    /// For a weight that cannot be stored.
    pub weight: u64,
    /// For a time too far ahead.
    pub future: u64,
    /// Because their shard was at its memory limit.
    pub memory_limit: u64,
}

impl Rejected {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.unknown_signal + self.weight + self.future + self.memory_limit
    }
}

/// The counts behind [`Rejected`], shared by all producers; touched only when an event is refused.
#[derive(Debug, Default)]
pub struct RejectionCounters {
    unknown_signal: AtomicU64,
    weight: AtomicU64,
    future: AtomicU64,
    memory_limit: AtomicU64,
}

impl RejectionCounters {
    /// The counts so far.
    #[must_use]
    pub fn snapshot(&self) -> Rejected {
        Rejected {
            unknown_signal: self.unknown_signal.load(Ordering::Relaxed),
            weight: self.weight.load(Ordering::Relaxed),
            future: self.future.load(Ordering::Relaxed),
            memory_limit: self.memory_limit.load(Ordering::Relaxed),
        }
    }

    fn count(&self, reason: &Rejection) {
        let counter = match reason {
            Rejection::UnknownSignal { .. } => &self.unknown_signal,
            Rejection::Weight(_) => &self.weight,
            Rejection::Future { .. } => &self.future,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One producer's gate.
#[derive(Clone, Debug)]
pub struct Admission {
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
    future_skew_max: Duration,
    /// Times up to here need no look at the clock.
    admissible_until: Timestamp,
    rejected: Arc<RejectionCounters>,
}

impl Admission {
    /// A gate for events of `schema`, up to `future_skew_max` ahead of `clock`.
    #[must_use]
    pub fn new(
        schema: Arc<Schema>,
        clock: Arc<dyn Clock>,
        future_skew_max: Duration,
        rejected: Arc<RejectionCounters>,
    ) -> Self {
        Self { schema, clock, future_skew_max, admissible_until: Timestamp(0), rejected }
    }

    /// Gives back the weight to store if the event may enter.
    ///
    /// # Errors
    ///
    /// [`Rejection`], and the event is counted as refused.
    #[inline]
    pub fn admit(&mut self, event: &Event) -> Result<f64, Rejection> {
        let admitted = self.check(event);
        if let Err(reason) = &admitted {
            self.rejected.count(reason);
        }
        admitted
    }

    /// Whether ids matter to any signal type.
    pub(crate) fn compares_ids(&self) -> bool {
        self.schema.signals().any(|(signal, _)| self.compares_ids_of(signal))
    }

    /// Whether ids matter to this signal type, which the schema has.
    #[inline]
    pub(crate) fn compares_ids_of(&self, signal: SignalId) -> bool {
        self.schema.def(signal).dedup() == Dedup::Id
    }

    /// Counts an event that its shard has no memory for.
    #[cold]
    pub(crate) fn refuse_for_memory(&self) {
        self.rejected.memory_limit.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn check(&mut self, event: &Event) -> Result<f64, Rejection> {
        let (signal, known) = (event.signal, self.schema.signals().len());
        if signal.index() >= known {
            return Err(Rejection::UnknownSignal { signal, known });
        }
        let weight = checked_weight(event.weight)?;
        if event.time > self.admissible_until {
            self.look_at_clock(event.time)?;
        }
        Ok(weight)
    }

    fn look_at_clock(&mut self, time: Timestamp) -> Result<(), Rejection> {
        let now = self.clock.now();
        // A clock that steps back does not make inadmissible what was admissible.
        self.admissible_until = self.admissible_until.max(now.plus(self.future_skew_max));
        if time <= self.admissible_until {
            return Ok(());
        }
        let ahead = Duration::from_nanos(time.as_nanos().saturating_sub(now.as_nanos()));
        Err(Rejection::Future { time, ahead, allowed: self.future_skew_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use ebbtide_shard::EntityId;

    fn gate(clock: &Arc<ManualClock>) -> Admission {
        let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]").unwrap();
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        Admission::new(schema.into(), clock, Duration::from_secs(5), Arc::default())
    }

    fn at(seconds: u64) -> Event {
        Event::new(EntityId(1), SignalId(0), Timestamp::from_seconds(seconds))
    }

    #[test]
    fn each_reason_is_typed_and_counted() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(100)));
        let mut gate = gate(&clock);
        assert_eq!(gate.admit(&at(105)), Ok(1.0));
        assert_eq!(gate.admit(&at(0).with_weight(0.25)), Ok(0.25));
        let unknown = Event { signal: SignalId(1), ..at(0) };
        assert!(matches!(gate.admit(&unknown), Err(Rejection::UnknownSignal { known: 1, .. })));
        for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            assert!(matches!(gate.admit(&at(0).with_weight(weight)), Err(Rejection::Weight(_))));
        }
        let future = gate.admit(&at(106)).unwrap_err();
        let (ahead, allowed) = (Duration::from_secs(6), Duration::from_secs(5));
        let time = Timestamp::from_seconds(106);
        assert_eq!(future, Rejection::Future { time, ahead, allowed });
        let rejected = gate.rejected.snapshot();
        assert_eq!((rejected.unknown_signal, rejected.weight, rejected.future), (1, 5, 1));
        assert_eq!(rejected.total(), 7);
    }

    #[test]
    fn the_gate_follows_the_clock() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(100)));
        let mut gate = gate(&clock);
        assert!(gate.admit(&at(106)).is_err());
        clock.advance_to(Timestamp::from_seconds(101));
        assert!(gate.admit(&at(106)).is_ok());
        assert!(gate.admit(&Event { time: Timestamp::MAX, ..at(0) }).is_err());
        clock.advance_to(Timestamp::MAX);
        assert!(gate.admit(&Event { time: Timestamp::MAX, ..at(0) }).is_ok());
    }
}
