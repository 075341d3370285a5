//! The table of hot states: open addressing, the key inside the slot, in segments that split.
//!
//! ```text
//! hash ─low bits─▶ directory ─▶ segment ─┐
//!   └─× odd constant, high bits─▶ slot ──┴▶ one cache line, then the next
//! ```
//!
//! Promises: a lookup of a pair that exists touches its cache line and the few before it; growing
//! moves the pairs of one segment, at most [`SEGMENT_SLOTS`], and a small table is as small as its
//! pairs allow. Invariants: an occupied slot is reached from its start without crossing a free one;
//! nothing is ever removed; at most three quarters of a segment's slots are taken, seven eighths of
//! a small table's, all if there are four; all entries of the directory that end alike in a
//! segment's `depth` bits name it.
//! Source: Fagin, Nievergelt, Pippenger, Strong, *Extendible hashing*, TODS 1979.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::blocks::Blocks;
use crate::limits::{DIRECTORY_BITS_MAX, SEGMENT_BITS, SEGMENT_SLOTS, SMALL_TABLE_BITS};
use crate::prefetch::prefetch;
use crate::{EntityHash, EntityId, RoutedEvent, SignalId};

/// Pairs that go into one segment on the average of many of which none has to split: it would at
/// three quarters, and hashes are not spread quite evenly.
const PAIRS_RESERVED: usize = SEGMENT_SLOTS / 16 * 11;

/// What a table keeps for one pair: a cache line that knows whose it is.
pub trait Slot: Copy + Send + 'static {
    /// A slot nobody owns.
    const FREE: Self;
    /// A slot for the pair of an event, without the event.
    fn of(event: &RoutedEvent) -> Self;
    /// Whose it is.
    fn owner(&self) -> (EntityId, SignalId);
    /// Whether it is that pair's.
    fn is(&self, entity: EntityId, signal: SignalId) -> bool;
    /// Whether nobody owns it.
    fn is_free(&self) -> bool;
}

/// Slots of pairs, found by hash.
#[derive(Debug)]
pub struct Table<S> {
    slots: Blocks<S>,
    /// Slots of a segment, as a power of two: of the only one, until that is of full size.
    slot_bits: u32,
    /// Which segment holds the hashes that end in a number of bits. Its length is a power of two.
    directory: Box<[u32]>,
    segments: Vec<Segment>,
    taken: usize,
    /// Pairs on the move, empty in between.
    moving: Vec<S>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    taken: u32,
    /// Bits that the hashes in it have in common.
    depth: u32,
}

/// The way to a pair: the slots of its segment, and at which the search begins.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'t, S> {
    segment: &'t [S],
    first: usize,
}

impl<'t, S: Slot> Probe<'t, S> {
    /// Leads nowhere.
    pub const NOWHERE: Self = Self { segment: &[], first: 0 };

    /// Asks for the cache line it begins with.
    #[inline(always)]
    pub fn fetch(self) {
        if let Some(slot) = self.segment.get(self.first) {
            prefetch(slot);
        }
    }

    /// The slot of the pair, if it was ever seen.
    #[inline(always)]
    #[must_use]
    pub fn find(self, entity: EntityId, signal: SignalId) -> Option<&'t S> {
        let mut place = self.first;
        for _ in 0..self.segment.len() {
            let slot = self.segment.get(place)?;
            if slot.is(entity, signal) {
                return Some(slot);
            }
            if slot.is_free() {
                return None;
            }
            place = (place + 1) & (self.segment.len() - 1);
        }
        None
    }
}

/// Where a search ended.
enum Found {
    Here(usize),
    Free(usize),
    Nowhere,
}

impl<S: Slot> Default for Table<S> {
    fn default() -> Self {
        let mut slots = Blocks::default();
        slots.extend(1, S::FREE);
        let segments = vec![Segment { taken: 0, depth: 0 }];
        Self { slots, slot_bits: 0, directory: [0].into(), segments, taken: 0, moving: Vec::new() }
    }
}

