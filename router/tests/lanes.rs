//! Events and requests through lanes to shards that are stepped by hand: no thread, no chance.

use ebbtide_router::{
    Admission, EventRouter, ManualClock, OfferError, Placement, Rejection, RequestRouter,
};
use ebbtide_shard::lane::Level;
use ebbtide_shard::limits::EVENT_RING_SLOTS;
use ebbtide_shard::{
    EntityId, Event, PartitionKey, Plan, Schema, Shard, ShardDown, ShardPort, SignalId,
    SignalLedger, Timestamp, Turn,
};
use ebbtide_wal::NoWal;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const NOW: Timestamp = Timestamp(0);
const SIGNAL: SignalId = SignalId(0);

/// Shards without threads.
struct Hand {
    schema: Arc<Schema>,
    key: PartitionKey,
    placement: Placement,
    ports: Vec<Arc<ShardPort>>,
    shards: Vec<Shard<NoWal>>,
}

impl Hand {
    fn with_shards(count: usize) -> Self {
        let text = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]";
        let schema = Arc::new(Schema::from_toml(text).expect("it obeys the rules"));
        let key = PartitionKey::new([9; 16]);
        let placement = Placement::over(count).expect("a possible number");
        let ports: Vec<_> = (0..count).map(|shard| Arc::new(ShardPort::new(shard))).collect();
        let shard = |(number, port): (usize, &Arc<ShardPort>)| {
            let partitions = placement.partitions(number);
            let ledger = SignalLedger::new(Arc::clone(&schema), key, partitions);
            Shard::new(Arc::clone(port), ledger, NoWal::new(), usize::MAX)
        };
        let shards = ports.iter().enumerate().map(shard).collect();
        Self { schema, key, placement, ports, shards }
    }

    fn events(&self) -> EventRouter {
        let clock = Arc::new(ManualClock::at(NOW));
        let schema = Arc::clone(&self.schema);
        let admission = Admission::new(schema, clock, Duration::ZERO, Arc::default());
        EventRouter::open(&self.ports, self.placement, self.key, admission).expect("all run")
    }

    fn requests(&self) -> RequestRouter {
        RequestRouter::open(&self.ports, self.placement, self.key).expect("all run")
    }

    fn settle(&mut self) {
        for shard in &mut self.shards {
            while shard.turn() == Ok(Turn::Busy) {}
        }
    }

    /// Steps the shards until `future` is done.
    fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.settle();
        }
    }
}

fn event(entity: u64) -> Event {
    Event::new(EntityId(entity), SIGNAL, NOW)
}

#[test]
fn a_batch_stops_at_the_first_event_that_is_not_taken() {
    let mut hand = Hand::with_shards(2);
    let mut events = hand.events();
    let bad = event(3).with_weight(f64::NAN);
    let (taken, stopped) = events.offer_batch(&[event(1), event(2), bad, event(4)]);
    assert_eq!(taken, 2);
    let Some(OfferError::Rejected { reason: Rejection::Weight(_), .. }) = stopped else {
        panic!("{stopped:?}");
    };
    hand.settle();
    let pairs: u64 = hand.ports.iter().map(|port| port.counters().snapshot().pairs).sum();
    assert_eq!(pairs, 2);
}

#[test]
fn a_full_ring_stops_a_batch_and_gives_the_event_back() {
    let mut hand = Hand::with_shards(1);
    let mut events = hand.events();
    let many: Vec<_> = (0..EVENT_RING_SLOTS as u64 + 10).map(event).collect();
    let (taken, stopped) = events.offer_batch(&many);
    assert_eq!(taken, EVENT_RING_SLOTS);
    let stopped = stopped.expect("the ring is full");
    assert_eq!(stopped.event(), many[taken]);
    assert!(stopped.is_retryable());
    hand.settle();
    assert_eq!(events.offer_batch(&many[taken..]), (10, None));
}

