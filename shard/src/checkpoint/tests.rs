//! Checkpoints on a storage that fails at every place, and storages that lie.
//!
//! The judge is a ledger that was given every event in order: whatever a crash leaves, loading it
//! and replaying the logs behind what is covered must answer as that one does, to the bit.

use super::*;
use crate::limits::PARTITIONS;
use crate::{
    EntityId, Materializer as _, PartitionKey, RestoredPair, RoutedEvent, Schema, SignalId,
    SignalLedger, Timestamp, Walk,
};
use ebbtide_wal::Lsn;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\", \"24h\"]\nwindows = [\"1h\"]\n";
const STORE: [u8; 16] = [3; 16];
const SHARDS: usize = 2;
const NAMES: [&str; 2] = ["gone", "view"];
/// `view` is the second name this store ever had.
const NUMBERS: [u8; 1] = [1];

fn key() -> PartitionKey {
    PartitionKey::new([5; 16])
}

fn ledger() -> SignalLedger {
    SignalLedger::new(Arc::new(Schema::from_toml(SCHEMA).unwrap()), key(), 0..PARTITIONS)
}

fn opening(number: u64, covered: Vec<(u32, u64)>) -> Opening {
    let signal_names = NAMES.map(str::to_owned).to_vec();
    Opening { number, schema_toml: SCHEMA.into(), signal_names, covered }
}

/// Shards with logs that lose nothing; events go to all that ever happened, in order.
struct World {
    shards: [SignalLedger; SHARDS],
    logs: [Vec<RoutedEvent>; SHARDS],
    next: u64,
}

impl World {
    fn new() -> Self {
        let shards = [0, 1].map(|shard| {
            let half = PARTITIONS / SHARDS;
            let schema = Arc::new(Schema::from_toml(SCHEMA).unwrap());
            SignalLedger::new(schema, key(), shard * half..(shard + 1) * half)
        });
        Self { shards, logs: [Vec::new(), Vec::new()], next: 0 }
    }

    fn record(&mut self, count: u64) {
        for _ in 0..count {
            self.next += 1;
            let entity = EntityId(self.next * 7 % 61);
            let (hash, time) = (key().hash(entity), Timestamp(self.next * 70_000_000_000));
            let signal = SignalId(0);
            let event = RoutedEvent { entity, time, weight: self.next as f64, hash, signal };
            let shard = usize::from(hash.partition() >= PARTITIONS / SHARDS);
            self.logs[shard].push(event);
            self.shards[shard].on_event(&event);
        }
    }

    fn lsns(&self) -> Vec<(u32, u64)> {
        (0..).zip(self.logs.iter().map(|log| log.len() as u64)).collect()
    }

    /// A checkpoint while events go on.
    fn checkpoint(
        &mut self,
        saver: &mut Saver<impl StorageEngine>,
    ) -> Result<CheckpointDone, SaveError> {
        let covered = self.lsns();
        for shard in 0..SHARDS {
            let mut walk = Walk::in_steps_of(9, 600);
            while let Some(chunk) = {
                let lsn = Lsn::new(self.logs[shard].len() as u64);
                self.shards[shard].checkpoint(&mut walk, lsn, &NUMBERS)
            } {
                self.record(3);
                saver.commit(&chunk)?;
            }
        }
        saver.put_sources(vec![source(saver.meta().checkpoint + 1)])?;
        let sequence = u32::try_from(saver.meta().checkpoint).unwrap();
        saver.put_ids(vec![ids(sequence, 5), ids(sequence + 100, 6)])?;
        saver.delete(&[ids(sequence.wrapping_sub(1), 0).0, ids(sequence + 100, 0).0])?;
        saver.finish(2, covered)
    }

    /// What all events come to.
    fn truth(&self) -> Vec<String> {
        let mut ledger = ledger();
        self.logs.iter().flatten().for_each(|event| ledger.on_event(event));
        answers(&ledger)
    }

