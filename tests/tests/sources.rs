//! Sources: streams that are sent again, in part or whole, and count once.

use ebbtide::{
    Ack, AckError, Engine, EntityId, Event, EventId, OfferError, Schema, SignalId, SourceError,
    SourceEvent, SourceOfferError, Timestamp, WaitError,
};
use ebbtide_shard::limits::{EVENT_RING_SLOTS, SOURCE_NAME_BYTES_MAX};
use ebbtide_tests::setting::{PATIENCE, entity_of_each_shard, settings, with_shards};
use ebbtide_tests::stopped::Stopped;
use ebbtide_tests::stream::{Stream, newest};
use ebbtide_tests::truth::{assert_agrees, model};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const VIEW: SignalId = SignalId(2);

fn at(offset: u64, entity: EntityId) -> SourceEvent {
    SourceEvent::new(offset, Event::new(entity, VIEW, Timestamp(0)))
}

fn repeated(engine: &Engine) -> u64 {
    engine.metrics().shards.iter().map(|shard| shard.events_repeated).sum()
}

#[test]
fn a_source_that_is_sent_again_counts_once_however_often_it_breaks_off() {
    for setting in settings() {
        let engine = setting.open();
        let events = Stream::of(11, 6_000);
        let numbered: Vec<_> = (1..).zip(&events).map(|(n, &e)| SourceEvent::new(n, e)).collect();
        let mut sent = 0;
        for round in 0..40_usize {
            let mut producer = engine.producer_for("trace").unwrap();
            let resume = usize::try_from(producer.resume_offset()).unwrap();
            assert!(resume <= round * 200, "{setting}: {resume}");
            let from = if round % 3 == 0 { 0 } else { resume / 2 };
            let until = events.len().min((round + 1) * 200);
            for chunk in numbered[from..until].chunks(77) {
                for event in chunk {
                    producer.offer_within(*event, PATIENCE).map(drop).unwrap();
                }
            }
            sent += until - from;
            if round % 4 == 0 {
                producer.flush(Ack::Applied, PATIENCE).unwrap();
                assert_eq!(engine.resume_offset("trace").unwrap(), Some(until as u64));
            }
        }
        let producer = engine.producer_for("trace").unwrap();
        assert_eq!(engine.metrics().events_applied(), 6_000, "{setting}");
        assert_eq!(repeated(&engine), sent as u64 - 6_000);
        assert_agrees(&engine, &model(engine.schema(), &events), newest(&events));
        drop(producer);
    }
}

#[test]
fn after_a_flush_a_source_resumes_behind_its_last_event_on_every_shard() {
    for setting in with_shards(4) {
        let engine = setting.open();
        let entities = entity_of_each_shard(&engine);
        assert_eq!(engine.resume_offset("one"), Ok(None));
        let mut one = engine.producer_for("one").unwrap();
        let mut other = engine.producer_for("other").unwrap();
        assert_eq!((one.source(), one.resume_offset()), ("one", 0));
        let ticket = one.offer(at(10, entities[0])).unwrap();
        assert!(other.offer_batch(&[at(3, entities[1]), at(7, entities[2])]).stopped.is_none());
        one.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        assert_eq!(engine.resume_offset("one"), Ok(Some(0)), "{setting}: three shards had none");
        one.flush(Ack::Applied, PATIENCE).unwrap();
        other.flush(Ack::Applied, PATIENCE).unwrap();
        let both = vec![("one".to_owned(), 10), ("other".to_owned(), 7)];
        assert_eq!(engine.sources(), Ok(both), "this visits every shard, between two turns");
        assert_eq!(engine.metrics().events_applied(), 3);
    }
}

#[test]
fn a_source_has_one_producer_and_a_name_of_bounded_length() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let first = engine.producer_for("trace").unwrap();
        let name = "trace".to_owned();
        assert_eq!(engine.producer_for("trace").map(drop), Err(SourceError::InUse { name }));
        drop(first);
        assert!(engine.producer_for("trace").is_ok());
        for name in [String::new(), "x".repeat(SOURCE_NAME_BYTES_MAX + 1)] {
            let refused = engine.producer_for(&name).map(drop);
            assert!(matches!(refused, Err(SourceError::Name(_))), "{refused:?}");
        }
        engine.close(PATIENCE).unwrap();
        let refused = engine.producer_for("trace").map(drop);
        assert!(matches!(refused, Err(SourceError::Down(_))), "{setting}: {refused:?}");
    }
}

#[test]
fn a_source_is_not_opened_again_while_events_of_its_last_producer_are_on_their_way() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let mut first = engine.producer_for("trace").unwrap();
        let stopped = Stopped::shard_of(&engine, EntityId(1));
        for offset in 1..=99 {
            first.offer(at(offset, EntityId(1))).map(drop).unwrap();
        }
        drop(first);
        let again = {
            let engine = Arc::clone(&engine);
            thread::spawn(move || engine.producer_for("trace").unwrap().resume_offset())
        };
        thread::sleep(Duration::from_millis(50));
        assert!(!again.is_finished(), "{setting}");
        stopped.go_on();
        assert_eq!(again.join().unwrap(), 99);
    }
}

