//! The turn, stepped by hand: order, bounds, back-pressure, endings.

use super::*;
use crate::lane::{EventSender, LaneKind, Level, RequestSender, Tag, event_lane, request_lane};
use crate::limits::{EVENT_RING_SLOTS, PARTITIONS};
use crate::port::Gate;
use crate::record::{Batch, BatchForm, EVENT_BYTES, decode_batch};
use crate::{EntityId, PartitionKey, Plan, Ranked, RoutedEvent, Schema, SignalId, Timestamp};
use ebbtide_wal::{CheckpointNote, NoWal, NoteError, Pressure, Watermarks};
use std::task::{Context, Poll, Waker};

mod levels;
mod saving;
mod sources;

const SIGNAL: SignalId = SignalId(0);

fn key() -> PartitionKey {
    PartitionKey::new([0; 16])
}

fn ledger() -> SignalLedger {
    let text = "[signals.view]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]";
    SignalLedger::new(Arc::new(Schema::from_toml(text).expect("valid")), key(), 0..PARTITIONS)
}

fn shard_with<W: WalWriter>(wal: W) -> Shard<W> {
    Shard::new(Arc::new(ShardPort::new(0)), ledger(), wal, usize::MAX)
}

fn event(entity: u64) -> RoutedEvent {
    let entity = EntityId(entity);
    let (time, hash) = (Timestamp(0), key().hash(entity));
    RoutedEvent { entity, time, weight: 1.0, hash, signal: SIGNAL }
}

fn producer<W>(shard: &Shard<W>) -> EventSender {
    producer_of(shard, LaneKind::default())
}

fn producer_of<W>(shard: &Shard<W>, kind: LaneKind) -> EventSender {
    let (sender, inbox) = event_lane(Arc::clone(&shard.port), kind);
    shard.port.post(Mail::Events(inbox)).expect("the shard runs");
    sender
}

fn reader<W>(shard: &Shard<W>) -> RequestSender {
    let (sender, inbox) = request_lane(Arc::clone(&shard.port), Arc::default());
    shard.port.post(Mail::Requests(inbox)).expect("the shard runs");
    sender
}

fn count_of<W: WalWriter>(shard: &mut Shard<W>, reader: &mut RequestSender, entity: u64) -> u64 {
    let entity = EntityId(entity);
    let (hash, now) = (key().hash(entity), Timestamp(0));
    reader.ask_pair(Question { entity, hash, signal: SIGNAL, now });
    while !reader.is_settled() {
        shard.turn().expect("the log takes everything");
    }
    let reading = reader.take_reading().expect("the shard has answered");
    reading.map_or(0, |reading| reading.all_time)
}

/// A log in memory, moved on by hand.
#[derive(Debug)]
struct HandWal {
    /// Bytes it takes before it pushes back.
    room: usize,
    /// What it says to every batch, once it fails.
    failure: Option<AppendError>,
    /// What it was given: the bytes and the number of records of each batch.
    batches: Vec<(Vec<u8>, u32)>,
    /// The checkpoints it was told of.
    notes: Vec<CheckpointNote>,
    log: Watermarks,
}

impl HandWal {
    fn with_room(room: usize) -> Self {
        let none = Some(Lsn::NONE);
        let log = Watermarks { appended: Lsn::NONE, written: none, durable: none };
        Self { room, failure: None, batches: Vec::new(), notes: Vec::new(), log }
    }

    fn move_on(&mut self, written: u64, durable: u64) {
        self.log.written = Some(Lsn::new(written));
        self.log.durable = Some(Lsn::new(durable));
    }

    fn read(&self) -> impl Iterator<Item = Batch<'_>> {
        let batches = self.batches.iter();
        batches.map(|(bytes, count)| decode_batch(bytes, *count).expect("what was encoded"))
    }
}

