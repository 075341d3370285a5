//! The ledger against the reference model, pair by pair and ranking by ranking.

use super::*;
use crate::limits::{HOUR_NS, HUGE_PAGE_BYTES, MINUTE_NS, SEGMENT_GROUPS, TOP_K_MAX};
use crate::model::ReferenceModel;
use crate::{EntityId, Materializer as _, Ranked, RoutedEvent, SignalId, Timestamp};
use proptest::prelude::*;
use std::cmp::Reverse;

const SCHEMA: &str = r#"
    [signals.delay]
    half_lives = ["1s"]
    [signals.view]
    half_lives = ["1h", "24h", "7d"]
    windows = ["5min", "1h", "24h", "7d"]
    velocity = true
"#;

struct Both {
    key: PartitionKey,
    ledger: SignalLedger,
    model: ReferenceModel,
}

impl Both {
    fn new() -> Self {
        let schema = Arc::new(Schema::from_toml(SCHEMA).unwrap());
        let key = PartitionKey::new([5; 16]);
        let ledger = SignalLedger::new(Arc::clone(&schema), key, 0..PARTITIONS);
        Self { key, ledger, model: ReferenceModel::new(schema) }
    }

    fn record(&mut self, entity: u64, signal: u8, time: u64, weight: f64) {
        let (entity, signal, time) = (EntityId(entity), SignalId(signal), Timestamp(time));
        let hash = self.key.hash(entity);
        self.ledger.on_event(&RoutedEvent { entity, time, weight, hash, signal });
        self.model.record(entity, signal, time, weight);
    }

    fn assert_agreement(&self, now: Timestamp) {
        assert_eq!(self.ledger.pairs(), self.model.pairs().len());
        assert_eq!(self.ledger.iter(now).count(), self.model.pairs().len());
        for (entity, signal) in self.model.pairs() {
            let want = self.model.read(entity, signal, now).unwrap();
            let got = self.ledger.read(self.key.hash(entity), entity, signal, now).unwrap();
            assert_eq!((got.as_of, got.last_update), (want.as_of, want.last_update));
            assert_eq!((got.counts(), got.all_time), (&want.counts[..], want.all_time));
            assert_eq!(got.velocities(), &want.velocities[..]);
            for (&got, &want) in got.scores().iter().zip(&want.scores) {
                assert!((got - want).abs() <= 1e-12 * want + f64::MIN_POSITIVE, "{got} {want}");
            }
        }
    }

    fn top(&self, half_life: usize, k: usize, now: Timestamp) -> Vec<EntityId> {
        let top = self.ledger.top_k(SignalId(1), half_life, k, now);
        top.into_iter().map(|entry| entry.entity).collect()
    }
}

/// Twenty-one years of events with everything real traces hide: zero, gaps, bursts, the far past.
fn time() -> impl Strategy<Value = u64> {
    let year = 365 * 24 * HOUR_NS;
    prop_oneof![
        1 => Just(0),
        4 => 40 * year..40 * year + 3 * MINUTE_NS,
        4 => 40 * year..40 * year + 8 * 24 * HOUR_NS,
        2 => 20 * year..41 * year,
        1 => 0..u64::MAX,
    ]
}

proptest! {
    #[test]
    fn every_reading_agrees_with_the_model(
        events in prop::collection::vec((0..6u64, 0..2u8, time(), 0..1000u32), 1..200),
        now in time(),
    ) {
        let mut both = Both::new();
        for (entity, signal, time, weight) in events {
            both.record(entity, signal, time, f64::from(weight) / 8.0);
        }
        both.assert_agreement(Timestamp(now));
        both.assert_agreement(Timestamp::MAX);
    }

    #[test]
    fn the_top_is_exact_whatever_came_before(
        events in prop::collection::vec((0..700u64, time(), 1..1_000_000u32), 1..2500),
        k in 1..=TOP_K_MAX,
    ) {
        let mut both = Both::new();
        for (entity, time, weight) in events {
            // Weights are all different, so that ties do not depend on rounding.
            both.record(entity, 1, time, f64::from(weight) + entity as f64 / 1024.0);
        }
        for half_life in 0..3 {
            let all = both.ledger.iter(Timestamp::MAX).filter(|(_, signal, _)| signal.0 == 1);
            let mut by_rank: Vec<_> = all
                .map(|(entity, signal, _)| {
                    let hash = both.key.hash(entity);
                    let state = both.ledger.states.find(hash, entity, signal).unwrap();
                    let half_lives = both.ledger.schema.def(signal).half_lives();
                    (Reverse(state.hot.rank(half_life, &half_lives[half_life])), entity)
                })
                .collect();
            by_rank.sort_unstable();
            let want: Vec<_> = by_rank.into_iter().take(k).map(|(_, entity)| entity).collect();
            prop_assert_eq!(both.top(half_life, k, Timestamp(0)), want);
        }
    }
}