#[test]
fn a_source_feels_a_full_ring_and_offsets_that_do_not_rise() {
    for setting in with_shards(1) {
        let engine = Arc::new(setting.open());
        let mut producer = engine.producer_for("trace").unwrap();
        let stopped = Stopped::shard_of(&engine, EntityId(1));
        let slots = EVENT_RING_SLOTS as u64;
        for offset in 1..=slots {
            producer.offer(at(offset, EntityId(1))).map(drop).unwrap();
        }
        let next = at(slots + 1, EntityId(1));
        let full = producer.offer_within(next, Duration::from_millis(10)).unwrap_err();
        assert!(full.is_retryable(), "{setting}: {full}");
        let waited = producer.flush(Ack::Applied, Duration::from_millis(10));
        assert_eq!(waited, Err(WaitError::Timeout { patience: Duration::from_millis(10) }));
        stopped.go_on();
        let ticket = producer.offer_within(next, PATIENCE).unwrap();
        producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        assert!(producer.is_acked(ticket, Ack::Applied));
        let refused = producer.offer(next).unwrap_err();
        let (offset, last) = (slots + 1, slots + 1);
        assert_eq!(refused, SourceOfferError::Offset { offset, last });
        assert!(!refused.is_retryable());
    }
}

#[test]
fn without_a_log_waiting_for_what_is_written_is_refused_at_once() {
    for setting in with_shards(1) {
        let engine = setting.open();
        let mut producer = engine.producer().unwrap();
        let mut source = engine.producer_for("trace").unwrap();
        let ticket = producer.offer(at(1, EntityId(1)).event).unwrap();
        let of_source = source.offer(at(1, EntityId(1))).unwrap();
        for ack in [Ack::Written, Ack::Durable] {
            assert_eq!(producer.wait(ticket, ack, PATIENCE), Err(WaitError::NoLog), "{setting}");
            assert_eq!(producer.flush(ack, PATIENCE), Err(WaitError::NoLog));
            assert_eq!(source.wait(of_source, ack, PATIENCE), Err(WaitError::NoLog));
            assert_eq!(source.flush(ack, PATIENCE), Err(WaitError::NoLog));
            let acked = futures_lite::future::block_on(producer.acked(ticket, ack));
            assert_eq!(acked, Err(AckError::NoLog));
            assert!(!producer.is_acked(ticket, ack));
        }
        assert_eq!(source.wait(of_source, Ack::Applied, PATIENCE), Ok(()));
    }
}

#[test]
fn an_event_whose_id_was_recorded_counts_once_whoever_sends_it() {
    for setting in with_shards(2) {
        let text = "[signals.buy]\nhalf_lives=[\"1h\"]\ndedup=\"id\"\n\
                    [signals.view]\nhalf_lives=[\"1h\"]\ndedup=\"content\"\n";
        let engine = setting.builder().schema(Schema::from_toml(text).unwrap()).open().unwrap();
        let (buy, view) = (engine.schema().signal("buy"), engine.schema().signal("view"));
        let event = |signal: Option<SignalId>, entity| {
            Event::new(EntityId(entity), signal.unwrap(), Timestamp(5))
        };
        let mut source = engine.producer_for("trace").unwrap();
        for offset in 1..=10_u64 {
            let numbered = SourceEvent::new(offset, event(buy, offset % 5));
            let numbered = numbered.with_id(EventId(u128::from(offset % 5)));
            source.offer(numbered).map(drop).unwrap();
        }
        source.flush(Ack::Applied, PATIENCE).unwrap();
        let mut producer = engine.producer().unwrap();
        for n in 0..10_u64 {
            let id = EventId(u128::from(n));
            producer.offer_with_id(event(buy, n), id).map(drop).unwrap();
            producer.offer_with_id(event(view, 7), id).map(drop).unwrap();
        }
        producer.flush(Ack::Applied, PATIENCE).unwrap();
        // A shard counts at the end of its turn, and is visited between two.
        engine.on_every_shard(|_| ()).unwrap();
        let metrics = engine.metrics();
        let sum =
            |of: fn(&ebbtide::ShardMetrics) -> u64| metrics.shards.iter().map(of).sum::<u64>();
        assert_eq!(sum(|shard| shard.duplicates_by_id), 5 + 5, "{setting}");
        assert_eq!(sum(|shard| shard.duplicates_by_content), 9);
        assert_eq!(sum(|shard| shard.events_applied), 5 + 5 + 1);
        assert_eq!(repeated(&engine), 0);
    }
}

#[test]
fn a_shard_that_fails_is_told_to_its_sources() {
    for setting in with_shards(2) {
        let engine = setting.open();
        let entities = entity_of_each_shard(&engine);
        let mut source = engine.producer_for("trace").unwrap();
        engine.panic_shard_of(entities[0]);
        while source.flush(Ack::Applied, PATIENCE).is_ok() {
            let offset = source.resume_offset() + engine.metrics().events_applied() + 1;
            if let Err(error) = source.offer(at(offset, entities[0])) {
                let down = matches!(error, SourceOfferError::NotTaken(OfferError::Down { .. }));
                assert!(down, "{setting}: {error}");
                break;
            }
        }
        drop(source);
        let refused = engine.producer_for("trace").map(drop);
        assert!(matches!(refused, Err(SourceError::Down(_))), "{setting}: {refused:?}");
    }
}
