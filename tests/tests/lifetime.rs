//! From the first producer to the last: back-pressure, handles that come and go, closing. What was
//! accepted is applied, and what is not accepted comes back.

use ebbtide::{
    Ack, Backend, CloseError, Engine, EntityId, Event, Health, OfferError, OpenError, Plan,
    ReadError, ShardDown, SignalId, Timestamp, WaitError,
};
use ebbtide_shard::limits::{EVENT_RING_SLOTS, SHARDS_MAX};
use ebbtide_tests::setting::{PATIENCE, entity_of_each_shard, schema, settings, with_shards};
use ebbtide_tests::stopped::Stopped;
use ebbtide_tests::stream::{Stream, newest};
use ebbtide_tests::truth::{assert_agrees, model, state};
use futures_lite::future::block_on;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const VIEW: SignalId = SignalId(2);
const RING: u64 = EVENT_RING_SLOTS as u64;

fn at(entity: EntityId, seconds: u64) -> Event {
    Event::new(entity, VIEW, Timestamp::from_seconds(seconds))
}

/// Waits until `done`, which something is under way to bring about.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn all_time(engine: &Engine, entity: EntityId) -> u64 {
    let mut reader = engine.reader().expect("every shard runs");
    let reading = reader.read(entity, VIEW, Timestamp(0)).expect("every shard runs");
    reading.map_or(0, |reading| reading.all_time)
}

#[test]
fn a_shard_that_stands_makes_its_producers_feel_it_and_nothing_is_lost() {
    for setting in with_shards(2) {
        let engine = Arc::new(setting.open());
        let [slow, other] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let mut producer = engine.producer().unwrap();
        let stopped = Stopped::shard_of(&engine, slow);

        for second in 0..RING {
            assert!(producer.offer(at(slow, second)).is_ok(), "{setting}: {second}");
        }
        let event = at(slow, RING);
        let full = producer.offer(event).unwrap_err();
        assert_eq!(full, OfferError::Full { event, shard: 0 });
        assert!(full.is_retryable());
        let batch = producer.offer_batch(&[at(other, 1), event, at(other, 2)]);
        assert_eq!((batch.taken, batch.stopped), (1, Some(full.clone())));
        let begun = Instant::now();
        assert_eq!(producer.offer_within(event, Duration::from_millis(60)), Err(full));
        assert!(begun.elapsed() >= Duration::from_millis(60));
        let waited = producer.flush(Ack::Applied, Duration::from_millis(20));
        assert_eq!(waited, Err(WaitError::Timeout { patience: Duration::from_millis(20) }));
        wait_until("the other shard goes on", || engine.metrics().shards[1].events_applied == 1);

        let release = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            stopped.go_on();
        });
        let ticket = producer.offer_within(event, PATIENCE).expect("there is room again");
        producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        release.join().unwrap();
        assert_eq!((all_time(&engine, slow), all_time(&engine, other)), (RING + 1, 1));
    }
}

#[test]
fn a_batch_is_taken_as_far_as_there_is_room() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let mut producer = engine.producer().unwrap();
        let events: Vec<Event> = (0..RING + 100).map(|n| at(EntityId(n), n)).collect();
        let stopped = Stopped::shard_of(&engine, EntityId(0));
        let offered = producer.offer_batch(&events);
        assert_eq!(offered.taken, EVENT_RING_SLOTS, "{setting}");
        assert_eq!(offered.stopped.unwrap().event(), events[EVENT_RING_SLOTS]);
        stopped.go_on();
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        assert_eq!(producer.offer_batch(&events[EVENT_RING_SLOTS..]).taken, 100);
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        assert_eq!(state(&engine, Timestamp(0)).len(), events.len());
    }
}

#[test]
fn dropping_a_producer_loses_none_of_its_events() {
    for setting in settings() {
        let engine = setting.open();
        let mut recorded = Vec::new();
        for seed in 0..40 {
            let events = Stream::of(seed, 500);
            let mut producer = engine.producer().unwrap();
            assert_eq!(producer.offer_batch(&events).stopped, None);
            recorded.extend(events);
        }
        wait_until("every event is applied", || {
            engine.metrics().events_applied() == recorded.len() as u64
        });
        assert_agrees(&engine, &model(engine.schema(), &recorded), newest(&recorded));
    }
}

