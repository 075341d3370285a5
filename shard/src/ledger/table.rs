//! One partition's hot states: a plain table with open addressing, the key inside the slot.
//!
//! Promises: a lookup of a pair that exists touches its cache line and the few before it; growing
//! rehashes this partition only, into a table half as large again.
//! Invariants: an occupied slot is reached from its start without crossing a free one; nothing is
//! ever removed; at most three quarters of the slots are taken once there are more than four.

use crate::signal::hot::HotSignalState;
use crate::{EntityHash, EntityId, SignalId, Timestamp};

/// The hot states of the pairs of one partition.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[HotSignalState]>,
    taken: u32,
}

/// Where a search ended.
enum Found {
    Here(usize),
    Free(usize),
    Nowhere,
}

impl Table {
    /// The state of a pair, if it was ever seen.
    #[inline]
    pub(super) fn get(
        &self,
        hash: EntityHash,
        entity: EntityId,
        signal: SignalId,
    ) -> Option<&HotSignalState> {
        match self.find(hash, entity, signal) {
            Found::Here(slot) => Some(&self.slots[slot]),
            Found::Free(_) | Found::Nowhere => None,
        }
    }

    /// The state of a pair, to change, if it was ever seen.
    pub(super) fn get_mut(
        &mut self,
        hash: EntityHash,
        entity: EntityId,
        signal: SignalId,
    ) -> Option<&mut HotSignalState> {
        match self.find(hash, entity, signal) {
            Found::Here(slot) => Some(&mut self.slots[slot]),
            Found::Free(_) | Found::Nowhere => None,
        }
    }

    /// The state of a pair; a new one that begins at `time` if it was never seen. `rehash` gives
    /// the hash of an entity again when the table has to grow.
    #[inline]
    pub(super) fn entry(
        &mut self,
        hash: EntityHash,
        key: (EntityId, SignalId, Timestamp),
        rehash: impl Fn(EntityId) -> EntityHash,
    ) -> &mut HotSignalState {
        let (entity, signal, time) = key;
        let slot = match self.find(hash, entity, signal) {
            Found::Here(slot) => slot,
            Found::Free(slot) if self.has_room() => self.take(slot, entity, signal, time),
            Found::Free(_) | Found::Nowhere => {
                self.grow(rehash);
                let slot = self.first_free(hash, signal);
                self.take(slot, entity, signal, time)
            }
        };
        &mut self.slots[slot]
    }

    /// Every pair of the partition, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &HotSignalState> {
        self.slots.iter().filter(|state| !state.is_free())
    }

    /// Pairs held.
    pub(super) fn len(&self) -> usize {
        self.taken as usize
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    #[inline]
    fn find(&self, hash: EntityHash, entity: EntityId, signal: SignalId) -> Found {
        for slot in probe(hash.slot(signal, self.slots.len()), self.slots.len()) {
            let state = &self.slots[slot];
            if state.is(entity, signal) {
                return Found::Here(slot);
            }
            if state.is_free() {
                return Found::Free(slot);
            }
        }
        Found::Nowhere
    }

    fn first_free(&self, hash: EntityHash, signal: SignalId) -> usize {
        probe(hash.slot(signal, self.slots.len()), self.slots.len())
            .find(|&slot| self.slots[slot].is_free())
            .expect("a table that has just grown has free slots")
    }

    fn take(&mut self, slot: usize, entity: EntityId, signal: SignalId, time: Timestamp) -> usize {
        self.slots[slot] = HotSignalState::new(entity, signal, time);
        self.taken += 1;
        slot
    }

    fn has_room(&self) -> bool {
        let slots = self.slots.len();
        let most = if slots <= 4 { slots } else { slots / 4 * 3 };
        self.len() < most
    }

    #[cold]
    fn grow(&mut self, rehash: impl Fn(EntityId) -> EntityHash) {
        let slots = match self.slots.len() {
            0 => 1,
            1 => 2,
            2 => 4,
            // A multiple of four, so that three quarters of it is a whole number.
            slots => (slots + slots / 2).next_multiple_of(4),
        };
        let grown = vec![HotSignalState::FREE; slots].into_boxed_slice();
        let old = std::mem::replace(&mut self.slots, grown);
        for state in old.into_iter().filter(|state| !state.is_free()) {
            let slot = self.first_free(rehash(state.entity()), state.signal());
            self.slots[slot] = state;
        }
    }
}

/// Every slot of a table once, from `start`, around its end.
#[inline]
fn probe(start: usize, slots: usize) -> impl Iterator<Item = usize> {
    (start..slots).chain(0..start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bad hash on purpose: eight values, so that probes run into each other and wrap.
    fn hash(entity: EntityId) -> EntityHash {
        EntityHash((entity.0 % 8) as u32)
    }

    #[test]
    fn pairs_stay_apart_through_every_growth() {
        let mut table = Table::default();
        let signals = [SignalId(0), SignalId(1), SignalId(63)];
        for entity in (0..700).map(EntityId) {
            for signal in signals {
                let state = table.entry(hash(entity), (entity, signal, Timestamp(entity.0)), hash);
                assert_eq!((state.entity(), state.signal()), (entity, signal));
            }
        }
        assert_eq!(table.len(), 2100);
        assert_eq!(table.iter().count(), 2100);
        for entity in (0..700).map(EntityId) {
            for signal in signals {
                let state = table.get(hash(entity), entity, signal).unwrap();
                assert_eq!((state.entity(), state.last_update()), (entity, Timestamp(entity.0)));
            }
            assert!(table.get(hash(entity), entity, SignalId(2)).is_none());
        }
        assert!(table.get(EntityHash(0), EntityId(5000), SignalId(0)).is_none());
    }

    #[test]
    fn an_entity_named_zero_is_not_a_free_slot() {
        let mut table = Table::default();
        assert!(table.get(EntityHash(0), EntityId(0), SignalId(0)).is_none());
        let key = (EntityId(0), SignalId(0), Timestamp(0));
        table.entry(EntityHash(0), key, hash);
        assert!(table.get(EntityHash(0), EntityId(0), SignalId(0)).is_some());
        table.entry(EntityHash(0), key, hash);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_table_of_one_pair_is_one_line() {
        let mut table = Table::default();
        table.entry(EntityHash(9), (EntityId(1), SignalId(0), Timestamp(0)), hash);
        assert_eq!(table.memory_bytes(), 64);
    }
}
