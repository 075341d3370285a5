//! Sources through lanes to shards that are stepped by hand: offsets rise, quiet shards are told.

use ebbtide_router::{
    Admission, ManualClock, OfferError, Placement, SourceEvent, SourceOfferError, SourceRouter,
};
use ebbtide_shard::limits::{EVENT_RING_SLOTS, MARK_OFFSETS_MAX};
use ebbtide_shard::{
    EntityId, Event, PartitionKey, Schema, Shard, ShardPort, SignalId, SignalLedger, SourceName,
    Timestamp, Turn,
};
use ebbtide_wal::NoWal;
use std::sync::Arc;
use std::time::Duration;

/// Shards without threads, and a producer of one source.
struct Hand {
    key: PartitionKey,
    placement: Placement,
    ports: Vec<Arc<ShardPort>>,
    shards: Vec<Shard<NoWal>>,
    schema: Arc<Schema>,
}

impl Hand {
    fn with_shards(count: usize) -> Self {
        let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]").expect("valid");
        let (schema, key) = (Arc::new(schema), PartitionKey::new([9; 16]));
        let placement = Placement::over(count).expect("a possible number");
        let ports: Vec<_> = (0..count).map(|shard| Arc::new(ShardPort::new(shard))).collect();
        let shard = |(number, port): (usize, &Arc<ShardPort>)| {
            let partitions = placement.partitions(number);
            let ledger = SignalLedger::new(Arc::clone(&schema), key, partitions);
            Shard::new(Arc::clone(port), ledger, NoWal::new(), usize::MAX)
        };
        let shards = ports.iter().enumerate().map(shard).collect();
        Self { key, placement, ports, shards, schema }
    }

    fn source(&self) -> SourceRouter {
        let clock = Arc::new(ManualClock::at(Timestamp(0)));
        let schema = Arc::clone(&self.schema);
        let admission = Admission::new(schema, clock, Duration::ZERO, Arc::default());
        let name = SourceName::new("trace").expect("it fits");
        SourceRouter::open(&self.ports, self.placement, self.key, admission, name).expect("all run")
    }

    fn settle(&mut self) {
        for shard in &mut self.shards {
            while shard.turn() == Ok(Turn::Busy) {}
        }
    }

    /// What each shard says of the source.
    fn resume_offsets(&self) -> Vec<u64> {
        let resume = |shard: &Shard<NoWal>| {
            let sources = shard.sources();
            sources.slots().map(|slot| sources.resume_offset(slot)).next()
        };
        self.shards.iter().filter_map(resume).collect()
    }

    /// An entity of each shard.
    fn entities(&self) -> Vec<u64> {
        let owner = |entity: u64| self.placement.shard(self.key.hash(EntityId(entity)));
        let of = |shard| (0..9999).find(|&entity| owner(entity) == shard).expect("there is one");
        (0..self.shards.len()).map(of).collect()
    }
}

fn event(offset: u64, entity: u64) -> SourceEvent {
    SourceEvent::new(offset, Event::new(EntityId(entity), SignalId(0), Timestamp(0)))
}

#[test]
fn offsets_that_do_not_rise_are_refused_and_change_nothing() {
    let mut hand = Hand::with_shards(2);
    let mut source = hand.source();
    let refused = |offset, last| Err(SourceOfferError::Offset { offset, last });
    assert_eq!(source.offer(event(0, 1)), refused(0, 0));
    source.offer(event(5, 1)).map(drop).unwrap();
    assert_eq!(source.offer(event(5, 2)), refused(5, 5));
    assert_eq!(source.offer(event(4, 2)), refused(4, 5));
    let (taken, stopped) = source.offer_batch(&[event(6, 1), event(8, 2), event(7, 3)]);
    assert_eq!((taken, stopped), (2, Some(SourceOfferError::Offset { offset: 7, last: 8 })));
    source.offer(event(9, 1)).map(drop).unwrap();
    hand.settle();
    let applied: u64 =
        hand.ports.iter().map(|port| port.counters().snapshot().events_applied).sum();
    assert_eq!(applied, 4);
}

#[test]
fn an_event_that_was_not_taken_may_be_offered_again() {
    let mut hand = Hand::with_shards(1);
    let mut source = hand.source();
    let many: Vec<_> = (1..=EVENT_RING_SLOTS as u64 + 1).map(|n| event(n, n)).collect();
    let (taken, stopped) = source.offer_batch(&many);
    assert_eq!(taken, EVENT_RING_SLOTS);
    let Some(SourceOfferError::NotTaken(OfferError::Full { .. })) = stopped else { panic!() };
    let bad = SourceEvent { event: many[0].event.with_weight(-1.0), ..many[taken] };
    let Err(SourceOfferError::NotTaken(OfferError::Rejected { .. })) = source.offer(bad) else {
        panic!("a negative weight is refused");
    };
    hand.settle();
    source.offer(many[taken]).map(drop).unwrap();
    hand.settle();
    assert_eq!(hand.resume_offsets(), [EVENT_RING_SLOTS as u64 + 1]);
}

#[test]
fn shards_that_get_no_events_are_told_now_and_then_how_far_the_source_has_come() {
    let mut hand = Hand::with_shards(3);
    let [busy, ..] = hand.entities()[..] else { panic!("three shards") };
    let mut source = hand.source();
    hand.settle();
    for offset in 1..MARK_OFFSETS_MAX {
        source.offer(event(offset, busy)).map(drop).unwrap();
    }
    hand.settle();
    assert_eq!(hand.resume_offsets(), [MARK_OFFSETS_MAX - 1, 0, 0]);
    source.offer(event(MARK_OFFSETS_MAX, busy)).map(drop).unwrap();
    hand.settle();
    assert_eq!(hand.resume_offsets(), [MARK_OFFSETS_MAX; 3]);
    source.offer(event(MARK_OFFSETS_MAX + 1, busy)).map(drop).unwrap();
    assert_eq!(source.mark(), Ok(()));
    hand.settle();
    assert_eq!(hand.resume_offsets(), [MARK_OFFSETS_MAX + 1; 3]);
    let slots: u64 = source
        .lanes()
        .last_tickets()
        .map(|ticket| source.lanes().reached(ticket, ebbtide_shard::lane::Level::Applied).2)
        .sum();
    assert_eq!(slots, MARK_OFFSETS_MAX + 1 + 4, "nobody is told twice");
}

#[test]
fn a_shard_whose_ring_is_full_is_told_later() {
    let mut hand = Hand::with_shards(2);
    let [first, second] = hand.entities()[..] else { panic!("two shards") };
    let mut source = hand.source();
    let slots = EVENT_RING_SLOTS as u64;
    for offset in 1..=slots {
        source.offer(event(offset, first)).map(drop).unwrap();
    }
    source.offer(event(slots + 1, second)).map(drop).unwrap();
    assert_eq!(source.mark(), Err(0));
    hand.settle();
    assert_eq!(source.mark(), Ok(()));
    hand.settle();
    assert_eq!(hand.resume_offsets(), [slots + 1; 2]);
}
