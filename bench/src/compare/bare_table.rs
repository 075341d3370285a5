//! The ledger's table with next to nothing in it: what the way to a state costs, without the
//! signal.
//!
//! Promises: table and memory are the ledger's own, and what is needed is fetched ahead as there;
//! only what is done there is less.

use ebbtide_shard::ledger::table::{Home, Slot, Table};
use ebbtide_shard::{EntityId, RoutedEvent, SignalId};

/// Events whose lines are asked for together.
const GROUP: usize = 16;

/// One cache line with a counter.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Counter {
    entity: EntityId,
    count: u64,
}

/// As many cache lines as the ledger keeps of a pair with few buckets.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub(super) struct TwoLines {
    entity: EntityId,
    first: [u64; 7],
    second: [u64; 8],
}

const _: () = assert!(size_of::<Counter>() == 64 && size_of::<TwoLines>() == 128);

impl Slot for Counter {
    fn of(event: &RoutedEvent) -> Self {
        Self { entity: event.entity, count: 0 }
    }

    #[inline]
    fn is(&self, entity: EntityId, _signal: SignalId) -> bool {
        self.entity == entity
    }
}

impl Slot for TwoLines {
    fn of(event: &RoutedEvent) -> Self {
        Self { entity: event.entity, first: [1; 7], second: [1; 8] }
    }

    #[inline]
    fn is(&self, entity: EntityId, _signal: SignalId) -> bool {
        self.entity == entity
    }
}

/// Slots, found as the ledger finds states.
#[derive(Debug)]
pub(super) struct BareTable<S>(Table<S>);

/// The way to the slot of each event of a group: where its search begins, and its slot, most
/// likely.
type Ways = [(Home, usize); GROUP];

impl<S: Slot> BareTable<S> {
    /// A table that knows the entities of `events`.
    pub(super) fn of(events: impl Iterator<Item = RoutedEvent>) -> Self {
        let mut table = Table::default();
        for event in events {
            table.entry(&event);
        }
        Self(table)
    }

    /// Does something with the slot of each event's entity, if there is one.
    #[inline]
    fn each(&mut self, events: &[RoutedEvent], mut visit: impl FnMut(&mut S)) {
        let Self(table) = self;
        let mut ways: [Ways; 3] = [[(Home::NOWHERE, 0); GROUP]; 3];
        let [mut here, mut asked, mut begun] = ways.each_mut();
        let groups = events.chunks(GROUP);
        for step in 0..groups.len() + 2 {
            let behind = |steps| step.checked_sub(steps).and_then(|at| groups.clone().nth(at));
            (here, asked, begun) = (asked, begun, here);
            for (event, way) in behind(0).unwrap_or_default().iter().zip(&mut *begun) {
                way.0 = table.home(event.hash, event.signal);
            }
            for (_, (home, slot)) in behind(1).unwrap_or_default().iter().zip(&mut *asked) {
                *slot = table.likely(*home);
            }
            for (begun, asked) in begun.iter().zip(&*asked) {
                table.fetch_home(begun.0);
                table.fetch(asked.1);
            }
            for (event, &way) in behind(2).unwrap_or_default().iter().zip(&*here) {
                let found = table.seek((&way.0, way.1), event.entity, event.signal);
                let slot = found.map(|(slot, _)| slot);
                if let Some(slot) = slot.and_then(|slot| table.at_mut(slot)) {
                    visit(slot);
                }
            }
        }
    }
}

impl BareTable<Counter> {
    /// Adds one to the counter of each event's entity.
    pub(super) fn increment(&mut self, events: &[RoutedEvent]) {
        self.each(events, |counter| counter.count += 1);
    }
}

impl BareTable<TwoLines> {
    /// Reads both lines of each event's entity.
    pub(super) fn touch(&mut self, events: &[RoutedEvent]) -> u64 {
        let mut sum = 0;
        self.each(events, |lines| sum += lines.first[0] & lines.second[0]);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::{START_NS, one_each};
    use super::*;

    #[test]
    fn every_entity_is_found_and_counted_on_its_own() {
        let events: Vec<_> = one_each(20_000, START_NS).collect();
        let strangers: Vec<_> = one_each(30_000, START_NS).skip(20_000).collect();
        let mut table = BareTable::<Counter>::of(events.iter().copied());
        table.increment(&events);
        table.increment(&events[..5_000]);
        table.increment(&strangers);
        let counts: Vec<_> = table.0.iter().map(|counter| counter.count).collect();
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (20_000, 25_000));
        assert!(counts[..5_000].iter().all(|&count| count == 2));
        let mut table = BareTable::<TwoLines>::of(events.iter().copied());
        assert_eq!((table.touch(&events), table.touch(&strangers)), (20_000, 0));
    }
}
