//! Salvage of stores with damaged and lost records, which need the database to be made.

use super::*;
use crate::offline::StoredState;
use crate::store::FjallStorage;
use crate::{
    Ack, Engine, EngineBuilder, EntityId, Event, LogOptions, ManualClock, SourceEvent, Timestamp,
};
use ebbtide_shard::checkpoint::{Key, PairList, StorageEngine as _, decode, encode};
use std::ops::ControlFlow;
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SCHEMA: &str =
    "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]\ndedup = \"content\"";
const EVENTS: u64 = 5 * PAIRS;
/// Of these, how many come after the checkpoint.
const LATER: u64 = EVENTS / 4;
/// How many pairs there are: those of a page, and some more.
const PAIRS: u64 = 200;

fn builder(directory: &Path, segment_bytes: u64) -> EngineBuilder {
    let log = LogOptions { group_bytes: 8 << 10, segment_bytes, ..LogOptions::default() };
    let clock = Arc::new(ManualClock::at(NOW));
    let schema = Schema::from_toml(SCHEMA).unwrap();
    Engine::builder(directory).schema(schema).shards(1).clock(clock).log_options(log)
}

fn event(n: u64) -> Event {
    let time = Timestamp(NOW.0 - (EVENTS - n) * 1_000_000_000);
    Event::new(EntityId(n % PAIRS), ebbtide_shard::SignalId(0), time)
}

/// Records events `first` to `last` of a source, or of none.
fn record(engine: &Engine, first: u64, last: u64, sourced: bool) {
    let mut producer = engine.producer_for("feed").unwrap();
    let mut plain = engine.producer().unwrap();
    for n in first..=last {
        if sourced {
            producer.offer_within(SourceEvent::new(n, event(n)), PATIENCE).unwrap();
        } else {
            plain.offer(event(n)).unwrap();
        }
        if n % 10 == 0 {
            producer.flush(Ack::Durable, PATIENCE).unwrap();
            plain.flush(Ack::Durable, PATIENCE).unwrap();
        }
    }
    producer.flush(Ack::Durable, PATIENCE).unwrap();
    plain.flush(Ack::Durable, PATIENCE).unwrap();
}

/// A store with a checkpoint after three quarters of its events; small segments let go of what it
/// covers. No partition has pairs of both pages: a pair that is lost beside others is not filled.
fn made(segment_bytes: u64, sourced: bool) -> TempDir {
    let are_apart = |folder: &TempDir| {
        let files = StoreFiles::new(&folder.path().join("store"));
        let key = Manifest::read(&files).unwrap().unwrap().partition_key();
        let mut second = BTreeSet::new();
        harm(folder, |storage| second = second_page(storage).1);
        let (second, first): (Vec<_>, Vec<_>) =
            (0..PAIRS).map(EntityId).partition(|entity| second.contains(entity));
        let partitions = |entities: Vec<EntityId>| -> BTreeSet<usize> {
            entities.into_iter().map(|entity| key.hash(entity).partition()).collect()
        };
        partitions(first).is_disjoint(&partitions(second))
    };
    let mut made = std::iter::repeat_with(|| made_somehow(segment_bytes, sourced));
    made.by_ref().take(100).find(are_apart).expect("every second key places them so")
}

fn made_somehow(segment_bytes: u64, sourced: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let engine = builder(&folder.path().join("store"), segment_bytes).open().unwrap();
    record(&engine, 1, EVENTS - LATER, sourced);
    engine.checkpoint().unwrap();
    record(&engine, EVENTS - LATER + 1, EVENTS, sourced);
    engine.close(PATIENCE).unwrap();
    folder
}

/// Changes the checkpoint of a store behind its back.
fn harm(folder: &TempDir, change: impl FnOnce(&mut FjallStorage)) {
    let files = StoreFiles::new(&folder.path().join("store"));
    seal::remove(&files).unwrap();
    let mut storage = FjallStorage::open(&files.checkpoint()).unwrap();
    change(&mut storage);
    storage.close().unwrap();
}

/// The key of the second page of the checkpoint, and the entities in it.
fn second_page(storage: &FjallStorage) -> (Key, BTreeSet<EntityId>) {
    let mut pages = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        let key = Key::of_bytes(key).unwrap();
        pages.push((key, decode::<PairList>(key, value).unwrap().0));
        ControlFlow::Continue(())
    };
    storage.scan(Tag::Sig, 0..=u64::MAX, &mut visit).unwrap();
    assert_eq!(pages.len(), 2);
    let (key, list) = pages.remove(1);
    (key, list.pairs.iter().map(|pair| EntityId(pair.entity)).collect())
}

fn flip_record(storage: &mut FjallStorage) {
    let (key, _) = second_page(storage);
    let mut value = storage.get(key).unwrap().unwrap();
    value[20] ^= 1;
    storage.put(key, &value).unwrap();
}

fn saved(folder: &TempDir) -> Salvage {
    let (store, new) = (folder.path().join("store"), folder.path().join("new"));
    salvage(&store, &new, &SalvageOptions::default()).unwrap()
}

