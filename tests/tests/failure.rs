//! A shard that panics: whoever waits for it is told what happened, within a bounded time, and
//! nobody else notices.

use ebbtide::{
    Ack, AckError, CloseError, Engine, EntityId, Event, Health, OfferError, Plan, ReadError,
    ShardDown, SignalId, Timestamp, VisitError, WaitError,
};
use ebbtide_tests::setting::{PATIENCE, entity_of_each_shard, with_shards};
use ebbtide_tests::stopped::Stopped;
use futures_lite::future::block_on;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const VIEW: SignalId = SignalId(2);
const NOW: Timestamp = Timestamp(0);
/// What a failing shard may take to tell everybody, on a slow and busy machine.
const BOUND: Duration = Duration::from_secs(10);

fn at(entity: EntityId) -> Event {
    Event::new(entity, VIEW, NOW)
}

/// What everybody is told of a shard that a test made panic.
fn failed(shard: usize) -> ShardDown {
    let cause = format!("it panicked: a test asked shard {shard} to panic");
    ShardDown::Failed { shard, cause: cause.into() }
}

/// Makes the shard of `entity` panic and waits until it is known to be down.
fn fail_shard_of(engine: &Engine, entity: EntityId) {
    engine.panic_shard_of(entity);
    let begun = Instant::now();
    while engine.health() == Health::Ok {
        assert!(begun.elapsed() < BOUND, "nobody noticed the panic");
        thread::yield_now();
    }
}

fn tokio_waits<F: Future>(last: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().expect("a timer can be had");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, last).await.expect("woken") })
}

#[test]
fn those_who_wait_for_a_shard_that_panics_are_told_why() {
    for setting in with_shards(2) {
        let engine = Arc::new(setting.open());
        let [entity, _] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let mut producer = engine.producer().unwrap();
        let mut reader = engine.reader().unwrap();
        let stopped = Stopped::shard_of(&engine, entity);
        // More than the shard applies in one turn, so that some are still in the ring.
        let tickets: Vec<_> = (0..4_000).map(|_| producer.offer(at(entity)).unwrap()).collect();
        engine.panic_shard_of(entity);
        let waiters = [0, 1].map(|way| {
            let last = producer.acked(tickets[3_999], Ack::Applied);
            thread::spawn(move || if way == 0 { block_on(last) } else { tokio_waits(last) })
        });
        let asking = thread::spawn(move || {
            loop {
                if let Err(error) = reader.read(entity, VIEW, NOW) {
                    return error;
                }
            }
        });
        let begun = Instant::now();
        stopped.go_on();
        let waited = producer.wait(tickets[3_999], Ack::Applied, PATIENCE);
        assert_eq!(waited, Err(WaitError::Down(failed(0))), "{setting}");
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AckError::Down(failed(0))), "{setting}");
        }
        assert_eq!(asking.join().unwrap(), ReadError::Down(failed(0)), "{setting}");
        let flushed = producer.flush(Ack::Applied, PATIENCE);
        assert_eq!(flushed, Err(WaitError::Down(failed(0))));
        assert!(begun.elapsed() < BOUND, "{setting}: {:?}", begun.elapsed());
        assert!(producer.is_acked(tickets[0], Ack::Applied), "what was applied before, was");
    }
}

/// Is slow to go away, and so holds up whoever throws it away.
struct Clinging;

impl Drop for Clinging {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(100));
    }
}

/// The mail behind a panic went away while the panic was still unwinding, before the shard was
/// known to be down: its senders were told that the engine had been closed.
#[test]
fn those_whose_mail_waits_behind_a_panic_are_told_of_the_panic() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let stopped = Stopped::shard_of(&engine, EntityId(1));
        engine.panic_shard_of(EntityId(1));
        let mut producer = engine.producer().unwrap();
        let ticket = producer.offer(at(EntityId(1))).unwrap();
        let visitors = [false, true].map(|clings| {
            let engine = Arc::clone(&engine);
            let clinging = clings.then_some(Clinging);
            let visitor =
                thread::spawn(move || engine.on_shard(EntityId(1), move |_| drop(clinging)));
            // Time for the first to post its mail before the second; it matters to what a failure
            // would look like, not to what is right.
            thread::sleep(Duration::from_millis(50));
            visitor
        });
        stopped.go_on();
        let waited = producer.wait(ticket, Ack::Applied, PATIENCE);
        assert_eq!(waited, Err(WaitError::Down(failed(0))), "{setting}");
        for visitor in visitors {
            assert_eq!(visitor.join().unwrap(), Err(VisitError::Down(failed(0))), "{setting}");
        }
    }
}