/// What lanes held back for other shards is in their rings, in order, and their shards are rung.
#[test]
fn a_ring_that_is_full_keeps_nothing_from_other_shards() {
    let mut hand = Hand::with_shards(2);
    let mut events = hand.events();
    let of_shard = |shard| {
        let is_of = |id: &u64| hand.placement.shard(hand.key.hash(EntityId(*id))) == shard;
        (0..1_000).find(is_of).map(event).expect("each shard has entities")
    };
    let (here, there) = (of_shard(0), of_shard(1));
    let full = vec![here; EVENT_RING_SLOTS];
    assert_eq!(events.offer_batch(&full), (EVENT_RING_SLOTS, None));
    // One chunk and part of another for the second shard come before the one that finds no room.
    let batch = [vec![there; 100], vec![here, there]].concat();
    let stopped = OfferError::Full { event: here, shard: 0 };
    assert_eq!(events.offer_batch(&batch), (100, Some(stopped)));
    hand.settle();
    assert_eq!(events.offer_batch(&batch[100..]), (2, None));
    hand.settle();
    let applied = |ticket| events.reached(ticket, Level::Applied).1.reached();
    let applied: Vec<u64> = events.last_tickets().map(applied).collect();
    assert_eq!(applied, [EVENT_RING_SLOTS as u64 + 1, 101]);
}

#[test]
fn tickets_of_one_shard_come_true_in_their_order() {
    let mut hand = Hand::with_shards(3);
    let mut events = hand.events();
    let tickets: Vec<_> = (0..50).map(|n| events.offer(event(n)).expect("room")).collect();
    let reached = |events: &EventRouter, ticket| {
        let (_, applied, number) = events.reached(ticket, Level::Applied);
        applied.reached() >= number
    };
    assert!(tickets.iter().all(|&ticket| !reached(&events, ticket)));
    hand.settle();
    assert!(tickets.iter().all(|&ticket| reached(&events, ticket)));
    assert_eq!(events.last_tickets().count(), 3);
}

#[test]
fn a_matrix_comes_back_in_the_order_it_was_asked_for() {
    let mut hand = Hand::with_shards(4);
    let (mut events, mut requests) = (hand.events(), hand.requests());
    for entity in 0..100 {
        events.offer(event(entity).with_weight(entity as f64)).map(drop).expect("room");
    }
    hand.settle();
    let plan = Plan::over(&hand.schema).score("view", "1h").expect("it is there").build();
    let asked: Vec<_> = (0..100).rev().chain([7, 7, 5000]).map(EntityId).collect();
    for _ in 0..2 {
        let mut out = vec![f64::NAN; asked.len()];
        let read = requests.read_rows(&asked, plan.columns(), NOW, &mut out);
        hand.run(read).expect("all run");
        let want: Vec<_> = asked.iter().map(|e| if e.0 < 100 { e.0 as f64 } else { 0.0 }).collect();
        assert_eq!(out, want);
    }
}

#[test]
fn a_question_dropped_half_way_does_not_answer_the_next() {
    let mut hand = Hand::with_shards(2);
    let (mut events, mut requests) = (hand.events(), hand.requests());
    for entity in 0..10 {
        events.offer(event(entity)).map(drop).expect("room");
    }
    hand.settle();
    for entity in (0..10).map(EntityId) {
        {
            let mut dropped = pin!(requests.top_k(SIGNAL, 0, 5, NOW));
            let polled = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
        let _not_taken = hand.run(requests.answered_pair(EntityId(entity.0 + 1), SIGNAL, NOW));
        let read =
            hand.run(requests.answered_pair(entity, SIGNAL, NOW)).take_reading().expect("all run");
        assert_eq!(read.map(|reading| reading.all_time), Some(1));
    }
}

#[test]
fn a_shard_that_is_gone_is_an_error_for_its_entities_only() {
    let mut hand = Hand::with_shards(2);
    let (mut events, mut requests) = (hand.events(), hand.requests());
    let owner = |entity: u64| hand.placement.shard(hand.key.hash(EntityId(entity)));
    let (lost, kept) = match owner(1) {
        0 => (1, (2..999).find(|&e| owner(e) == 1).expect("some entity is there")),
        _ => ((2..999).find(|&e| owner(e) == 0).expect("some entity is there"), 1),
    };
    hand.shards.remove(0).fail("it was told to");
    let failed = ShardDown::Failed { shard: 0, cause: "it was told to".into() };
    let Err(OfferError::Down { down, .. }) = events.offer(event(lost)) else { panic!() };
    assert_eq!(down, failed);
    events.offer(event(kept)).map(drop).expect("the other shard runs");
    for _ in 0..10 {
        let read = hand.run(requests.answered_pair(EntityId(lost), SIGNAL, NOW)).take_reading();
        assert_eq!(read, Err(failed.clone()));
        let read = hand
            .run(requests.answered_pair(EntityId(kept), SIGNAL, NOW))
            .take_reading()
            .expect("it runs");
        assert_eq!(read.map(|reading| reading.all_time), Some(1));
    }
}
