//! What an engine answers, through its public interface: the same on both runtimes, with one and
//! with several shards, from threads and from futures, and always what the reference model says.

use ebbtide::{
    Ack, AsyncReader, BatchOffer, Engine, EntityId, Event, OfferError, Plan, Producer, ReadError,
    Schema, SignalId, SignalReading, Timestamp,
};
use ebbtide_tests::setting::{PATIENCE, Setting, entity_of_each_shard, settings, with_shards};
use ebbtide_tests::stopped::Stopped;
use ebbtide_tests::stream::{Stream, entities, newest};
use ebbtide_tests::truth::{State, assert_agrees, every_number, model, state};
use futures_lite::future::{block_on, poll_once};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const VIEW: SignalId = SignalId(2);

fn later(time: Timestamp) -> [Timestamp; 4] {
    let after = |seconds| time.plus(Duration::from_secs(seconds));
    [time, after(90), after(3 * 86_400), time.plus(20 * YEAR)]
}

fn at(entity: EntityId, seconds: u64) -> Event {
    Event::new(entity, VIEW, Timestamp::from_seconds(seconds))
}

/// Offers one by one, again while the ring is full.
fn offer_each(producer: &mut Producer, events: &[Event]) {
    for &event in events {
        while let Err(error) = producer.offer(event) {
            assert!(matches!(error, OfferError::Full { .. }), "{error}");
            thread::yield_now();
        }
    }
}

/// Offers in batches, the rest again while a ring is full.
fn offer_in_batches(producer: &mut Producer, mut events: &[Event]) {
    while !events.is_empty() {
        let batch = &events[..events.len().min(700)];
        let BatchOffer { taken, stopped } = producer.offer_batch(batch);
        assert_eq!(stopped.is_none(), taken == batch.len());
        assert!(stopped.is_none_or(|error| matches!(error, OfferError::Full { .. })));
        events = &events[taken..];
    }
}

fn offer_patiently(producer: &mut Producer, events: &[Event]) {
    for &event in events {
        let _ticket = producer.offer_within(event, PATIENCE).expect("the shard makes room");
    }
}

fn record_with_one_producer(engine: &Engine, events: &[Event]) {
    let mut producer = engine.producer().unwrap();
    offer_in_batches(&mut producer, events);
    producer.flush(Ack::Applied, PATIENCE).expect("everything is applied");
}

#[test]
fn every_way_of_asking_agrees_with_the_model_whoever_recorded() {
    let ways = [offer_each, offer_in_batches, offer_patiently];
    let streams: Vec<Vec<Event>> = (1..=3).map(|seed| Stream::of(seed, 6_000)).collect();
    for setting in settings() {
        println!("{setting}");
        let engine = setting.open();
        thread::scope(|scope| {
            for (way, events) in ways.iter().zip(&streams) {
                let engine = &engine;
                scope.spawn(move || {
                    let mut producer = engine.producer().unwrap();
                    way(&mut producer, events);
                    producer.flush(Ack::Applied, PATIENCE).expect("everything is applied");
                });
            }
        });
        let events = streams.concat();
        let model = model(engine.schema(), &events);
        for now in later(newest(&events)) {
            assert_agrees(&engine, &model, now);
        }
        let metrics = engine.metrics();
        assert_eq!(metrics.events_applied(), 18_000);
        assert_eq!(metrics.pairs(), model.pairs().len() as u64);
        engine.close(PATIENCE).unwrap();
    }
}

