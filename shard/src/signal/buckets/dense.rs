//! The dense classes: one counter of 8, 16 or 32 bits for every bucket, at its position.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::{Added, BucketedCounter, Counts, Heads, Listed};
use crate::limits::BUCKETS;
use crate::prefetch::prefetch;
use crate::signal::window::Ring;

/// A counter for every bucket.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Dense<T>(pub(super) [T; BUCKETS]);

const _: () = {
    assert!(size_of::<Dense<u8>>() == 256);
    assert!(size_of::<Dense<u16>>() == 512);
    assert!(size_of::<Dense<u32>>() == 960);
};

/// The width of one counter.
pub(super) trait Count: Copy + TryFrom<u32> + Into<u32> + Eq {
    const ZERO: Self;
    /// What a full counter of this width means.
    const FULL: Added;
    /// One more, unless the counter is full.
    fn next(self) -> Option<Self>;
}

macro_rules! count {
    ($width:ty, $full:expr) => {
        impl Count for $width {
            const ZERO: Self = 0;
            const FULL: Added = $full;
            #[inline(always)]
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}
count!(u8, Added::NeedsRoom);
count!(u16, Added::NeedsRoom);
count!(u32, Added::Saturated);

impl<T: Count> Dense<T> {
    /// The block that holds `counts`, unless this class lacks the room for them and one event more.
    pub(super) fn holding(counts: &Counts) -> Option<Self> {
        let mut block = Self::EMPTY;
        for (bucket, &count) in block.0.iter_mut().zip(counts) {
            *bucket = T::try_from(count).ok()?;
            bucket.next()?;
        }
        Some(block)
    }
}

impl<T: Count> BucketedCounter for Dense<T> {
    const EMPTY: Self = Self([T::ZERO; BUCKETS]);

    fn fits_listed(listed: &[Listed]) -> bool {
        // Room for one event more, but where no class has more.
        let fits = |count| T::try_from(count).is_ok_and(|count| count.next().is_some());
        T::FULL == Added::Saturated || listed.iter().all(|&(_, count)| fits(count))
    }

    fn take_listed(&mut self, listed: &[Listed], _heads: Heads) {
        debug_assert!(Self::fits_listed(listed), "it was asked before");
        for &(at, count) in listed {
            let Ok(count) = T::try_from(count) else {
                unreachable!("it was asked whether it fits")
            };
            self.0[usize::from(at)] = count;
        }
    }

    #[inline]
    fn advance(&mut self, ring: Ring, head: u32, to: u32) {
        // The positions of the buckets that come in stood for expired ones.
        let passed = usize::try_from((to - head).min(ring.len())).unwrap_or(BUCKETS);
        for positions in ring.positions(to, passed) {
            self.0[positions].fill(T::ZERO);
        }
    }

    fn add_newest(&mut self, head: Heads, events: u8) -> bool {
        let [minute, hour] = head.positions();
        let more = |count: T| {
            let count: u32 = count.into();
            debug_assert!(count > 0, "it is not empty");
            count.checked_add(events.into()).and_then(|count| T::try_from(count).ok())
        };
        let (Some(in_minute), Some(in_hour)) = (more(self.0[minute]), more(self.0[hour])) else {
            return false;
        };
        (self.0[minute], self.0[hour]) = (in_minute, in_hour);
        true
    }

    fn lets_wait(&self, head: Heads) -> bool {
        let has_room = |position: usize| {
            let count: u32 = self.0[position].into();
            count > 0 && count < u32::MAX - u32::from(u8::MAX)
        };
        head.positions().into_iter().all(has_room)
    }

    #[inline(always)]
    fn add(&mut self, ring: Ring, _head: u32, bucket: u32) -> Added {
        let count = &mut self.0[ring.position(bucket)];
        match count.next() {
            Some(next) => {
                *count = next;
                Added::Counted
            }
            None => T::FULL,
        }
    }

    #[inline(always)]
    fn sum(&self, ring: Ring, head: u32, newest: usize) -> u64 {
        let mut sum = 0;
        for positions in ring.positions(head, newest) {
            for &count in &self.0[positions] {
                sum = u64::wrapping_add(sum, u64::from(count.into()));
            }
        }
        sum
    }

    #[inline(always)]
    fn fetch(&self, event: Heads) {
        event.positions().into_iter().for_each(|position| prefetch(&self.0[position]));
    }

    fn counts(&self, _heads: Heads) -> Counts {
        self.0.map(Into::into)
    }

    fn list(&self, _heads: Heads, list: &mut Vec<Listed>) {
        let counts = (0..).zip(self.0.map(Into::into));
        list.extend(counts.filter(|&(_, count)| count > 0));
    }
}
