//! Every class against a list of events, and the walk between classes.

use super::*;
use crate::limits::{HOUR_NS, MINUTE_NS};
use crate::signal::window::Window;
use proptest::prelude::*;
use std::time::Duration;

/// What a pair's state keeps of its counters.
struct Kept {
    at: BucketRef,
    few: FewCounters,
}

impl Kept {
    const NEW: Self = Self { at: BucketRef::FEW, few: FewCounters::EMPTY };

    fn get(&self) -> Counters<'_> {
        Counters { at: self.at, few: &self.few }
    }

    fn get_mut(&mut self) -> CountersMut<'_> {
        CountersMut { at: &mut self.at, few: &mut self.few }
    }
}

/// One pair: the store under test and, beside it, the time of every event.
struct Pair {
    store: BucketStore,
    kept: Kept,
    head: Timestamp,
    events: Vec<Timestamp>,
}

impl Pair {
    fn new() -> Self {
        let (store, events) = (BucketStore::default(), Vec::new());
        Self { store, kept: Kept::NEW, head: Timestamp(0), events }
    }

    fn record(&mut self, time: Timestamp) {
        if self.events.is_empty() {
            self.head = time;
        }
        let (old, event) = (Heads::of(self.head), Heads::of(time));
        assert!(self.store.record(self.kept.get_mut(), old, event));
        self.head = self.head.max(time);
        self.events.push(time);
    }

    fn assert_windows(&self, now: Timestamp) {
        for (minutes, width) in [(1, MINUTE_NS), (5, MINUTE_NS), (60, MINUTE_NS)]
            .into_iter()
            .chain([2, 24, 168].map(|hours| (hours, HOUR_NS)))
        {
            let window = Window::new(Duration::from_nanos(minutes * width)).unwrap();
            let last = now.0 / width;
            let held = |t: &&Timestamp| t.0 / width <= last && t.0 / width + minutes > last;
            let want = self.events.iter().filter(held).count() as u64;
            let block = self.store.block(self.kept.get());
            let got = block.count(&window, Heads::of(self.head), Heads::of(now));
            assert_eq!(got, want, "{window:?}");
        }
    }

    /// All counters, by each of the ways to get them.
    fn counts(&self) -> Counts {
        let counts = self.store.written_out(self.kept.get(), Heads::of(self.head));
        let mut list = Vec::new();
        self.store.list(self.kept.get(), self.head, &mut list);
        assert_eq!(list, listed(&counts));
        counts
    }

    /// How many events wait for the block.
    fn waiting(&self) -> u8 {
        self.kept.get().waiting()
    }
}

/// Steps in time that reach every interesting distance: same bucket, next, a ring away, far away.
fn step() -> impl Strategy<Value = i64> {
    let minute = MINUTE_NS.cast_signed();
    prop_oneof![
        8 => 0..minute,
        4 => -90 * minute..90 * minute,
        2 => -200 * 60 * minute..200 * 60 * minute,
        1 => -4000 * 60 * minute..4000 * 60 * minute,
    ]
}

/// Those that are not empty.
fn listed(counts: &Counts) -> Vec<Listed> {
    (0..).zip(*counts).filter(|&(_, count)| count > 0).collect()
}

proptest! {
    #[test]
    fn windows_agree_with_the_list_of_events(
        start in 0..u64::MAX / 2,
        steps in prop::collection::vec((step(), 1..40usize), 1..120),
        later in 0..300 * HOUR_NS,
    ) {
        let mut pair = Pair::new();
        let mut time = start;
        for (step, times) in steps {
            time = time.saturating_add_signed(step);
            for _ in 0..times {
                pair.record(Timestamp(time));
            }
        }
        pair.assert_windows(pair.head);
        pair.assert_windows(Timestamp(pair.head.0 + later));
        pair.assert_windows(Timestamp::MAX);
        // What was counted by events one by one is what is put back at once.
        let mut again = Pair::new();
        again.store.put_back(again.kept.get_mut(), pair.head, &listed(&pair.counts()));
        (again.head, again.events) = (pair.head, pair.events);
        again.assert_windows(again.head);
    }

    #[test]
    fn written_out_and_put_back_counts_are_the_same(
        counts in prop::collection::vec((0..BUCKETS, 1..70_000u32), 0..200),
        largest in prop_oneof![Just(200u32), Just(70_000)],
        head: u64,
    ) {
        let head = Timestamp(head);
        let mut all = [0; BUCKETS];
        for (position, count) in counts {
            all[position] = count.min(largest);
        }
        let listed = listed(&all);
        let most = all.into_iter().max().unwrap_or(0);
        let class = match (listed.len() + 1, most + 1) {
            (0..32, 0..=255) => None,
            (0..96, 0..=255) => Some(Class::Packed96),
            (0..160, 0..=255) => Some(Class::Packed160),
            (_, 0..=255) => Some(Class::Dense8),
            (_, 256..=65_535) => Some(Class::Dense16),
            _ => Some(Class::Dense32),
        };
        let (mut store, mut kept) = (BucketStore::default(), Kept::NEW);
        // In place of nothing, of few, of many, and of themselves.
        for before in [&[][..], &[(0, 3), (59, 1)], &[(7, 70_000)], &listed] {
            store.put_back(kept.get_mut(), head, before);
            store.put_back(kept.get_mut(), head, &listed);
            prop_assert_eq!(kept.at.class(), class);
            prop_assert_eq!(store.written_out(kept.get(), Heads::of(head)), all);
            prop_assert!(class.is_none() || kept.few.counts(Heads::of(head)) == [0; BUCKETS]);
            let mut again = Vec::new();
            store.list(kept.get(), head, &mut again);
            prop_assert_eq!(&again, &listed);
        }
    }
}

