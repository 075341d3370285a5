//! Recovery of one shard: the records of the checkpoint, then the events that the log gives again.
//!
//! Promises: the same bits as before the crash. An event that its pair's record includes already is
//! passed over, so it does not matter how far behind the log the checkpoint is, nor that its
//! records were taken at different times. Of several records of a pair the latest counts.
//! Invariants: records first, then events in the order of their sequence numbers.
//! Not here: where records and events come from, and whether they are whole (the engine's store).
//! Source: per-record sequence numbers as in ARIES (Mohan et al., 1992).

use crate::checkpoint::{LoadError, RecordFault, Rounds, RoutedPairs};
use crate::dedup::RecentIds;
use crate::ledger::SignalLedger;
use crate::schema::numbers::SignalNumbers;
use crate::shard::dedup_key;
use crate::{
    EntityHash, EntityId, EventId, Materializer as _, PartitionKey, RestoredPair, RoutedEvent,
    Schema, SignalId,
};
use ebbtide_wal::Lsn;
use std::collections::HashMap;
use std::iter::repeat;
use std::ops::Range;
use std::sync::Arc;

/// Pairs whose memory is asked for in a row.
const GROUP: usize = 16;

/// An event as the log gives it again.
#[derive(Clone, Copy, Debug)]
pub struct ReplayedEvent {
    /// Its number in the log.
    pub lsn: Lsn,
    /// The event.
    pub event: RoutedEvent,
    /// Its id, if it was recorded with one.
    pub id: Option<EventId>,
}

/// Events as the logs give them again, in their order, apart from what goes with them: so they are
/// applied where they lie.
#[derive(Debug, Default)]
pub struct ReplayedEvents {
    events: Vec<RoutedEvent>,
    lsns: Vec<Lsn>,
    /// Up to the last event that was recorded with one.
    ids: Vec<Option<EventId>>,
}

impl ReplayedEvents {
    /// None, with room for so many; that for ids comes with the first.
    #[must_use]
    pub fn with_capacity(events: usize) -> Self {
        let (events, lsns) = (Vec::with_capacity(events), Vec::with_capacity(events));
        Self { events, lsns, ids: Vec::new() }
    }

    /// Adds the next event.
    #[inline]
    pub fn push(&mut self, replayed: ReplayedEvent) {
        if replayed.id.is_some() {
            self.ids.reserve(self.events.capacity() - self.ids.len());
            self.ids.resize(self.events.len(), None);
            self.ids.push(replayed.id);
        }
        self.events.push(replayed.event);
        self.lsns.push(replayed.lsn);
    }

    /// How many there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Lets go of all, and keeps the room.
    pub fn clear(&mut self) {
        self.events.clear();
        self.lsns.clear();
        self.ids.clear();
    }

    /// Each event with its number in the log and its id.
    fn iter(&self) -> impl Iterator<Item = (&RoutedEvent, Lsn, Option<EventId>)> {
        let ids = self.ids.iter().copied().chain(repeat(None));
        let numbered = self.events.iter().zip(&self.lsns).zip(ids);
        numbered.map(|((event, &lsn), id)| (event, lsn, id))
    }
}

/// How much a shard took in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveredCounts {
    /// Events applied again.
    pub events_replayed: u64,
    /// Events passed over, since their pair's record includes them.
    pub events_included: u64,
}

/// A shard that is being rebuilt.
#[derive(Debug)]
pub struct Recovering {
    ledger: SignalLedger,
    numbers: SignalNumbers,
    ids: RecentIds,
    /// Up to where a pair's record goes, for those that are ahead of what the log begins with.
    ahead: HashMap<(EntityId, SignalId), Lsn, foldhash::fast::RandomState>,
    batch: Vec<RoutedEvent>,
    counts: RecoveredCounts,
    last_included: Lsn,
}

impl Recovering {
    /// An empty shard over a range of partitions.
    #[must_use]
    pub fn new(
        schema: Arc<Schema>,
        numbers: SignalNumbers,
        key: PartitionKey,
        partitions: Range<usize>,
    ) -> Self {
        Self {
            ledger: SignalLedger::new(schema, key, partitions),
            numbers,
            ids: RecentIds::default(),
            ahead: HashMap::default(),
            batch: Vec::new(),
            counts: RecoveredCounts::default(),
            last_included: Lsn::NONE,
        }
    }

    /// Takes in a pair of the checkpoint; `is_ahead` says whether the log may give events again
    /// that its record includes.
    ///
    /// # Errors
    ///
    /// [`RecordFault`] if the record does not fit the schema.
    pub fn restore(&mut self, pair: &RestoredPair, is_ahead: bool) -> Result<(), RecordFault> {
        if self.ledger.restore(pair)? && is_ahead {
            self.ahead.insert((pair.entity, pair.signal), Lsn::new(pair.record.lsn));
        }
        Ok(())
    }