impl<S: Slot> Table<S> {
    /// The slot of a pair, if it was ever seen.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: EntityHash, entity: EntityId, signal: SignalId) -> Option<&S> {
        self.probe(hash, signal).find(entity, signal)
    }

    /// The way to a pair.
    #[inline(always)]
    #[must_use]
    pub fn probe(&self, hash: EntityHash, signal: SignalId) -> Probe<'_, S> {
        let (start, slots) = (self.start(hash, signal), 1 << self.slot_bits);
        let segment = self.slots.run(start & !(slots - 1), slots);
        Probe { segment, first: start & (slots - 1) }
    }

    /// The same, to change.
    pub fn find_mut(
        &mut self,
        hash: EntityHash,
        entity: EntityId,
        signal: SignalId,
    ) -> Option<&mut S> {
        match self.search(self.start(hash, signal), entity, signal) {
            Found::Here(slot) => self.slots.get_mut(slot),
            Found::Free(_) | Found::Nowhere => None,
        }
    }

    /// Where the slot of an event's pair is; a new one if the pair was never seen. `rehash` gives
    /// the hash of an entity again when the table has to grow.
    ///
    /// # Panics
    ///
    /// If there are more pairs than the largest directory can spread.
    pub fn entry(&mut self, event: &RoutedEvent, rehash: impl Fn(EntityId) -> EntityHash) -> usize {
        loop {
            let start = self.start(event.hash, event.signal);
            let segment = start >> self.slot_bits;
            match self.search(start, event.entity, event.signal) {
                Found::Here(slot) => return slot,
                Found::Free(slot) if self.has_room(segment) => {
                    self.put(slot, S::of(event));
                    self.taken += 1;
                    return slot;
                }
                Found::Free(_) | Found::Nowhere => self.make_room(segment, event.hash, &rehash),
            }
        }
    }

    /// Makes an empty table as large as it will be with so many pairs: none of them moves then.
    pub fn reserve(&mut self, pairs: usize) {
        let segments = pairs.div_ceil(PAIRS_RESERVED).next_power_of_two();
        let depth = segments.ilog2();
        if self.taken > 0 || segments == 1 || depth > DIRECTORY_BITS_MAX {
            return;
        }
        self.slots.extend(SEGMENT_SLOTS - self.slots.len(), S::FREE);
        (1..segments).for_each(|_| self.slots.extend(SEGMENT_SLOTS, S::FREE));
        self.slot_bits = SEGMENT_BITS;
        self.segments = vec![Segment { taken: 0, depth }; segments];
        self.directory = (0..).take(segments).collect();
    }

    /// Where the search for a pair begins.
    #[inline(always)]
    #[must_use]
    pub fn start(&self, hash: EntityHash, signal: SignalId) -> usize {
        let segment = self.directory[hash.0 as usize & (self.directory.len() - 1)];
        (segment as usize).wrapping_shl(self.slot_bits) | hash.slot(signal, self.slot_bits)
    }

    /// Asks for the cache line at `slot`.
    #[inline(always)]
    pub fn fetch(&self, slot: usize) {
        if let Some(slot) = self.slots.get(slot) {
            prefetch(slot);
        }
    }

    /// The slot of a pair for which the search begins at `start`, if it is there.
    #[inline(always)]
    #[must_use]
    pub fn seek(&self, start: usize, entity: EntityId, signal: SignalId) -> Option<(usize, &S)> {
        let first = self.slots.get(start)?;
        if first.is(entity, signal) {
            return Some((start, first));
        }
        match self.search(start, entity, signal) {
            Found::Here(slot) => Some((slot, self.slots.get(slot)?)),
            Found::Free(_) | Found::Nowhere => None,
        }
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

    /// All slots, taken and free.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The first slot of the segment that `slot` is in, and a number that changes whenever pairs
    /// leave their slots there.
    pub(super) fn segment_of(&self, slot: usize) -> (usize, u32) {
        let segment = slot >> self.slot_bits;
        (segment << self.slot_bits, self.slot_bits + self.segments[segment].depth)
    }

    /// Every slot that is taken, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().filter(|slot| !slot.is_free())
    }

    /// Pairs held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether no pair was ever seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Bytes allocated.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes()
            + size_of_val(&*self.directory)
            + self.segments.capacity() * size_of::<Segment>()
            + self.moving.capacity() * size_of::<S>()
    }

    #[inline]
    fn search(&self, start: usize, entity: EntityId, signal: SignalId) -> Found {
        let slots = 1 << self.slot_bits;
        let (mut place, first) = (start & (slots - 1), start & !(slots - 1));
        let segment = self.slots.run(first, slots);
        for _ in 0..slots {
            let slot = &segment[place];
            if slot.is(entity, signal) {
                return Found::Here(first + place);
            }
            if slot.is_free() {
                return Found::Free(first + place);
            }
            place = (place + 1) & (slots - 1);
        }
        Found::Nowhere
    }

    fn has_room(&self, segment: usize) -> bool {
        let slots = 1 << self.slot_bits;
        let most = match self.slot_bits {
            0..=2 => slots,
            // Few enough to search long in: they stay in the nearest caches.
            3..=SMALL_TABLE_BITS => slots / 8 * 7,
            _ => slots / 4 * 3,
        };
        self.segments[segment].taken < most
    }

    fn put(&mut self, slot: usize, pair: S) {
        self.segments[slot >> self.slot_bits].taken += 1;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = pair;
        }
    }

    /// Makes a segment, that of `hash`, half as full: the only one of a small table twice as
    /// large, any other two of it.
    #[cold]
    fn make_room(
        &mut self,
        segment: usize,
        hash: EntityHash,
        rehash: impl Fn(EntityId) -> EntityHash,
    ) {
        let mut moving = std::mem::take(&mut self.moving);
        let slots = self.slots.run_mut(segment << self.slot_bits, 1 << self.slot_bits);
        moving.extend(slots.iter().filter(|slot| !slot.is_free()));
        slots.fill(S::FREE);
        self.segments[segment].taken = 0;
        if self.slot_bits < SEGMENT_BITS {
            self.slots.extend(1 << self.slot_bits, S::FREE);
            self.slot_bits += 1;
        } else {
            self.split(segment, hash);
        }
        for pair in moving.drain(..) {
            let (entity, signal) = pair.owner();
            let start = self.start(rehash(entity), signal);
            match self.search(start, entity, signal) {
                Found::Free(slot) => self.put(slot, pair),
                Found::Here(_) | Found::Nowhere => unreachable!("pairs differ, and fitted before"),
            }
        }
        // A small table keeps none of it: its next growth is far.
        self.moving = if self.slot_bits < SEGMENT_BITS { Vec::new() } else { moving };
    }

    /// Gives the upper half of a segment's hashes, in the order of their next bit, to a new one.
    fn split(&mut self, segment: usize, hash: EntityHash) {
        let depth = self.segments[segment].depth;
        assert!(depth < DIRECTORY_BITS_MAX, "a shard holds at most 2^29 pairs");
        if 1 << depth == self.directory.len() {
            self.directory = self.directory.repeat(2).into();
        }
        let new = self.segments.len();
        self.segments[segment].depth += 1;
        self.segments.push(Segment { taken: 0, depth: depth + 1 });
        self.slots.extend(SEGMENT_SLOTS, S::FREE);
        let new = u32::try_from(new).expect("a directory of 2^20 entries names them all");
        let upper_half = hash.0 as usize & ((1 << depth) - 1) | 1 << depth;
        self.directory.iter_mut().skip(upper_half).step_by(2 << depth).for_each(|at| *at = new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::signal::hot::HotSignalState;

    /// Bits of the hashes: so few that many pairs share one.
    fn hash(entity: EntityId, bits: u32) -> EntityHash {
        let id = u32::try_from(entity.0).unwrap();
        EntityHash(id.wrapping_mul(0x9E37_79B9) >> (32 - bits))
    }

    struct Tested {
        table: Table<HotSignalState>,
        bits: u32,
    }

    impl Tested {
        fn new(bits: u32) -> Self {
            Self { table: Table::default(), bits }
        }

        fn enter(&mut self, entity: u64, signal: u8) -> usize {
            let (entity, bits) = (EntityId(entity), self.bits);
            let (time, hash) = (Timestamp(entity.0), hash(entity, bits));
            let event = RoutedEvent { entity, time, weight: 1.0, hash, signal: SignalId(signal) };
            self.table.entry(&event, |entity| self::hash(entity, bits))
        }

        fn time(&self, entity: u64, signal: u8) -> Option<u64> {
            let (entity, signal) = (EntityId(entity), SignalId(signal));
            let state = self.table.find(hash(entity, self.bits), entity, signal);
            state.map(|state| state.last_update().0)
        }
    }

    #[test]
    fn pairs_stay_apart_through_every_growth() {
        for bits in [4, 7, 32] {
            let mut tested = Tested::new(bits);
            let entities = if bits == 4 { 5_000 } else { 30_000 };
            for entity in 0..entities {
                for signal in [0, 1, 63] {
                    let slot = tested.enter(entity, signal);
                    let owner = tested.table.at(slot).unwrap().owner();
                    assert_eq!(owner, (EntityId(entity), SignalId(signal)));
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
            let slot = tested.enter(7, 63);
            assert_eq!(tested.table.len(), pairs, "seen before");
            assert_eq!(tested.table.at(slot).unwrap().owner(), (EntityId(7), SignalId(63)));
        }
    }

    #[test]
    fn the_directory_names_each_segment_where_its_bits_say() {
        let mut tested = Tested::new(32);
        (0..50_000).for_each(|entity| _ = tested.enter(entity, 0));
        let Table { directory, segments, .. } = &tested.table;
        assert!(directory.len() >= segments.len() && segments.len() > 8);
        for (named, segment) in segments.iter().enumerate() {
            let entries: Vec<usize> =
                (0..directory.len()).filter(|&at| directory[at] as usize == named).collect();
            assert_eq!(entries.len(), directory.len() >> segment.depth);
            let low = entries[0] & ((1 << segment.depth) - 1);
            assert!(entries.iter().all(|at| at & ((1 << segment.depth) - 1) == low));
        }
        let taken: u32 = segments.iter().map(|segment| segment.taken).sum();
        assert_eq!(taken, 50_000);
    }

    #[test]
    #[should_panic(expected = "a shard holds at most")]
    fn more_pairs_of_one_hash_than_a_segment_holds_are_too_many() {
        let mut tested = Tested { table: Table::default(), bits: 1 };
        for entity in 0..2 * SEGMENT_SLOTS as u64 {
            let (entity, hash) = (EntityId(entity), EntityHash(5));
            let event = RoutedEvent { entity, hash, ..RoutedEvent::NOTHING };
            tested.table.entry(&event, |_| hash);
        }
    }

    #[test]
    fn a_table_that_was_reserved_is_the_one_it_would_have_become() {
        for entities in [1, 3000, 20_000, 50_000] {
            let (mut grown, mut reserved) = (Tested::new(32), Tested::new(32));
            reserved.table.reserve(usize::try_from(entities).unwrap());
            let slots = reserved.table.slots();
            for entity in 0..entities {
                grown.enter(entity, 0);
                reserved.enter(entity, 0);
            }
            assert_eq!(reserved.table.len(), grown.table.len());
            assert!((0..entities).all(|entity| reserved.time(entity, 0) == Some(entity)));
            if entities > 3000 {
                assert_eq!(reserved.table.slots(), slots, "it never grew");
                assert!(slots <= 2 * grown.table.slots());
            }
        }
    }

    #[test]
    fn an_entity_named_zero_is_not_a_free_slot() {
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
        assert!(tested.table.memory_bytes() <= 64 + 192, "{}", tested.table.memory_bytes());
        (0..200).for_each(|entity| _ = tested.enter(entity, 0));
        assert!(tested.table.memory_bytes() <= 512 * 64 + 192);
    }
}