#[test]
fn answers_do_not_depend_on_the_runtime_or_the_number_of_shards() {
    let events = Stream::of(4, 8_000);
    let now = newest(&events).plus(Duration::from_secs(5));
    let mut first: Option<(Setting, State)> = None;
    for setting in settings() {
        let engine = setting.open();
        record_with_one_producer(&engine, &events);
        let state = state(&engine, now);
        engine.close(PATIENCE).unwrap();
        let Some((other, known)) = &first else {
            first = Some((setting, state));
            continue;
        };
        assert!(state.keys().eq(known.keys()));
        for (reading, known) in state.values().zip(known.values()) {
            assert_eq!(reading, known, "{setting} beside {other}");
            let bits = |reading: &SignalReading| {
                reading.scores().iter().map(|score| score.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(bits(reading), bits(known), "{setting} beside {other}");
        }
    }
}

#[test]
fn an_event_that_was_waited_for_is_read() {
    for setting in settings() {
        let engine = setting.open();
        let mut producer = engine.producer().unwrap();
        let mut reader = engine.reader().unwrap();
        for round in 1..=300 {
            let event = at(entities()[usize::try_from(round % 7).unwrap()], round);
            let ticket = producer.offer(event).unwrap();
            assert!(producer.is_acked(ticket, Ack::Accepted));
            producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
            assert!(producer.is_acked(ticket, Ack::Applied));
            let reading = reader.read(event.entity, VIEW, event.time).unwrap().unwrap();
            assert_eq!(reading.last_update, event.time, "{setting}, round {round}");
            assert_eq!(reading.all_time, round.div_ceil(7));
        }
    }
}

fn tokio_of_two_threads() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_time().build().expect("two threads can be had")
}

#[test]
fn a_ticket_is_a_future_of_any_executor_and_outlives_its_producer() {
    let runtime = tokio_of_two_threads();
    for setting in with_shards(2) {
        let engine = setting.open();
        let mut producer = engine.producer().unwrap();
        let mut acked = |seconds| {
            let ticket = producer.offer(at(EntityId(seconds), seconds)).unwrap();
            producer.acked(ticket, Ack::Applied)
        };
        block_on(acked(1)).unwrap();
        runtime.block_on(acked(2)).unwrap();
        let many: Vec<_> = (3..=500).map(acked).collect();
        drop(producer);
        runtime.block_on(async {
            let tasks: Vec<_> = many.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                let within = tokio::time::timeout(PATIENCE, task).await;
                within.expect("woken").unwrap().expect("applied");
            }
        });
        assert_eq!(state(&engine, Timestamp(0)).len(), 500, "{setting}");
    }
}

#[test]
fn a_ticket_of_a_future_dropped_before_its_time_can_be_waited_for_again() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let mut producer = engine.producer().unwrap();
        let stopped = Stopped::shard_of(&engine, EntityId(1));
        let ticket = producer.offer(at(EntityId(1), 1)).unwrap();
        for _ in 0..3 {
            let pending = block_on(poll_once(producer.acked(ticket, Ack::Applied)));
            assert_eq!(pending, None, "{setting}: the shard stands");
        }
        assert_eq!(block_on(producer.acked(ticket, Ack::Accepted)), Ok(()));
        stopped.go_on();
        assert_eq!(block_on(producer.acked(ticket, Ack::Applied)), Ok(()));
    }
}