#[test]
fn a_pair_walks_up_the_classes_and_starts_over_after_silence() {
    let mut pair = Pair::new();
    pair.record(Timestamp(0));
    assert_eq!(pair.kept.at.class(), None);
    for minute in 0..60 {
        pair.record(Timestamp(minute * MINUTE_NS));
    }
    assert_eq!(pair.kept.at.class(), Some(Class::Packed96));
    for hour in 0..168 {
        pair.record(Timestamp(hour * HOUR_NS));
    }
    assert_eq!(pair.kept.at.class(), Some(Class::Dense8));
    for _ in 0..300 {
        pair.record(pair.head);
    }
    assert_eq!(pair.kept.at.class(), Some(Class::Dense16));
    for _ in 0..70_000 {
        pair.record(pair.head);
    }
    assert_eq!(pair.kept.at.class(), Some(Class::Dense32));
    pair.assert_windows(pair.head);

    pair.record(Timestamp(pair.head.0 + 168 * HOUR_NS));
    assert_eq!(pair.kept.at.class(), None);
    pair.assert_windows(pair.head);
}

#[test]
fn a_block_without_room_moves_to_the_next_class_unless_one_of_its_buckets_is_full() {
    let minute = |minute: u64| Timestamp(200 * HOUR_NS + minute * MINUTE_NS);
    let (next, third) = (Some(Class::Packed96), Some(Class::Packed160));
    // With 16 minutes, and so many hours beside their two, the block is full.
    for (before, hours, most, class) in [
        (None, 14, 253, next),
        (None, 14, 254, Some(Class::Dense16)),
        (next, 78, 253, third),
        (next, 78, 254, Some(Class::Dense16)),
    ] {
        let mut pair = Pair::new();
        (0..most).for_each(|_| pair.record(minute(59)));
        (60..75).for_each(|at| pair.record(minute(at)));
        (80..80 + hours).for_each(|hour| pair.record(Timestamp(hour * HOUR_NS)));
        assert_eq!(pair.kept.at.class(), before);
        pair.record(minute(30));
        assert_eq!(pair.kept.at.class(), class);
        pair.assert_windows(pair.head);
    }
}

#[test]
fn a_block_without_room_in_both_rings_moves_to_the_next_class() {
    let minute = |minute: u64| Timestamp(100 * HOUR_NS + minute * MINUTE_NS);
    let mut pair = Pair::new();
    (105..120).for_each(|at| pair.record(minute(at)));
    (80..96).for_each(|hour| pair.record(Timestamp(hour * HOUR_NS)));
    assert_eq!(pair.kept.at.class(), None, "15 minutes, 17 hours");
    pair.record(minute(120));
    assert_eq!(pair.kept.at.class(), Some(Class::Packed96));
    pair.assert_windows(pair.head);
}

/// A pair with a block, whose last event is at `time`.
fn with_a_block(time: Timestamp) -> Pair {
    let mut pair = Pair::new();
    for minutes in (0..40).rev() {
        pair.record(Timestamp(time.0 - minutes * MINUTE_NS));
    }
    assert_eq!((pair.kept.at.class(), pair.waiting()), (Some(Class::Packed96), 0));
    pair
}

#[test]
fn an_event_in_the_minute_of_the_one_before_it_waits_and_the_next_minute_settles_it() {
    let time = Timestamp(200 * HOUR_NS + 59 * MINUTE_NS);
    let mut pair = with_a_block(time);
    for waiting in 1..=u8::MAX {
        pair.record(time);
        assert_eq!(pair.waiting(), waiting);
        pair.assert_windows(time);
    }
    let block = Counters { at: pair.kept.at, few: &FewCounters::EMPTY };
    let (with, without) = (pair.counts(), pair.store.written_out(block, Heads::of(time)));
    let difference = with.iter().zip(&without).filter(|(with, without)| with != without).count();
    assert_eq!(difference, 2, "the last minute and its hour");
    pair.record(time);
    assert_eq!(pair.waiting(), 0, "no more can");
    let next = Timestamp(time.0 + MINUTE_NS);
    pair.record(next);
    assert_eq!(pair.waiting(), 0);
    pair.assert_windows(next);
    pair.record(next);
    assert_eq!(pair.waiting(), 1);
    pair.assert_windows(Timestamp(next.0 + 30 * HOUR_NS));
}

