//! The turn and what is no news: repeats of a source, duplicates by id and by content.

use super::*;
use crate::record::LoggedEvent;
use crate::source::SourceName;
use crate::{EventId, SignalReading};
use proptest::prelude::*;

const THREE: &str = "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\ndedup=\"content\"\n\
                     [signals.b]\nhalf_lives=[\"1h\"]\ndedup=\"id\"\n\
                     [signals.c]\nhalf_lives=[\"1h\"]\n";
const BY_CONTENT: SignalId = SignalId(0);
const BY_ID: SignalId = SignalId(1);
const PLAIN: SignalId = SignalId(2);

fn three() -> SignalLedger {
    SignalLedger::new(Arc::new(Schema::from_toml(THREE).expect("valid")), key(), 0..PARTITIONS)
}

fn three_shard(wal: HandWal) -> Shard<HandWal> {
    Shard::new(Arc::new(ShardPort::new(0)), three(), wal, usize::MAX)
}

fn trace() -> SourceName {
    SourceName::new("trace").expect("it fits")
}

fn source<W>(shard: &Shard<W>) -> EventSender {
    producer_of(shard, LaneKind { source: Some(trace()), ids: true })
}

fn settle<W: WalWriter>(shard: &mut Shard<W>) {
    while shard.turn() == Ok(Turn::Busy) {}
}

/// Progress of the source that the log tells, in order.
fn told(shard: &Shard<HandWal>) -> Vec<u64> {
    shard.wal().read().filter_map(|batch| batch.progress()).map(|(_, offset)| offset).collect()
}

fn logged(shard: &Shard<HandWal>) -> Vec<LoggedEvent> {
    let events = shard.wal().read().filter_map(|batch| match batch {
        Batch::Events(events) => Some(events.iter().collect::<Vec<_>>()),
        _ => None,
    });
    events.flatten().collect()
}

#[test]
fn events_of_a_source_that_are_sent_again_are_left_out_counted_and_acknowledged() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let mut first = source(&shard);
    for offset in 1..=100 {
        first.push(event(offset % 10), Tag::new(offset)).unwrap();
    }
    drop(first);
    settle(&mut shard);
    shard.wal_mut().move_on(101, 101);
    settle(&mut shard);

    let mut again = source(&shard);
    for offset in 51..=110 {
        again.push(event(offset % 10), Tag::new(offset)).unwrap();
    }
    settle(&mut shard);
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.events_applied, metrics.events_repeated), (110, 50));
    assert_eq!(again.applied().reached(), 60);
    assert_eq!(logged(&shard).len(), 110, "only what was applied is in the log");
    let offsets: Vec<_> = logged(&shard).iter().filter_map(|event| event.offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b));
    shard.wal_mut().move_on(111, 111);
    settle(&mut shard);
    assert_eq!(again.reached(Level::Durable).reached(), 60);
}

#[test]
fn a_repeat_is_durable_at_once_if_the_log_is() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let mut lane = source(&shard);
    lane.push(event(1), Tag::new(1)).unwrap();
    settle(&mut shard);
    shard.wal_mut().move_on(2, 2);
    settle(&mut shard);
    drop(lane);
    let mut again = source(&shard);
    again.push(event(1), Tag::new(1)).unwrap();
    settle(&mut shard);
    assert_eq!(again.reached(Level::Durable).reached(), 1);
    assert_eq!(told(&shard), [1], "a repeat is no progress");
}

#[test]
fn a_source_is_named_in_the_log_once_and_before_its_first_event() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    for offset in [1, 2] {
        let mut lane = source(&shard);
        shard.turn().unwrap();
        lane.push(event(1), Tag::new(offset)).unwrap();
        settle(&mut shard);
    }
    let read: Vec<_> = shard.wal().read().collect();
    assert_eq!(read[0], Batch::Source { id: trace().id(), name: "trace" });
    assert_eq!((read.len(), told(&shard)), (3, vec![1, 2]));
}