/// What could not be read and cost nothing, if it is one thing.
#[track_caller]
fn rebuilt(salvage: &Salvage) -> &Trouble {
    let [Trouble::Rebuilt { what }] = &salvage.troubles[..] else {
        panic!("{:?}", salvage.troubles)
    };
    assert_eq!(salvage.losses, 0);
    what
}

/// Sending everything again to the new store gives what the old one counted.
#[track_caller]
fn assert_filled_by_sending_again(folder: &TempDir, whole: &BTreeMap<EntityId, u64>) {
    let engine = builder(&folder.path().join("new"), 24 << 10).open().unwrap();
    assert_eq!(engine.resume_offset("feed").unwrap(), Some(0));
    record(&engine, 1, EVENTS, true);
    engine.close(PATIENCE).unwrap();
    assert_eq!(&counts(folder, "new"), whole);
}

/// How often each entity was counted.
fn counts(folder: &TempDir, name: &str) -> BTreeMap<EntityId, u64> {
    let state = StoredState::read(&folder.path().join(name)).unwrap();
    state.pairs(NOW, |_| true).map(|(entity, _, reading)| (entity, reading.all_time)).collect()
}

#[test]
fn a_damaged_record_is_rebuilt_where_the_logs_hold_everything() {
    let folder = made(1 << 20, true);
    let whole = counts(&folder, "store");
    harm(&folder, flip_record);
    let salvage = saved(&folder);
    assert!(matches!(rebuilt(&salvage), Trouble::Page { number: 0, .. }));
    assert_eq!(counts(&folder, "new"), whole);
}

#[test]
fn a_damaged_record_costs_its_pairs_and_sending_again_fills_them() {
    let folder = made(24 << 10, true);
    let whole = counts(&folder, "store");
    harm(&folder, flip_record);
    let salvage = saved(&folder);
    let [Trouble::Page { entity: first, .. }] = salvage.troubles[..] else { panic!("{salvage:?}") };
    let others = |of: &BTreeMap<EntityId, u64>| {
        of.iter().filter(|&(&entity, _)| entity < first).map(|(&e, &n)| (e, n)).collect::<Vec<_>>()
    };
    assert_eq!(others(&counts(&folder, "new")), others(&whole));
    assert_filled_by_sending_again(&folder, &whole);
}

/// Every log reached back to its first record, so the loss was told as none; what the pair had had
/// in the gap was gone.
#[test]
fn a_damaged_record_is_not_rebuilt_from_logs_with_a_gap() {
    let folder = made(1 << 20, true);
    let whole = counts(&folder, "store");
    harm(&folder, flip_record);
    let log = folder.path().join("store/log/0000");
    let segment = log.join("seg-0000000000000001.wal");
    let mut bytes = std::fs::read(&segment).unwrap();
    let mut blocks = bytes.chunks(4096).enumerate().skip(2);
    let (frame, _) = blocks.find(|(_, block)| block[12] == 1).unwrap();
    bytes[frame * 4096 + 200] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    let salvage = saved(&folder);
    let [Trouble::Page { .. }, Trouble::Covered { .. }] = salvage.troubles[..] else {
        panic!("{:?}", salvage.troubles)
    };
    assert_eq!(salvage.losses, 1);
    assert_filled_by_sending_again(&folder, &whole);
}

#[test]
fn records_without_a_trace_cost_nothing_where_the_logs_hold_everything() {
    let folder = made(1 << 20, true);
    let whole = counts(&folder, "store");
    harm(&folder, |storage| {
        storage.delete(second_page(storage).0).unwrap();
    });
    assert!(matches!(rebuilt(&saved(&folder)), Trouble::Records { count: 1 }));
    assert_eq!(counts(&folder, "new"), whole);
}

#[test]
fn records_without_a_trace_are_filled_by_sending_again() {
    let folder = made(24 << 10, true);
    let whole = counts(&folder, "store");
    harm(&folder, |storage| {
        storage.delete(second_page(storage).0).unwrap();
    });
    assert!(matches!(saved(&folder).troubles[..], [Trouble::Records { count: 1 }]));
    assert_filled_by_sending_again(&folder, &whole);
}

#[test]
fn a_record_without_a_trace_and_an_old_one_are_told() {
    let folder = made(24 << 10, true);
    harm(&folder, |storage| {
        storage.delete(second_page(storage).0).unwrap();
    });
    assert!(matches!(saved(&folder).troubles[..], [Trouble::Records { count: 1 }]));

    let folder = made(24 << 10, true);
    harm(&folder, |storage| {
        let (key, _) = second_page(storage);
        let value = storage.get(key).unwrap().unwrap();
        let (mut list, _) = decode::<PairList>(key, &value).unwrap();
        list.pairs[0].all_time += 1;
        storage.put(key, &encode(key, &list).unwrap()).unwrap();
    });
    assert!(matches!(saved(&folder).troubles[..], [Trouble::Stale]));
}

