//! What a verification says of healthy stores of every kind, and of stores with one bit changed.
//!
//! Promises: whatever a store went through in order or by a crash, it has no finding; a bit changed
//! anywhere in a closed store has one, which names the file; nothing of a store changes while it is
//! looked at.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::offline::{StoredState, Verification, verify};
use ebbtide::{Ack, Backend, Engine, EntityId, Event, LogOptions, Retune, Schema, Timestamp};
use ebbtide_tests::crash::{builder, record};
use ebbtide_tests::frozen::{self, FORMATS, PRESENT, STORES};
use ebbtide_tests::setting::PATIENCE;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, run};
use ebbtide_wal::limits::segment_bytes_min;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SEED: u64 = 5;
const EVENTS: u64 = 3_000;
/// Changed bits, at random places of a closed store.
const FLIPS: u64 = 300;
/// Processes that are killed while they use a store.
const KILLS: u64 = 40;

fn sizes() -> LogOptions {
    let group_bytes = 8_192;
    let segment_bytes = segment_bytes_min(group_bytes);
    LogOptions { group_bytes, segment_bytes, ..LogOptions::default() }
}

fn open(directory: &Path, shards: usize) -> Engine {
    let builder = builder(directory).shards(shards).backend(Backend::Threads);
    builder.log_options(sizes()).open().unwrap()
}

fn verified(directory: &Path) -> Verification {
    verify(directory, &mut |_| {}).unwrap()
}

#[track_caller]
fn assert_whole(directory: &Path) -> Verification {
    let found = verified(directory);
    assert!(found.is_whole(), "{:#?}", found.findings);
    found
}

/// A frozen store of the present format, unpacked.
fn frozen_store(name: &str) -> (TempDir, PathBuf) {
    frozen_store_of(PRESENT, name)
}

/// The same, of any format.
fn frozen_store_of(format: &str, name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let packed = fixtures.join(format).join(name);
    let store = folder.path().join("store");
    frozen::unpack(&packed, &store).unwrap();
    (folder, store)
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_store_is_whole_after_whatever_it_went_through_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    open(&store, 2).close(PATIENCE).unwrap();
    let found = assert_whole(&store);
    assert_eq!((found.logs.len(), found.rebuilt.unwrap().pairs), (2, 0));

    let engine = open(&store, 2);
    record(&engine, SEED, 1..=EVENTS / 3, Ack::Durable);
    engine.close(PATIENCE).unwrap();
    let found = assert_whole(&store);
    assert!(found.checkpoint.unwrap().sealed);
    assert!(found.logs.iter().all(|log| log.clean_shutdown && log.unused_bytes == 0));
    let rebuilt = found.rebuilt.unwrap();
    assert!(rebuilt.pairs > 50 && rebuilt.whole == rebuilt.pairs, "{rebuilt:?}");

    // Another number of shards, checkpoints that let segments go, logs that leave.
    for (shards, part) in [(3, 2), (1, 3)] {
        let engine = open(&store, shards);
        record(&engine, SEED, EVENTS * (part - 1) / 3 + 1..=EVENTS * part / 3, Ack::Durable);
        engine.checkpoint().unwrap();
        engine.checkpoint().unwrap();
        let copied = folder.path().join(format!("copy{part}"));
        engine.backup(&copied).unwrap();
        engine.close(PATIENCE).unwrap();
        assert_whole(&copied);
        assert_whole(&store);
    }
    let found = assert_whole(&store);
    let rebuilt = found.rebuilt.unwrap();
    assert!(found.logs.iter().any(|log| log.begins_after.get() > 0), "{:?}", found.logs);
    assert!(rebuilt.whole < rebuilt.pairs, "some events have left the logs: {rebuilt:?}");
}

#[test]
fn a_store_is_whole_whenever_its_process_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, program) = (folder.path().join("store"), Path::new(env!("CARGO_BIN_EXE_victim")));
    let mut random = SplitMix(SEED);
    let (mut torn, mut unsealed, mut closed) = (0, 0, 0);
    for round in 0..KILLS {
        let after = Duration::from_micros(random.below(60_000));
        let death = match random.below(10) {
            0..4 => Death::AfterStart(after),
            4..9 => Death::AfterReady(after),
            _ => Death::Natural,
        };
        let (shards, every_us) = (1 + random.below(3), 1 + random.below(20_000));
        let orders = [
            format!("seed={SEED}"),
            format!("events={}", EVENTS * (round + 1)),
            format!("shards={shards}"),
            format!("checkpoint_us={every_us}"),
            "backend=threads".to_owned(),
            "group=8192".to_owned(),
            format!("segment={}", sizes().segment_bytes),
        ];
        run(program, &store, &orders, death).unwrap();
        if !store.join("MANIFEST").exists() {
            continue;
        }
        let found = assert_whole(&store);
        assert!(found.rebuilt.is_some());
        let sealed = found.checkpoint.unwrap().sealed;
        (unsealed, closed) = (unsealed + u64::from(!sealed), closed + u64::from(sealed));
        torn += found.logs.iter().filter(|log| log.unused_bytes > 0).count();
    }
    assert!(torn > 5 && unsealed > 5 && closed > 0, "{torn} torn, {unsealed}, {closed} closed");
}