#[test]
fn producers_and_readers_that_come_and_go_leave_nothing_behind() {
    for setting in with_shards(2) {
        let engine = setting.open();
        thread::scope(|scope| {
            for thread in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    for round in 0..60 {
                        let mut producer = engine.producer().unwrap();
                        let event = at(EntityId(thread * 1_000 + round), round);
                        let tickets = [(); 20].map(|()| producer.offer(event).unwrap());
                        if round % 2 == 0 {
                            producer.wait(tickets[19], Ack::Applied, PATIENCE).unwrap();
                            assert_eq!(all_time(engine, event.entity), 20);
                        }
                    }
                });
            }
        });
        wait_until("every event is applied", || engine.metrics().events_applied() == 4 * 60 * 20);
        let handles = |m: &ebbtide::ShardMetrics| m.producers + m.readers;
        wait_until("no handle is left", || {
            engine.metrics().shards.iter().map(handles).sum::<u64>() == 0
        });
        assert!(state(&engine, Timestamp(0)).values().all(|reading| reading.all_time == 20));
    }
}

#[test]
fn producers_that_leave_a_busy_shard_are_forgotten() {
    for setting in with_shards(1) {
        println!("{setting}");
        let engine = setting.open();
        let (stop, stopped) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let engine = &engine;
            scope.spawn(move || {
                let mut busy = engine.producer().unwrap();
                let batch = [at(EntityId(1), 1); 512];
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    let _full = busy.offer_batch(&batch);
                }
            });
            for second in 0..200 {
                let mut brief = engine.producer().unwrap();
                let _ticket = brief.offer(at(EntityId(2), second)).unwrap();
            }
            wait_until("every event is applied", || all_time(engine, EntityId(2)) == 200);
            wait_until("only the busy producer is left", || {
                engine.metrics().shards[0].producers == 1
            });
            drop(stop);
        });
    }
}

#[test]
fn closing_applies_everything_accepted() {
    for setting in settings() {
        let engine = setting.open();
        let mut producers: Vec<_> = (0..3).map(|_| engine.producer().unwrap()).collect();
        let offer = |producer: &mut ebbtide::Producer, second| {
            let entities = (0..1_000).map(EntityId);
            entities.map(|entity| producer.offer(at(entity, second)).unwrap()).collect::<Vec<_>>()
        };
        let tickets: Vec<_> = producers.iter_mut().zip(0..).map(|(p, n)| offer(p, n)).collect();
        engine.close(PATIENCE).unwrap();
        for (producer, tickets) in producers.iter().zip(&tickets) {
            assert!(tickets.iter().all(|&t| producer.is_acked(t, Ack::Applied)), "{setting}");
            assert_eq!(producer.flush(Ack::Applied, Duration::ZERO), Ok(()));
        }
    }
}

#[test]
fn after_closing_every_handle_says_so() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let [entity, _] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let schema = Arc::clone(engine.schema());
        let mut producer = engine.producer().unwrap();
        let (mut reader, mut task) = (engine.reader().unwrap(), engine.async_reader().unwrap());
        let ticket = producer.offer(at(entity, 1)).unwrap();
        engine.close(PATIENCE).unwrap();

        let down = ShardDown::Closed { shard: 0 };
        let event = at(entity, 2);
        let refused = OfferError::Down { event, down: down.clone() };
        assert!(!refused.is_retryable());
        assert_eq!(producer.offer(event), Err(refused.clone()), "{setting}");
        assert_eq!(producer.offer_within(event, PATIENCE), Err(refused.clone()));
        let batch = producer.offer_batch(&[event]);
        assert_eq!((batch.taken, batch.stopped), (0, Some(refused)));
        assert_eq!(producer.wait(ticket, Ack::Applied, PATIENCE), Ok(()), "it was applied before");

        let down = ReadError::Down(down);
        let now = Timestamp(0);
        let plan = Plan::over(&schema).all_time("view").unwrap().build();
        assert_eq!(reader.read(entity, VIEW, now), Err(down.clone()));
        assert_eq!(reader.read_many(&[entity], &plan, now, &mut [0.0]), Err(down.clone()));
        assert_eq!(reader.rank(&[entity], (&plan, &[1.0]), 1, now), Err(down.clone()));
        assert!(matches!(reader.top_k(VIEW, 0, 1, now), Err(ReadError::Down(_))));
        assert_eq!(block_on(task.read(entity, VIEW, now)), Err(down));
    }
}

