//! Windows: how far back a count looks, and in buckets of which width.
//!
//! Promises: a window of up to 60 whole minutes is resolved by minute buckets, one of up to 168
//! whole hours by hour buckets, anything else is not a window.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::Timestamp;
use crate::limits::{HOUR_BUCKETS, HOUR_NS, MINUTE_BUCKETS, MINUTE_NS};
use std::ops::Range;
use std::time::Duration;

/// One of the two rings of buckets: where it begins among the positions, its length, its width in
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    first: usize,
    buckets: usize,
    width_ns: u64,
}

/// The per-minute buckets.
pub(crate) const MINUTES: Ring = Ring { first: 0, buckets: MINUTE_BUCKETS, width_ns: MINUTE_NS };
/// The per-hour buckets.
pub(crate) const HOURS: Ring =
    Ring { first: MINUTE_BUCKETS, buckets: HOUR_BUCKETS, width_ns: HOUR_NS };

impl Ring {
    /// The bucket of Unix time that holds `time`.
    #[inline]
    pub(crate) const fn bucket(self, time: Timestamp) -> u64 {
        time.0 / self.width_ns
    }

    /// Buckets in this ring.
    pub(crate) const fn len(self) -> u64 {
        self.buckets as u64
    }

    /// Buckets in this ring, to index with.
    #[inline]
    pub(crate) const fn count(self) -> usize {
        self.buckets
    }

    /// How many before `head` a `bucket` is that this ring holds.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a ring is shorter than 256")]
    pub(crate) const fn ago(self, head: u64, bucket: u64) -> usize {
        debug_assert!(head - bucket < self.len());
        (head - bucket) as usize
    }

    /// The position that stands for `bucket`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 256")]
    pub(crate) const fn position(self, bucket: u64) -> usize {
        self.first + (bucket % self.len()) as usize
    }

    /// The positions of the `count` buckets that end with `last`: one run, or two when the ring
    /// wraps.
    #[inline]
    pub(crate) fn positions(self, last: u64, count: usize) -> [Range<usize>; 2] {
        debug_assert!(count <= self.buckets);
        let end = self.position(last) + 1;
        let in_first_run = count.min(end - self.first);
        let wrapped = count - in_first_run;
        let ring_end = self.first + self.buckets;
        [end - in_first_run..end, ring_end - wrapped..ring_end]
    }
}

/// A checked window.
///
/// ```
/// use ebbtide_shard::signal::window::Window;
/// use std::time::Duration;
/// assert!(Window::new(Duration::from_secs(5 * 60)).is_some());
/// assert!(Window::new(Duration::from_secs(90)).is_none(), "not whole minutes");
/// assert!(Window::new(Duration::from_secs(90 * 60)).is_none(), "not whole hours");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    ring: Ring,
    buckets: usize,
}

impl Window {
    /// A window of 1 to 60 whole minutes or 1 to 168 whole hours; `None` for any other length.
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        let ns = u64::try_from(length.as_nanos()).ok()?;
        let ring = if ns <= MINUTES.len() * MINUTE_NS { MINUTES } else { HOURS };
        let buckets = usize::try_from(ns / ring.width_ns).ok()?;
        let whole = ns % ring.width_ns == 0 && (1..=ring.buckets).contains(&buckets);
        whole.then_some(Self { ring, buckets })
    }

    /// The length of the window in nanoseconds.
    #[must_use]
    pub const fn as_nanos(&self) -> u64 {
        self.buckets as u64 * self.ring.width_ns
    }

    /// Events per second, for a `count` of events in this window.
    #[must_use]
    pub fn velocity(&self, count: u64) -> f64 {
        count as f64 / self.seconds()
    }

    /// The length of the window in seconds.
    #[inline]
    pub(crate) fn seconds(&self) -> f64 {
        (self.as_nanos() / 1_000_000_000) as f64
    }

    /// The ring that resolves this window.
    #[inline(always)]
    pub(crate) const fn ring(&self) -> Ring {
        self.ring
    }

    /// How many of a pair's newest buckets the window covers when so many have `passed` since.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a window has fewer than 256 buckets")]
    pub(crate) const fn covered(&self, passed: u64) -> usize {
        (self.buckets as u64).saturating_sub(passed) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_windows_are_the_rings_themselves() {
        let hour = Window::new(Duration::from_hours(1)).unwrap();
        assert_eq!((hour.ring, hour.buckets), (MINUTES, 60));
        let week = Window::new(Duration::from_hours(168)).unwrap();
        assert_eq!((week.ring, week.buckets), (HOURS, 168));
        assert!(Window::new(Duration::from_hours(169)).is_none());
        assert!(Window::new(Duration::ZERO).is_none());
        assert!(Window::new(Duration::MAX).is_none());
    }

    #[test]
    fn a_run_of_buckets_wraps_at_the_end_of_its_ring() {
        assert_eq!(MINUTES.positions(61, 3), [0..2, 59..60]);
        assert_eq!(MINUTES.positions(59, 60), [0..60, 60..60]);
        assert_eq!(HOURS.positions(168 * 7, 2), [60..61, 227..228]);
        assert_eq!(HOURS.positions(0, 0), [61..61, 228..228]);
    }

    #[test]
    fn a_later_reader_sees_fewer_buckets() {
        let five_minutes = Window::new(Duration::from_mins(5)).unwrap();
        let covered = |passed| five_minutes.covered(passed);
        assert_eq!([0, 3, 5, u64::MAX].map(covered), [5, 2, 0, 0]);
    }
}