#[test]
fn frozen_stores_are_whole() {
    for (format, (name, shards, closed)) in FORMATS.iter().flat_map(|f| STORES.map(|s| (f, s))) {
        let (_folder, store) = frozen_store_of(format, name);
        let found = assert_whole(&store);
        assert_eq!(found.checkpoint.unwrap().sealed, closed, "{format} {name}");
        assert_eq!(found.logs.len(), shards, "{format} {name}");
        assert!(found.rebuilt.unwrap().pairs > 100, "{format} {name}: {found:?}");
    }
}

/// The checkpoint covers the segment, so an opening passes over it.
#[test]
fn nothing_is_dumped_of_a_store_that_is_damaged_where_no_opening_looks() {
    let (_folder, store) = frozen_store_of("v1", "closed");
    assert!(StoredState::read(&store).unwrap().pair_count() > 100);
    let segment = store.join("log/0000/seg-000000000000000b.wal");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[4096 + 200] ^= 1;
    fs::write(segment, bytes).unwrap();
    assert_eq!(StoredState::read(&store).unwrap_err().code(), "log-damaged");
    frozen::builder(&store, 2).open().unwrap().close(PATIENCE).unwrap();
}

#[test]
fn a_store_whose_scores_restarted_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let schema = |half_life: &str| {
        let text = format!("[signals.view]\nhalf_lives = [\"{half_life}\"]\nwindows = [\"1h\"]");
        Schema::from_toml(&text).unwrap()
    };
    let mut restarted = 0;
    for (half_life, retune) in
        [("1h", Retune::Restart), ("2h", Retune::Restart), ("30min", Retune::Rebuild)]
    {
        let builder = Engine::builder(&store).schema(schema(half_life)).shards(2).retune(retune);
        let engine = builder.open().unwrap();
        let view = engine.schema().signal("view").unwrap();
        let mut producer = engine.producer().unwrap();
        for entity in 0..50 {
            let time = Timestamp::from_seconds(1_000_000 + entity);
            producer.offer(Event::new(EntityId(entity), view, time)).unwrap();
        }
        producer.flush(Ack::Durable, PATIENCE).unwrap();
        drop(producer);
        engine.close(PATIENCE).unwrap();
        let rebuilt = assert_whole(&store).rebuilt.unwrap();
        assert_eq!((rebuilt.pairs, rebuilt.whole), (50, 50), "{half_life}");
        restarted += u64::from(rebuilt.restarted == 50);
    }
    assert_eq!(restarted, 1, "only the scores that restarted lie below their events");
}