impl WalWriter for HandWal {
    fn append(&mut self, records: &[u8], count: u32) -> Result<Lsn, AppendError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if records.len() > self.room {
            return Err(AppendError::BackPressure(Pressure::Device));
        }
        self.room -= records.len();
        self.batches.push((records.to_vec(), count));
        let first = self.log.appended.next();
        self.log.appended = self.log.appended.after(u64::from(count));
        Ok(first)
    }

    fn watermarks(&self) -> Watermarks {
        self.log
    }

    fn room(&self) -> usize {
        if self.failure.is_none() { self.room } else { 0 }
    }

    fn note_checkpoint(&mut self, note: CheckpointNote) -> Result<(), NoteError> {
        self.notes.push(note);
        Ok(())
    }

    fn file_bytes(&self) -> u64 {
        0
    }

    fn written_bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_turn_takes_a_bounded_batch_and_every_lane_gets_its_share() {
    let mut shard = shard_with(NoWal::new());
    let mut lanes = [(); 3].map(|()| producer(&shard));
    for lane in &mut lanes {
        for entity in 0..1000 {
            lane.push(event(entity), Tag::new(0)).unwrap();
        }
    }
    assert_eq!(shard.turn(), Ok(Turn::Busy));
    let applied: Vec<u64> = lanes.iter().map(|lane| lane.applied().reached()).collect();
    assert_eq!(applied.iter().sum::<u64>(), BATCH_EVENTS_MAX as u64);
    assert!(shard.is_behind());
    for _ in 0..2 {
        shard.turn().unwrap();
    }
    assert!(lanes.iter().all(|lane| lane.applied().reached() >= BATCH_EVENTS_MAX as u64));
    while shard.turn() == Ok(Turn::Busy) {}
    assert!(lanes.iter().all(|lane| lane.applied().reached() == 1000));
    assert!(!shard.is_behind());
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.events_applied, metrics.pairs), (3000, 1000));
    assert_eq!((metrics.queue_depth_max, metrics.batch_events_max), (3000, 512));
    assert_eq!(metrics.producers, 3);
}

#[test]
fn a_full_ring_gives_the_event_back() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    for entity in 0..EVENT_RING_SLOTS as u64 {
        lane.push(event(entity), Tag::new(0)).unwrap();
    }
    assert_eq!(lane.push(event(7), Tag::new(0)), Err(event(7)));
    shard.turn().unwrap();
    assert_eq!(lane.push(event(7), Tag::new(0)), Ok(EVENT_RING_SLOTS as u64 + 1));
}

#[test]
fn back_pressure_of_the_log_leaves_events_in_their_ring() {
    let one = BatchForm::default().header_bytes() + EVENT_BYTES;
    let mut shard = shard_with(HandWal::with_room(one));
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    shard.turn().unwrap();
    lane.push(event(2), Tag::new(0)).unwrap();
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    assert!(!shard.has_work(), "nothing can be done until the log has moved on");
    assert!(!shard.is_behind(), "the log is to go on at once");
    assert_eq!((lane.applied().reached(), shard.port.counters().snapshot().turns_blocked), (1, 1));
    shard.wal_mut().room = one;
    assert_eq!(shard.turn(), Ok(Turn::Busy));
    assert_eq!(lane.applied().reached(), 2);
    assert_eq!(shard.turn(), Ok(Turn::Idle));
}

#[test]
fn a_batch_the_log_refuses_is_not_applied() {
    let refusal = AppendError::Closing;
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    shard.wal_mut().failure = Some(refusal.clone());
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    assert_eq!(shard.turn(), Err(TurnError::Log(refusal)));
    assert_eq!((lane.applied().reached(), shard.intake.ledger.pairs()), (0, 0));
    let port = Arc::clone(&shard.port);
    shard.fail("no disk");
    let cx = Context::from_waker(Waker::noop());
    for level in [Level::Applied, Level::Written, Level::Durable] {
        assert!(matches!(lane.reached(level).poll_reached(1, &cx), Poll::Ready(Err(_))));
    }
    assert!(matches!(port.down(), Some(ShardDown::Failed { shard: 0, .. })));
}

#[test]
fn reads_see_what_was_applied_before_them() {
    let mut shard = shard_with(NoWal::new());
    let (mut lane, mut reader) = (producer(&shard), reader(&shard));
    for n in 1..=700 {
        lane.push(event(5), Tag::new(0)).unwrap();
        while lane.applied().reached() < n {
            shard.turn().unwrap();
        }
        assert_eq!(count_of(&mut shard, &mut reader, 5), n);
    }
    assert_eq!(count_of(&mut shard, &mut reader, 6), 0);
}

#[test]
fn a_producer_that_leaves_is_drained_and_forgotten() {
    let mut shard = shard_with(NoWal::new());
    let (mut lane, reader) = (producer(&shard), reader(&shard));
    lane.push(event(1), Tag::new(0)).unwrap();
    drop((lane, reader));
    assert!(shard.has_work());
    while shard.has_work() {
        shard.turn().unwrap();
    }
    assert_eq!((shard.intake.ledger.pairs(), shard.events.len(), shard.requests.len()), (1, 0, 0));
}