    /// What a loaded checkpoint and the logs behind it come to.
    fn recovered(&self, found: &Found, meta: &MetaRecord) -> SignalLedger {
        let mut ledger = ledger();
        let mut included = BTreeMap::new();
        for pair in &found.pairs {
            included.insert(pair.entity, pair.record.lsn);
            ledger.restore(pair).unwrap();
        }
        for (log, events) in (0..).zip(&self.logs) {
            let covered = meta.covered.iter().find(|&&(of, _)| of == log).map_or(0, |&(_, l)| l);
            for (lsn, event) in (1..).zip(events) {
                if lsn > covered && lsn > *included.get(&event.entity).unwrap_or(&0) {
                    ledger.on_event(event);
                }
            }
        }
        ledger
    }
}

fn answers(ledger: &SignalLedger) -> Vec<String> {
    let now = Timestamp(1_000_000_000_000_000);
    let mut all: Vec<_> = ledger.iter(now).map(|reading| format!("{reading:?}")).collect();
    all.sort_unstable();
    all
}

fn source(offset: u64) -> (u64, SourceRecord) {
    let name = "orders".to_owned();
    (source_id(&name), SourceRecord { name, runs: vec![(0, offset)] })
}

fn ids(sequence: u32, id: u128) -> (Key, IdsRecord) {
    let key = Key::Ids { opening: 1, shard: 0, sequence };
    (key, IdsRecord { entries: vec![(1, id)] })
}

#[derive(Default)]
struct Found {
    pairs: Vec<RestoredPair>,
    sources: Vec<SourceRecord>,
    ids: Vec<Key>,
}

impl LoadSink for Found {
    fn pair(
        &mut self,
        (entity, number): (EntityId, u8),
        record: PairRecord,
        digest: RecordDigest,
    ) -> Result<(), RecordFault> {
        assert_eq!(number, NUMBERS[0]);
        let (hash, signal, saved) = (key().hash(entity), SignalId(0), Some(digest));
        self.pairs.push(RestoredPair { entity, hash, signal, record, saved });
        Ok(())
    }

    fn source(&mut self, id: u64, record: SourceRecord) -> Result<(), RecordFault> {
        assert_eq!(id, source_id(&record.name));
        self.sources.push(record);
        Ok(())
    }

    fn ids(&mut self, key: Key, _record: IdsRecord) -> Result<(), RecordFault> {
        self.ids.push(key);
        Ok(())
    }
}

fn found(storage: &MemoryStorage) -> Result<(Found, Loaded), LoadError> {
    let mut found = Found::default();
    load(storage, &mut found).map(|loaded| (found, loaded))
}

/// Three checkpoints, with events before, between and during them. Gives back how many of them were
/// finished, and the storage as it is after the first failure.
fn three_checkpoints(world: &mut World, mut storage: MemoryStorage) -> (u64, MemoryStorage) {
    let mut done = 0;
    let Ok(saver) = Saver::create(&mut storage, STORE, opening(1, Vec::new())) else {
        return (done, storage);
    };
    let mut saver = saver.in_runs_of(1500);
    for _ in 0..3 {
        world.record(40);
        if let Err(error) = world.checkpoint(&mut saver) {
            assert!(matches!(error, SaveError::Storage(_)), "{error}");
            let again = saver.put_sources(vec![source(9)]);
            assert!(matches!(again, Err(SaveError::Failed { .. })), "{again:?}");
            break;
        }
        done += 1;
    }
    (done, storage)
}

/// Whatever is left can be loaded, recovered, and checkpointed again.
fn assert_recovery(world: &World, left: MemoryStorage, done: u64) {
    let (found_now, loaded) = match found(&left) {
        Ok(found) => found,
        Err(error) => {
            assert_eq!((error, done), (LoadError::MetaMissing, 0));
            return;
        }
    };
    assert!(loaded.meta.checkpoint >= done, "what was reported done is durable");
    assert_eq!(loaded.meta.store_id, STORE);
    let ledger = world.recovered(&found_now, &loaded.meta);
    assert_eq!(answers(&ledger), world.truth());
    if loaded.meta.checkpoint > 0 {
        let first_offset = found_now.sources[0].runs[0].1;
        assert!(first_offset >= loaded.meta.checkpoint, "sources are as new as the checkpoint");
    }

    let mut left = left;
    let (openings, lsns) = (loaded.meta.openings, world.lsns());
    let covered = loaded.meta.covered.clone();
    let (mut saver, mut ledger) = (Saver::resume(&mut left, loaded), ledger);
    saver.note_opening(opening(openings + 1, covered)).unwrap();
    let (mut walk, lsn) = (Walk::begin(), lsns.iter().map(|&(_, lsn)| lsn).max().unwrap());
    while let Some(chunk) = ledger.checkpoint(&mut walk, Lsn::new(lsn), &NUMBERS) {
        saver.commit(&chunk).unwrap();
    }
    saver.finish(1, lsns).unwrap();
    let (found, loaded) = found(&left).unwrap();
    assert_eq!(answers(&world.recovered(&found, &loaded.meta)), world.truth());
}

