//! The turn and its log: room, levels, endings.

use super::*;

/// Bytes of a plain batch of so many events.
fn batch_bytes(events: usize) -> usize {
    BatchForm::default().header_bytes() + events * EVENT_BYTES
}

fn push<W: WalWriter>(shard: &mut Shard<W>, lane: &mut EventSender, entities: u64) {
    for entity in 0..entities {
        lane.push(event(entity), Tag::new(0)).expect("there is room");
    }
    while shard.turn() == Ok(Turn::Busy) {}
}

fn reached(lane: &EventSender) -> [u64; 3] {
    [Level::Applied, Level::Written, Level::Durable].map(|level| lane.reached(level).reached())
}

#[test]
fn a_batch_is_bounded_by_the_room_of_the_log() {
    let mut shard = shard_with(HandWal::with_room(batch_bytes(6)));
    let mut lanes = [(); 2].map(|()| producer(&shard));
    for lane in &mut lanes {
        push(&mut shard, lane, 5);
    }
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    let counts: Vec<_> = shard.wal().batches.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [5], "behind it there is no room for a header and an event");
    shard.wal_mut().room = batch_bytes(4) - 1;
    assert_eq!(shard.turn(), Ok(Turn::Busy));
    assert!(!shard.is_behind(), "more wait, but it is the log that keeps them waiting");
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    assert_eq!(lanes.map(|lane| lane.applied().reached()), [5, 3]);
    assert_eq!(shard.intake.ledger.pairs(), 5);
}

#[test]
fn events_come_as_far_as_the_log_and_each_level_behind_the_one_before() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let (mut one, mut other) = (producer(&shard), producer(&shard));
    push(&mut shard, &mut one, 3);
    push(&mut shard, &mut other, 2);
    push(&mut shard, &mut one, 4);
    assert_eq!((reached(&one), reached(&other)), ([7, 0, 0], [2, 0, 0]));
    let steps = [
        ((2, 0), [7, 0, 0], [2, 0, 0]),
        ((4, 3), [7, 3, 3], [2, 0, 0]),
        ((8, 5), [7, 3, 3], [2, 2, 2]),
        ((9, 8), [7, 7, 3], [2, 2, 2]),
        ((9, 9), [7, 7, 7], [2, 2, 2]),
    ];
    for ((written, durable), of_one, of_other) in steps {
        shard.wal_mut().move_on(written, durable);
        shard.acknowledge();
        assert_eq!((reached(&one), reached(&other)), (of_one, of_other), "{written}, {durable}");
    }
    let metrics = shard.port.counters().snapshot();
    assert_eq!((metrics.wal_appended, metrics.wal_written, metrics.wal_durable), (9, 9, 9));
}

#[test]
fn without_a_log_events_are_applied_and_come_no_further() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    push(&mut shard, &mut lane, 3);
    shard.acknowledge();
    assert_eq!(reached(&lane), [3, 0, 0]);
    drop(lane);
    assert_eq!(shard.turn(), Ok(Turn::Busy), "nothing has to be waited for");
    assert_eq!(shard.events.len(), 0);
}

#[test]
fn what_was_taken_last_becomes_durable_between_finished_and_close() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    shard.port.begin_close();
    while shard.turn() != Ok(Turn::Finished) {}
    assert_eq!(reached(&lane), [1, 0, 0]);
    shard.wal_mut().move_on(1, 1);
    shard.acknowledge();
    shard.close();
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(lane.reached(Level::Durable).poll_reached(1, &cx), Poll::Ready(Ok(())));
    assert!(matches!(lane.reached(Level::Durable).poll_reached(2, &cx), Poll::Ready(Err(_))));
}

/// A lane was forgotten with its producer, and whoever still waited for its events to be durable
/// was told that they never would be.
#[test]
fn a_lane_outlives_its_producer_until_its_events_are_durable() {
    let mut shard = shard_with(HandWal::with_room(usize::MAX));
    let mut lane = producer(&shard);
    push(&mut shard, &mut lane, 1);
    let durable = Arc::clone(lane.reached(Level::Durable));
    drop(lane);
    assert!(!shard.has_work(), "the log has to move first");
    assert_eq!((shard.turn(), shard.events.len()), (Ok(Turn::Idle), 1));
    shard.wal_mut().move_on(1, 1);
    assert_eq!((shard.turn(), shard.events.len()), (Ok(Turn::Busy), 0));
    assert_eq!(durable.reached(), 1);
}

#[test]
fn a_closing_shard_waits_for_the_log_to_take_what_was_offered() {
    let mut shard = shard_with(HandWal::with_room(0));
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    shard.port.begin_close();
    shard.turn().unwrap();
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    shard.wal_mut().room = batch_bytes(1);
    assert_eq!(shard.turn(), Ok(Turn::Busy));
    assert_eq!(shard.turn(), Ok(Turn::Finished));
    assert_eq!(lane.applied().reached(), 1);
}

/// A log that has failed has no room either.
#[test]
fn a_log_that_failed_is_told_from_one_that_is_full() {
    let mut shard = shard_with(HandWal::with_room(0));
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    shard.turn().unwrap();
    assert_eq!(shard.turn(), Ok(Turn::Blocked));
    shard.wal_mut().failure = Some(AppendError::Closing);
    assert_eq!(shard.turn(), Err(TurnError::Log(AppendError::Closing)));
}

#[test]
fn a_log_begins_with_its_layout_and_knows_signal_types_by_their_stored_numbers() {
    let mut numbers = [0; SIGNALS_MAX];
    numbers[SIGNAL.index()] = 77;
    let mut shard = shard_with(HandWal::with_room(usize::MAX)).with_numbers(numbers);
    assert_eq!(shard.open_log(4), Ok(Lsn::FIRST));
    let mut lane = producer(&shard);
    push(&mut shard, &mut lane, 1);
    let read: Vec<_> = shard.wal().read().collect();
    assert_eq!(read[0], Batch::Opened { shards: 4, shard: 0 });
    let Batch::Events(events) = read[1] else { panic!("{:?}", read[1]) };
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [77]);
    assert_eq!(read.len(), 2);
}