#[test]
fn a_source_whose_name_is_lost_is_told_and_what_it_sent_last_left_out() {
    let folder = made(24 << 10, true);
    let whole = counts(&folder, "store");
    harm(&folder, |storage| {
        let key = Key::Source { id: SourceId::of("feed").0 };
        storage.put(key, &[7; 40]).unwrap();
    });
    let salvage = saved(&folder);
    let [Trouble::Record { tag: Tag::Src, .. }, Trouble::Unnamed { count: LATER, .. }] =
        salvage.troubles[..]
    else {
        panic!("{:?}", salvage.troubles)
    };
    let left: u64 = counts(&folder, "new").values().sum();
    assert_eq!(left + LATER, whole.values().sum::<u64>());
    // The logs name it as long as they hold everything.
    let folder = made(1 << 20, true);
    harm(&folder, |storage| {
        let key = Key::Source { id: SourceId::of("feed").0 };
        storage.put(key, &[7; 40]).unwrap();
    });
    let salvage = saved(&folder);
    assert!(matches!(rebuilt(&salvage), Trouble::Record { tag: Tag::Src, .. }));
    assert_eq!(salvage.sources, [("feed".to_owned(), EVENTS, 0)]);
    assert_eq!(counts(&folder, "new"), whole);
}

#[test]
fn events_without_a_source_are_kept_behind_a_gap() {
    let folder = made(24 << 10, false);
    let whole = counts(&folder, "store");
    let log = folder.path().join("store/log/0000");
    let mut segments: Vec<_> =
        std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    // The last segment but one is not covered. Frames without records lie between where the log
    // had rested.
    let path = &segments[segments.len() - 2];
    let mut bytes = std::fs::read(path).unwrap();
    let mut blocks = bytes.chunks(4096).enumerate().skip(2);
    let (frame, _) = blocks.find(|(_, block)| block[12] == 1).unwrap();
    bytes[frame * 4096 + 200] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let salvage = saved(&folder);
    assert!(matches!(salvage.troubles[..], [Trouble::Gap { log: 0, .. }]), "{salvage:?}");
    let left: u64 = counts(&folder, "new").values().sum();
    let missing = whole.values().sum::<u64>() - left;
    assert!((1..=10).contains(&missing), "{missing}");
}

/// Nothing of it is damaged: a newer program reads it.
#[test]
fn a_checkpoint_of_a_newer_format_is_no_damage() {
    let folder = made(1 << 20, true);
    harm(&folder, |storage| {
        let mut value = storage.get(Key::Meta).unwrap().unwrap();
        let end = value.len() - 16;
        value[end - 80] = 9;
        let mut hasher = blake3::Hasher::new_derive_key("ebbtide record v1");
        hasher.update(&Key::Meta.to_bytes()).update(&value[..end]);
        value[end..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        storage.put(Key::Meta, &value).unwrap();
    });
    let (store, new) = (folder.path().join("store"), folder.path().join("new"));
    let refused = salvage(&store, &new, &SalvageOptions::default()).unwrap_err();
    let is_newer = |error: &StoreError| {
        matches!(error, StoreError::UnsupportedFormat { found: 9, newest: FORMAT_VERSION, .. })
    };
    assert!(matches!(&refused, SalvageError::Store(error) if is_newer(error)), "{refused}");
    let opened = builder(&store, 1 << 20).open().map(drop).unwrap_err();
    assert!(matches!(&opened, crate::OpenError::Store(error) if is_newer(error)), "{opened}");
}

/// What is lost is the page with the later states; earlier ones are in another.
#[test]
fn of_a_pair_whose_later_state_is_lost_the_earlier_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let engine = builder(&folder.path().join("store"), 24 << 10).open().unwrap();
    record(&engine, 1, EVENTS / 2, true);
    engine.checkpoint().unwrap();
    let earlier: BTreeMap<_, _> = (0..PAIRS).map(|n| (EntityId(n), EVENTS / 2 / PAIRS)).collect();
    // Only some, so that the first round is still needed.
    record(&engine, EVENTS / 2 + 1, EVENTS / 2 + PAIRS / 2, true);
    engine.checkpoint().unwrap();
    engine.close(PATIENCE).unwrap();
    harm(&folder, |storage| {
        let mut last = None;
        let mut visit = |key: &[u8], _: &[u8]| {
            last = last.max(Key::of_bytes(key).map(|key| match key {
                Key::Page { round, .. } => (round, key),
                _ => panic!("{key}"),
            }));
            ControlFlow::Continue(())
        };
        storage.scan(Tag::Sig, 0..=u64::MAX, &mut visit).unwrap();
        let (_, key) = last.unwrap();
        let mut value = storage.get(key).unwrap().unwrap();
        value[20] ^= 1;
        storage.put(key, &value).unwrap();
    });
    let salvage = saved(&folder);
    assert!(matches!(salvage.troubles[..], [Trouble::Page { .. }]), "{salvage:?}");
    assert_eq!(salvage.losses, 1);
    let (left, most) = (counts(&folder, "new"), EVENTS / 2 / PAIRS + 1);
    for (entity, count) in earlier {
        let found = left[&entity];
        assert!((count..=most).contains(&found), "{entity:?}: {found}, it had {count} to {most}");
    }
}