#[test]
fn a_checkpoint_that_fails_at_any_operation_leaves_a_state_that_recovers() {
    for (sticky, done) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut operation = 1;
        loop {
            let (mut world, mut storage) = (World::new(), MemoryStorage::new());
            let kind = StorageErrorKind::OutOfSpace;
            storage.fail(Some(Fault { operation, kind, sticky, done }));
            let (checkpoints, mut storage) = three_checkpoints(&mut world, storage);
            storage.fail(None);
            for kept in 0..=storage.unflushed() {
                assert_recovery(&world, storage.after_power_cut(kept), checkpoints);
            }
            let last = storage.operations();
            if last < operation {
                assert_eq!(checkpoints, 3);
                break;
            }
            operation += 1;
        }
        assert!(operation > 60, "{operation} operations failed");
    }
}

fn saved() -> (World, MemoryStorage, CheckpointDone) {
    let (mut world, mut storage) = (World::new(), MemoryStorage::new());
    let mut saver = Saver::create(&mut storage, STORE, opening(1, Vec::new())).unwrap();
    world.record(40);
    let done = world.checkpoint(&mut saver).unwrap();
    (world, storage, done)
}

fn values(storage: &MemoryStorage, tag: Tag) -> Vec<(Key, Vec<u8>)> {
    let mut values = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        values.push((Key::of_bytes(key).unwrap(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    };
    storage.scan(tag, 0..=u64::MAX, &mut visit).unwrap();
    values
}

#[test]
fn a_finished_checkpoint_says_what_it_holds() {
    let (world, storage, done) = saved();
    let meta = read_meta(&storage).unwrap();
    let value = storage.get(Key::Meta).unwrap().unwrap();
    assert_eq!(done.digest, *blake3::hash(&value).as_bytes());
    assert_eq!((done.number, &done.covered), (1, &meta.covered));
    assert_eq!((meta.checkpoint, meta.openings, meta.layout), (1, 1, 2));
    let pairs = values(&storage, Tag::Sig);
    // One source, and one of two records of ids was removed again.
    assert_eq!(meta.records, pairs.len() as u64 + 2);
    assert_eq!(done.records, meta.records + 1);
    assert!(done.bytes > 85 * pairs.len() as u64);
    assert!(world.lsns().iter().all(|&(_, lsn)| lsn > 0));
}

#[test]
fn a_second_store_is_not_made_over_the_first() {
    let (_, storage, _) = saved();
    assert!(matches!(
        Saver::create(storage, STORE, opening(1, Vec::new())),
        Err(SaveError::Exists)
    ));
}

#[test]
fn ranges_loaded_apart_prove_the_same() {
    let (world, storage, _) = saved();
    let meta = read_meta(&storage).unwrap();
    let mut found = Found::default();
    let mut whole = Part::default();
    for ids in [0..=6, 7..=u64::MAX] {
        whole = whole.and(load_range(&storage, (&meta, Tag::Sig), ids, &mut found).unwrap());
    }
    for tag in [Tag::Src, Tag::Ids] {
        let ids = 0..=u64::MAX;
        whole = whole.and(load_range(&storage, (&meta, tag), ids, &mut found).unwrap());
    }
    let loaded = whole.check(meta).unwrap();
    assert_eq!(answers(&world.recovered(&found, &loaded.meta)), world.truth());
    let keys: Vec<_> = Saver::resume(storage, loaded).other_keys().collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(&keys[1..], &found.ids);
}

#[test]
fn every_kind_of_damage_is_named() {
    let (_, clean, _) = saved();
    let first = values(&clean, Tag::Sig).remove(0);
    let error_after = |tag: Tag, key: &[u8], value: Option<Vec<u8>>| {
        let mut storage = clean.after_power_cut(usize::MAX);
        storage.damage(tag, key, value);
        found(&storage).map(drop).unwrap_err()
    };
    let record = |key: &[u8], fault: RecordFault| LoadError::Record {
        tag: Tag::Sig,
        key: key::hex(key),
        fault,
    };
    let (key, value) = (first.0.to_bytes(), first.1);
    for at in [0, value.len() / 2, value.len() - 17, value.len() - 1] {
        let mut flipped = value.clone();
        flipped[at] ^= 1;
        let error = error_after(Tag::Sig, &key, Some(flipped));
        assert_eq!(error, record(&key, RecordFault::Digest));
        assert!(error.to_string().contains(&first.0.to_string()), "{error}");
    }
    let error = error_after(Tag::Sig, &key, Some(value[..9].to_vec()));
    assert_eq!(error, record(&key, RecordFault::Length { bytes: 9 }));
    let elsewhere = Key::Pair { entity: EntityId(u64::MAX), number: 1 }.to_bytes();
    let error = error_after(Tag::Sig, &elsewhere, Some(value.clone()));
    assert_eq!(error, record(&elsewhere, RecordFault::Digest));
    let strange = Key::Pair { entity: EntityId(u64::MAX), number: 2 }.to_bytes();
    let error = error_after(Tag::Sig, &strange, Some(value.clone()));
    assert_eq!(error, record(&strange, RecordFault::Signal { number: 2 }));
    for no_key in [&b"short"[..], &Key::Source { id: u64::MAX }.to_bytes(), &[255; 40]] {
        let error = error_after(Tag::Sig, no_key, Some(value.clone()));
        assert_eq!(error, record(no_key, RecordFault::Key));
    }
    let meta = clean.get(Key::Meta).unwrap().unwrap();
    let records = read_meta(&clean).unwrap().records;
    let lost = LoadError::Count { found: records - 1, expected: records };
    assert_eq!(error_after(Tag::Sig, &key, None), lost);
    let mut flipped = meta.clone();
    flipped[3] ^= 1;
    let meta_key = Key::Meta.to_bytes();
    let damaged = LoadError::MetaDamaged(RecordFault::Digest);
    assert_eq!(error_after(Tag::Meta, &meta_key, Some(flipped)), damaged);
    assert_eq!(error_after(Tag::Meta, &meta_key, None), LoadError::MetaMissing);
}

#[test]
fn a_record_in_an_older_version_is_found() {
    let (mut world, mut storage, _) = saved();
    let old = values(&storage, Tag::Sig);
    let (_, loaded) = found(&storage).unwrap();
    let mut saver = Saver::resume(&mut storage, loaded);
    world.record(40);
    world.checkpoint(&mut saver).unwrap();
    let new: BTreeMap<_, _> = values(&storage, Tag::Sig).into_iter().collect();
    let (key, stale) = old.into_iter().find(|(key, value)| new[key] != *value).unwrap();
    storage.damage(Tag::Sig, &key.to_bytes(), Some(stale));
    let records = read_meta(&storage).unwrap().records;
    assert_eq!(found(&storage).map(drop).unwrap_err(), LoadError::Set { records });
}

/// Loses or keeps back changes of one key, and says nothing.
struct Liar {
    storage: MemoryStorage,
    about: Key,
}

impl StorageEngine for Liar {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.get(key)
    }

    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        self.storage.scan(tag, ids, visit)
    }

    fn batch(&mut self, batch: Batch) -> Result<(), StorageError> {
        let mut told = Batch::default();
        for (key, value) in batch.changes().filter(|&(key, _)| key != self.about) {
            match value {
                Some(value) => told.put(key, value),
                None => told.delete(key),
            }
        }
        self.storage.batch(told)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.storage.flush()
    }
}

