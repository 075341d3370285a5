//! The best entities of one signal type and half-life, kept on writes.
//!
//! Why this works: for one half-life the order of two entities never changes with time, and events
//! only ever raise an entity. So an entity outside the list can enter it only by an event of its
//! own, and one compare per event decides.
//!
//! Promises: the best [`TOP_K_MAX`] entities are always among the candidates, exactly, ties broken
//! by the smaller id. An event of an entity that stays outside costs one compare; letting the
//! weaker half go costs one pass over the candidates per `TOP_K_MAX` entries. Invariants: every
//! entity whose rank is above the bar is a candidate; the bar only rises.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::EntityId;
use crate::limits::{HALF_LIVES_MAX, TOP_CANDIDATES_MAX, TOP_K_MAX};
use crate::signal::half_life::HalfLife;
use crate::signal::hot::{HotSignalState, rank_of_zero};
use std::cmp::Reverse;

/// Orders entities: the higher rank first, then the smaller id. Greater is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TopKey {
    rank: u128,
    entity: Reverse<EntityId>,
    /// Where the entity is, which decides nothing.
    slot: u32,
}

impl TopKey {
    /// Of the pair at a slot, by its half-life `k`.
    #[inline]
    pub(super) fn of(slot: u32, state: &HotSignalState, k: usize, half_life: &HalfLife) -> Self {
        Self { rank: state.rank(k, half_life), entity: Reverse(state.entity()), slot }
    }
}

/// What a pair has to pass to enter a ranking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    /// Of the least sum that may do, the bits.
    sum: u64,
    /// Where the sum is just that: the entity is before this one.
    before: EntityId,
}

impl Bar {
    /// Above any sum.
    pub(super) const NO_SUM: Self = Self { sum: u64::MAX, before: EntityId(0) };

    /// Whether a pair is past it with its sum of half-life `k`.
    #[inline]
    fn is_passed(&self, state: &HotSignalState, k: usize) -> bool {
        let sum = state.sum_bits(k);
        sum > self.sum || sum == self.sum && state.entity() < self.before
    }
}

/// Whether a pair may have to enter a ranking that it is not in.
#[inline(always)]
pub(super) fn may_enter(state: &HotSignalState, bars: &[Bar; HALF_LIVES_MAX]) -> bool {
    let is_near = |k: usize| state.sum_bits(k) >= bars[k].sum;
    // Few are, of which most are in.
    (0..HALF_LIVES_MAX).any(|k| is_near(k) && !state.is_ranked(k) && bars[k].is_passed(state, k))
}

/// Candidates for the top of one signal type and half-life.
#[derive(Debug, Default)]
pub(super) struct TopList {
    /// By their slots, which never move.
    candidates: Vec<u32>,
    /// At least [`TOP_K_MAX`] candidates are at or above this.
    bar: Option<TopKey>,
}

impl TopList {
    /// Whether an entity of this key, not yet a candidate, has to become one.
    #[inline]
    pub(super) fn admits(&self, key: TopKey) -> bool {
        key.rank > 0 && Some(key) > self.bar
    }

    /// What a pair whose landmark this is has to pass, unless [`TopList::admits`] is sure to
    /// refuse it.
    pub(super) fn bar(&self, landmark: u64) -> Bar {
        let (rank, before) =
            self.bar.map_or((0, EntityId(u64::MAX)), |bar| (bar.rank, bar.entity.0));
        let sum = rank.saturating_sub(rank_of_zero(landmark));
        Bar { sum: u64::try_from(sum).unwrap_or(u64::MAX), before }
    }

    /// Makes the entity of a key a candidate. Says `true` when it is time to
    /// [`TopList::keep_best`].
    pub(super) fn enter(&mut self, key: TopKey) -> bool {
        self.candidates.push(key.slot);
        self.candidates.len() >= TOP_CANDIDATES_MAX
    }

    /// Lets go of all but the best [`TOP_K_MAX`] and gives back the slots of who went. `key` tells
    /// the present key of who is at a slot.
    pub(super) fn keep_best(&mut self, key: impl Fn(u32) -> TopKey) -> Vec<u32> {
        let mut keys: Vec<TopKey> = self.candidates.iter().map(|&slot| key(slot)).collect();
        if keys.len() < TOP_K_MAX {
            return Vec::new();
        }
        let (_, &mut last, _) = keys.select_nth_unstable_by(TOP_K_MAX - 1, |a, b| b.cmp(a));
        self.bar = Some(last);
        let (kept, gone) = keys.split_at(TOP_K_MAX);
        self.candidates.clear();
        self.candidates.extend(kept.iter().map(|key| key.slot));
        gone.iter().map(|key| key.slot).collect()
    }

    /// The slots of all candidates, in no particular order: the best [`TOP_K_MAX`] and some more.
    pub(super) fn candidates(&self) -> &[u32] {
        &self.candidates
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.candidates.capacity() * size_of::<u32>()
    }
}