    /// Takes in pairs as [`Recovering::restore`] does; asks for the memory of those ahead.
    ///
    /// # Errors
    ///
    /// [`LoadError`] that names the first that does not fit the schema.
    pub fn restore_all(
        &mut self,
        pairs: &RoutedPairs,
        is_ahead: impl Fn(EntityHash, Lsn) -> bool,
    ) -> Result<(), LoadError> {
        let (list, ways) = (pairs.list(), pairs.ways());
        for (at, ((pair, counts), &(hash, round))) in list.iter().zip(ways).enumerate() {
            if at.is_multiple_of(GROUP) {
                let group = list.pairs.iter().zip(ways).skip(at + GROUP).take(GROUP);
                for (ahead, &(hash, _)) in group {
                    self.ledger.fetch(hash, self.numbers.signal(ahead.number));
                }
            }
            let (entity, number) = (EntityId(pair.entity), pair.number);
            let bad = |fault| LoadError::Pair { entity, number, fault };
            let signal = self.numbers.signal(number).ok_or(RecordFault::Signal { number });
            let signal = signal.map_err(bad)?;
            let lsn = Lsn::new(pair.lsn);
            self.last_included = self.last_included.max(lsn);
            let restored = self.ledger.restore_listed((hash, signal), (pair, counts), Some(round));
            if restored.map_err(bad)? && is_ahead(hash, lsn) {
                self.ahead.insert((entity, signal), lsn);
            }
        }
        Ok(())
    }

    /// In which rounds the pairs that were taken in were last saved.
    #[must_use]
    pub const fn rounds(&self) -> &Rounds {
        self.ledger.rounds()
    }

    /// The last record of a log that any pair of the checkpoint includes.
    #[must_use]
    pub const fn last_included(&self) -> Lsn {
        self.last_included
    }

    /// Takes in a remembered id of the checkpoint.
    pub fn remember(&mut self, hash: EntityHash, key: u128) {
        self.ids.adopt(key, hash);
    }

    /// Takes in events of the log, in their order.
    pub fn replay(&mut self, replayed: &ReplayedEvents) {
        // Nothing is to be remembered or passed over.
        if !self.ledger.schema().has_dedup() && self.ahead.is_empty() {
            self.counts.events_replayed += replayed.len() as u64;
            self.ledger.apply_batch(&replayed.events);
            return;
        }
        self.batch.clear();
        for (event, lsn, id) in replayed.iter() {
            self.remember_event(event, id);
            if self.includes(event, lsn) {
                self.counts.events_included += 1;
            } else {
                self.batch.push(*event);
            }
        }
        self.counts.events_replayed += self.batch.len() as u64;
        self.ledger.apply_batch(&self.batch);
    }

    /// The rebuilt state.
    #[must_use]
    pub fn finish(self) -> (SignalLedger, RecentIds, RecoveredCounts) {
        (self.ledger, self.ids, self.counts)
    }

    fn includes(&self, &RoutedEvent { entity, signal, .. }: &RoutedEvent, lsn: Lsn) -> bool {
        !self.ahead.is_empty()
            && self.ahead.get(&(entity, signal)).is_some_and(|&included| lsn <= included)
    }