#[test]
fn a_write_that_is_not_there_stops_the_checkpoint_before_it_covers_anything() {
    let (mut world, storage, before) = saved();
    let (key, _) = values(&storage, Tag::Sig).remove(0);
    let removed = ids(0, 0).0;
    for (about, want) in
        [(key, ReadBack::Stale), (ids(1, 0).0, ReadBack::Missing), (removed, ReadBack::Undeleted)]
    {
        let (_, loaded) = found(&storage).unwrap();
        let storage = Liar { storage: storage.after_power_cut(usize::MAX), about };
        let mut saver = Saver::resume(storage, loaded);
        world.record(60);
        let error = world.checkpoint(&mut saver).unwrap_err();
        assert_eq!(error, SaveError::ReadBack { key: about, found: want });
        assert!(matches!(saver.finish(2, Vec::new()), Err(SaveError::Failed { .. })));
        let left = saver.into_storage().storage;
        assert_eq!(read_meta(&left).unwrap().covered, before.covered);
    }
}

#[test]
fn a_survey_names_every_damaged_record_and_reads_the_others() {
    let (_, mut storage, _) = saved();
    let meta = read_meta(&storage).unwrap();
    let surveyed = |storage: &MemoryStorage| {
        let (mut found, mut faults) = (Found::default(), Vec::new());
        survey(storage, &meta, &mut found, &mut |fault| faults.push(fault));
        (found.pairs.len(), faults)
    };
    let (all, faults) = surveyed(&storage);
    assert_eq!(faults, []);
    let pairs = values(&storage, Tag::Sig);
    for (key, value) in pairs.iter().take(2) {
        storage.damage(Tag::Sig, &key.to_bytes(), Some(value[1..].to_vec()));
    }
    let (left, faults) = surveyed(&storage);
    assert_eq!((left, faults.len()), (all - 2, 2));
    for (fault, (key, _)) in faults.iter().zip(&pairs) {
        assert!(fault.to_string().contains(&key.to_string()), "{fault}");
    }
    for (key, value) in pairs.iter().take(2) {
        storage.damage(Tag::Sig, &key.to_bytes(), Some(value.clone()));
    }
    storage.damage(Tag::Sig, &pairs[3].0.to_bytes(), None);
    let (left, faults) = surveyed(&storage);
    let lost = LoadError::Count { found: meta.records - 1, expected: meta.records };
    assert_eq!((left, faults), (all - 1, vec![lost]));
}

