//! The laws every signal obeys, P1 to P4, and the accuracy of scores against exact arithmetic.

use dashu_float::FBig;
use dashu_float::round::mode::HalfEven;
use ebbtide_shard::limits::{HOUR_NS, MINUTE_NS, PARTITIONS};
use ebbtide_shard::model::ReferenceModel;
use ebbtide_shard::{
    EntityId, Materializer, PartitionKey, RoutedEvent, Schema, SignalId, SignalLedger,
    SignalReading, Timestamp,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;

const SIGNAL: SignalId = SignalId(0);
const ENTITY: EntityId = EntityId(42);
const YEAR_NS: u64 = 365 * 24 * HOUR_NS;

type Events = Vec<(u64, f64)>;

fn schema() -> Arc<Schema> {
    let text = "[signals.view]\nhalf_lives = [\"1h\", \"24h\", \"7d\"]\n\
                windows = [\"5min\", \"1h\", \"24h\", \"7d\"]\nvelocity = true";
    Arc::new(Schema::from_toml(text).expect("it obeys the rules"))
}

fn read(events: &[(u64, f64)], now: u64) -> SignalReading {
    let key = PartitionKey::new([1; 16]);
    let mut ledger = SignalLedger::new(schema(), key, 0..PARTITIONS);
    let hash = key.hash(ENTITY);
    for &(time, weight) in events {
        let time = Timestamp(time);
        ledger.on_event(&RoutedEvent { entity: ENTITY, time, weight, hash, signal: SIGNAL });
    }
    ledger.read(hash, ENTITY, SIGNAL, Timestamp(now)).expect("it has events")
}

fn model(events: &[(u64, f64)]) -> ReferenceModel {
    let mut model = ReferenceModel::new(schema());
    for &(time, weight) in events {
        model.record(ENTITY, SIGNAL, Timestamp(time), weight);
    }
    model
}

fn close(got: f64, want: f64, tolerance: f64) -> bool {
    (got - want).abs() <= tolerance * want.abs() + f64::MIN_POSITIVE
}

fn event() -> impl Strategy<Value = (u64, f64)> {
    let start = 43 * YEAR_NS;
    let time = prop_oneof![
        6 => start..start + 24 * HOUR_NS,
        3 => start..start + 30 * 24 * HOUR_NS,
        1 => 0..start + YEAR_NS,
    ];
    let weight =
        prop_oneof![3 => Just(1.0), 3 => 0.0..1000.0f64, 1 => 0.0..1e15f64, 1 => Just(0.0)];
    (time, weight)
}

fn events() -> impl Strategy<Value = Events> {
    prop::collection::vec(event(), 1..40)
}

proptest! {
    #![proptest_config(Config { cases: 2000, ..Config::default() })]

    /// P1: without new events a score falls, or stays, between any two instants; it is never
    /// negative.
    #[test]
    fn p1_scores_only_fall_without_events(
        events in events(),
        later in 0..2000 * 24 * HOUR_NS,
        step in prop_oneof![1..5u64, 1..HOUR_NS, 1..1000 * 24 * HOUR_NS],
    ) {
        let now = events.iter().map(|&(time, _)| time).max().unwrap() + later;
        let (sooner, later) = (read(&events, now), read(&events, now + step));
        for (&before, &after) in sooner.scores().iter().zip(later.scores()) {
            prop_assert!(after <= before && after >= 0.0, "{before} then {after}");
            // A whole half-life halves it: falling is real, not an accident of rounding to zero.
            prop_assert!(before == 0.0 || step < 7 * 24 * HOUR_NS || after < 0.51 * before);
        }
    }

    /// P3: windowed counts and velocities are those of the events in the window, to the digit.
    #[test]
    fn p3_windows_count_their_events(events in events(), later in 0..200 * HOUR_NS) {
        let now = events.iter().map(|&(time, _)| time).max().unwrap() + later;
        let want = model(&events).read(ENTITY, SIGNAL, Timestamp(now)).unwrap();
        let got = read(&events, now);
        prop_assert_eq!(got.counts(), &want.counts[..]);
        prop_assert_eq!(got.velocities(), &want.velocities[..]);
        prop_assert_eq!(got.all_time, events.len() as u64);
    }

    /// P4: the order of arrival changes a score by rounding only, and nothing else at all.
    #[test]
    fn p4_arrival_order_does_not_matter(
        (events, shuffled) in events().prop_flat_map(|e| (Just(e.clone()), Just(e).prop_shuffle())),
    ) {
        let now = 60 * YEAR_NS;
        for now in [0, now] {
            let (one, other) = (read(&events, now), read(&shuffled, now));
            prop_assert_eq!(one.counts(), other.counts());
            prop_assert_eq!((one.all_time, one.last_update), (other.all_time, other.last_update));
            for (&one, &other) in one.scores().iter().zip(other.scores()) {
                prop_assert!(close(one, other, 1e-13), "{one} {other}");
            }
        }
    }
}

/// P2: over 10,000 random sequences, in any order of arrival, every score is the analytical sum to
/// 1e-12.
#[test]
fn p2_scores_match_the_analytical_sum_over_ten_thousand_sequences() {
    let mut runner = TestRunner::new(Config { cases: 10_000, ..Config::default() });
    let sequence = (events().prop_shuffle(), 0..60 * 24 * HOUR_NS);
    runner
        .run(&sequence, |(events, later)| {
            let now = events.iter().map(|&(time, _)| time).max().unwrap() + later;
            let want = model(&events).read(ENTITY, SIGNAL, Timestamp(now)).unwrap();
            for (&got, &want) in read(&events, now).scores().iter().zip(&want.scores) {
                prop_assert!(close(got, want, 1e-12), "{got} {want}");
            }
            Ok(())
        })
        .unwrap();
}

/// The sum itself, in 200-bit arithmetic: the judge of both the fast code and the model.
#[test]
fn scores_and_the_model_match_exact_arithmetic() {
    type Big = FBig<HalfEven, 2>;
    let big = |x: f64| Big::try_from(x).unwrap().with_precision(200).value();
    let ln2 = big(2.0).ln();
    let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
    runner
        .run(&events(), |events| {
            let now = events.iter().map(|&(time, _)| time).max().unwrap() + 90 * MINUTE_NS;
            let modelled = model(&events).read(ENTITY, SIGNAL, Timestamp(now)).unwrap();
            let got = read(&events, now);
            for (k, half_life_ns) in [HOUR_NS, 24 * HOUR_NS, 168 * HOUR_NS].into_iter().enumerate()
            {
                let exact = events.iter().fold(big(0.0), |sum, &(time, weight)| {
                    let age = big((now - time) as f64) / big(half_life_ns as f64);
                    sum + big(weight) * (-(age * &ln2)).exp()
                });
                let exact = exact.to_f64().value();
                prop_assert!(close(got.scores()[k], exact, 1e-12), "{got:?} {exact}");
                prop_assert!(close(modelled.scores[k], exact, 1e-12), "{modelled:?} {exact}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn traps_of_real_data_are_exact() {
    // Timestamp zero, thousands of events in one instant, a gap of decades, underflow to zero.
    let mut events = vec![(0, 5.0); 5002];
    let reading = read(&events, 0);
    assert_eq!(
        (reading.scores()[0], reading.counts()[0], reading.all_time),
        (25_010.0, 5002, 5002)
    );
    assert_eq!(read(&events, 40 * YEAR_NS).scores(), [0.0, 0.0, 25_010.0 * 2f64.powf(-2085.714)]);

    events.push((40 * YEAR_NS, 1.0));
    events.push((20 * YEAR_NS, 1e15));
    let reading = read(&events, 0);
    assert_eq!(reading.as_of, Timestamp(40 * YEAR_NS), "clamped to the last update");
    assert!(close(reading.scores()[0], 1.0, 1e-15));
    assert_eq!((reading.counts()[3], reading.all_time), (1, 5004));

    // The end of time.
    let end = read(&[(u64::MAX, 1.0), (u64::MAX, 1.0)], u64::MAX);
    assert!(end.scores().iter().all(|&score| close(score, 2.0, 1e-15)));
    assert_eq!(end.counts(), [2; 4]);
}