#[test]
fn closing_while_others_record_tells_each_of_them() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let producers: Vec<_> = (0..3).map(|_| engine.producer().unwrap()).collect();
        let recorders: Vec<_> = producers
            .into_iter()
            .map(|mut producer| {
                thread::spawn(move || {
                    for second in 0.. {
                        match producer.offer_within(at(EntityId(second % 99), second), PATIENCE) {
                            Ok(_ticket) => {}
                            Err(OfferError::Down { down, .. }) => return down,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    unreachable!("the engine closes before time ends")
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(5));
        engine.close(PATIENCE).unwrap();
        for recorder in recorders {
            let down = recorder.join().unwrap();
            assert!(matches!(down, ShardDown::Closed { .. }), "{setting}: {down}");
        }
    }
}

/// An event pushed between a shard's last look and its end was accepted and never applied.
#[test]
fn an_event_that_races_the_close_is_applied_or_comes_back() {
    for setting in with_shards(2) {
        for round in 0..40 {
            let engine = setting.open();
            let recorders: Vec<_> = (0..4)
                .map(|recorder| {
                    let mut producer = engine.producer().unwrap();
                    thread::spawn(move || {
                        let batch = [at(EntityId(recorder), 1); 7];
                        let mut taken = 0;
                        loop {
                            let (more, stopped) = if recorder % 2 == 0 {
                                let offer = producer.offer(at(EntityId(taken % 50), 1));
                                (u64::from(offer.is_ok()), offer.err())
                            } else {
                                let offer = producer.offer_batch(&batch);
                                (offer.taken as u64, offer.stopped)
                            };
                            taken += more;
                            match stopped {
                                None => {}
                                Some(OfferError::Full { .. }) => thread::yield_now(),
                                Some(OfferError::Down { .. }) => return taken,
                                Some(other) => panic!("{other}"),
                            }
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_micros(200 + 50 * round));
            engine.close(PATIENCE).unwrap();
            let taken: u64 = recorders.into_iter().map(|one| one.join().unwrap()).sum();
            assert_eq!(engine.metrics().events_applied(), taken, "{setting}, round {round}");
        }
    }
}

#[test]
fn dropping_an_engine_ends_its_shards() {
    for setting in with_shards(2) {
        let engine = setting.open();
        assert_eq!(engine.health(), Health::Ok);
        let mut reader = engine.reader().unwrap();
        drop(engine);
        let now = Timestamp(0);
        assert!(matches!(reader.read(EntityId(1), VIEW, now), Err(ReadError::Down(_))));
        assert!(matches!(reader.top_k(VIEW, 0, 1, now), Err(ReadError::Down(_))));
    }
}

/// Closing a second time said that all was well while a shard was still at work.
#[test]
fn closing_names_the_shards_that_are_late_until_they_are_not_and_nothing_is_lost() {
    for setting in with_shards(2) {
        let engine = Arc::new(setting.open());
        let [slow, _] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let mut producer = engine.producer().unwrap();
        let stopped = Stopped::shard_of(&engine, slow);
        let tickets: Vec<_> = (0..99).map(|_| producer.offer(at(slow, 1)).unwrap()).collect();
        for millis in [40, 0, 40] {
            let patience = Duration::from_millis(millis);
            let begun = Instant::now();
            let late = CloseError::Timeout { shards: vec![0], patience };
            assert_eq!(engine.close(patience), Err(late), "{setting}");
            assert!(begun.elapsed() >= patience);
        }
        let refused = producer.offer(at(slow, 1));
        assert!(matches!(refused, Err(OfferError::Down { .. })), "{setting}: {refused:?}");
        stopped.go_on();
        assert_eq!(engine.close(PATIENCE), Ok(()));
        assert_eq!(engine.close(Duration::ZERO), Ok(()), "closed is closed");
        assert!(tickets.iter().all(|&ticket| producer.is_acked(ticket, Ack::Applied)));
        assert!(matches!(engine.health(), Health::Failed(shards) if shards.len() == 2));
    }
}

#[test]
fn an_engine_that_cannot_be_is_refused_with_the_reason() {
    let builder = || Engine::in_memory().schema(schema()).backend(Backend::Threads);
    let refusal = |builder: ebbtide::EngineBuilder| builder.open().map(drop).unwrap_err();
    assert!(matches!(refusal(Engine::in_memory()), OpenError::NoSchema));
    for asked in [0, SHARDS_MAX + 1] {
        let refused = refusal(builder().shards(asked));
        assert!(matches!(refused, OpenError::Shards { asked: other } if other == asked));
    }
    assert!(matches!(refusal(builder().cores([])), OpenError::Shards { asked: 0 }));
    let core = refusal(builder().cores([1_000_000]));
    let OpenError::Core { core: 1_000_000, available } = &core else { panic!("{core}") };
    assert!(!available.is_empty());
    assert!(core.to_string().contains("core 1000000 is not among"), "{core}");
}
