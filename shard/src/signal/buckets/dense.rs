//! The dense classes: one counter of 8, 16 or 32 bits for every bucket, at its position.

use super::{Added, BucketedCounter, Counts};
use crate::limits::BUCKETS;
use std::ops::Range;

/// A counter for every bucket.
#[derive(Clone, Debug)]
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
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}
count!(u8, Added::NeedsRoom);
count!(u16, Added::NeedsRoom);
count!(u32, Added::Saturated);

impl<T: Count> BucketedCounter for Dense<T> {
    const EMPTY: Self = Self([T::ZERO; BUCKETS]);

    fn holding(counts: &Counts) -> Option<Self> {
        let mut block = Self::EMPTY;
        for (bucket, &count) in block.0.iter_mut().zip(counts) {
            *bucket = T::try_from(count).ok()?;
            // Room for one event more.
            bucket.next()?;
        }
        Some(block)
    }

    #[inline]
    fn add(&mut self, position: usize) -> Added {
        match self.0[position].next() {
            Some(count) => {
                self.0[position] = count;
                Added::Counted
            }
            None => T::FULL,
        }
    }

    #[inline]
    fn clear(&mut self, positions: Range<usize>) {
        self.0[positions].fill(T::ZERO);
    }

    #[inline]
    fn sum(&self, positions: Range<usize>) -> u64 {
        self.0[positions].iter().map(|&count| u64::from(count.into())).sum()
    }

    fn counts(&self) -> Counts {
        self.0.map(Into::into)
    }
}