#[test]
fn ranks_order_pairs_as_their_scores_do() {
    let mut both = Both::new();
    let year = 365 * 24 * HOUR_NS;
    for entity in 0..300u64 {
        let time = 44 * year + entity * 7 * HOUR_NS * 24 % (3 * year);
        both.record(entity, 1, time, 1.0 + (entity * 37 % 101) as f64);
    }
    let now = Timestamp(47 * year);
    let want = both.model.top_k(SignalId(1), 2, 50, now);
    let want: Vec<_> = want.into_iter().map(|(entity, _)| entity).collect();
    assert_eq!(both.top(2, 50, now), want);
}

/// In batches, so that the front's bar decides and not the list's.
#[test]
fn of_equal_sums_the_smaller_ids_are_the_top_in_whatever_order_they_come() {
    let now = 44 * 365 * 24 * HOUR_NS;
    for step in [1, 599, 367, 233] {
        let mut both = Both::new();
        // The front stands before they come, and they do not move it.
        both.record(10_000, 1, now + MINUTE_NS, 0.0);
        let event = |n: u64| {
            let (entity, signal) = (EntityId(n * step % 600), SignalId(1));
            let hash = both.key.hash(entity);
            RoutedEvent { entity, time: Timestamp(now), weight: 2.0, hash, signal }
        };
        let events: Vec<_> = (1..=600).map(event).collect();
        events.chunks(64).for_each(|batch| both.ledger.apply_batch(batch));
        let want: Vec<_> = (0..TOP_K_MAX as u64).map(EntityId).collect();
        for half_life in 0..3 {
            assert_eq!(both.top(half_life, TOP_K_MAX, Timestamp(now)), want, "{step}");
        }
    }
}

#[test]
fn an_entity_with_nothing_but_zero_weights_is_in_no_ranking() {
    let mut both = Both::new();
    both.record(1, 1, 0, 0.0);
    assert_eq!(both.top(0, 10, Timestamp(0)), []);
    both.record(1, 1, 0, 5e-3);
    assert_eq!(both.top(0, 10, Timestamp(0)), [EntityId(1)]);
}

#[test]
fn a_full_all_time_counter_stays_full_and_says_so() {
    let mut both = Both::new();
    both.record(1, 1, 0, 1.0);
    let hash = both.key.hash(EntityId(1));
    both.ledger.states.at_mut(0).unwrap().hot.set_all_time(u64::MAX);
    let read = |both: &Both| both.ledger.read(hash, EntityId(1), SignalId(1), Timestamp(0));
    assert!(!read(&both).unwrap().saturated);
    both.record(1, 1, 0, 1.0);
    let reading = read(&both).unwrap();
    assert_eq!((reading.all_time, reading.saturated), (u64::MAX, true));
}

#[test]
fn a_row_holds_the_columns_in_their_order_and_zeros_for_strangers() {
    let mut both = Both::new();
    both.record(7, 1, 0, 8.0);
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let plan = crate::Plan::over(&schema)
        .count("view", "1h")
        .and_then(|plan| plan.score("view", "1h"))
        .and_then(|plan| plan.all_time("delay"))
        .and_then(|plan| plan.velocity("view", "5min"))
        .and_then(|plan| plan.all_time("view"))
        .unwrap()
        .build();
    let mut row = [9.0; 5];
    let (entity, now) = (EntityId(7), Timestamp(0));
    both.ledger.read_rows(&[(both.key.hash(entity), entity)], plan.columns(), now, &mut row);
    assert_eq!(row, [1.0, 8.0, 0.0, 1.0 / 300.0, 1.0]);
    let stranger = EntityId(8);
    both.ledger.read_rows(&[(both.key.hash(stranger), stranger)], plan.columns(), now, &mut row);
    assert_eq!(row, [0.0; 5]);
}

#[test]
fn memory_grows_by_a_few_huge_pages_at_most_at_a_time() {
    let mut both = Both::new();
    let mut largest_step = 0;
    for entity in 0..200_000u64 {
        let before = both.ledger.states.memory_bytes();
        let (signal, hash) = (SignalId(1), both.key.hash(EntityId(entity)));
        let event =
            RoutedEvent { entity: EntityId(entity), time: Timestamp(0), weight: 1.0, hash, signal };
        both.ledger.on_event(&event);
        largest_step = largest_step.max(both.ledger.states.memory_bytes() - before);
    }
    // Pages made ahead of slots and index, a segment of the index, and the directory.
    assert!(largest_step <= 2 * HUGE_PAGE_BYTES + SEGMENT_GROUPS * 64 + 4096, "{largest_step}");
}