#[test]
fn a_source_that_cannot_be_named_yet_waits_for_room() {
    let mut shard = shard_with(HandWal::with_room(100));
    let mut lane = source(&shard);
    assert_eq!(shard.turn(), Ok(Turn::Busy), "the lane arrived");
    assert_eq!(shard.turn(), Ok(Turn::Idle), "and nothing waits");
    lane.push(event(1), Tag::new(1)).unwrap();
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    shard.wal_mut().room = 1000;
    settle(&mut shard);
    assert_eq!((told(&shard), lane.applied().reached()), (vec![1], 1));
}

#[test]
fn a_mark_tells_a_quiet_shard_how_far_its_source_has_come() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let mut lane = source(&shard);
    assert_eq!(lane.push_mark(500), Some(1));
    settle(&mut shard);
    let slot = shard.sources().slot(trace().id()).unwrap();
    assert_eq!((shard.sources().resume_offset(slot), lane.told()), (500, 500));
    assert_eq!(lane.applied().reached(), 1, "it has a number, and is waited for like an event");
    lane.push(event(1), Tag::new(501)).unwrap();
    lane.push_mark(700).unwrap();
    settle(&mut shard);
    lane.push_mark(700).unwrap();
    settle(&mut shard);
    assert_eq!(told(&shard), [500, 700], "a mark behind events needs no batch of its own");
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.events_applied, metrics.events_repeated, metrics.pairs), (1, 0, 1));
}

#[test]
fn duplicates_are_told_by_id_or_by_content_whichever_lane_they_come_from() {
    let mut shard = three_shard(HandWal::with_room(usize::MAX));
    let ids = LaneKind { source: None, ids: true };
    let mut lanes = [producer_of(&shard, ids.clone()), producer_of(&shard, ids)];
    let id = |n: u128| Tag::new(0).with_id(EventId(n << 64 | 1));
    for lane in &mut lanes {
        for signal in [BY_CONTENT, BY_ID, PLAIN] {
            let event = |entity| RoutedEvent { signal, ..event(entity) };
            for tag in [id(1), id(2), id(1), Tag::new(0)] {
                lane.push(event(1), tag).unwrap();
            }
            lane.push(event(2), id(1)).unwrap();
        }
        settle(&mut shard);
    }
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.duplicates_by_content, metrics.duplicates_by_id), (3 + 5, 1 + 4));
    assert_eq!(metrics.events_applied, 30 - 13);
    assert!(lanes.iter().all(|lane| lane.applied().reached() == 15));
    let read = |entity, signal| {
        shard.ledger().read(event(entity).hash, EntityId(entity), signal, Timestamp(0))
    };
    let all_time = |entity, signal| read(entity, signal).map_or(0, |reading| reading.all_time);
    assert_eq!([all_time(1, BY_CONTENT), all_time(2, BY_CONTENT)], [1, 1]);
    assert_eq!([all_time(1, BY_ID), all_time(2, BY_ID)], [4, 1], "without an id it counts");
    assert_eq!([all_time(1, PLAIN), all_time(2, PLAIN)], [8, 2]);
}

#[test]
fn duplicates_are_told_in_plain_lanes_too() {
    let mut shard = three_shard(HandWal::with_room(usize::MAX));
    let mut lane = producer(&shard);
    for _ in 0..5 {
        lane.push(RoutedEvent { signal: BY_CONTENT, ..event(1) }, Tag::new(0)).unwrap();
    }
    settle(&mut shard);
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.events_applied, metrics.duplicates_by_content), (1, 4));
    assert!(metrics.memory_bytes > 1 << 20, "what is remembered counts as memory");
}