    fn remember_event(&mut self, event: &RoutedEvent, id: Option<EventId>) {
        let &RoutedEvent { signal, hash, .. } = event;
        let by = self.ledger.schema().def(signal).dedup();
        let carried = (self.numbers.number(signal), id);
        if let Some(key) = dedup_key(by, self.ledger.key(), event, carried) {
            // Whether it is news was decided when it was recorded.
            let _decided = self.ids.is_new(key, hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{ListedPair, Round};
    use crate::{PartitionKey, Timestamp};

    const NOW_NS: u64 = 1_700_000_000_000_000_000;

    fn recovering() -> Recovering {
        let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]");
        let schema = Arc::new(schema.unwrap());
        let (numbers, _) = SignalNumbers::assign(&["view".into()], &schema).unwrap();
        Recovering::new(schema, numbers, PartitionKey::new([3; 16]), 0..4096)
    }

    /// Pairs of as many entities, with two counts each.
    fn pairs(count: u64) -> RoutedPairs {
        let mut pairs = RoutedPairs::default();
        for entity in 0..count {
            let pair = ListedPair {
                entity,
                lsn: 5 + entity,
                last_update: NOW_NS + entity,
                sums: [1.0, 0.0, 0.0],
                all_time: 9 + entity,
                number: 0,
                half_lives: 1,
                saturated: false,
                counts: 0,
            };
            let hash = PartitionKey::new([3; 16]).hash(EntityId(entity));
            pairs.push((hash, Round::FIRST), (&pair, &[(0, 1), (60, 1)]));
        }
        pairs
    }

    #[test]
    fn a_list_of_any_length_is_restored_whole() {
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 100] {
            let mut recovering = recovering();
            recovering.restore_all(&pairs(count), |_, lsn| lsn.get() > 50).unwrap();
            assert_eq!(recovering.rounds().pairs(), count);
            assert_eq!(recovering.last_included().get(), if count > 0 { 4 + count } else { 0 });
            assert_eq!(recovering.ahead.len() as u64, count.saturating_sub(46));
            let (ledger, ..) = recovering.finish();
            for entity in (0..count).map(EntityId) {
                let now = Timestamp(NOW_NS + entity.0);
                let found = ledger.read(ledger.key().hash(entity), entity, SignalId(0), now);
                assert_eq!(found.unwrap().all_time, 9 + entity.0);
            }
        }
    }

    #[test]
    fn events_are_applied_alike_whether_any_pair_is_ahead_or_not() {
        let mut replayed = ReplayedEvents::default();
        for number in 1..=100 {
            let (entity, lsn) = (EntityId(number % 10), Lsn::new(5 + number));
            let (time, hash) =
                (Timestamp(NOW_NS + number), PartitionKey::new([3; 16]).hash(entity));
            let event = RoutedEvent { entity, time, weight: 1.5, hash, signal: SignalId(0) };
            replayed.push(ReplayedEvent { lsn, event, id: None });
        }
        // Records of pairs 0 to 9, which include up to record 5 to 14; of these are ahead:
        let rebuilt = [u64::MAX, 10, 0].map(|from| {
            let mut recovering = recovering();
            recovering.restore_all(&pairs(10), |_, lsn| lsn.get() > from).unwrap();
            recovering.replay(&replayed);
            recovering.finish()
        });
        let [none, some, all] = rebuilt.each_ref().map(|(ledger, _, counts)| {
            let read = |entity: u64| {
                let (entity, now) = (EntityId(entity), Timestamp(NOW_NS + 200));
                ledger.read(ledger.key().hash(entity), entity, SignalId(0), now).unwrap()
            };
            ((0..10).map(read).collect::<Vec<_>>(), *counts)
        });
        let counts = |replayed, included| RecoveredCounts {
            events_replayed: replayed,
            events_included: included,
        };
        // Entities 1 to 9 have records up to 6 to 14, and their first event is record 6 to 14.
        assert_eq!([none.1, some.1, all.1], [counts(100, 0), counts(96, 4), counts(91, 9)]);
        for entity in 0..10 {
            let all_time = |of: &[crate::SignalReading]| of[entity].all_time - 9 - entity as u64;
            assert_eq!(all_time(&none.0), 10);
            assert_eq!(all_time(&some.0), if entity > 5 { 9 } else { 10 });
            assert_eq!(all_time(&all.0), if entity > 0 { 9 } else { 10 });
            assert_eq!(none.0[entity] == some.0[entity], entity <= 5);
        }
    }

    #[test]
    fn events_keep_their_own_ids_and_numbers() {
        let ids = [None, Some(EventId(7)), None, None, Some(EventId(u128::MAX)), None];
        let (mut replayed, mut lsn) = (ReplayedEvents::with_capacity(2), Lsn::NONE);
        for _ in 0..2 {
            for id in ids {
                lsn = lsn.next();
                let event = RoutedEvent { entity: EntityId(lsn.get()), ..RoutedEvent::NOTHING };
                replayed.push(ReplayedEvent { lsn, event, id });
            }
        }
        assert_eq!((replayed.len(), replayed.is_empty()), (12, false));
        for (at, (event, lsn, id)) in replayed.iter().enumerate() {
            assert_eq!((event.entity.0, lsn.get()), (1 + at as u64, 1 + at as u64));
            assert_eq!(id, ids[at % 6]);
        }
        replayed.clear();
        assert!(replayed.is_empty() && replayed.iter().next().is_none());
    }

    #[test]
    fn a_pair_of_an_unknown_signal_type_is_named() {
        let (mut recovering, mut pairs) = (recovering(), pairs(20));
        let pair = ListedPair { entity: 77, number: 1, ..pairs.list().pairs[0] };
        pairs.push((EntityHash(0), Round::FIRST), (&pair, &[]));
        let error = recovering.restore_all(&pairs, |_, _| false).unwrap_err();
        let fault = RecordFault::Signal { number: 1 };
        assert_eq!(error, LoadError::Pair { entity: EntityId(77), number: 1, fault });
        assert_eq!(recovering.rounds().pairs(), 20);
    }
}