#[test]
fn a_long_checkpoint_is_read_back_on_the_way() {
    let count = 1000;
    let mut ledger = ledger();
    for entity in (0..count).map(EntityId) {
        let (hash, time, signal) = (key().hash(entity), Timestamp(5), SignalId(0));
        ledger.on_event(&RoutedEvent { entity, time, weight: 1.0, hash, signal });
    }
    let about = Key::Pair { entity: EntityId(17), number: 1 };
    let storage = Liar { storage: MemoryStorage::new(), about };
    let saver = Saver::create(storage, STORE, opening(1, Vec::new())).unwrap();
    let mut saver = saver.in_runs_of(20_000);
    let mut walk = Walk::in_steps_of(100, 10_000);
    let mut chunks = std::iter::from_fn(|| ledger.checkpoint(&mut walk, Lsn::new(count), &NUMBERS));
    let found = ReadBack::Missing;
    let error = chunks.find_map(|chunk| saver.commit(&chunk).err());
    assert_eq!(error, Some(SaveError::ReadBack { key: about, found }), "before it was finished");
}

#[test]
fn a_record_that_keeps_no_rules_is_refused_and_changes_nothing() {
    let (_, mut storage, _) = saved();
    let (_, loaded) = found(&storage).unwrap();
    let mut saver = Saver::resume(&mut storage, loaded);
    let (id, record) = source(5);
    let bad = SourceRecord { runs: Vec::new(), ..record.clone() };
    let key = Key::Source { id };
    let refused = SaveError::Refused { key, fault: RecordFault::Runs };
    assert_eq!(saver.put_sources(vec![(id, bad)]), Err(refused));
    saver.put_sources(vec![(id, record)]).unwrap();
    assert!(found(&storage).is_ok());
}
