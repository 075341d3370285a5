//! The counters of pairs, found in their classes: to be asked for ahead, and summed.
//!
//! Promises: [`Seen`] and [`Block::count`] give the same sums. Almost every pair has few counters,
//! so there is a way without a branch for groups of which all do.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::dense::Dense;
use super::packed::Packed;
use super::{BucketStore, BucketedCounter as _, Class, Counters, FewCounters, Heads};
use crate::prefetch::prefetch_all;
use crate::signal::window::{HOUR_WORDS, Ring, Window};

/// Where the counters of one pair are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'s> {
    found: Found<'s>,
    /// Those of the pair, or what waits for a larger block.
    few: &'s FewCounters,
}

#[derive(Clone, Copy, Debug)]
enum Found<'s> {
    Few,
    Packed96(&'s Packed<96>),
    Packed160(&'s Packed<160>),
    Dense8(&'s Dense<u8>),
    Dense16(&'s Dense<u16>),
    Dense32(&'s Dense<u32>),
}

impl BucketStore {
    /// The counters of a pair. Nothing of them is looked at yet.
    #[inline(always)]
    pub(crate) fn block<'s>(&'s self, counters: Counters<'s>) -> Block<'s> {
        let Counters { at, few } = counters;
        if at.is_few() {
            // Almost every pair.
            return Block { found: Found::Few, few };
        }
        let index = at.index();
        let found = match at.class() {
            None => Found::Few,
            Some(Class::Packed96) => Found::Packed96(self.packed96.get(index)),
            Some(Class::Packed160) => Found::Packed160(self.packed160.get(index)),
            Some(Class::Dense8) => Found::Dense8(self.dense8.get(index)),
            Some(Class::Dense16) => Found::Dense16(self.dense16.get(index)),
            Some(Class::Dense32) => Found::Dense32(self.dense32.get(index)),
        };
        Block { found, few }
    }
}

impl<'s> Block<'s> {
    /// All counters are zero.
    pub(crate) const EMPTY: Self = Self { found: Found::Few, few: &FewCounters::EMPTY };

    /// Asks for all of its cache lines, unless it is the one in the pair's slot.
    #[inline(always)]
    pub(crate) fn fetch(self) {
        self.found.fetch();
    }

    /// Events in `window` as of `now`, for a pair last updated at `head`: buckets after `head` are
    /// empty. A `now` before `head` stands for `head`.
    #[inline(always)]
    pub(crate) fn count(self, window: &Window, head: Heads, now: Heads) -> u64 {
        let ring = window.ring();
        let (head, now) = (head.of_ring(ring), now.of_ring(ring));
        let newest = window.covered(now.saturating_sub(head));
        match self.found.sum(ring, head, newest) {
            None => self.few.sum(ring, head, newest),
            Some(sum) if newest == 0 => sum,
            Some(sum) => sum + u64::from(self.few.of_newest_minute()),
        }
    }

    /// What of the counters of a pair last updated at `head` is to be seen as of `now`; `None` if
    /// they are not few.
    #[inline(always)]
    pub(crate) fn seen(self, head: Heads, now: Heads) -> Option<Seen<'s>> {
        let Self { found: Found::Few, few: block } = self else { return None };
        let minutes = now.minute.saturating_sub(head.minute);
        let hours = now.hour().saturating_sub(head.hour());
        Some(Seen { block, bits: block.later(minutes, hours) })
    }
}

impl Found<'_> {
    #[inline(always)]
    fn fetch(self) {
        match self {
            Found::Few => {}
            Found::Packed96(block) => prefetch_all(block),
            Found::Packed160(block) => prefetch_all(block),
            Found::Dense8(block) => prefetch_all(block),
            Found::Dense16(block) => prefetch_all(block),
            Found::Dense32(block) => prefetch_all(block),
        }
    }

    /// Events in the `newest` buckets of a `ring` that ends with `head`; `None` if it is no block.
    #[inline(always)]
    fn sum(self, ring: Ring, head: u32, newest: usize) -> Option<u64> {
        Some(match self {
            Found::Few => return None,
            Found::Packed96(block) => block.sum(ring, head, newest),
            Found::Packed160(block) => block.sum(ring, head, newest),
            Found::Dense8(block) => block.sum(ring, head, newest),
            Found::Dense16(block) => block.sum(ring, head, newest),
            Found::Dense32(block) => block.sum(ring, head, newest),
        })
    }
}

/// Few counters as of one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'s> {
    block: &'s FewCounters,
    /// Bitmaps of minutes and hours.
    bits: [u64; 1 + HOUR_WORDS],
}

impl Seen<'_> {
    /// Nothing is.
    pub(crate) const NOTHING: Self = Self { block: &FewCounters::EMPTY, bits: [0; 1 + HOUR_WORDS] };

    /// Events in a window.
    #[inline(always)]
    pub(crate) fn count(&self, window: &Window) -> u32 {
        let [minutes, day, middle, last] = self.bits;
        let [first, of_middle, of_last] = *window.mask();
        let used = if window.ring() == Ring::Minutes {
            (minutes & first).count_ones()
        } else {
            // As one number, so that no vector is made of the two.
            let later = u128::from(last & of_last) << 64 | u128::from(middle & of_middle);
            (day & first).count_ones().wrapping_add(later.count_ones())
        };
        self.block.sum_used(window.ring(), used as usize)
    }
}