#[test]
fn tasks_of_tokio_read_beside_each_other() {
    let events = Stream::of(5, 3_000);
    let now = newest(&events);
    let runtime = tokio_of_two_threads();
    for setting in with_shards(4) {
        let engine = setting.open();
        record_with_one_producer(&engine, &events);
        let right = Arc::new(state(&engine, now));
        runtime.block_on(async {
            let read_all = |mut reader: AsyncReader, right: Arc<State>| async move {
                for (&(entity, signal), &reading) in right.iter() {
                    assert_eq!(reader.read(entity, signal, now).await, Ok(Some(reading)));
                }
            };
            let tasks: Vec<_> = (0..4)
                .map(|_| engine.async_reader().unwrap())
                .map(|reader| tokio::spawn(read_all(reader, Arc::clone(&right))))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}

#[test]
fn a_question_dropped_half_way_spoils_none_of_the_next_ones() {
    let events = Stream::of(6, 3_000);
    let now = newest(&events);
    for setting in with_shards(2) {
        let engine = Arc::new(setting.open());
        record_with_one_producer(&engine, &events);
        let model = model(engine.schema(), &events);
        let right = state(&engine, now);
        let [one, other] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let mut reader = engine.async_reader().unwrap();
        let plan = every_number(engine.schema());
        let weights = vec![1.0; plan.columns().len()];
        let mut matrix = vec![f64::NAN; 50 * plan.columns().len()];
        for stop in [one, other] {
            for question in 0..4 {
                let stopped = Stopped::shard_of(&engine, stop);
                let candidates = entities();
                let half_way = match question {
                    0 => is_pending(reader.read(stop, VIEW, now)),
                    1 => is_pending(reader.read_many(&candidates, &plan, now, &mut matrix)),
                    2 => is_pending(reader.rank(&candidates, (&plan, &weights), 3, now)),
                    _ => is_pending(reader.top_k(VIEW, 0, 3, now)),
                };
                assert!(half_way, "{setting}: the shard stands");
                stopped.go_on();
                for (&(entity, signal), &reading) in right.iter().take(5) {
                    let read = block_on(reader.read(entity, signal, now));
                    assert_eq!(read, Ok(Some(reading)), "{setting}, question {question}");
                }
                let best = block_on(reader.top_k(VIEW, 0, 1, now)).unwrap();
                assert_eq!(best[0].entity, model.top_k(VIEW, 0, 1, now)[0].0);
            }
        }
        assert_agrees(&engine, &model, now);
    }
}

fn is_pending<F: Future>(question: F) -> bool {
    block_on(poll_once(question)).is_none()
}

#[test]
fn a_read_of_the_past_is_answered_as_of_the_last_event() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let mut reader = engine.reader().unwrap();
        assert_eq!(reader.read(EntityId(1), VIEW, Timestamp::MAX), Ok(None));
        record_with_one_producer(&engine, &[at(EntityId(1), 7_200), at(EntityId(1), 0)]);
        let past = reader.read(EntityId(1), VIEW, Timestamp::from_seconds(60)).unwrap().unwrap();
        assert_eq!(past.as_of, Timestamp::from_seconds(7_200));
        let then = reader.read(EntityId(1), VIEW, past.as_of).unwrap().unwrap();
        assert_eq!(past, then);
        let score = past.scores()[0];
        assert!((score - 1.25).abs() < 1e-12, "one, and one of two hours ago: {score:?}");
        assert_eq!((past.counts(), past.all_time), (&[1, 2][..], 2));
    }
}

#[test]
fn questions_that_have_no_answer_are_typed_errors() {
    let wide = Schema::from_toml(
        "[signals.a]\nhalf_lives = [\"1h\", \"2h\", \"3h\"]\nwindows = [\"1h\", \"2h\"]\n\
         velocity = true\n[signals.b]\nhalf_lives = [\"1h\"]\n[signals.c]\n\
         half_lives = [\"1h\"]\n[signals.d]\nhalf_lives = [\"1h\"]\n",
    );
    let wide = wide.unwrap();
    let over = |add: fn(ebbtide::PlanBuilder<'_>) -> ebbtide::PlanBuilder<'_>| {
        add(Plan::over(&wide)).build()
    };
    let cases = [
        (
            over(|p| p.score("a", "2h").unwrap()),
            ReadError::UnknownHalfLife { half_life: 1, known: 1 },
        ),
        (over(|p| p.count("a", "2h").unwrap()), ReadError::UnknownWindow { window: 1, known: 1 }),
        (
            over(|p| p.velocity("a", "2h").unwrap()),
            ReadError::UnknownWindow { window: 1, known: 1 },
        ),
        (over(|p| p.all_time("d").unwrap()), ReadError::UnknownSignal { signal: 3, known: 3 }),
    ];
    for setting in with_shards(2) {
        let engine = setting.open();
        let now = engine.now();
        let mut reader = engine.reader().unwrap();
        let unknown = ReadError::UnknownSignal { signal: 3, known: 3 };
        assert_eq!(reader.read(EntityId(1), SignalId(3), now), Err(unknown.clone()));
        assert_eq!(reader.top_k(SignalId(3), 0, 1, now), Err(unknown));
        let half_life = ReadError::UnknownHalfLife { half_life: 1, known: 1 };
        assert_eq!(reader.top_k(SignalId(0), 1, 1, now), Err(half_life));
        let many = ReadError::TooMany { asked: 129, most: 128 };
        assert_eq!(reader.top_k(VIEW, 0, 129, now), Err(many));
        for (plan, error) in &cases {
            let read = reader.read_many(&[EntityId(1)], plan, now, &mut [0.0]);
            assert_eq!(read.as_ref(), Err(error));
        }
        let plan = Plan::over(engine.schema()).all_time("view").unwrap().build();
        let narrow = reader.read_many(&[EntityId(1), EntityId(2)], &plan, now, &mut [0.0]);
        assert_eq!(narrow, Err(ReadError::Shape { rows: 2, columns: 1, room: 1 }));
        let weightless = reader.rank(&[EntityId(1)], (&plan, &[]), 1, now);
        assert_eq!(weightless, Err(ReadError::Shape { rows: 1, columns: 1, room: 0 }));
        assert_eq!(reader.read_many(&[], &plan, now, &mut []), Ok(()), "nothing asked for");
        assert_eq!(reader.read(EntityId(1), VIEW, now), Ok(None), "the reader can be used on");
    }
}
