//! The ledger's table with nothing in it: what the way to a state costs, without the signal.
//!
//! Promises: partitions, slots of one cache line, order of search, growth and what is fetched ahead
//! are those of the ledger's table, and so are the lines of counts beside it; only what is done
//! there is less.

use ebbtide_shard::RoutedEvent;
use ebbtide_shard::limits::{PARTITION_BITS, PARTITIONS};
use ebbtide_shard::prefetch::prefetch;

/// Blocks of counts allocated together.
const CHUNK_BLOCKS: usize = 4096;
/// Events whose lines are asked for together.
const GROUP: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Slot {
    entity: u64,
    count: u64,
    block: u32,
    taken: bool,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Block([u64; 8]);

const _: () = assert!(size_of::<Slot>() == 64 && size_of::<Block>() == 64);

/// Counters, found as the ledger finds states.
#[derive(Debug)]
pub(super) struct BareTable {
    partitions: Box<[Partition]>,
    chunks: Vec<Box<[Block]>>,
    blocks: u32,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    slots: Box<[Slot]>,
    taken: usize,
}

impl BareTable {
    /// A table that knows the entities of `events`.
    pub(super) fn of(events: impl Iterator<Item = RoutedEvent>) -> Self {
        let partitions = vec![Partition::default(); PARTITIONS].into();
        let mut table = Self { partitions, chunks: Vec::new(), blocks: 0 };
        events.for_each(|event| table.insert(&event));
        table
    }

    fn insert(&mut self, event: &RoutedEvent) {
        if self.blocks as usize == self.chunks.len() * CHUNK_BLOCKS {
            self.chunks.push(vec![Block([1; 8]); CHUNK_BLOCKS].into());
        }
        let slot = Slot { entity: event.entity.0, count: 0, block: self.blocks, taken: true };
        self.partitions[event.hash.partition()].insert(start_of(event), slot);
        self.blocks += 1;
    }

    /// Adds one to the counter of each event's entity.
    pub(super) fn increment(&mut self, events: &[RoutedEvent]) {
        let mut ahead = events.chunks(GROUP);
        self.fetch_slots(ahead.next());
        for group in events.chunks(GROUP) {
            self.fetch_slots(ahead.next());
            for event in group {
                let partition = &mut self.partitions[event.hash.partition()];
                if let Some(slot) = partition.find(event) {
                    partition.slots[slot].count += 1;
                }
            }
        }
    }

    /// Reads the line of each event's entity and the line of its counts, and changes nothing.
    pub(super) fn touch(&self, events: &[RoutedEvent]) -> u64 {
        let mut first_ahead = events.chunks(GROUP);
        let mut second_ahead = events.chunks(GROUP);
        self.fetch_slots(first_ahead.next());
        self.fetch_slots(first_ahead.next());
        self.fetch_blocks(second_ahead.next());
        let mut sum = 0;
        for group in events.chunks(GROUP) {
            self.fetch_slots(first_ahead.next());
            self.fetch_blocks(second_ahead.next());
            sum += group.iter().filter_map(|event| self.block(event)).map(|b| b.0[0]).sum::<u64>();
        }
        sum
    }

    fn fetch_slots(&self, group: Option<&[RoutedEvent]>) {
        for event in group.unwrap_or_default() {
            let slots = &self.partitions[event.hash.partition()].slots;
            slots.get(place(start_of(event), slots.len())).into_iter().for_each(prefetch);
        }
    }

    fn fetch_blocks(&self, group: Option<&[RoutedEvent]>) {
        group.unwrap_or_default().iter().filter_map(|event| self.block(event)).for_each(prefetch);
    }

    #[inline]
    fn block(&self, event: &RoutedEvent) -> Option<&Block> {
        let partition = &self.partitions[event.hash.partition()];
        let block = partition.slots[partition.find(event)?].block as usize;
        Some(&self.chunks[block / CHUNK_BLOCKS][block % CHUNK_BLOCKS])
    }
}

impl Partition {
    #[inline]
    fn find(&self, event: &RoutedEvent) -> Option<usize> {
        let start = place(start_of(event), self.slots.len());
        let mut order = (start..self.slots.len()).chain(0..start);
        order.find(|&slot| self.slots[slot].taken && self.slots[slot].entity == event.entity.0)
    }

    fn insert(&mut self, start: u32, slot: Slot) {
        if self.taken + 1 > self.slots.len() / 4 * 3 {
            self.grow();
        }
        self.put(start, slot);
        self.taken += 1;
    }

    fn put(&mut self, spread: u32, slot: Slot) {
        let start = place(spread, self.slots.len());
        let free = (start..self.slots.len()).chain(0..start).find(|&at| !self.slots[at].taken);
        if let Some(free) = free {
            // The count keeps the spread while the table is built, to place the slot again.
            self.slots[free] = Slot { count: u64::from(spread), ..slot };
        }
    }

    fn grow(&mut self) {
        const FREE: Slot = Slot { entity: 0, count: 0, block: 0, taken: false };
        let slots = (self.slots.len() * 3 / 2).next_multiple_of(4).max(4);
        let old = std::mem::replace(&mut self.slots, vec![FREE; slots].into());
        for slot in old.into_iter().filter(|slot| slot.taken) {
            let spread = u32::try_from(slot.count).unwrap_or_default();
            self.put(spread, slot);
        }
    }
}

/// Where the search for an event's entity begins, in parts of 2^32 of a table.
#[inline]
fn start_of(event: &RoutedEvent) -> u32 {
    let within_partition = u64::from(event.hash.0 << PARTITION_BITS);
    u32::try_from(within_partition.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or_default()
}

#[inline]
fn place(start: u32, slots: usize) -> usize {
    usize::try_from((u64::from(start) * slots as u64) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::workload::{START_NS, one_each};
    use super::*;

    #[test]
    fn every_entity_is_found_and_counted_on_its_own() {
        let events: Vec<_> = one_each(20_000, START_NS).collect();
        let mut table = BareTable::of(events.iter().copied());
        let before = table.counts();
        table.increment(&events);
        table.increment(&events[..5_000]);
        assert_eq!(table.counts() - before, 25_000);
        assert_eq!(table.touch(&events), 20_000);
        let strangers: Vec<_> = one_each(30_000, START_NS).skip(20_000).collect();
        table.increment(&strangers);
        assert_eq!((table.counts() - before, table.touch(&strangers)), (25_000, 0));
    }

    impl BareTable {
        fn counts(&self) -> u64 {
            self.partitions.iter().flat_map(|part| &part.slots).map(|slot| slot.count).sum()
        }
    }
}
