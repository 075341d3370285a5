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

/// What a pair of one landmark has to be above to enter a ranking: a bar, as a sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastSum {
    /// Its bits. Below, no pair enters.
    bits: u64,
    /// With just this sum, those before this one enter.
    before: EntityId,
}

impl LeastSum {
    /// Above any sum.
    pub(super) const NONE: Self = Self { bits: u64::MAX, before: EntityId(0) };
}

/// Whether a pair may have to enter a ranking that it is not in.
#[inline(always)]
pub(super) fn may_enter(state: &HotSignalState, bars: &[LeastSum; HALF_LIVES_MAX]) -> bool {
    // Few are as high in a ranking that they are not in: by one branch for all.
    let mut high = 0;
    for (k, bar) in bars.iter().enumerate() {
        high |= u8::from(state.sum_bits(k) >= bar.bits) << k;
    }
    high & !state.rankings() != 0 && is_above_any(state, bars)
}

/// The same, of a pair that is high.
#[inline(never)]
fn is_above_any(state: &HotSignalState, bars: &[LeastSum; HALF_LIVES_MAX]) -> bool {
    let is_above = |k: usize| {
        let (bits, LeastSum { bits: bar, before }) = (state.sum_bits(k), bars[k]);
        bits >= bar && !state.is_ranked(k) && (bits > bar || state.entity() < before)
    };
    (0..HALF_LIVES_MAX).any(is_above)
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

    /// The bar for pairs whose landmark this is: what is not above it, [`TopList::admits`] refuses.
    pub(super) fn least_sum(&self, landmark: u64) -> LeastSum {
        let (rank, before) = self.bar.map_or((0, EntityId(0)), |bar| (bar.rank, bar.entity.0));
        let bits = rank.saturating_sub(rank_of_zero(landmark));
        LeastSum { bits: u64::try_from(bits).unwrap_or(u64::MAX), before }
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
