//! A store whose files were swapped, removed, linked, written by a newer version or flipped: the
//! opening is refused with the reason, or the state is the exact one. Never another state, never a
//! panic, never a process that hangs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::{Ack, Backend, Engine, LogOptions, OpenError, StoreError};
use ebbtide_tests::crash::{Truth, builder, copy, held, record};
use ebbtide_tests::setting::{PATIENCE, entity_of_each_shard};
use ebbtide_tests::stopped::Stopped;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, run};
use ebbtide_wal::limits::segment_bytes_min;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const EVENTS: u64 = 6_000;
const SEED: u64 = 77;

fn sizes() -> LogOptions {
    let group_bytes = 8_192;
    let segment_bytes = segment_bytes_min(group_bytes);
    LogOptions { group_bytes, segment_bytes, ..LogOptions::default() }
}

fn open(directory: &Path) -> Result<Engine, OpenError> {
    builder(directory).shards(2).backend(Backend::Threads).log_options(sizes()).open()
}

/// A store with a checkpoint in the middle of its events and several segments behind it.
struct Store {
    folder: TempDir,
}

impl Store {
    fn closed() -> Self {
        let store = Self { folder: tempfile::tempdir().unwrap() };
        let engine = open(&store.path()).unwrap();
        record(&engine, SEED, 1..=EVENTS / 2, Ack::Durable);
        engine.checkpoint().unwrap();
        record(&engine, SEED, EVENTS / 2 + 1..=EVENTS, Ack::Durable);
        engine.close(PATIENCE).unwrap();
        store
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A copy that a test may spoil.
    fn copy(&self) -> Self {
        let other = Self { folder: tempfile::tempdir().unwrap() };
        copy(&self.path(), &other.path());
        other
    }

    fn segments(&self, log: &str) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.path().join("log").join(log)).unwrap();
        let mut segments: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.extension().is_some_and(|end| end == "wal"));
        segments.sort();
        segments
    }

    fn refusal(&self) -> StoreError {
        match open(&self.path()) {
            Err(OpenError::Store(error)) => error,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{} opens", self.path().display()),
        }
    }

    fn assert_whole(&self) {
        self.assert_holds(EVENTS);
    }

    fn assert_holds(&self, events: u64) {
        let engine = open(&self.path()).unwrap();
        assert_eq!(held(&engine), Truth::of(SEED, events, 0).last());
        engine.close(PATIENCE).unwrap();
    }
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

#[test]
fn a_store_without_one_of_its_parts_is_refused_and_never_an_emptier_one() {
    let store = Store::closed();
    let segments = store.segments("0000");
    assert!(segments.len() >= 3, "{segments:?}");
    // The first one may hold covered records alone; all but the last hold some that are not.
    let (last, others) = segments.split_last().unwrap();
    let middle = &segments[segments.len() / 2];
    let below = |path: &PathBuf| path.strip_prefix(store.path()).unwrap().to_owned();
    let whole = |name: &str| vec![PathBuf::from(name)];
    for (gone, code) in [
        (whole("MANIFEST"), "store-not-a-store"),
        (whole("checkpoint"), "store-io"),
        (whole("log"), "log-gone"),
        (whole("log/0001"), "log-gone"),
        (others.iter().map(below).collect(), "log-begins-too-late"),
        (vec![below(middle)], "log-segment-missing"),
        (vec![below(last)], "log-segment-missing"),
    ] {
        let spoilt = store.copy();
        for name in &gone {
            remove(&spoilt.path().join(name));
        }
        let refused = spoilt.refusal();
        assert_eq!(refused.code(), code, "without {gone:?}: {refused}");
        for name in &gone {
            copy_back(&store, &spoilt, name);
        }
        spoilt.assert_whole();
    }
}

/// Brings back what was taken away.
fn copy_back(from: &Store, to: &Store, what: &Path) {
    let (from, to) = (from.path().join(what), to.path().join(what));
    if from.is_dir() {
        if to.exists() {
            remove(&to);
        }
        copy(&from, &to);
    } else {
        fs::copy(from, to).map(drop).unwrap();
    }
}

