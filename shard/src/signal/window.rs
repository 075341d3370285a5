//! Windows: how far back a count looks, and in buckets of which width.
//!
//! Promises: a window of up to 60 whole minutes is resolved by minute buckets, one of up to 168
//! whole hours by hour buckets, anything else is not a window.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::Timestamp;
use crate::limits::{HOUR_BUCKETS, HOUR_NS, MINUTE_BUCKETS, MINUTE_NS};
use std::ops::Range;
use std::time::Duration;

/// Words of a bitmap of hours.
pub(crate) const HOUR_WORDS: usize = HOUR_BUCKETS.div_ceil(64);

/// One of the two rings of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// The per-minute buckets.
    Minutes,
    /// The per-hour buckets.
    Hours,
}

impl Ring {
    /// The first position of this ring.
    #[inline(always)]
    pub(crate) const fn first(self) -> usize {
        match self {
            Self::Minutes => 0,
            Self::Hours => MINUTE_BUCKETS,
        }
    }

    /// The time of one bucket.
    #[inline(always)]
    const fn width_ns(self) -> u64 {
        match self {
            Self::Minutes => MINUTE_NS,
            Self::Hours => HOUR_NS,
        }
    }

    /// Buckets in this ring, to index with.
    #[inline(always)]
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::Minutes => MINUTE_BUCKETS,
            Self::Hours => HOUR_BUCKETS,
        }
    }

    /// Buckets in this ring.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a ring is shorter than 256")]
    pub(crate) const fn len(self) -> u32 {
        self.count() as u32
    }

    /// The bucket of Unix time that holds `time`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "2^64 ns have fewer minutes than 2^32")]
    pub(crate) const fn bucket(self, time: Timestamp) -> u32 {
        (time.0 / self.width_ns()) as u32
    }

    /// How many before `head` a `bucket` is that this ring holds.
    #[inline]
    pub(crate) const fn ago(self, head: u32, bucket: u32) -> usize {
        debug_assert!(head - bucket < self.len());
        (head - bucket) as usize
    }

    /// The position that stands for `bucket`.
    #[inline]
    pub(crate) const fn position(self, bucket: u32) -> usize {
        self.first() + (bucket % self.len()) as usize
    }

    /// The positions of the `count` buckets that end with `last`: one run, or two when the ring
    /// wraps.
    #[inline]
    pub(crate) fn positions(self, last: u32, count: usize) -> [Range<usize>; 2] {
        debug_assert!(count <= self.count());
        let end = self.position(last) + 1;
        let in_first_run = count.min(end - self.first());
        let wrapped = count - in_first_run;
        let ring_end = self.first() + self.count();
        [end - in_first_run..end, ring_end - wrapped..ring_end]
    }
}

/// The bits of a word of a bitmap, the one of this number, that stand for the `newest` buckets.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a ring is shorter than 256")]
pub(crate) const fn newest_bits(newest: usize, word: usize) -> u64 {
    !u64::MAX.unbounded_shl(newest.saturating_sub(64 * word) as u32)
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
    /// A bit for each of its buckets, the newest lowest.
    mask: [u64; HOUR_WORDS],
}

impl Window {
    /// A window of 1 to 60 whole minutes or 1 to 168 whole hours; `None` for any other length.
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        let ns = u64::try_from(length.as_nanos()).ok()?;
        let ring = if ns <= HOUR_NS { Ring::Minutes } else { Ring::Hours };
        let buckets = usize::try_from(ns / ring.width_ns()).ok()?;
        let whole = ns % ring.width_ns() == 0 && (1..=ring.count()).contains(&buckets);
        let mask = std::array::from_fn(|word| newest_bits(buckets, word));
        whole.then_some(Self { ring, buckets, mask })
    }

    /// The length of the window in nanoseconds.
    #[must_use]
    pub const fn as_nanos(&self) -> u64 {
        self.buckets as u64 * self.ring.width_ns()
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

    /// A bit for each of its buckets, the newest lowest; of minutes the first word is enough.
    #[inline(always)]
    pub(crate) const fn mask(&self) -> &[u64; HOUR_WORDS] {
        &self.mask
    }

    /// How many of a pair's newest buckets the window covers when so many have `passed` since.
    #[inline(always)]
    pub(crate) const fn covered(&self, passed: u32) -> usize {
        self.buckets.saturating_sub(passed as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_windows_are_the_rings_themselves() {
        let hour = Window::new(Duration::from_hours(1)).unwrap();
        assert_eq!((hour.ring, hour.buckets), (Ring::Minutes, 60));
        let week = Window::new(Duration::from_hours(168)).unwrap();
        assert_eq!((week.ring, week.buckets), (Ring::Hours, 168));
        assert!(Window::new(Duration::from_hours(169)).is_none());
        assert!(Window::new(Duration::ZERO).is_none());
        assert!(Window::new(Duration::MAX).is_none());
    }

    #[test]
    fn a_run_of_buckets_wraps_at_the_end_of_its_ring() {
        assert_eq!(Ring::Minutes.positions(61, 3), [0..2, 59..60]);
        assert_eq!(Ring::Minutes.positions(59, 60), [0..60, 60..60]);
        assert_eq!(Ring::Hours.positions(168 * 7, 2), [60..61, 227..228]);
        assert_eq!(Ring::Hours.positions(0, 0), [61..61, 228..228]);
    }

    #[test]
    fn a_later_reader_sees_fewer_buckets() {
        let five_minutes = Window::new(Duration::from_mins(5)).unwrap();
        let covered = |passed| five_minutes.covered(passed);
        assert_eq!([0, 3, 5, u32::MAX].map(covered), [5, 2, 0, 0]);
    }
}