#[test]
fn a_changed_bit_anywhere_in_a_closed_store_is_found_and_named() {
    let (_folder, store) = frozen_store("closed");
    let mut random = SplitMix(SEED);
    let files: Vec<_> =
        files(&store).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
    let mut codes: BTreeMap<&str, u64> = BTreeMap::new();
    for n in 0..FLIPS {
        // Each file has its turn: its first bytes, its last, and any between.
        let file = &files[usize::try_from(n).unwrap() % files.len()];
        let whole = fs::read(file).unwrap();
        let bits = whole.len() as u64 * 8;
        let bit = match n / files.len() as u64 {
            0 => random.below(bits.min(1024)),
            1 => bits - 1 - random.below(bits.min(1024)),
            _ => random.below(bits),
        };
        let mut bad = whole.clone();
        bad[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        fs::write(file, &bad).unwrap();
        let found = verified(&store);
        let what = format!("bit {bit} of {}", file.display());
        let first = found.findings.first().unwrap_or_else(|| panic!("{what} is not found"));
        assert!(found.findings.iter().any(|one| one.path() == Some(file)), "{what}: {found:#?}");
        assert!(first.to_string().contains(&*file.to_string_lossy()), "{what}: {first}");
        // A changed file of the database may also not open.
        let once = found.findings_count == 1 || file.starts_with(store.join("checkpoint"));
        assert!(once, "{what}: {:#?}", found.findings);
        *codes.entry(first.code()).or_default() += 1;
        fs::write(file, &whole).unwrap();
    }
    println!("{codes:?}");
    for code in ["store-manifest-damaged", "store-seal-damaged", "store-seal-broken"] {
        assert!(codes.contains_key(code), "{code} in {codes:?}");
    }
    for code in ["log-damaged", "log-header", "log-seal-damaged"] {
        assert!(codes.contains_key(code), "{code} in {codes:?}");
    }
    assert_whole(&store);
}

#[test]
fn a_seal_that_was_changed_is_mended_by_a_checkpoint_as_the_message_says() {
    let (_folder, store) = frozen_store("closed");
    let segments = files(&store.join("log/0000"));
    for file in &segments[..segments.len() - 1] {
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let found = verified(&store);
    assert_eq!(found.findings_count, segments.len() as u64 - 1);
    for finding in &found.findings {
        assert_eq!(finding.code(), "log-seal-damaged", "{finding}");
        assert!(finding.to_string().contains("take a checkpoint"), "{finding}");
    }
    let engine = frozen::builder(&store, 1).open().unwrap();
    engine.checkpoint().unwrap();
    engine.close(PATIENCE).unwrap();
    assert_whole(&store);
}

#[test]
fn everything_that_is_damaged_is_named_at_once() {
    // Its log has the most segments.
    let (_folder, store) = frozen_store_of(FORMATS[1], "closed");
    let log = store.join("log/0000");
    let segments = files(&log);
    assert!(segments.len() > 7, "{segments:?}");
    let alter = |file: &Path, at: usize| {
        let mut bytes = fs::read(file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let before = assert_whole(&store).logs[0].frames;
    alter(&segments[1], 4096 + 200);
    alter(&segments[3], 70);
    alter(&segments[4], 4096 + 200);
    fs::remove_file(&segments[6]).unwrap();
    alter(&store.join("SEAL"), 30);
    let found = verified(&store);
    let named: Vec<_> =
        found.findings.iter().map(|one| (one.code(), one.path().unwrap())).collect();
    for wrong in [
        ("store-seal-damaged", store.join("SEAL")),
        ("log-damaged", segments[1].clone()),
        ("log-header", segments[3].clone()),
        ("log-damaged", segments[4].clone()),
        ("log-segment-missing", segments[6].clone()),
    ] {
        assert!(named.contains(&(wrong.0, &wrong.1)), "{wrong:?} in {named:#?}");
    }
    assert_eq!(named.len(), 5, "and each once: {named:#?}");
    let log = &found.logs[0];
    assert!(!log.whole && log.frames > before / 4 && log.frames < before, "{log:?} of {before}");
}

/// Everything a store holds, as bits.
fn state(store: &Path) -> Vec<String> {
    let state = StoredState::read(store).unwrap();
    let pairs = state.pairs(frozen::NOW, |_| true);
    pairs.map(|(entity, signal, reading)| format!("{entity:?} {signal:?} {reading:?}")).collect()
}

#[test]
fn a_changed_bit_in_a_store_that_was_killed_is_found_or_changes_nothing_that_was_durable() {
    let (_folder, store) = frozen_store("killed");
    let (mut random, truth) = (SplitMix(SEED), state(&store));
    let torn = |found: &Verification| -> u64 { found.logs.iter().map(|log| log.torn_bytes).sum() };
    let torn_before = torn(&assert_whole(&store));
    let files = files(&store);
    let (mut found_some, mut harmless) = (0, 0);
    for n in 0..FLIPS / 3 {
        let file = &files[usize::try_from(n).unwrap() % files.len()];
        let whole = fs::read(file).unwrap();
        if whole.is_empty() {
            continue;
        }
        let bit = random.below(whole.len() as u64 * 8);
        let mut bad = whole.clone();
        bad[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        fs::write(file, &bad).unwrap();
        let found = verified(&store);
        if !found.is_whole() {
            found_some += 1;
        } else if torn(&found) == torn_before {
            harmless += 1;
            assert_eq!(state(&store), truth, "bit {bit} of {}", file.display());
        }
        fs::write(file, &whole).unwrap();
    }
    assert!(found_some > 20 && harmless > 5, "{found_some} found, {harmless} harmless");
}

/// What a file or folder is and holds.
fn trace(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let seen = fs::symlink_metadata(&path).unwrap();
        let bytes = if seen.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        if seen.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let (mode, inode, links) = (seen.mode(), seen.ino(), seen.nlink());
        let times = (seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec());
        let len = bytes.len();
        let digest = blake3::hash(&bytes);
        all.insert(path, format!("{mode:o} {inode} {links} {times:?} {len} {digest}"));
    }
    all
}

#[test]
fn nothing_of_a_store_changes_while_it_is_verified() {
    for (name, ..) in STORES {
        let (_folder, store) = frozen_store(name);
        for lock in [true, false] {
            if !lock {
                fs::remove_file(store.join("LOCK")).unwrap();
            }
            let before = trace(&store);
            assert_whole(&store);
            assert_eq!(trace(&store), before, "{name}");
        }
    }
}