proptest! {
    #[test]
    fn a_batch_gives_the_same_bits_as_its_events(
        events in prop::collection::vec((0..300u64, 0..2u8, time(), 0..1000u32), 1..1200),
        batch in 1..600usize,
        now in time(),
    ) {
        let (mut one_by_one, mut batched) = (Both::new(), Both::new());
        let key = PartitionKey::new([5; 16]);
        let events: Vec<_> = events
            .into_iter()
            .map(|(entity, signal, time, weight)| {
                let (entity, signal, time) = (EntityId(entity), SignalId(signal), Timestamp(time));
                let (hash, weight) = (key.hash(entity), f64::from(weight) / 8.0);
                RoutedEvent { entity, time, weight, hash, signal }
            })
            .collect();
        for event in &events {
            one_by_one.ledger.on_event(event);
        }
        events.chunks(batch).for_each(|batch| batched.ledger.apply_batch(batch));
        let now = Timestamp(now);
        prop_assert!(one_by_one.ledger.iter(now).eq(batched.ledger.iter(now)));
        for half_life in 0..3 {
            prop_assert_eq!(one_by_one.top(half_life, 128, now), batched.top(half_life, 128, now));
        }
    }
}

/// Within the front, where what events add is worked out ahead, for groups of one signal type and
/// of several, whole and not.
#[test]
fn a_batch_of_any_length_within_the_front_gives_the_same_bits_as_its_events() {
    let (mut one_by_one, mut batched) = (Both::new(), Both::new());
    let start_ns = 35 * 365 * 24 * HOUR_NS;
    let mut random = 1u64;
    let mut next = |signals: Range<u64>| {
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let signal = signals.start + (random >> 20) % (signals.end - signals.start);
        let (entity, signal) = (EntityId(random >> 56), SignalId(u8::try_from(signal).unwrap()));
        let time = Timestamp(start_ns + (random >> 30) % (2 * MINUTE_NS));
        let (hash, weight) = (one_by_one.key.hash(entity), (random >> 50) as f64 / 7.0);
        RoutedEvent { entity, time, weight, hash, signal }
    };
    for turn in 0..400 {
        let length = [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 512][turn % 15];
        let signals = [0..1, 1..2, 0..2][turn % 3].clone();
        let events: Vec<_> = (0..length).map(|_| next(signals.clone())).collect();
        for event in &events {
            one_by_one.ledger.on_event(event);
        }
        batched.ledger.apply_batch(&events);
        let now = Timestamp(start_ns + 3 * MINUTE_NS);
        assert!(one_by_one.ledger.iter(now).eq(batched.ledger.iter(now)), "turn {turn}");
        let top = |both: &Both, signal| both.ledger.top_k(SignalId(signal), 0, 128, now);
        assert_eq!([0, 1].map(|id| top(&one_by_one, id)), [0, 1].map(|id| top(&batched, id)));
    }
    assert!(batched.ledger.front_moves < 10, "nearly all events were within the front");
}

proptest! {
    #[test]
    fn a_matrix_gives_the_same_bits_as_its_readings(
        events in prop::collection::vec((0..90u64, 0..2u8, time(), 0..1000u32), 1..600),
        asked in prop::collection::vec(0..100u64, 0..90),
        now in time(),
    ) {
        let mut both = Both::new();
        for (entity, signal, time, weight) in events {
            both.record(entity, signal, time, f64::from(weight) / 8.0);
        }
        let schema = Schema::from_toml(SCHEMA).unwrap();
        let plan = crate::Plan::over(&schema)
            .score("view", "7d")
            .and_then(|plan| plan.count("view", "24h"))
            .and_then(|plan| plan.all_time("delay"))
            .and_then(|plan| plan.velocity("view", "1h"))
            .and_then(|plan| plan.score("view", "1h"))
            .unwrap()
            .build();
        let asked: Vec<_> =
            asked.into_iter().map(|id| (both.key.hash(EntityId(id)), EntityId(id))).collect();
        let mut values = vec![f64::NAN; 5 * asked.len()];
        let now = Timestamp(now);
        both.ledger.read_rows(&asked, plan.columns(), now, &mut values);
        for (&(hash, entity), row) in asked.iter().zip(values.chunks_exact(5)) {
            let [delay, view] = [0, 1].map(|id| both.ledger.read(hash, entity, SignalId(id), now));
            let of_view = view.map_or([0.0; 4], |view| {
                let counts = view.counts()[2] as f64;
                [view.scores()[2], counts, view.velocities()[1], view.scores()[0]]
            });
            let all_time = delay.map_or(0.0, |delay| delay.all_time as f64);
            let [score, count, velocity, first] = of_view;
            let want = [score, count, all_time, velocity, first];
            prop_assert_eq!(row, &want);
        }
        let weights = [1.0, 0.5, -2.0, 3.0, 0.25];
        let mut rows = crate::request::Rows {
            columns: plan.columns().clone(),
            entities: asked.clone(),
            values: vec![0.0; values.len()],
            weights: weights.into(),
            ranked: Vec::new(),
        };
        both.ledger.rank_rows(&mut rows, 7, now);
        let sum = |row: &[f64]| row.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
        let mut want: Vec<_> = values.chunks_exact(5).map(sum).zip(&asked).collect();
        want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.1.cmp(&b.1.1)));
        let ranked = |(value, &(_, entity)): (f64, &(_, EntityId))| Ranked { entity, value };
        let want: Vec<_> = want.into_iter().take(7).map(ranked).collect();
        prop_assert_eq!(rows.ranked, want);
    }
}
