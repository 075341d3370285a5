//! What both sides of a row work on: events and candidates of fixed seeds.

use super::tables::KEY;
use crate::synthetic::{Spec, Synthetic};
use ebbtide_shard::{EntityId, PartitionKey, RoutedEvent, SignalId, Timestamp};

/// The one signal type of every comparison but that of the real trace.
pub(crate) const VIEW: SignalId = SignalId(0);
/// When the first events happen: 2024-01-01, as in any synthetic trace.
pub(crate) const START_NS: u64 = 1_704_067_200_000_000_000;
/// Candidates of one read.
pub(crate) const CANDIDATES: usize = 200;

/// An endless stream of events: 10,000 a second in their own time, two in a hundred late by up to
/// an hour. It never repeats itself, so no event is late because an earlier turn has seen its time.
pub(crate) struct Stream {
    events: Synthetic,
    key: PartitionKey,
}

impl Stream {
    /// Events of `entities` entities from `start_ns` on, uniform for a `zipf` of zero.
    pub(crate) fn new((entities, zipf): (u64, f64), start_ns: u64, seed: u64) -> Self {
        let spec = Spec {
            events: u64::MAX,
            entities,
            zipf,
            late: 0.02,
            late_max_ns: 3_600_000_000_000,
            dup: 0.0,
            burst: 0.0,
            signals: 1,
            start_ns,
            step_ns: 100_000,
            ids: false,
            seed,
        };
        Self { events: Synthetic::new(spec), key: PartitionKey::new(KEY) }
    }

    /// The next `count` events, routed.
    pub(crate) fn take(&mut self, count: usize) -> Vec<RoutedEvent> {
        let key = &self.key;
        let routed = self.events.by_ref().take(count).map(|event| {
            let (entity, time) = (EntityId(event.entity), Timestamp(event.time_ns));
            RoutedEvent { entity, time, weight: event.weight, hash: key.hash(entity), signal: VIEW }
        });
        routed.collect()
    }
}

/// Each of `entities` once, at `time_ns`.
pub(crate) fn one_each(entities: u64, time_ns: u64) -> impl Iterator<Item = RoutedEvent> {
    let key = PartitionKey::new(KEY);
    (0..entities).map(EntityId).map(move |entity| {
        let (time, hash) = (Timestamp(time_ns), key.hash(entity));
        RoutedEvent { entity, time, weight: 1.0, hash, signal: VIEW }
    })
}

/// Sets of candidates for reads, each candidate any of the entities.
pub(crate) struct Candidates(Stream);

impl Candidates {
    /// Candidates among `entities`.
    pub(crate) fn of(entities: u64, seed: u64) -> Self {
        Self(Stream::new((entities, 0.0), START_NS, seed))
    }

    /// The next `sets` sets.
    pub(crate) fn take(&mut self, sets: usize) -> Vec<Vec<EntityId>> {
        let set = |_| self.0.take(CANDIDATES).iter().map(|event| event.entity).collect();
        (0..sets).map(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_in_time_and_its_seed_fixes_it() {
        let mut stream = Stream::new((50, 0.0), START_NS, 3);
        let (first, second) = (stream.take(2_000), stream.take(2_000));
        let newest = |events: &[RoutedEvent]| events.iter().map(|event| event.time).max();
        assert!(newest(&first) < newest(&second));
        assert_eq!(Stream::new((50, 0.0), START_NS, 3).take(2_000), first);
        assert_eq!(Candidates::of(50, 1).take(3).len(), 3);
    }
}
