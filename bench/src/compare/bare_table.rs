//! The ledger's table with nothing in it: what the way to a state costs, without the signal.
//!
//! Promises: table and memory are the ledger's own, and so is what is fetched ahead; only what is
//! done there is less.

use ebbtide_shard::blocks::Blocks;
use ebbtide_shard::ledger::table::{Home, Slot, Table};
use ebbtide_shard::{EntityId, RoutedEvent, SignalId};

/// Events whose lines are asked for together.
const GROUP: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Counter {
    entity: EntityId,
    count: u64,
    block: u32,
}

/// A cache line of counts beside the one of the counter.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Block([u64; 8]);

const _: () = assert!(size_of::<Counter>() == 64 && size_of::<Block>() == 64);

impl Slot for Counter {
    fn of(event: &RoutedEvent) -> Self {
        Self { entity: event.entity, count: 0, block: 0 }
    }

    #[inline]
    fn is(&self, entity: EntityId, _signal: SignalId) -> bool {
        self.entity == entity
    }
}

/// Counters, found as the ledger finds states.
#[derive(Debug, Default)]
pub(super) struct BareTable {
    counters: Table<Counter>,
    blocks: Blocks<Block>,
}

/// The way to the counter of each event of a group: where its search begins, and its slot, most
/// likely or for certain.
type Ways = [(Home, usize); GROUP];

const NO_WAYS: Ways = [(Home::NOWHERE, 0); GROUP];

impl BareTable {
    /// A table that knows the entities of `events`.
    pub(super) fn of(events: impl Iterator<Item = RoutedEvent>) -> Self {
        let mut table = Self::default();
        for event in events {
            let block = u32::try_from(table.blocks.len()).unwrap_or(u32::MAX);
            let slot = table.counters.entry(&event);
            if let Some(counter) = table.counters.at_mut(slot) {
                counter.block = block;
            }
            table.blocks.extend(1, Block([1; 8]));
        }
        table
    }

    /// Adds one to the counter of each event's entity.
    pub(super) fn increment(&mut self, events: &[RoutedEvent]) {
        let mut ways = [NO_WAYS; 3];
        let [mut here, mut asked, mut begun] = ways.each_mut();
        let groups = events.chunks(GROUP);
        for step in 0..groups.len() + 2 {
            let behind = |steps| step.checked_sub(steps).and_then(|at| groups.clone().nth(at));
            (here, asked, begun) = (asked, begun, here);
            self.begin(behind(0), begun);
            self.ask(behind(1), asked);
            for (begun, asked) in begun.iter().zip(&*asked) {
                self.counters.fetch_home(begun.0);
                self.counters.fetch(asked.1);
            }
            for (event, &way) in behind(2).unwrap_or_default().iter().zip(&*here) {
                let found = self.counters.seek((&way.0, way.1), event.entity, event.signal);
                let slot = found.map(|(slot, _)| slot);
                if let Some(counter) = slot.and_then(|slot| self.counters.at_mut(slot)) {
                    counter.count += 1;
                }
            }
        }
    }

    /// Reads the line of each event's entity and the line of its counts, and changes nothing.
    pub(super) fn touch(&self, events: &[RoutedEvent]) -> u64 {
        let mut ways = [NO_WAYS; 4];
        let [mut here, mut found, mut asked, mut begun] = ways.each_mut();
        let mut blocks = [0; GROUP];
        let groups = events.chunks(GROUP);
        let mut sum = 0;
        for step in 0..groups.len() + 3 {
            let behind = |steps| step.checked_sub(steps).and_then(|at| groups.clone().nth(at));
            (here, found, asked, begun) = (found, asked, begun, here);
            self.begin(behind(0), begun);
            self.ask(behind(1), asked);
            self.seek(behind(2), found, &mut blocks);
            for ((begun, asked), &block) in begun.iter().zip(&*asked).zip(&blocks) {
                self.counters.fetch_home(begun.0);
                self.counters.fetch(asked.1);
                self.blocks.fetch(block);
            }
            let group = behind(3).unwrap_or_default();
            let blocks =
                group.iter().zip(&*here).filter_map(|(event, way)| self.block(way.1, event));
            sum += blocks.map(|block| block.0[0]).sum::<u64>();
        }
        sum
    }

    fn begin(&self, group: Option<&[RoutedEvent]>, ways: &mut Ways) {
        for (event, way) in group.unwrap_or_default().iter().zip(ways) {
            way.0 = self.counters.home(event.hash, event.signal);
        }
    }

    fn ask(&self, group: Option<&[RoutedEvent]>, ways: &mut Ways) {
        for (_, (home, slot)) in group.unwrap_or_default().iter().zip(ways) {
            *slot = self.counters.likely(*home);
        }
    }

    fn seek(&self, group: Option<&[RoutedEvent]>, ways: &mut Ways, blocks: &mut [usize; GROUP]) {
        for ((event, way), block) in group.unwrap_or_default().iter().zip(ways).zip(blocks) {
            let found = self.counters.seek((&way.0, way.1), event.entity, event.signal);
            *block = 0;
            if let Some((slot, counter)) = found {
                (way.1, *block) = (slot, counter.block as usize);
            }
        }
    }

    #[inline]
    fn block(&self, slot: usize, event: &RoutedEvent) -> Option<&Block> {
        let counter = self.counters.at(slot)?;
        counter.is(event.entity, event.signal).then(|| self.blocks.get(counter.block as usize))?
    }
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
            self.counters.iter().map(|counter| counter.count).sum()
        }
    }
}
