//! Salvage of stores with damaged and lost records, which need the database to be made.

use super::*;
use crate::offline::StoredState;
use crate::store::FjallStorage;
use crate::{
    Ack, Engine, EngineBuilder, EntityId, Event, LogOptions, ManualClock, SourceEvent, Timestamp,
};
use ebbtide_shard::checkpoint::{Key, StorageEngine as _, decode};
use std::time::Duration;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const SCHEMA: &str =
    "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]\ndedup = \"content\"";
const EVENTS: u64 = 400;
/// The entity whose record is harmed.
const HARMED: EntityId = EntityId(3);

fn builder(directory: &Path, segment_bytes: u64) -> EngineBuilder {
    let log = LogOptions { group_bytes: 8 << 10, segment_bytes, ..LogOptions::default() };
    let clock = Arc::new(ManualClock::at(NOW));
    let schema = Schema::from_toml(SCHEMA).unwrap();
    Engine::builder(directory).schema(schema).shards(1).clock(clock).log_options(log)
}

fn event(n: u64) -> Event {
    let time = Timestamp(NOW.0 - (EVENTS - n) * 1_000_000_000);
    Event::new(EntityId(n % 40), ebbtide_shard::SignalId(0), time)
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
/// covers.
fn made(segment_bytes: u64, sourced: bool) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let engine = builder(&folder.path().join("store"), segment_bytes).open().unwrap();
    record(&engine, 1, EVENTS * 3 / 4, sourced);
    engine.checkpoint().unwrap();
    record(&engine, EVENTS * 3 / 4 + 1, EVENTS, sourced);
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

fn flip_record(storage: &mut FjallStorage) {
    let key = Key::Pair { entity: HARMED, number: 0 };
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
    assert!(matches!(rebuilt(&salvage), Trouble::Pair { entity: HARMED, .. }));
    assert_eq!(counts(&folder, "new"), whole);
}

#[test]
fn a_damaged_record_costs_its_pair_and_sending_again_fills_it() {
    let folder = made(24 << 10, true);
    let whole = counts(&folder, "store");
    harm(&folder, flip_record);
    let salvage = saved(&folder);
    assert!(matches!(salvage.troubles[..], [Trouble::Pair { entity: HARMED, .. }]));
    let mut others = whole.clone();
    others.remove(&HARMED);
    let mut left = counts(&folder, "new");
    left.remove(&HARMED);
    assert_eq!(left, others);
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
    let [Trouble::Pair { entity: HARMED, .. }, Trouble::Covered { .. }] = salvage.troubles[..]
    else {
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
        storage.delete(Key::Pair { entity: HARMED, number: 0 }).unwrap();
    });
    assert!(matches!(rebuilt(&saved(&folder)), Trouble::Records { count: 1 }));
    assert_eq!(counts(&folder, "new"), whole);
}

#[test]
fn records_without_a_trace_are_filled_by_sending_again() {
    let folder = made(24 << 10, true);
    let whole = counts(&folder, "store");
    harm(&folder, |storage| {
        storage.delete(Key::Pair { entity: HARMED, number: 0 }).unwrap();
    });
    assert!(matches!(saved(&folder).troubles[..], [Trouble::Records { count: 1 }]));
    assert_filled_by_sending_again(&folder, &whole);
}

#[test]
fn a_record_without_a_trace_and_an_old_one_are_told() {
    let folder = made(24 << 10, true);
    harm(&folder, |storage| {
        storage.delete(Key::Pair { entity: HARMED, number: 0 }).unwrap();
    });
    assert!(matches!(saved(&folder).troubles[..], [Trouble::Records { count: 1 }]));

    let folder = made(24 << 10, true);
    harm(&folder, |storage| {
        let key = Key::Pair { entity: HARMED, number: 0 };
        let value = storage.get(key).unwrap().unwrap();
        let (mut record, _) = decode::<ebbtide_shard::checkpoint::PairRecord>(key, &value).unwrap();
        record.all_time += 1;
        storage.put(key, &ebbtide_shard::checkpoint::encode(key, &record).unwrap()).unwrap();
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
    let [Trouble::Record { tag: Tag::Src, .. }, Trouble::Unnamed { count: 100, .. }] =
        salvage.troubles[..]
    else {
        panic!("{:?}", salvage.troubles)
    };
    let left: u64 = counts(&folder, "new").values().sum();
    assert_eq!(left + 100, whole.values().sum::<u64>());
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
