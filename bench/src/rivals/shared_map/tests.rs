//! The shared map against a model that keeps every event and sums afresh.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::synthetic::{Spec, Synthetic};
use crate::trace::TraceEvent;

const HOUR: Duration = Duration::from_hours(1);
const HALF_LIVES: [&[Duration]; 2] = [&[HOUR, Duration::from_hours(24)], &[HOUR]];
const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;

fn map() -> SharedMap {
    SharedMap::with_capacity(0, &HALF_LIVES)
}

/// What `events` of one (entity, signal) amount to, by definition.
///
/// An event counts in a window if its bucket is one of the last, provided that it was not older
/// than all buckets when it arrived.
fn model(events: &[TraceEvent], now_ns: u64) -> Reading {
    let last_update_ns = events.iter().map(|event| event.time_ns).max().unwrap();
    let now_ns = now_ns.max(last_update_ns);
    let score = |half_life: &Duration| -> f64 {
        let age =
            |event: &TraceEvent| (now_ns - event.time_ns) as f64 / half_life.as_nanos() as f64;
        events.iter().map(|event| event.weight * (-age(event)).exp2()).sum()
    };
    let mut scores = [0.0; HALF_LIVES_MAX];
    let half_lives = HALF_LIVES[usize::from(events[0].signal)];
    scores.iter_mut().zip(half_lives).for_each(|(slot, half_life)| *slot = score(half_life));
    let count = |unit_ns: u64, length: u64| {
        let is_in = |event: &&TraceEvent| now_ns / unit_ns - event.time_ns / unit_ns < length;
        events.iter().filter(is_in).count() as u64
    };
    Reading {
        scores,
        count_1h: count(MINUTE_NS, 60),
        count_24h: count(HOUR_NS, 24),
        count_7d: count(HOUR_NS, 168),
        all_time: events.len() as u64,
        last_update_ns,
    }
}

fn assert_close(seen: &Reading, expected: &Reading) {
    for (seen, expected) in seen.scores.iter().zip(expected.scores) {
        assert!((seen - expected).abs() <= 1e-9 * expected.abs() + 1e-12, "{seen} {expected}");
    }
    assert_eq!(Reading { scores: expected.scores, ..*seen }, *expected);
}

#[test]
fn one_thread_agrees_with_the_model() {
    // From seconds to a day between the events of a pair, some late by up to three days.
    for (step, late_max) in [("1s", "40m"), ("7m", "10h"), ("3h", "72h")] {
        let text = format!(
            "events=4000,entities=20,late=0.3,burst=0.1,step={step},late_max={late_max},seed=11"
        );
        let map = map();
        let mut by_key: HashMap<Key, Vec<TraceEvent>> = HashMap::new();
        for event in Synthetic::new(Spec::parse(&text, 2).unwrap()) {
            map.record(event.entity, event.signal, event.time_ns, event.weight);
            let events = by_key.entry((event.entity, event.signal)).or_default();
            events.push(event);
            if event.line % 7 == 0 {
                for later_ns in [0, 1, MINUTE_NS * 59, HOUR_NS * 23, HOUR_NS * 167, HOUR_NS * 999] {
                    let now_ns = event.time_ns + later_ns;
                    let seen = map.read(event.entity, event.signal, now_ns).unwrap();
                    assert_close(&seen, &model(events, now_ns));
                }
            }
        }
        assert_eq!(map.len(), by_key.len());
    }
}

#[test]
fn what_was_never_recorded_is_not_there() {
    let map = map();
    map.record(1, 0, 5, 1.0);
    assert_eq!(map.read(1, 1, 5), None);
    assert_eq!(map.read(2, 0, 5), None);
    assert!(!map.is_empty());
}

#[test]
fn the_ends_of_time_are_recorded() {
    let map = map();
    for time_ns in [0, u64::MAX, 0, u64::MAX - 1] {
        map.record(1, 1, time_ns, 1.0);
    }
    let reading = map.read(1, 1, u64::MAX).unwrap();
    assert_eq!((reading.all_time, reading.count_1h, reading.count_7d), (4, 2, 2));
    assert!((reading.scores[0] - 2.0).abs() < 1e-12);
}

#[test]
fn two_threads_lose_no_event_and_no_weight() {
    const EVENTS: u64 = 100_000;
    let map = map();
    // Both write the same four keys; each in its own order, so that adds meet advances.
    let record = |start: u64| {
        for step in 0..EVENTS {
            let time_ns = HOUR_NS * 500 + (step * 2 + start) * 10_000_000;
            map.record(step % 2, u8::from(step % 4 < 2), time_ns, 1.0);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| record(0));
        scope.spawn(|| record(1));
    });
    let mut by_key: HashMap<Key, Vec<TraceEvent>> = HashMap::new();
    for step in 0..EVENTS {
        for start in 0..2 {
            let (entity, signal) = (step % 2, u8::from(step % 4 < 2));
            let time_ns = HOUR_NS * 500 + (step * 2 + start) * 10_000_000;
            let event = TraceEvent { time_ns, entity, signal, weight: 1.0, id: None, line: 0 };
            by_key.entry((entity, signal)).or_default().push(event);
        }
    }
    let now_ns = HOUR_NS * 501;
    for (&(entity, signal), events) in &by_key {
        assert_close(&map.read(entity, signal, now_ns).unwrap(), &model(events, now_ns));
    }
}

#[test]
fn two_threads_that_insert_the_same_keys_share_the_states() {
    const KEYS: u64 = 20_000;
    let map = map();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..KEYS).for_each(|entity| map.record(entity, 0, 1_000, 1.0)));
        }
    });
    assert_eq!(map.len() as u64, KEYS);
    assert!((0..KEYS).all(|entity| map.read(entity, 0, 1_000).unwrap().all_time == 2));
}

#[test]
fn memory_counts_states_and_unused_slots() {
    let map = SharedMap::with_capacity(100_000, &HALF_LIVES);
    let empty_bytes = map.memory_bytes();
    assert!(empty_bytes >= 100_000 * size_of::<(Key, Box<State>)>(), "{empty_bytes}");
    (0..1000).for_each(|entity| map.record(entity, 0, 1, 1.0));
    assert_eq!(map.memory_bytes() - empty_bytes, 1000 * 960);
}