/// A late event is counted beside what waits, whether the block has room for it or not.
#[test]
fn what_waits_is_kept_when_a_late_event_needs_a_larger_block() {
    let time = Timestamp(300 * HOUR_NS + 30 * MINUTE_NS);
    let mut pair = with_a_block(time);
    (0..9).for_each(|_| pair.record(time));
    let mut classes = vec![pair.kept.at.class()];
    for hour in 1..168 {
        let waiting = pair.waiting();
        pair.record(Timestamp(time.0 - hour * HOUR_NS));
        pair.assert_windows(time);
        pair.counts();
        if classes.last() == Some(&pair.kept.at.class()) {
            assert_eq!(pair.waiting(), waiting, "a late event leaves it alone");
        } else {
            classes.push(pair.kept.at.class());
            (0..9).for_each(|_| pair.record(time));
        }
    }
    let [packed, wider, dense] = [Class::Packed96, Class::Packed160, Class::Dense8].map(Some);
    assert_eq!(classes, [packed, wider, dense]);
}

/// The last minute of an hour whose counter, and that of the hour, are at `count`, and the minute
/// before.
fn almost_full(count: u32) -> (BucketStore, Kept, [Heads; 2]) {
    let [last, before] = [59, 58].map(|minute| Heads::of(Timestamp(minute * MINUTE_NS)));
    let mut counts = [0; BUCKETS];
    last.positions().into_iter().for_each(|at| counts[at] = count);
    let (mut store, mut kept) = (BucketStore::default(), Kept::NEW);
    store.put_back(kept.get_mut(), Timestamp(59 * MINUTE_NS), &listed(&counts));
    (store, kept, [last, before])
}

#[test]
fn nothing_waits_where_the_widest_counter_may_not_hold_it() {
    let most = u32::MAX - u32::from(u8::MAX) - 1;
    for (count, may) in [(most - 1, true), (most, false)] {
        let (mut store, mut kept, [last, _]) = almost_full(count);
        (0..2).for_each(|_| assert!(store.record(kept.get_mut(), last, last)));
        assert_eq!(kept.get().waiting() > 0, may);
        let counted = (0..1_000).filter(|_| store.record(kept.get_mut(), last, last)).count();
        assert_eq!(counted, (u32::MAX - count) as usize - 2);
        assert_eq!(store.written_out(kept.get(), last)[59], u32::MAX);
    }
}

/// Late events of the same hour take of the room that was seen for what waits.
#[test]
fn what_waits_still_fits_when_late_events_fill_the_hour() {
    let count = u32::MAX - 600;
    for waiting in [1, 200, 255] {
        let (mut store, mut kept, [last, before]) = almost_full(count);
        let hour = last.positions()[1];
        let mut counted = 0;
        for round in 0..1_000 {
            let event = if round % 300 < waiting { last } else { before };
            counted += u32::from(store.record(kept.get_mut(), last, event));
            assert_eq!(store.written_out(kept.get(), last)[hour], count + counted.min(600));
        }
        assert_eq!(counted, 600, "and no more");
        let mut saved = Vec::new();
        store.list(kept.get(), Timestamp(59 * MINUTE_NS), &mut saved);
        assert!(saved.contains(&(u8::try_from(hour).unwrap(), u32::MAX)));
    }
}

#[test]
fn a_full_bucket_stays_full_and_says_so() {
    let mut counts = [0; BUCKETS];
    counts[0] = u32::MAX - 1;
    counts[60] = u32::MAX;
    let mut store = BucketStore::default();
    let mut kept = Kept::NEW;
    store.put_back(kept.get_mut(), Timestamp(0), &listed(&counts));
    assert!(!store.record(kept.get_mut(), Heads::NONE, Heads::NONE), "the hour was full");
    let written_out = store.written_out(kept.get(), Heads::NONE);
    assert_eq!(written_out[0], u32::MAX, "the minute was not");
    assert!(!store.record(kept.get_mut(), Heads::NONE, Heads::NONE));
    let written_out = store.written_out(kept.get(), Heads::NONE);
    assert_eq!((written_out[0], written_out[60]), (u32::MAX, u32::MAX));
}

#[test]
fn blocks_let_go_are_given_out_again() {
    let mut store = BucketStore::default();
    let mut kept = Kept::NEW;
    let many: Vec<Listed> = (0..40).map(|position| (position, 1)).collect();
    store.put_back(kept.get_mut(), Timestamp(0), &many);
    let before = store.memory_bytes();
    for _ in 0..10_000 {
        store.put_back(kept.get_mut(), Timestamp(0), &many);
    }
    // One slot of the list of free blocks may have come on top.
    assert!(store.memory_bytes() <= before + 16);
}

#[test]
fn every_position_stands_for_one_bucket() {
    for time in [Timestamp(0), Timestamp(1_700_000_000_123_456_789), Timestamp(59 * MINUTE_NS)] {
        let heads = Heads::of(time);
        for ring in [Ring::Minutes, Ring::Hours] {
            let mut positions: Vec<_> =
                (0..ring.count()).map(|ago| heads.position(ring, ago)).collect();
            assert_eq!(positions[0], ring.position(heads.of_ring(ring)));
            positions.sort_unstable();
            assert!(positions.into_iter().eq(ring.first()..ring.first() + ring.count()));
        }
    }
}
