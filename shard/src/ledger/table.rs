//! One partition's hot states: a plain table with open addressing, the key inside the slot.
//!
//! Promises: a lookup of a pair that exists touches its cache line and the few before it; growing
//! rehashes this partition only, into a table half as large again.
//! Invariants: an occupied slot is reached from its start without crossing a free one; nothing is
//! ever removed; at most three quarters of the slots are taken once there are more than four.

use crate::prefetch::prefetch;
use crate::signal::hot::HotSignalState;
use crate::{EntityHash, EntityId, RoutedEvent, SignalId, Timestamp};

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

    /// The slot of an event's pair; a new one that begins with the event if it was never seen.
    /// `rehash` gives the hash of an entity again when the table has to grow.
    pub(super) fn entry(
        &mut self,
        event: &RoutedEvent,
        rehash: impl Fn(EntityId) -> EntityHash,
    ) -> usize {
        let &RoutedEvent { hash, entity, signal, time, .. } = event;
        match self.find(hash, entity, signal) {
            Found::Here(slot) => slot,
            Found::Free(slot) if self.has_room() => self.take(slot, entity, signal, time),
            Found::Free(_) | Found::Nowhere => {
                self.grow(rehash);
                let slot = self.first_free(hash, signal);
                self.take(slot, entity, signal, time)
            }
        }
    }

    /// The slot where the search for an event's pair begins.
    #[inline]
    pub(super) fn start(&self, event: &RoutedEvent) -> usize {
        event.hash.slot(event.signal, self.slots.len())
    }

    /// Asks for the cache line where the search for an event's pair begins.
    #[inline]
    pub(super) fn fetch(&self, event: &RoutedEvent) {
        if let Some(state) = self.slots.get(self.start(event)) {
            prefetch(state);
        }
    }

    /// The slot where the search for an event's pair ends, or just any.
    #[inline]
    pub(super) fn seek(&self, event: &RoutedEvent) -> usize {
        match self.find(event.hash, event.entity, event.signal) {
            Found::Here(slot) | Found::Free(slot) => slot,
            Found::Nowhere => 0,
        }
    }

    /// The state in a slot, if it is that of an event's pair.
    #[inline]
    pub(super) fn at(&self, slot: usize, event: &RoutedEvent) -> Option<&HotSignalState> {
        self.slots.get(slot).filter(|state| state.is(event.entity, event.signal))
    }

    /// Slots of the table, taken and free; the same number as long as no pair moves.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The state in a slot.
    #[inline]
    pub(super) fn at_mut(&mut self, slot: usize) -> &mut HotSignalState {
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

    impl Table {
        fn enter(
            &mut self,
            entity: EntityId,
            signal: SignalId,
            time: Timestamp,
        ) -> &HotSignalState {
            let event = RoutedEvent { entity, time, weight: 1.0, hash: hash(entity), signal };
            let slot = self.entry(&event, hash);
            &self.slots[slot]
        }
    }

    #[test]
    fn pairs_stay_apart_through_every_growth() {
        let mut table = Table::default();
        let signals = [SignalId(0), SignalId(1), SignalId(63)];
        for entity in (0..700).map(EntityId) {
            for signal in signals {
                let state = table.enter(entity, signal, Timestamp(entity.0));
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
        table.enter(EntityId(0), SignalId(0), Timestamp(0));
        assert!(table.get(EntityHash(0), EntityId(0), SignalId(0)).is_some());
        table.enter(EntityId(0), SignalId(0), Timestamp(0));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_table_of_one_pair_is_one_line() {
        let mut table = Table::default();
        table.enter(EntityId(1), SignalId(0), Timestamp(0));
        assert_eq!(table.memory_bytes(), 64);
    }
}