#[test]
fn progress_covers_the_duplicates_behind_the_last_event() {
    let mut shard = three_shard(HandWal::with_room(usize::MAX));
    let mut lane = source(&shard);
    let push = |lane: &mut EventSender, offset| {
        let event = RoutedEvent { signal: BY_ID, ..event(1) };
        lane.push(event, Tag::new(offset).with_id(EventId(7))).unwrap();
    };
    push(&mut lane, 1);
    push(&mut lane, 2);
    settle(&mut shard);
    push(&mut lane, 3);
    settle(&mut shard);
    assert_eq!((told(&shard), logged(&shard).len()), (vec![2, 3], 1));
}

/// What an entity can do: its offset's step, whether it is sent again, its entity, id and time.
type Step = (u64, bool, u64, Option<u8>, u64);

/// Everything a shard knows, from its log alone.
fn replayed(log: &HandWal) -> (SignalLedger, SourceTable) {
    let (mut ledger, mut sources) = (three(), SourceTable::new(0..PARTITIONS));
    for batch in log.read() {
        if let Batch::Source { name, .. } = batch {
            let name = SourceName::new(name).expect("it was decoded");
            sources.open(&name).expect("one source");
        }
        if let Batch::Events(events) = batch {
            let routed = |logged: LoggedEvent| {
                let LoggedEvent { entity, number, time, weight, .. } = logged;
                RoutedEvent {
                    entity,
                    time,
                    weight,
                    hash: key().hash(entity),
                    signal: SignalId(number),
                }
            };
            ledger.apply_batch(&events.iter().map(routed).collect::<Vec<_>>());
        }
        if let Some((source, offset)) = batch.progress() {
            let slot = sources.slot(source).expect("a source is named before its first event");
            sources.raise(slot, 0..PARTITIONS, offset);
        }
    }
    (ledger, sources)
}

fn readings(ledger: &SignalLedger) -> Vec<(u64, u8, SignalReading)> {
    let mut pairs: Vec<_> =
        ledger.iter(Timestamp(1 << 40)).map(|(e, s, r)| (e.0, s.0, r)).collect();
    pairs.sort_by_key(|&(entity, signal, _)| (entity, signal));
    pairs
}

proptest! {
    #[test]
    fn the_log_alone_gives_the_same_state_and_progress(
        steps in prop::collection::vec(
            (1u64..3, any::<bool>(), 0u64..6, prop::option::of(0u8..4), 0u64..3), 1..80),
        room in 60usize..900,
    ) {
        let mut shard = three_shard(HandWal::with_room(1000));
        let (mut lane, mut offset, mut last) = (source(&shard), 0, 0);
        for (step, reopen, entity, id, time) in steps.into_iter().map(|step: Step| step) {
            if reopen {
                drop(lane);
                while shard.events.iter().any(|lane| lane.inbox.waiting() > 0) {
                    // Room for any one batch, or it would wait for ever.
                    shard.wal_mut().room = room.max(300);
                    settle(&mut shard);
                }
                lane = source(&shard);
                offset = last / 2;
            }
            offset += step;
            last = last.max(offset);
            let signal = SignalId(u8::try_from(entity % 3).unwrap());
            let event = RoutedEvent { signal, time: Timestamp(time), ..event(entity) };
            let tag = Tag::new(offset);
            lane.push(event, id.map_or(tag, |id| tag.with_id(EventId(id.into())))).unwrap();
            settle(&mut shard);
        }
        lane.push_mark(last).unwrap();
        while shard.turn() != Ok(Turn::Idle) {
            shard.wal_mut().room = room.max(300);
        }
        let (ledger, sources) = replayed(shard.wal());
        prop_assert_eq!(readings(&ledger), readings(shard.ledger()));
        let slot = sources.slot(trace().id()).unwrap();
        prop_assert_eq!(sources.resume_offset(slot), last);
        let metrics = shard.port.counters().snapshot();
        let all = metrics.duplicates_by_id + metrics.duplicates_by_content
            + metrics.events_repeated + metrics.events_applied;
        prop_assert_eq!(metrics.events_applied, logged(&shard).len() as u64);
        prop_assert!(all <= 80);
    }
}