#[test]
fn a_part_of_another_store_is_told_as_such() {
    let (store, other) = (Store::closed(), Store::closed());
    for (what, codes) in [
        (PathBuf::from("MANIFEST"), &["checkpoint-foreign"][..]),
        (PathBuf::from("checkpoint"), &["store-seal-broken"][..]),
        (PathBuf::from("log/0001"), &["log-foreign"][..]),
    ] {
        let spoilt = store.copy();
        copy_back(&other, &spoilt, &what);
        let refused = spoilt.refusal();
        assert!(codes.contains(&refused.code()), "{}: {refused}", what.display());
        assert!(refused.is_damage(), "{refused}");
    }
    // Whatever it is called: how many were let go before depends on when the log got to it.
    let spoilt = store.copy();
    fs::copy(&other.segments("0000")[1], &spoilt.segments("0000")[1]).unwrap();
    assert_eq!(spoilt.refusal().code(), "log-foreign");
    let spoilt = store.copy();
    copy_back(&other, &spoilt, Path::new("checkpoint"));
    copy_back(&other, &spoilt, Path::new("SEAL"));
    assert_eq!(spoilt.refusal().code(), "checkpoint-foreign");
    let spoilt = store.copy();
    let log = |number| spoilt.path().join(format!("log/000{number}"));
    fs::rename(log(0), log(7)).unwrap();
    fs::rename(log(1), log(0)).unwrap();
    fs::rename(log(7), log(1)).unwrap();
    assert_eq!(spoilt.refusal().code(), "log-foreign", "logs of two shards, exchanged");
}

#[test]
fn an_older_checkpoint_or_older_logs_are_never_taken_for_the_whole() {
    let older = Store::closed();
    let newer = older.copy();
    let engine = open(&newer.path()).unwrap();
    record(&engine, SEED, EVENTS + 1..=2 * EVENTS, Ack::Durable);
    engine.checkpoint().unwrap();
    engine.close(PATIENCE).unwrap();
    let spoilt = newer.copy();
    copy_back(&older, &spoilt, Path::new("checkpoint"));
    copy_back(&older, &spoilt, Path::new("SEAL"));
    let refused = spoilt.refusal();
    assert_eq!(refused.code(), "log-begins-too-late", "{refused}");
    let spoilt = newer.copy();
    copy_back(&older, &spoilt, Path::new("log"));
    let refused = spoilt.refusal();
    assert!(refused.is_damage(), "{refused}");
}

#[test]
fn a_log_that_an_older_checkpoint_does_not_know_is_told_as_such() {
    let store = Store { folder: tempfile::tempdir().unwrap() };
    let open_over = |shards| builder(&store.path()).shards(shards).log_options(sizes()).open();
    let engine = open_over(1).unwrap();
    record(&engine, SEED, 1..=100, Ack::Durable);
    engine.close(PATIENCE).unwrap();
    let older = store.copy();
    let engine = open_over(2).unwrap();
    record(&engine, SEED, 101..=200, Ack::Durable);
    engine.close(PATIENCE).unwrap();
    copy_back(&older, &store, Path::new("checkpoint"));
    copy_back(&older, &store, Path::new("SEAL"));
    let refused = store.refusal();
    assert_eq!(refused.code(), "log-unknown", "{refused}");
    assert!(refused.is_damage() && refused.to_string().contains("log/0001"), "{refused}");
}

#[test]
fn records_that_are_newer_than_every_log_are_told_as_such() {
    let store = Store { folder: tempfile::tempdir().unwrap() };
    let engine = Arc::new(open(&store.path()).unwrap());
    record(&engine, SEED, 1..=100, Ack::Durable);
    // A log that is about to rename a segment may be copied without it.
    thread::sleep(Duration::from_millis(300));
    let older = store.copy();
    record(&engine, SEED, 101..=400, Ack::Durable);
    // One shard saves its records, the other cannot: nothing is covered yet.
    let [_, slow] = entity_of_each_shard(&engine).try_into().unwrap();
    let stopped = Stopped::shard_of(&engine, slow);
    let checkpoint = thread::spawn({
        let engine = Arc::clone(&engine);
        move || engine.checkpoint()
    });
    thread::sleep(Duration::from_secs(2));
    let ahead = store.copy();
    stopped.go_on();
    checkpoint.join().unwrap().unwrap();
    ahead.copy().assert_holds(400);
    copy_back(&older, &ahead, Path::new("log"));
    let refused = ahead.refusal();
    assert_eq!(refused.code(), "checkpoint-ahead", "{refused}");
    assert!(refused.is_damage(), "{refused}");
}