#[test]
fn a_producer_that_waits_for_room_is_told() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let mut producer = engine.producer().unwrap();
        let stopped = Stopped::shard_of(&engine, EntityId(1));
        while producer.offer(at(EntityId(1))).is_ok() {}
        engine.panic_shard_of(EntityId(1));
        let recorder = thread::spawn(move || {
            loop {
                if let Err(error) = producer.offer_within(at(EntityId(1)), PATIENCE) {
                    return error;
                }
            }
        });
        stopped.go_on();
        let error = recorder.join().unwrap();
        assert_eq!(
            error,
            OfferError::Down { event: at(EntityId(1)), down: failed(0) },
            "{setting}"
        );
    }
}

#[test]
fn the_other_shards_go_on_and_the_rest_says_what_is_missing() {
    for setting in with_shards(4) {
        let engine = setting.open();
        let entities = entity_of_each_shard(&engine);
        let (mut producer, mut reader) = (engine.producer().unwrap(), engine.reader().unwrap());
        for &entity in &entities {
            let _ticket = producer.offer(at(entity)).unwrap();
        }
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        let lost = entities[2];
        fail_shard_of(&engine, lost);

        assert_eq!(engine.health(), Health::Failed(vec![failed(2)]), "{setting}");
        let refused = OfferError::Down { event: at(lost), down: failed(2) };
        assert_eq!(producer.offer(at(lost)), Err(refused.clone()));
        let batch = producer.offer_batch(&[at(entities[0]), at(lost), at(entities[1])]);
        assert_eq!((batch.taken, batch.stopped), (1, Some(refused)));
        let down = ReadError::Down(failed(2));
        assert_eq!(reader.read(lost, VIEW, NOW), Err(down.clone()));
        assert_eq!(reader.top_k(VIEW, 0, 3, NOW), Err(down.clone()), "part of it is gone");
        let plan = Plan::over(engine.schema()).all_time("view").unwrap().build();
        let mut row = [f64::NAN; 4];
        assert_eq!(reader.read_many(&entities, &plan, NOW, &mut row), Err(down.clone()));
        assert_eq!(reader.rank(&entities, (&plan, &[1.0]), 4, NOW), Err(down));
        assert_eq!(engine.on_shard(lost, |_| ()), Err(VisitError::Down(failed(2))));
        assert_eq!(engine.on_every_shard(|_| ()), Err(VisitError::Down(failed(2))));
        assert_eq!(engine.producer().map(drop), Err(failed(2)), "no new handle is half of one");
        assert_eq!(engine.reader().map(drop), Err(failed(2)));

        let rest = [entities[0], entities[1], entities[3]];
        for entity in rest {
            let ticket = producer.offer(at(entity)).unwrap();
            producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
            assert!(reader.read(entity, VIEW, NOW).unwrap().unwrap().all_time >= 2);
        }
        let mut row = [f64::NAN; 3];
        reader.read_many(&rest, &plan, NOW, &mut row).unwrap();
        assert_eq!(row, [3.0, 2.0, 2.0]);
        assert_eq!(engine.close(PATIENCE), Err(CloseError::Failed(failed(2))), "{setting}");
    }
}

#[test]
fn a_closure_that_panics_harms_nobody() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let [entity, other] = entity_of_each_shard(&engine)[..] else { panic!("two shards") };
        let mut producer = engine.producer().unwrap();
        let ticket = producer.offer(at(entity)).unwrap();
        let panicked = |message: &str| {
            let message = message.to_owned();
            VisitError::Panicked { shard: 0, message }
        };
        let seen = engine.on_shard(entity, |local| -> u64 { panic!("shard {}", local.shard()) });
        assert_eq!(seen, Err(panicked("shard 0")), "{setting}");
        let seen = engine.on_shard(entity, |_| std::panic::panic_any(7_u8));
        assert_eq!(seen, Err(panicked("no message")));
        // An answer that is on another shard is not to be had here.
        let seen = engine.on_shard(entity, move |local| local.read(other, VIEW, NOW).is_some());
        assert!(matches!(seen, Err(VisitError::Panicked { shard: 0, .. })), "{seen:?}");

        producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        let read = engine.on_shard(entity, move |local| local.read(entity, VIEW, NOW));
        assert_eq!(read.unwrap().unwrap().all_time, 1);
        assert_eq!(engine.health(), Health::Ok);
        assert_eq!(engine.close(PATIENCE), Ok(()));
    }
}

#[test]
fn every_shard_may_fail_and_closing_still_ends() {
    for setting in with_shards(4) {
        let engine = setting.open();
        for entity in entity_of_each_shard(&engine) {
            engine.panic_shard_of(entity);
            engine.panic_shard_of(entity);
        }
        let begun = Instant::now();
        let closed = engine.close(PATIENCE);
        assert_eq!(closed, Err(CloseError::Failed(failed(0))), "{setting}");
        assert!(begun.elapsed() < BOUND);
    }
}
