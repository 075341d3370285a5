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

use crate::EntityId;
use crate::limits::{TOP_CANDIDATES_MAX, TOP_K_MAX};
use crate::signal::hot::rank_of_zero;
use std::cmp::Reverse;

/// Orders entities: the higher rank first, then the smaller id. Greater is better.
pub(super) type TopKey = (u128, Reverse<EntityId>);

/// Candidates for the top of one signal type and half-life.
#[derive(Debug, Default)]
pub(super) struct TopList {
    candidates: Vec<EntityId>,
    /// At least [`TOP_K_MAX`] candidates are at or above this.
    bar: Option<TopKey>,
}

impl TopList {
    /// Whether an entity of this key, not yet a candidate, has to become one.
    #[inline]
    pub(super) fn admits(&self, key: TopKey) -> bool {
        key.0 > 0 && Some(key) > self.bar
    }

    /// Bits of the least sum that [`TopList::admits`] may let in, of a pair whose landmark this is.
    pub(super) fn least_sum(&self, landmark: u64) -> u64 {
        let bar = self.bar.map_or(0, |(rank, _)| rank);
        u64::try_from(bar.saturating_sub(rank_of_zero(landmark))).unwrap_or(u64::MAX)
    }

    /// Makes an entity a candidate. Says `true` when it is time to [`TopList::keep_best`].
    pub(super) fn enter(&mut self, entity: EntityId) -> bool {
        self.candidates.push(entity);
        self.candidates.len() >= TOP_CANDIDATES_MAX
    }

    /// Lets go of all but the best [`TOP_K_MAX`] and gives back who went. `key` tells an entity's
    /// present key.
    pub(super) fn keep_best(&mut self, key: impl Fn(EntityId) -> TopKey) -> Vec<EntityId> {
        let mut keys: Vec<TopKey> = self.candidates.iter().map(|&entity| key(entity)).collect();
        if keys.len() < TOP_K_MAX {
            return Vec::new();
        }
        let (_, &mut last, _) = keys.select_nth_unstable_by(TOP_K_MAX - 1, |a, b| b.cmp(a));
        self.bar = Some(last);
        let (kept, gone) = keys.split_at(TOP_K_MAX);
        self.candidates.clear();
        self.candidates.extend(kept.iter().map(|(_, Reverse(entity))| *entity));
        gone.iter().map(|(_, Reverse(entity))| *entity).collect()
    }

    /// All candidates, in no particular order: the best [`TOP_K_MAX`] and some more.
    pub(super) fn candidates(&self) -> &[EntityId] {
        &self.candidates
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.candidates.capacity() * size_of::<EntityId>()
    }
}