#[test]
fn no_symbolic_link_is_followed() {
    let store = Store::closed();
    let segment = store.segments("0000")[1].clone();
    let segment = segment.strip_prefix(store.path()).unwrap();
    for (what, code) in [
        (Path::new("LOCK"), "store-symlink"),
        (Path::new("MANIFEST"), "store-symlink"),
        (Path::new("SEAL"), "store-symlink"),
        (Path::new("checkpoint"), "store-symlink"),
        (Path::new("log"), "store-symlink"),
        (Path::new("log/0000"), "store-symlink"),
        (segment, "log-not-regular"),
    ] {
        let spoilt = store.copy();
        let (path, away) = (spoilt.path().join(what), spoilt.folder.path().join("away"));
        fs::rename(&path, &away).unwrap();
        symlink(&away, &path).unwrap();
        let refused = spoilt.refusal();
        assert_eq!(refused.code(), code, "{}: {refused}", what.display());
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        spoilt.assert_whole();
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let store = Store::closed();
    let spoilt = store.copy();
    let mut manifest = fs::read(spoilt.path().join("MANIFEST")).unwrap();
    manifest[8] = 2;
    manifest[100] ^= 1;
    fs::write(spoilt.path().join("MANIFEST"), manifest).unwrap();
    let refused = spoilt.refusal();
    assert_eq!((refused.code(), refused.is_damage()), ("store-format", false), "{refused}");
}

/// Bytes of a file to flip: the first of each field as the documentation has them, and some drawn.
fn places(path: &Path, random: &mut SplitMix) -> Vec<u64> {
    let bytes = fs::metadata(path).unwrap().len();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let fields: &[u64] = if path.extension().is_some_and(|end| end == "wal") {
        let header = [0, 8, 12, 16, 32, 40, 56, 64, 72, 80, 96, 4_064];
        // Of the first frame: tag, length, kind, lsn, count, durable, link, hashes, payload, pad.
        let frame = [0, 8, 12, 16, 24, 32, 40, 64, 96, 128, 136, 4_095].map(|at| 4_096 + at);
        &[header, frame].concat()
    } else if name == "MANIFEST" {
        &[0, 8, 12, 16, 32, 48, 96]
    } else {
        &[0, 4, 8, 16, 17]
    };
    let drawn = (0..4).filter(|_| bytes > 0).map(|_| random.below(bytes.max(1)));
    let ends = bytes.checked_sub(1).into_iter();
    let mut places: Vec<u64> = fields.iter().copied().chain(ends).chain(drawn).collect();
    places.retain(|&at| at < bytes);
    places.sort_unstable();
    places.dedup();
    places
}

/// Every file of a store.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Opens a spoilt store in a process of its own; says with which code it was refused, if it was.
fn look(spoilt: &Store, what: &str) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let orders = ["shards=2".to_owned(), "backend=threads".to_owned()];
    let said = run(program, &spoilt.path(), &orders, Death::Natural);
    let said = said.unwrap_or_else(|error| panic!("{what}: {error}"));
    if let Some((code, text)) = said.refused {
        assert!(!code.is_empty() && text.len() > 20, "{what}: {code}: {text}");
        return Some(code);
    }
    assert_eq!(said.held, Truth::of(SEED, EVENTS, 0).last(), "{what}");
    None
}

/// Flips one bit at each second place of every file; says how many were refused, and which not.
fn flip_everywhere(store: &Store) -> (usize, Vec<PathBuf>) {
    let mut random = SplitMix(SEED);
    let (mut refused, mut exact, mut turn) = (0, Vec::new(), 0);
    for path in files(&store.path()) {
        let name = path.strip_prefix(store.path()).unwrap();
        for at in places(&path, &mut random) {
            turn += 1;
            if turn % 2 == 0 {
                continue;
            }
            let spoilt = store.copy();
            let path = spoilt.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1 << random.below(8);
            fs::write(&path, bytes).unwrap();
            match look(&spoilt, &format!("{} at {at}", name.display())) {
                Some(_) => refused += 1,
                None => exact.push(name.to_owned()),
            }
        }
    }
    (refused, exact)
}

#[test]
fn a_flipped_bit_of_a_closed_store_is_found() {
    let (refused, exact) = flip_everywhere(&Store::closed());
    println!("{refused} refused, exact in {exact:?}");
    assert!(refused > 100);
    // A checkpoint covers some segments, of which only the headers are read.
    let covered = |path: &PathBuf| path.extension().is_some_and(|end| end == "wal");
    assert!(exact.iter().all(covered), "{exact:?}");
}

#[test]
fn a_flipped_bit_of_a_crashed_store_is_found_or_does_no_harm() {
    let store = Store { folder: tempfile::tempdir().unwrap() };
    let running = Store { folder: tempfile::tempdir().unwrap() };
    let engine = open(&running.path()).unwrap();
    record(&engine, SEED, 1..=EVENTS / 2, Ack::Durable);
    engine.checkpoint().unwrap();
    record(&engine, SEED, EVENTS / 2 + 1..=EVENTS, Ack::Durable);
    // A log at rest vouches for its last group after some milliseconds; nothing tells when.
    thread::sleep(Duration::from_millis(200));
    copy(&running.path(), &store.path());
    let (refused, exact) = flip_everywhere(&store);
    println!("{refused} refused, {} exact", exact.len());
    assert!(refused > 30 && !exact.is_empty());
}
