//! The table of pairs: slots one behind the other in the order of arrival, and their index.
//!
//! ```text
//! hash ─▶ index ─▶ slot: whole cache lines, of which the first says whose it is
//! ```
//!
//! Promises: a lookup of a pair that exists touches a cache line of the index and its own; a slot
//! never moves, and none is free, so memory is what pairs take. Why an index: slots that stand
//! where their hash says are half free after growth, and every fourth pair has made way for
//! another, which costs a branch that nobody foretells and a line that nobody asked for ahead.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

pub use super::index::Home;
use super::index::Index;
use crate::blocks::Blocks;
use crate::{EntityHash, EntityId, RoutedEvent, SignalId};

/// What a table keeps for one pair: one cache line or some, of which the first says whose it is.
pub trait Slot: Copy {
    /// A slot for the pair of an event, without the event.
    fn of(event: &RoutedEvent) -> Self;
    /// Whether it is that pair's.
    fn is(&self, entity: EntityId, signal: SignalId) -> bool;
}

/// Slots of pairs, found by hash.
#[derive(Debug)]
pub struct Table<S> {
    slots: Blocks<S>,
    index: Index,
}

impl<S: Slot> Default for Table<S> {
    fn default() -> Self {
        Self { slots: Blocks::default(), index: Index::default() }
    }
}

impl<S: Slot> Table<S> {
    /// The slot of a pair, if it was ever seen.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, hash: EntityHash, entity: EntityId, signal: SignalId) -> Option<&S> {
        let home = self.home(hash, signal);
        self.seek((&home, self.likely(home)), entity, signal).map(|(_, slot)| slot)
    }

    /// Where the slot of an event's pair is; a new one if the pair was never seen.
    ///
    /// # Panics
    ///
    /// If there are more pairs than an index can spread.
    pub fn entry(&mut self, event: &RoutedEvent) -> usize {
        let &RoutedEvent { hash, entity, signal, .. } = event;
        let found = self.search(self.home(hash, signal), entity, signal);
        found.unwrap_or_else(|| {
            let slot = self.slots.len();
            self.index.insert(hash, signal, slot);
            self.slots.push(S::of(event));
            slot
        })
    }

    /// Where the search for a pair begins, as long as the table does not grow.
    #[inline(always)]
    #[must_use]
    pub fn home(&self, hash: EntityHash, signal: SignalId) -> Home {
        self.index.home(hash, signal)
    }

    /// Asks for the index at a home.
    #[inline(always)]
    pub fn fetch_home(&self, home: Home) {
        self.index.fetch(home);
    }

    /// The slot of the pair of a home, most likely.
    #[inline(always)]
    #[must_use]
    pub fn likely(&self, home: Home) -> usize {
        self.index.likely(home)
    }

    /// Asks for the cache lines at `slot`.
    #[inline(always)]
    pub fn fetch(&self, slot: usize) {
        self.slots.fetch(slot);
    }

    /// The slot of a pair that is most likely at `likely`, if it was ever seen.
    #[inline(always)]
    #[must_use]
    pub fn seek(
        &self,
        (home, likely): (&Home, usize),
        entity: EntityId,
        signal: SignalId,
    ) -> Option<(usize, &S)> {
        if let Some(slot) = self.slots.get(likely).filter(|slot| slot.is(entity, signal)) {
            return Some((likely, slot));
        }
        let slot = self.search(*home, entity, signal)?;
        Some((slot, self.slots.get(slot)?))
    }

    /// What is at `slot`, if there is such a slot.
    #[inline]
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<&S> {
        self.slots.get(slot)
    }

    /// The same, to change.
    #[inline]
    pub fn at_mut(&mut self, slot: usize) -> Option<&mut S> {
        self.slots.get_mut(slot)
    }

    /// Every slot, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.slots.as_slice().iter()
    }

    /// Pairs held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no pair was ever seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes allocated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes() + self.index.memory_bytes()
    }

    #[inline(never)]
    fn search(&self, home: Home, entity: EntityId, signal: SignalId) -> Option<usize> {
        self.index.find(home, |slot| self.at(slot).is_some_and(|slot| slot.is(entity, signal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::signal::pair::PairState;

    /// Bits of the hashes: so few that many pairs share one.
    fn hash(entity: EntityId, bits: u32) -> EntityHash {
        let id = u32::try_from(entity.0).unwrap();
        EntityHash(id.wrapping_mul(0x9E37_79B9) >> (32 - bits))
    }

    struct Tested {
        table: Table<PairState>,
        bits: u32,
    }

    impl Tested {
        fn new(bits: u32) -> Self {
            Self { table: Table::default(), bits }
        }

        fn enter(&mut self, entity: u64, signal: u8) -> usize {
            let entity = EntityId(entity);
            let (time, hash) = (Timestamp(entity.0), hash(entity, self.bits));
            let event = RoutedEvent { entity, time, weight: 1.0, hash, signal: SignalId(signal) };
            self.table.entry(&event)
        }

        fn time(&self, entity: u64, signal: u8) -> Option<u64> {
            let (entity, signal) = (EntityId(entity), SignalId(signal));
            let state = self.table.find(hash(entity, self.bits), entity, signal);
            state.map(|state| state.hot.last_update().0)
        }
    }

    #[test]
    fn pairs_stay_apart_and_where_they_are_through_every_growth() {
        for bits in [4, 7, 32] {
            let mut tested = Tested::new(bits);
            let entities = if bits == 4 { 5_000 } else { 30_000 };
            let mut slots = Vec::new();
            for entity in 0..entities {
                for signal in [0, 1, 63] {
                    let slot = tested.enter(entity, signal);
                    assert!(tested.table.at(slot).unwrap().is(EntityId(entity), SignalId(signal)));
                    slots.push(slot);
                }
            }
            let pairs = 3 * usize::try_from(entities).unwrap();
            assert_eq!((tested.table.len(), tested.table.iter().count()), (pairs, pairs));
            for entity in 0..entities {
                for signal in [0, 1, 63] {
                    assert_eq!(tested.time(entity, signal), Some(entity), "{bits}");
                }
                assert_eq!(tested.time(entity, 2), None);
            }
            assert_eq!(tested.time(entities, 0), None);
            assert_eq!(tested.enter(7, 63), slots[3 * 7 + 2]);
            assert_eq!(tested.table.len(), pairs, "seen before");
        }
    }

    #[test]
    fn an_entity_named_zero_is_one_as_any() {
        let mut tested = Tested::new(32);
        assert_eq!(tested.time(0, 0), None);
        tested.enter(0, 0);
        assert_eq!(tested.time(0, 0), Some(0));
        tested.enter(0, 0);
        assert_eq!(tested.table.len(), 1);
    }

    #[test]
    fn a_table_is_small_while_it_holds_little() {
        let mut tested = Tested::new(32);
        tested.enter(1, 0);
        assert!(tested.table.memory_bytes() <= 64 + 128 + 192, "{}", tested.table.memory_bytes());
        (0..200).for_each(|entity| _ = tested.enter(entity, 0));
        let bytes = tested.table.memory_bytes();
        assert!(bytes <= 200 * (128 * 17 / 16 + 22) + 320, "{bytes}");
    }
}
