//! The sparse classes: a bitmap of non-empty buckets and their counts, one byte each, side by side.
//!
//! Invariants: as many bits are set as counts are in use; the counts stand in position order; no
//! count in use is zero.

use super::{Added, BucketedCounter, Counts};
use crate::limits::BUCKETS;
use std::ops::Range;

const WORDS: usize = BUCKETS.div_ceil(64);

/// Up to `ROOM` non-empty buckets of up to 255 events.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Packed<const ROOM: usize> {
    present: [u64; WORDS],
    counts: [u8; ROOM],
}

const _: () = {
    assert!(size_of::<Packed<32>>() == 64);
    assert!(size_of::<Packed<96>>() == 128);
};

impl<const ROOM: usize> Packed<ROOM> {
    /// How many non-empty buckets stand before `position`.
    #[inline]
    fn rank(&self, position: usize) -> usize {
        let (word, bit) = (position / 64, position % 64);
        let mut before = 0;
        for (i, present) in self.present.iter().enumerate() {
            // All bits of earlier words, the lower ones of this word, none of later words.
            let mask = if i < word { u64::MAX } else { (u64::from(i == word) << bit).max(1) - 1 };
            before += (present & mask).count_ones() as usize;
        }
        before
    }

    fn used(&self) -> usize {
        self.present.iter().map(|word| word.count_ones() as usize).sum()
    }

    #[inline]
    fn is_present(&self, position: usize) -> bool {
        self.present[position / 64] >> (position % 64) & 1 != 0
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        (0..BUCKETS).filter(|&position| self.is_present(position))
    }
}

impl<const ROOM: usize> BucketedCounter for Packed<ROOM> {
    const EMPTY: Self = Self { present: [0; WORDS], counts: [0; ROOM] };

    fn holding(counts: &Counts) -> Option<Self> {
        let mut block = Self::EMPTY;
        let occupied = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        for (used, (position, &count)) in occupied.enumerate() {
            // Room for one event more: in this bucket, and for one bucket more.
            if used + 1 >= ROOM || count >= u32::from(u8::MAX) {
                return None;
            }
            block.present[position / 64] |= 1 << (position % 64);
            block.counts[used] = u8::try_from(count).ok()?;
        }
        Some(block)
    }

    #[inline]
    fn add(&mut self, position: usize) -> Added {
        let rank = self.rank(position);
        if self.is_present(position) {
            return match self.counts[rank].checked_add(1) {
                Some(count) => {
                    self.counts[rank] = count;
                    Added::Counted
                }
                None => Added::NeedsRoom,
            };
        }
        let used = self.used();
        if used == ROOM {
            return Added::NeedsRoom;
        }
        self.counts.copy_within(rank..used, rank + 1);
        self.counts[rank] = 1;
        self.present[position / 64] |= 1 << (position % 64);
        Added::Counted
    }

    #[inline]
    fn clear(&mut self, positions: Range<usize>) {
        let (from, to) = (self.rank(positions.start), self.rank(positions.end));
        if from == to {
            return;
        }
        let used = self.used();
        self.counts.copy_within(to..used, from);
        for position in positions {
            self.present[position / 64] &= !(1 << (position % 64));
        }
    }

    #[inline]
    fn sum(&self, positions: Range<usize>) -> u64 {
        let (from, to) = (self.rank(positions.start), self.rank(positions.end));
        self.counts[from..to].iter().map(|&count| u64::from(count)).sum()
    }

    fn counts(&self) -> Counts {
        let mut counts = [0; BUCKETS];
        for (position, &count) in self.positions().zip(&self.counts) {
            counts[position] = u32::from(count);
        }
        counts
    }
}
