//! Checkpoints on a storage that fails at every place, and storages that lie.
//!
//! The judge is a ledger that was given every event in order: whatever a crash leaves, loading it
//! and replaying the logs behind what is covered must answer as that one does, to the bit.

use super::*;
use crate::limits::PARTITIONS;
use crate::{
    EntityId, Materializer as _, PartitionKey, RestoredPair, RoutedEvent, Schema, SignalId,
    SignalLedger, Timestamp,
};
use ebbtide_wal::Lsn;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

mod liar;
mod pages;

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
        let (covered, walk) = (self.lsns(), saver.begin_walk()?);
        for shard in 0..SHARDS {
            let mut walk = walk.in_steps_of(9, 600);
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

    /// Shards that were rebuilt from a storage, and go on from there.
    fn reopen(&mut self, storage: &MemoryStorage) {
        let (found, _) = found(storage).unwrap();
        let (shards, mut logs) = (World::new().shards, self.logs.clone().into_iter());
        self.shards = shards.map(|mut shard| {
            let mut included = BTreeMap::new();
            let owned: Vec<_> = found.pairs.iter().filter(|pair| shard.owns(pair.hash)).collect();
            for pair in owned {
                shard.restore(pair).unwrap();
                let lsn = included.entry(pair.entity).or_insert(0);
                *lsn = pair.record.lsn.max(*lsn);
            }
            for (lsn, event) in (1..).zip(logs.next().unwrap()) {
                if lsn > *included.get(&event.entity).unwrap_or(&0) {
                    shard.on_event(&event);
                }
            }
            shard
        });
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
            if ledger.restore(pair).unwrap() {
                included.insert(pair.entity, pair.record.lsn);
            }
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
        round: Round,
    ) -> Result<(), RecordFault> {
        assert_eq!(number, NUMBERS[0]);
        let (hash, signal, saved) = (key().hash(entity), SignalId(0), Some(round));
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

impl Found {
    /// In which round each pair's latest record is.
    fn rounds(&self) -> Rounds {
        let mut ledger = ledger();
        self.pairs.iter().for_each(|pair| _ = ledger.restore(pair).unwrap());
        ledger.rounds().clone()
    }
}

fn found(storage: &MemoryStorage) -> Result<(Found, Loaded), LoadError> {
    let mut found = Found::default();
    load(storage, &mut found).map(|loaded| (found, loaded))
}

/// A saver that goes on with a storage.
fn resumed<S: StorageEngine>(storage: S) -> Saver<S> {
    let mut found = Found::default();
    let loaded = load(&storage, &mut found).unwrap();
    Saver::resume(storage, loaded, found.rounds()).in_runs_of(RUN_BYTES)
}

/// A checkpoint as the engine takes it: written to a storage of its own where that is better.
fn checkpointed(world: &mut World, mut storage: MemoryStorage) -> MemoryStorage {
    let mut saver = resumed(&mut storage);
    if saver.wants_anew() {
        let mut anew = saver.anew(MemoryStorage::new(), &[]).unwrap();
        world.checkpoint(&mut anew).unwrap();
        return anew.into_storage();
    }
    world.checkpoint(&mut saver).unwrap();
    storage
}

/// So few that a checkpoint has several runs.
const RUN_BYTES: usize = 1500;

/// Three checkpoints, with events before, between and during them. Gives back how many of them were
/// finished, and the storage as it is after the first failure.
fn three_checkpoints(world: &mut World, mut storage: MemoryStorage) -> (u64, MemoryStorage) {
    let mut done = 0;
    let Ok(saver) = Saver::create(&mut storage, STORE, opening(1, Vec::new())) else {
        return (done, storage);
    };
    let mut saver = saver.in_runs_of(RUN_BYTES);
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
    let (mut saver, mut ledger) = (Saver::resume(&mut left, loaded, found_now.rounds()), ledger);
    saver.note_opening(opening(openings + 1, covered)).unwrap();
    let (mut walk, lsn) =
        (saver.begin_walk().unwrap(), lsns.iter().map(|&(_, lsn)| lsn).max().unwrap());
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
    let saver = Saver::create(&mut storage, STORE, opening(1, Vec::new())).unwrap();
    world.record(40);
    let done = world.checkpoint(&mut saver.in_runs_of(RUN_BYTES)).unwrap();
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

/// How many pairs a page holds.
fn pairs_of((key, value): &(Key, Vec<u8>)) -> usize {
    decode::<PairList>(*key, value).unwrap().0.len()
}

#[test]
fn a_finished_checkpoint_says_what_it_holds() {
    let (world, storage, done) = saved();
    let meta = read_meta(&storage).unwrap();
    let value = storage.get(Key::Meta).unwrap().unwrap();
    assert_eq!(done.digest, *blake3::hash(&value).as_bytes());
    assert_eq!((done.number, &done.covered), (1, &meta.covered));
    assert_eq!((meta.checkpoint, meta.openings, meta.layout), (1, 1, 2));
    let pages = values(&storage, Tag::Sig);
    let pairs: usize = pages.iter().map(pairs_of).sum();
    assert!(pages.len() > 2 && pairs >= 40, "{pairs} pairs in {} pages", pages.len());
    // One source, and one of two records of ids was removed again.
    assert_eq!(meta.records, pages.len() as u64 + 2);
    assert_eq!(done.records, pairs as u64 + 3);
    assert!(done.bytes > 60 * pairs as u64);
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
    let keys: Vec<_> = Saver::resume(storage, loaded, found.rounds()).other_keys().collect();
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
    let elsewhere = Key::Page { entity: EntityId(u64::MAX), number: 1, round: Round::FIRST };
    let elsewhere = elsewhere.to_bytes();
    let error = error_after(Tag::Sig, &elsewhere, Some(value.clone()));
    assert_eq!(error, record(&elsewhere, RecordFault::Digest));
    let strange = Key::Pair { entity: EntityId(u64::MAX), number: 2 }.to_bytes();
    let error = error_after(Tag::Sig, &strange, Some(value.clone()));
    assert_eq!(error, record(&strange, RecordFault::Signal { number: 2 }));
    let mut page = decode::<PairList>(first.0, &value).unwrap().0;
    page.pairs.last_mut().unwrap().number = 2;
    let error = error_after(Tag::Sig, &key, Some(encode(first.0, &page).unwrap()));
    assert_eq!(error, record(&key, RecordFault::Signal { number: 2 }));
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
fn a_record_that_is_not_the_one_last_written_is_found() {
    let (_, mut storage, _) = saved();
    let (key, value) = values(&storage, Tag::Sig).remove(0);
    let mut list = decode::<PairList>(key, &value).unwrap().0;
    list.pairs[0].all_time += 1;
    storage.damage(Tag::Sig, &key.to_bytes(), Some(encode(key, &list).unwrap()));
    let records = read_meta(&storage).unwrap().records;
    assert_eq!(found(&storage).map(drop).unwrap_err(), LoadError::Set { records });
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
    let pages = values(&storage, Tag::Sig);
    for (key, value) in pages.iter().take(2) {
        storage.damage(Tag::Sig, &key.to_bytes(), Some(value[1..].to_vec()));
    }
    let (left, faults) = surveyed(&storage);
    let damaged: usize = pages.iter().take(2).map(pairs_of).sum();
    assert_eq!((left, faults.len()), (all - damaged, 2));
    for (fault, (key, _)) in faults.iter().zip(&pages) {
        assert!(fault.to_string().contains(&key.to_string()), "{fault}");
    }
    for (key, value) in pages.iter().take(2) {
        storage.damage(Tag::Sig, &key.to_bytes(), Some(value.clone()));
    }
    storage.damage(Tag::Sig, &pages[2].0.to_bytes(), None);
    let (left, faults) = surveyed(&storage);
    let lost = LoadError::Count { found: meta.records - 1, expected: meta.records };
    assert_eq!((left, faults), (all - pairs_of(&pages[2]), vec![lost]));
}

#[test]
fn a_record_that_keeps_no_rules_is_refused_and_changes_nothing() {
    let (_, mut storage, _) = saved();
    let mut saver = resumed(&mut storage);
    let (id, record) = source(5);
    let bad = SourceRecord { runs: Vec::new(), ..record.clone() };
    let key = Key::Source { id };
    let refused = SaveError::Refused { key, fault: RecordFault::Runs };
    assert_eq!(saver.put_sources(vec![(id, bad)]), Err(refused));
    saver.put_sources(vec![(id, record)]).unwrap();
    assert!(found(&storage).is_ok());
}
