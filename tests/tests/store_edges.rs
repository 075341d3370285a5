//! What happens at the edges of a store's life: shards that fail or are late, other half-lives
//! after another number of shards, directories that are not ours. Each was a fault once.

use ebbtide::{
    Ack, Backend, CheckpointError, CloseError, Engine, EngineBuilder, EntityId, Event, Health,
    LogOptions, ManualClock, OpenError, Retune, Schema, SignalId, SourceEvent, StoreError,
    Timestamp,
};
use ebbtide_tests::setting::{PATIENCE, entity_of_each_shard};
use ebbtide_tests::stopped::Stopped;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]";

fn builder(directory: &Path) -> EngineBuilder {
    let (clock, schema) = (ManualClock::at(Timestamp::MAX), schema(SCHEMA));
    let log = LogOptions { group_bytes: 8192, segment_bytes: 32768, ..LogOptions::default() };
    let engine = Engine::builder(directory).schema(schema).clock(Arc::new(clock)).log_options(log);
    engine.backend(Backend::Threads)
}

fn schema(text: &str) -> Schema {
    Schema::from_toml(text).expect("the schema keeps every rule")
}

fn event(n: u64) -> Event {
    Event::new(EntityId(n), SignalId(0), Timestamp::from_seconds(1_000_000))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, target).is_ok()) }
    }
}

#[test]
fn a_failed_shard_ends_checkpoints_and_spoils_none() {
    let folder = tempfile::tempdir().unwrap();
    let engine = builder(folder.path()).shards(2).open().unwrap();
    let [ours, failing] = entity_of_each_shard(&engine).try_into().unwrap();
    let mut producer = engine.producer().unwrap();
    let mut recorded = 0;
    let mut record = |count: u64| {
        for n in 0..count {
            // Only those of the healthy shard are taken later on.
            recorded += u64::from(producer.offer_within(event(n), PATIENCE).is_ok());
        }
    };
    record(20_000);
    engine.checkpoint().unwrap();
    engine.panic_shard_of(failing);
    while engine.health() == Health::Ok {
        std::thread::yield_now();
    }
    for _ in 0..3 {
        record(5_000);
        assert!(matches!(engine.checkpoint(), Err(CheckpointError::Down(_))));
    }
    assert!(engine.close(PATIENCE).is_err(), "a shard had failed");
    let again = builder(folder.path()).shards(2).open().unwrap();
    let count = move |local: &ebbtide::LocalShard<'_>| {
        local.read(ours, SignalId(0), Timestamp::MAX).map(|reading| reading.all_time)
    };
    assert_eq!(
        again.on_shard(ours, count).unwrap(),
        Some(4),
        "of the healthy shard nothing is lost"
    );
}

#[test]
fn other_half_lives_after_another_number_of_shards_lose_nothing_of_a_slow_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, image) = (folder.path().join("store"), folder.path().join("image"));
    let offer = |engine: &Engine, range: std::ops::RangeInclusive<u64>| {
        let mut producer = engine.producer_for("feed").unwrap();
        let mut last = [None; 2];
        for n in range {
            let ticket = producer.offer_within(SourceEvent::new(n, event(n)), PATIENCE).unwrap();
            last[ticket.shard()] = Some(ticket);
        }
        (producer, last)
    };
    {
        let engine = builder(&store).shards(1).open().unwrap();
        let (mut producer, _) = offer(&engine, 1..=10);
        producer.flush(Ack::Durable, PATIENCE).unwrap();
        engine.checkpoint().unwrap();
        engine.close(PATIENCE).unwrap();
    }
    let engine = Arc::new(builder(&store).shards(2).open().unwrap());
    let [_, slow] = entity_of_each_shard(&engine).try_into().unwrap();
    // The lanes are opened before the shard stands still, since that asks all shards.
    let (producer, _) = offer(&engine, 11..=11);
    drop(producer);
    let (mut producer, _) = offer(&engine, 12..=12);
    producer.flush(Ack::Durable, PATIENCE).unwrap();
    let stopped = Stopped::shard_of(&engine, slow);
    let mut last = None;
    for n in 13..=3000 {
        let ticket = producer.offer_within(SourceEvent::new(n, event(n)), PATIENCE).unwrap();
        if ticket.shard() == 0 {
            last = Some(ticket);
        }
    }
    producer.wait(last.unwrap(), Ack::Durable, PATIENCE).unwrap();
    copy(&store, &image);
    stopped.go_on();

    let other = schema(&SCHEMA.replace("half_lives = [\"1h\"]", "half_lives = [\"2h\"]"));
    let retuned = builder(&image).schema(other).shards(2).retune(Retune::Restart);
    let retuned = retuned.open().unwrap();
    let resume = retuned.resume_offset("feed").unwrap().unwrap();
    assert_eq!(resume, 12, "the slow shard had nothing behind it");
    let (mut producer, _) = offer(&retuned, 13..=3000);
    producer.flush(Ack::Durable, PATIENCE).unwrap();
    let pairs = retuned.metrics().pairs();
    assert_eq!(pairs, 3000, "every event is of another entity, and every one is there");
}

