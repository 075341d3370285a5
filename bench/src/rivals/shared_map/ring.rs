//! A ring of counts, one bucket for each minute or hour.
//!
//! A bucket's place is its minute modulo the length of the ring, so nothing moves when time does:
//! whoever advances the time clears the buckets it turns to, and no other.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Counts of the last `N` minutes or hours.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Ring<const N: usize>([AtomicU32; N]);

impl<const N: usize> Ring<N> {
    /// All counts zero.
    pub(super) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; N])
    }

    /// Counts an event of `bucket`, unless the ring has turned past it. `head` is the latest.
    #[inline]
    pub(super) fn count(&self, bucket: u64, head: u64) {
        if head - bucket < N as u64 {
            self.at(bucket).fetch_add(1, Relaxed);
        }
    }

    /// Clears the buckets after `head` up to `new_head`.
    #[inline]
    pub(super) fn turn(&self, head: u64, new_head: u64) {
        if head != new_head {
            self.clear(head.max(new_head.saturating_sub(N as u64)), new_head);
        }
    }

    fn clear(&self, after: u64, to: u64) {
        for bucket in after + 1..=to {
            self.at(bucket).store(0, Release);
        }
    }

    /// Events of the last `length` buckets as of `now`, which is not before `head`.
    #[inline]
    pub(super) fn sum(&self, length: u64, head: u64, now: u64) -> u64 {
        let oldest = (now + 1).saturating_sub(length).max((head + 1).saturating_sub(N as u64));
        if oldest > head {
            return 0;
        }
        // From the oldest bucket to the head, which may lie before it in the array.
        let (from, to) = (Self::place(oldest), Self::place(head));
        if from <= to {
            Self::sum_of(&self.0[from..=to])
        } else {
            Self::sum_of(&self.0[from..]) + Self::sum_of(&self.0[..=to])
        }
    }

    #[inline]
    fn sum_of(buckets: &[AtomicU32]) -> u64 {
        let load = |bucket: &AtomicU32| u64::from(bucket.load(Acquire));
        // Atomics are not summed in vectors; four at a time at least overlap.
        let (fours, rest) = buckets.as_chunks::<4>();
        let fours = fours.iter().map(|[a, b, c, d]| (load(a) + load(b)) + (load(c) + load(d)));
        fours.sum::<u64>() + rest.iter().map(load).sum::<u64>()
    }

    #[inline]
    fn at(&self, bucket: u64) -> &AtomicU32 {
        &self.0[Self::place(bucket)]
    }

    #[inline]
    fn place(bucket: u64) -> usize {
        // The remainder is below N, which is a usize.
        usize::try_from(bucket % N as u64).unwrap_or_default()
    }
}