/// Lanes were let go only in a turn that found no event anywhere: under load that lasts, producers
/// that come and go piled up, a ring each. The gauges kept counting the last ones that left.
#[test]
fn a_producer_that_leaves_is_forgotten_while_others_keep_the_shard_busy() {
    let mut shard = shard_with(NoWal::new());
    let (mut busy, brief) = (producer(&shard), producer(&shard));
    for entity in 0..1000 {
        busy.push(event(entity), Tag::new(0)).unwrap();
    }
    shard.turn().unwrap();
    drop((brief, reader(&shard)));
    shard.turn().unwrap();
    let connected = |shard: &Shard<NoWal>| {
        let metrics = shard.port.counters().snapshot();
        (metrics.producers, metrics.readers)
    };
    assert_eq!(connected(&shard), (1, 0), "events were left, and taken");
    drop(busy);
    assert_eq!(shard.turn(), Ok(Turn::Busy));
    assert_eq!(connected(&shard), (0, 0));
    assert_eq!(shard.turn(), Ok(Turn::Idle));
}

#[test]
fn closing_takes_what_was_offered_and_tells_everyone() {
    let mut shard = shard_with(NoWal::new());
    let (mut lane, reader) = (producer(&shard), reader(&shard));
    for entity in 0..2000 {
        lane.push(event(entity), Tag::new(0)).unwrap();
    }
    shard.port.begin_close();
    assert_eq!(shard.port.gate(), Gate::Closed);
    while shard.turn() != Ok(Turn::Finished) {}
    assert_eq!(lane.applied().reached(), 2000);
    let port = Arc::clone(&shard.port);
    shard.close();
    assert!(reader.is_abandoned());
    assert_eq!(port.post(Mail::Close), Err(ShardDown::Closed { shard: 0 }));
}

#[test]
fn a_shard_above_its_memory_says_so_at_its_port() {
    let mut shard = shard_with(NoWal::new());
    shard.memory_bytes_max = shard.intake.ledger.memory_bytes() + 100_000;
    let mut lane = producer(&shard);
    assert_eq!(shard.port.gate(), Gate::Open);
    for entity in 0..2000 {
        lane.push(event(entity), Tag::new(0)).unwrap();
        shard.turn().unwrap();
    }
    assert_eq!(shard.port.gate(), Gate::MemoryFull);
    shard.memory_bytes_max = usize::MAX;
    lane.push(event(1), Tag::new(0)).unwrap();
    shard.turn().unwrap();
    assert_eq!(shard.port.gate(), Gate::Open);
}

#[test]
fn a_visitor_sees_the_pairs() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    lane.push(event(9), Tag::new(0)).unwrap();
    shard.turn().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |local: &LocalShard<'_>| {
        let seen: Vec<_> = local.pairs(Timestamp(0)).map(|(entity, ..)| entity).collect();
        let top = local.top_k(SIGNAL, 0, 5, Timestamp(0));
        tell.send((seen, top.len(), local.owns(EntityId(9)))).unwrap();
    };
    shard.port.post(Mail::Visit(Box::new(visit))).unwrap();
    shard.turn().unwrap();
    assert_eq!(told.recv().unwrap(), (vec![EntityId(9)], 1, true));
}

/// Inside of a closure nothing goes through a ring: the shard, which answers rings, is waiting.
#[test]
fn a_visitor_reads_what_a_reader_would() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    for entity in [9, 9, 4, 4, 4, 200] {
        lane.push(event(entity), Tag::new(0)).unwrap();
    }
    shard.turn().unwrap();
    let schema =
        Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]").unwrap();
    let plan = Plan::over(&schema).score("view", "1h").and_then(|plan| plan.count("view", "1h"));
    let plan = plan.unwrap().build();
    let (tell, told) = std::sync::mpsc::channel();
    let visit = move |local: &LocalShard<'_>| {
        let (now, asked) = (Timestamp(0), (0..300).map(EntityId).collect::<Vec<_>>());
        let mut matrix = vec![f64::NAN; 600];
        local.read_many(&asked, &plan, now, &mut matrix);
        let one_by_one = asked.iter().flat_map(|&entity| {
            let reading = local.read(entity, SIGNAL, now);
            reading.map_or([0.0; 2], |it| [it.scores()[0], it.counts()[0] as f64])
        });
        let best = local.rank(&asked, (&plan, &[1.0, 0.5]), 2, now);
        tell.send((one_by_one.eq(matrix.iter().copied()), best)).unwrap();
    };
    shard.port.post(Mail::Visit(Box::new(visit))).unwrap();
    shard.turn().unwrap();
    let ranked = |(entity, value)| Ranked { entity: EntityId(entity), value };
    assert_eq!(told.recv().unwrap(), (true, [(4, 4.5), (9, 3.0)].map(ranked).to_vec()));
}