#[test]
fn a_store_closes_once_a_shard_that_was_late_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Arc::new(builder(folder.path()).shards(1).open().unwrap());
    let stopped = Stopped::shard_of(&engine, EntityId(1));
    let late = engine.close(Duration::from_millis(20));
    assert!(matches!(late, Err(CloseError::Timeout { .. })), "{late:?}");
    let refused = builder(folder.path()).shards(1).open().map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Store(StoreError::AlreadyOpen { .. })), "{refused}");
    stopped.go_on();
    engine.close(PATIENCE).unwrap();
    builder(folder.path()).shards(1).open().unwrap();
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_as_it_is() {
    for name in ["checkpoint", "checkpoint.new", "log", "letter.txt", "MANIFEST.new"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name).join("precious");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, b"precious").unwrap();
        let refused = builder(folder.path()).open().map(drop).unwrap_err();
        let known = matches!(
            refused,
            OpenError::Store(StoreError::NotAStore { .. } | StoreError::WrongKind { .. })
        );
        assert!(known, "{name}: {refused}");
        assert_eq!(fs::read(&file).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn a_store_whose_making_a_crash_ended_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    builder(folder.path()).shards(1).open().unwrap().close(PATIENCE).unwrap();
    let manifest = fs::read(folder.path().join("MANIFEST")).unwrap();
    for begun in [&manifest[..], &manifest[..40], &[]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("MANIFEST.new"), begun).unwrap();
        fs::create_dir(folder.path().join("checkpoint")).unwrap();
        fs::write(folder.path().join("checkpoint/half"), b"made").unwrap();
        let engine = builder(folder.path()).shards(1).open().unwrap();
        assert!(engine.recovery().unwrap().created);
        assert!(!folder.path().join("checkpoint/half").exists());
    }
}

#[test]
fn a_log_at_its_limit_brings_on_a_checkpoint_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = LogOptions { group_bytes: 8192, segment_bytes: 32768, log_bytes_max: 8 * 32768 };
    let engine = builder(folder.path()).shards(1).log_options(log).open().unwrap();
    let mut producer = engine.producer().unwrap();
    // Four times as much as the log may hold.
    for n in 0..40_000 {
        producer.offer_within(event(n % 100), PATIENCE).unwrap();
    }
    producer.flush(Ack::Durable, PATIENCE).unwrap();
    let metrics = engine.metrics();
    assert!(metrics.checkpoints.unwrap().finished > 0);
    let shard = &metrics.shards[0];
    assert!(shard.wal_file_bytes <= 8 * 32768);
    // Also what is not there any more; an event takes 10 bytes at least, and frames are few.
    assert!((400_000..4_000_000).contains(&shard.wal_written_bytes), "{shard:?}");
    engine.close(PATIENCE).unwrap();
}
