//! A store across its lives: closed, opened again, with other shards and on the other runtime.

use ebbtide::{
    Ack, Backend, CheckpointError, Engine, EngineBuilder, EntityId, Event, ManualClock, OpenError,
    SignalReading, SourceEvent, StoreError, Timestamp,
};
use ebbtide_tests::setting::{PATIENCE, schema, settings, with_shards};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn builder(directory: &Path) -> EngineBuilder {
    let clock = Arc::new(ManualClock::at(Timestamp::MAX));
    Engine::builder(directory).schema(schema()).clock(clock)
}

fn open(directory: &Path, shards: usize, backend: Backend) -> Engine {
    builder(directory).shards(shards).backend(backend).open().expect("the store opens")
}

fn event(n: u64) -> SourceEvent {
    let (entity, signal) = (EntityId(n * n % 97), ebbtide::SignalId((n % 3) as u8));
    let time = Timestamp::from_seconds(1_000_000 + n * 37 % 50_000);
    SourceEvent::new(n, Event { entity, signal, time, weight: 1.0 + (n % 7) as f64 })
}

fn record(engine: &Engine, range: std::ops::RangeInclusive<u64>) {
    let mut producer = engine.producer_for("test").expect("nobody else records it");
    for n in range {
        producer.offer_within(event(n), PATIENCE).expect("it is taken");
    }
    producer.flush(Ack::Durable, PATIENCE).expect("the disk works");
}

type State = BTreeMap<(u64, u8), (Vec<u64>, Vec<u64>, u64, u64)>;

/// Every answer, scores as bits.
fn state(engine: &Engine) -> State {
    let now = Timestamp::from_seconds(1_060_000);
    let seen = engine.on_every_shard(move |local| local.pairs(now).collect::<Vec<_>>());
    let seen = seen.expect("every shard runs");
    let entry = |(entity, signal, r): (EntityId, ebbtide::SignalId, SignalReading)| {
        let scores = r.scores().iter().map(|s| s.to_bits()).collect();
        ((entity.0, signal.0), (scores, r.counts().to_vec(), r.all_time, r.last_update.0))
    };
    seen.into_iter().flatten().map(entry).collect()
}

#[test]
fn what_was_durable_is_there_again_with_any_shards_on_any_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    let reference = Engine::in_memory().schema(schema()).shards(1).open().unwrap();
    let mut n = 0;
    for (round, setting) in settings().into_iter().chain(settings()).enumerate() {
        let engine = open(&directory, setting.shards, setting.backend);
        assert_eq!(engine.resume_offset("test").unwrap().unwrap_or(0), n, "{setting}");
        let more = 500 + 100 * round as u64;
        record(&engine, n + 1..=n + more);
        {
            let mut producer = reference.producer_for("test").unwrap();
            for n in n + 1..=n + more {
                producer.offer_within(event(n), PATIENCE).unwrap();
            }
            producer.flush(Ack::Applied, PATIENCE).unwrap();
        }
        n += more;
        if round % 3 == 1 {
            engine.checkpoint().unwrap();
        }
        assert_eq!(state(&engine), state(&reference), "round {round}, {setting}");
        engine.close(PATIENCE).unwrap();
    }
    let engine = open(&directory, 3, Backend::Auto);
    assert_eq!(state(&engine), state(&reference));
    assert!(engine.recovery().unwrap().clean_shutdown());
}

/// Which directory a store's checkpoint is, whatever its name.
fn checkpoint_inode(store: &Path) -> u64 {
    std::fs::metadata(store.join("checkpoint")).expect("it is there").ino()
}

#[test]
fn a_checkpoint_written_anew_takes_the_place_of_the_one_before() {
    for setting in with_shards(2) {
        let folder = tempfile::tempdir().unwrap();
        let (directory, backup) = (folder.path().join("store"), folder.path().join("backup"));
        let anew_from = |bytes: u64| {
            let builder = builder(&directory).shards(setting.shards).backend(setting.backend);
            builder.checkpoint_anew_bytes(bytes).open().unwrap()
        };
        let (mut n, mut inodes) = (0, Vec::new());
        // Every pair changes each time. What is new has nothing to replace, so the third
        // checkpoint is the first that is known to leave nothing of those before.
        for (bytes, anew) in [(0, 3), (1 << 20, 0)] {
            let engine = anew_from(bytes);
            for _ in 0..5 {
                record(&engine, n + 1..=n + 400);
                n += 400;
                engine.checkpoint().unwrap();
                inodes.push(checkpoint_inode(&directory));
            }
            let metrics = engine.metrics().checkpoints.unwrap();
            assert_eq!((metrics.finished, metrics.anew), (5, anew), "{setting}, from {bytes}");
            assert!(!directory.join("checkpoint.new").exists());
            record(&engine, n + 1..=n + 50);
            n += 50;
            let before = state(&engine);
            if bytes == 0 {
                engine.backup(&backup).unwrap();
            }
            engine.close(PATIENCE).unwrap();
            let again = open(&directory, 2, Backend::Auto);
            assert_eq!(state(&again), before, "{setting}");
            again.close(PATIENCE).unwrap();
            if bytes == 0 {
                let copy = open(&backup, 1, Backend::Auto);
                assert_eq!(state(&copy), before, "{setting}");
            }
        }
        let same = |pair: &&[u64]| pair[0] == pair[1];
        assert_eq!(inodes.windows(2).filter(same).count(), 6, "{inodes:?}");
    }
}

#[test]
fn a_store_that_is_closed_while_a_checkpoint_is_written_anew_is_closed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    for turn in 0..8 {
        let engine = builder(&directory).shards(2).checkpoint_anew_bytes(0).open().unwrap();
        let mut producer = engine.producer().unwrap();
        for round in 0..3 {
            let time = Timestamp::from_seconds(2_000_000 + 10 * turn + round);
            for entity in (0..6_000).map(EntityId) {
                let event = Event { entity, signal: ebbtide::SignalId(0), time, weight: 1.0 };
                producer.offer_within(event, PATIENCE).unwrap();
            }
            producer.flush(Ack::Durable, PATIENCE).unwrap();
            if round < 2 {
                engine.checkpoint().unwrap();
            }
        }
        drop(producer);
        let asked = thread::scope(|scope| {
            let asked = scope.spawn(|| engine.checkpoint());
            thread::sleep(Duration::from_millis(12 * turn));
            engine.close(PATIENCE).unwrap();
            asked.join().unwrap()
        });
        match asked {
            Ok(_) | Err(CheckpointError::Closing | CheckpointError::Down(_)) => {}
            Err(other) => panic!("turn {turn}: {other}"),
        }
        assert_eq!(engine.metrics().checkpoints.unwrap().failure, None);
        assert!(directory.join("SEAL").exists() && !directory.join("checkpoint.new").exists());
    }
    let engine = open(&directory, 1, Backend::Auto);
    let found = engine.reader().unwrap().read(EntityId(7), ebbtide::SignalId(0), Timestamp::MAX);
    assert_eq!(found.unwrap().unwrap().all_time, 24);
}

#[test]
fn a_closed_store_may_be_opened_again_while_its_engine_is_still_there() {
    let folder = tempfile::tempdir().unwrap();
    for setting in settings() {
        let engine = open(folder.path(), setting.shards, setting.backend);
        let refused = builder(folder.path()).shards(1).open().map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::Store(StoreError::AlreadyOpen { .. })), "{refused}");
        engine.close(PATIENCE).unwrap();
        let again = open(folder.path(), 1, setting.backend);
        assert!(engine.producer().is_err(), "the closed one stays closed");
        drop(again);
    }
}
