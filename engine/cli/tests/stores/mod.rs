//! Stores that tests of commands work on, and what their engines say of them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use ebbtide::{
    Ack, Engine, EngineBuilder, EntityId, Event, LogOptions, ManualClock, Schema, SignalId,
    SourceEvent, Timestamp, dump,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a step may take before it counts as hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The newest event's time.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The source of numbered events.
pub(crate) const SOURCE: &str = "clicks";

/// Of all stores here.
pub(crate) const SCHEMA: &str = r#"
    [signals.click]
    half_lives = ["1h", "24h"]
    windows = ["5min", "24h"]
    velocity = true

    [signals.view]
    half_lives = ["90min"]
    windows = ["168h"]
    dedup = "content"
"#;

/// A folder for one store, which is not there yet.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Something in it.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The store's directory.
    pub(crate) fn store(&self) -> PathBuf {
        self.at("store")
    }
}

/// A builder of an engine with small segments, so that a few events fill several.
pub(crate) fn builder(directory: &Path, shards: usize) -> EngineBuilder {
    let log = LogOptions { group_bytes: 8 << 10, segment_bytes: 24 << 10, ..LogOptions::default() };
    let schema = Schema::from_toml(SCHEMA).unwrap();
    let clock = Arc::new(ManualClock::at(NOW));
    Engine::builder(directory).schema(schema).shards(shards).clock(clock).log_options(log)
}

/// The n-th event; the newest is number 0.
pub(crate) fn event(n: u64) -> Event {
    let time = Timestamp(NOW.0 - (n * n % 9_000) * 1_000_000_000);
    let signal = SignalId(u8::from(n.is_multiple_of(3)));
    Event::new(EntityId(n * 7 % 131), signal, time).with_weight((1 + n % 7) as f64 / 3.0)
}

/// Records events of the source, numbered from `first` to `last`, durably, in groups of ten.
pub(crate) fn record(engine: &Engine, first: u64, last: u64) {
    let mut producer = engine.producer_for(SOURCE).unwrap();
    for n in first..=last {
        producer.offer_within(SourceEvent::new(n, event(n)), PATIENCE).unwrap();
        if n.is_multiple_of(10) {
            producer.flush(Ack::Durable, PATIENCE).unwrap();
        }
    }
    producer.flush(Ack::Durable, PATIENCE).unwrap();
}

/// Makes a store of `events` events, with a checkpoint after some of them.
pub(crate) fn make(directory: &Path, shards: usize, events: u64, checkpoint_after: Option<u64>) {
    let engine = builder(directory, shards).open().unwrap();
    match checkpoint_after {
        Some(first) => {
            record(&engine, 1, first);
            engine.checkpoint().unwrap();
            record(&engine, first + 1, events);
        }
        None => record(&engine, 1, events),
    }
    engine.close(PATIENCE).unwrap();
}

/// The dump of what an engine holds, as of its clock.
pub(crate) fn dump_of(engine: &Engine) -> String {
    let now = engine.now();
    let pairs = engine.on_every_shard(move |local| local.pairs(now).collect::<Vec<_>>()).unwrap();
    let mut pairs: Vec<_> =
        pairs.into_iter().flatten().map(|pair| (pair.0.0.to_string(), pair)).collect();
    pairs.sort_by(|one, other| (&one.0, one.1.1).cmp(&(&other.0, other.1.1)));
    let mut text = String::new();
    for (entity, (_, signal, reading)) in pairs {
        dump::push_line(&mut text, &entity, engine.schema().def(signal), &reading);
    }
    text
}

/// Makes a store, and below `name` a copy of it as a kill leaves one: a checkpoint in the middle of
/// its events, all of them durable, and no seal.
pub(crate) fn make_killed(home: &Home, name: &str) {
    let engine = builder(&home.store(), 2).open().unwrap();
    record(&engine, 1, 300);
    engine.checkpoint().unwrap();
    record(&engine, 301, 400);
    copy(&home.store(), &home.at(name));
    engine.close(PATIENCE).unwrap();
}

/// The dump of a store as an engine that opens it has it; closes it again.
pub(crate) fn dump_by_engine(directory: &Path) -> String {
    let engine = builder(directory, 2).open().unwrap();
    let text = dump_of(&engine);
    engine.close(PATIENCE).unwrap();
    text
}

/// Every file below a folder, with its bytes and the time it was written to.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let written = path.metadata().unwrap().modified().unwrap();
            all.push((path.clone(), fs::read(&path).unwrap(), written));
        }
    }
    all.sort();
    all
}

/// Copies a store as it lies there, when an engine that may have it open is at rest.
pub(crate) fn copy(from: &Path, to: &Path) {
    // Files that are made ahead come to their names after some milliseconds; nothing tells when.
    thread::sleep(Duration::from_millis(300));
    copy_folder(from, to);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips a bit of a file at a place that follows from its length.
pub(crate) fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The segments of a log, in order.
pub(crate) fn segments(store: &Path, log: u32) -> Vec<PathBuf> {
    let listed = fs::read_dir(store.join(format!("log/{log:04}"))).unwrap();
    let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    paths.sort();
    paths
}
