//! What must not enter, through the public interface: each bad event comes back with a typed
//! reason, is counted, and leaves the good ones around it alone; each bad schema names its rule.

use ebbtide::{
    Ack, Backend, Engine, EntityId, Event, ManualClock, OfferError, Producer, Rejection, Schema,
    SchemaError, SignalBuilder, SignalId, Timestamp, WeightError,
};
use ebbtide_shard::limits::{
    HALF_LIFE_NS_MAX, HALF_LIFE_NS_MIN, SIGNAL_NAME_BYTES_MAX, SIGNALS_MAX, WEIGHT_MAX, WINDOWS_MAX,
};
use ebbtide_tests::setting::{PATIENCE, with_shards};
use ebbtide_tests::truth::{model, state};
use std::sync::Arc;
use std::time::Duration;

const VIEW: SignalId = SignalId(2);
const NOON: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SKEW: Duration = Duration::from_secs(5);

fn good(entity: u64) -> Event {
    Event::new(EntityId(entity), VIEW, NOON)
}

fn rejection(producer: &mut Producer, event: Event) -> Rejection {
    let error = producer.offer(event).expect_err("a bad event is refused");
    assert!(!error.is_retryable(), "it will not get better");
    let back = error.event();
    assert_eq!((back.entity, back.signal, back.time), (event.entity, event.signal, event.time));
    assert_eq!(back.weight.to_bits(), event.weight.to_bits(), "it comes back as it was");
    match error {
        OfferError::Rejected { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// An engine whose clock shows [`NOON`], with that clock.
fn engines_at_noon() -> impl Iterator<Item = (Engine, Arc<ManualClock>)> {
    with_shards(2).into_iter().map(|setting| {
        let clock = Arc::new(ManualClock::at(NOON));
        let builder = setting.builder().clock(Arc::clone(&clock) as _).future_skew_max(SKEW);
        (builder.open().expect("it opens"), clock)
    })
}

#[test]
fn a_weight_that_is_none_is_refused_and_the_events_around_it_are_not() {
    use WeightError::{Negative, NotFinite, TooLarge};
    for (engine, _) in engines_at_noon() {
        let mut producer = engine.producer().unwrap();
        let mut recorded = Vec::new();
        let bad = [
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            -5e-324,
            WEIGHT_MAX.next_up(),
            f64::MAX,
        ];
        for (weight, entity) in bad.into_iter().zip(0..) {
            recorded.push(good(entity));
            let _ticket = producer.offer(good(entity)).unwrap();
            let reason = rejection(&mut producer, good(entity).with_weight(weight));
            let Rejection::Weight(reason) = reason else { panic!("{reason}") };
            let typed = match reason {
                NotFinite { weight } => !weight.is_finite(),
                Negative { weight } => weight < 0.0,
                TooLarge { weight } => weight > WEIGHT_MAX && weight.is_finite(),
                other => panic!("{other}"),
            };
            assert!(typed, "{weight}: {reason}");
        }
        for weight in [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, WEIGHT_MAX] {
            recorded.push(good(99).with_weight(weight));
            let _ticket = producer.offer(good(99).with_weight(weight)).unwrap();
        }
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        let model = model(engine.schema(), &recorded);
        for ((entity, signal), reading) in state(&engine, NOON) {
            let right = model.read(entity, signal, NOON).expect("only good events were applied");
            ebbtide_tests::truth::assert_right(&reading, &right, &entity.to_string());
        }
        let metrics = engine.metrics();
        assert_eq!(metrics.rejected.weight, bad.len() as u64);
        assert_eq!(metrics.rejected.total(), bad.len() as u64);
        assert_eq!(metrics.events_applied(), recorded.len() as u64);
        assert_eq!(metrics.pairs(), bad.len() as u64 + 1);
    }
}

#[test]
fn an_event_too_far_ahead_of_the_clock_waits_for_the_clock() {
    for (engine, clock) in engines_at_noon() {
        let mut producer = engine.producer().unwrap();
        let ahead = |by: Duration| Event { time: NOON.plus(by), ..good(1) };
        let _ticket = producer.offer(ahead(SKEW)).unwrap();
        let early = ahead(SKEW + Duration::from_nanos(1));
        let reason = rejection(&mut producer, early);
        let right = Rejection::Future {
            time: early.time,
            ahead: SKEW + Duration::from_nanos(1),
            allowed: SKEW,
        };
        assert_eq!(reason, right);
        let end = Event { time: Timestamp::MAX, ..good(1) };
        assert!(matches!(rejection(&mut producer, end), Rejection::Future { .. }));
        let mut other = engine.producer().unwrap();
        assert!(matches!(rejection(&mut other, early), Rejection::Future { .. }));
        assert_eq!(engine.metrics().rejected.future, 3);

        clock.advance_to(NOON.plus(Duration::from_nanos(1)));
        let _ticket = producer.offer(early).unwrap();
        let ticket = producer.offer(Event { time: Timestamp(0), ..good(1) }).unwrap();
        producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        let reading = engine.reader().unwrap().read(EntityId(1), VIEW, NOON).unwrap().unwrap();
        assert_eq!((reading.all_time, reading.last_update), (3, early.time));
        assert_eq!(engine.metrics().rejected.total(), 3);
    }
}

#[test]
fn without_skew_the_present_is_the_last_instant() {
    for setting in with_shards(1) {
        let clock = Arc::new(ManualClock::at(NOON));
        let engine = setting.builder().clock(clock).future_skew_max(Duration::ZERO).open().unwrap();
        let mut producer = engine.producer().unwrap();
        let next = Event { time: Timestamp(NOON.as_nanos() + 1), ..good(1) };
        assert!(matches!(rejection(&mut producer, next), Rejection::Future { .. }));
        let ticket = producer.offer(good(1)).unwrap();
        assert_eq!(producer.wait(ticket, Ack::Applied, PATIENCE), Ok(()));
    }
}

#[test]
fn a_signal_the_schema_does_not_have_is_refused() {
    for (engine, _) in engines_at_noon() {
        let mut producer = engine.producer().unwrap();
        for id in [3, 4, 63, 64, u8::MAX] {
            let signal = SignalId(id);
            let reason = rejection(&mut producer, Event { signal, ..good(1) });
            assert_eq!(reason, Rejection::UnknownSignal { signal, known: 3 });
        }
        assert_eq!(engine.metrics().rejected.unknown_signal, 5);
        assert_eq!(engine.metrics().rejected.total(), 5);
        assert_eq!(state(&engine, NOON).len(), 0, "nothing was applied");
    }
}

#[test]
fn a_batch_stops_at_a_bad_event_and_can_go_on_behind_it() {
    for (engine, _) in engines_at_noon() {
        let mut producer = engine.producer().unwrap();
        let bad = good(3).with_weight(-1.0);
        let batch = [good(1), good(2), bad, good(4)];
        let offered = producer.offer_batch(&batch);
        assert_eq!(offered.taken, 2);
        let stopped = offered.stopped.unwrap();
        assert!(matches!(&stopped, OfferError::Rejected { event, .. } if *event == bad));
        assert_eq!(producer.offer_batch(&batch[3..]).taken, 1);
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        let held: Vec<u64> = state(&engine, NOON).keys().map(|pair| pair.0.0).collect();
        assert_eq!(held, [1, 2, 4]);
        assert_eq!(engine.metrics().rejected.total(), 1);
        assert!(
            matches!(producer.offer_within(bad, PATIENCE), Err(OfferError::Rejected { .. })),
            "there is nothing to wait for"
        );
    }
}

#[test]
fn a_shard_at_its_memory_limit_refuses_what_is_new_and_keeps_what_it_has() {
    for setting in with_shards(1) {
        let open = |bytes| setting.builder().memory_limit(bytes).open().expect("it opens");
        let unlimited = open(usize::MAX);
        let idle = usize::try_from(measured(&unlimited)).unwrap();
        let engine = open(idle + 1_000_000);
        let mut producer = engine.producer().unwrap();
        let mut accepted = 0;
        let refused = loop {
            match producer.offer_within(good(accepted), PATIENCE) {
                Ok(_ticket) => accepted += 1,
                Err(refused) => break refused,
            }
            assert!(accepted < 1_000_000, "{setting}: there is no limit");
        };
        assert_eq!(refused, OfferError::MemoryLimit { event: good(accepted), shard: 0 });
        assert!(!refused.is_retryable(), "nothing is evicted");
        let batch = producer.offer_batch(&[good(accepted)]);
        assert_eq!((batch.taken, batch.stopped), (0, Some(refused)));
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        assert_eq!(state(&engine, NOON).len() as u64, accepted, "what was accepted is there");
        assert!(measured(&engine) > idle as u64 + 1_000_000, "not before the limit");
        // One ring may still have been under way.
        assert!(measured(&engine) < idle as u64 + 3_000_000, "nor much behind it");
    }
}

/// Bytes of state held, asked between two turns.
fn measured(engine: &Engine) -> u64 {
    engine.on_every_shard(|_| ()).expect("every shard runs");
    engine.on_every_shard(|_| ()).expect("every shard runs");
    engine.metrics().memory_bytes()
}

fn hours(n: u64) -> Duration {
    Duration::from_hours(n)
}

fn one(define: impl FnOnce(SignalBuilder) -> SignalBuilder) -> Result<Schema, SchemaError> {
    Schema::builder().signal("view", define).build()
}

fn broken(define: impl FnOnce(SignalBuilder) -> SignalBuilder) -> SchemaError {
    one(define).expect_err("a rule is broken")
}

fn hourly(signal: SignalBuilder) -> SignalBuilder {
    signal.half_lives([hours(1)])
}

#[test]
fn a_schema_has_one_to_64_signal_types_of_different_names() {
    let of = |count: usize| {
        let names = (0..count).map(|n| format!("s{n}"));
        names.fold(Schema::builder(), |schema, name| schema.signal(&name, hourly)).build()
    };
    assert_eq!(of(0), Err(SchemaError::Empty));
    let schema = of(SIGNALS_MAX).unwrap();
    assert_eq!(of(SIGNALS_MAX + 1), Err(SchemaError::TooManySignals { count: SIGNALS_MAX + 1 }));
    let twice = Schema::builder().signal("a", hourly).signal("a", hourly).build();
    assert_eq!(twice, Err(SchemaError::DuplicateSignal { signal: "a".into() }));

    let clock = Arc::new(ManualClock::at(NOON));
    let engine = Engine::in_memory().schema(schema).shards(1).clock(clock);
    let engine = engine.backend(Backend::Threads).open().unwrap();
    let mut producer = engine.producer().unwrap();
    let ids: Vec<SignalId> = engine.schema().signals().map(|(id, _)| id).collect();
    for &signal in &ids {
        let _ticket = producer.offer(Event { signal, ..good(1) }).unwrap();
    }
    producer.flush(Ack::Applied, PATIENCE).unwrap();
    assert!(state(&engine, NOON).keys().map(|pair| pair.1).eq(ids), "all of them count");
}

#[test]
fn a_signal_type_has_a_name_that_can_be_written_anywhere() {
    let longest = "x".repeat(SIGNAL_NAME_BYTES_MAX);
    for name in ["a", "_", "view.v2", "Add-To-Cart", &longest] {
        let schema = Schema::builder().signal(name, hourly).build().unwrap();
        assert_eq!(schema.signal(name), Some(SignalId(0)));
    }
    for name in ["", "1st", "-a", ".a", "a b", "a,b", "a\"", "é", "a\n", &(longest.clone() + "x")]
    {
        let refused = Schema::builder().signal(name, hourly).build();
        assert_eq!(refused, Err(SchemaError::BadName { signal: name.into() }));
    }
}

#[test]
fn a_signal_type_has_one_to_three_different_half_lives_within_bounds() {
    use SchemaError as E;
    assert!(matches!(broken(|s| s), E::HalfLifeCount { count: 0, .. }));
    assert!(matches!(
        broken(|s| s.half_lives((1..5).map(hours))),
        E::HalfLifeCount { count: 4, .. }
    ));
    let twice = broken(|s| s.half_lives([hours(1), hours(2), hours(1)]));
    assert!(matches!(twice, E::DuplicateHalfLife { half_life, .. } if half_life == "1h"));
    let (shortest, longest) = (HALF_LIFE_NS_MIN, HALF_LIFE_NS_MAX);
    let ends = [shortest, longest].map(Duration::from_nanos);
    let schema = one(|s| s.half_lives(ends)).unwrap();
    let half_lives = schema.def(SignalId(0)).half_lives();
    let ns = [half_lives[0].as_nanos(), half_lives[1].as_nanos()];
    assert_eq!(ns, [shortest, longest], "the order given: the first is primary");
    let beyond = [shortest - 1, longest + 1].map(Duration::from_nanos);
    for length in beyond.into_iter().chain([Duration::ZERO, Duration::MAX]) {
        assert!(matches!(broken(|s| s.half_lives([length])), E::BadHalfLife { .. }), "{length:?}");
    }
}

#[test]
fn windows_are_whole_minutes_or_hours_that_the_buckets_reach() {
    use SchemaError as E;
    let minutes = Duration::from_mins;
    let all = [hours(168), minutes(60), minutes(1), hours(2), minutes(1), minutes(59)];
    let schema = one(|s| hourly(s).windows(all)).unwrap();
    let labels: Vec<&str> = schema.def(SignalId(0)).window_labels().collect();
    assert_eq!(labels, ["1min", "59min", "1h", "2h", "7d"], "by length, each once");
    let odd = [Duration::from_secs(59), minutes(61), minutes(90), hours(169), Duration::ZERO];
    for window in odd.into_iter().chain([Duration::MAX, minutes(5) + Duration::from_nanos(1)]) {
        let refused = broken(|s| hourly(s).windows([window]));
        assert!(matches!(refused, E::BadWindow { .. }), "{window:?}: {refused}");
    }
    let most = WINDOWS_MAX as u64;
    assert!(one(|s| hourly(s).windows((1..=most).map(minutes))).is_ok());
    let many = broken(|s| hourly(s).windows((1..=most + 1).map(minutes)));
    assert!(matches!(many, E::TooManyWindows { count, .. } if count == WINDOWS_MAX + 1));
    let windowless = broken(|s| hourly(s).velocity());
    assert_eq!(windowless, E::VelocityWithoutWindow { signal: "view".into() });
}

#[test]
fn a_schema_in_toml_obeys_the_same_rules_and_says_where() {
    let refusal = |text: &str| Schema::from_toml(text).expect_err("a rule is broken");
    assert_eq!(refusal(""), SchemaError::Empty);
    for (rest, told) in [
        ("half_lives = []", "'view' has 0 half-lives"),
        ("half_lives = [\"soon\"]", "'view': half-life 'soon' is not between"),
        ("half_lives = [\"1h\", \"60min\"]", "'view': half-life '60min' is given twice"),
        ("half_lives = [\"1h\"]\nwindows = [\"90s\"]", "'view': window '90s' is neither"),
        ("half_lives = [\"1h\"]\nvelocity = true", "'view' asks for velocity but has no window"),
        ("half_lives = [\"1h\"]\ndedup = \"both\"", "'view': dedup = \"both\" is unknown"),
        ("half_lives = [\"1h\"]\nhalf_life = 3", "line 3"),
        ("half_lives = [\"1h\"]\n[signals.view]", "duplicate"),
    ] {
        let text = refusal(&format!("[signals.view]\n{rest}\n")).to_string();
        assert!(text.contains(told), "{rest}: {text}");
    }
}
