//! The contract of a storage engine on a real database, checkpoints through it, and damaged files.

use super::*;
use ebbtide_shard::checkpoint::{
    IdsRecord, LoadError, LoadSink, Opening, PairRecord, RecordFault, Round, Saver, SourceRecord,
    load, read_meta, source_id,
};
use ebbtide_shard::{
    EntityId, Materializer as _, PartitionKey, RestoredPair, RoutedEvent, Schema, SignalId,
    SignalLedger, Timestamp,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]\n";

fn pair(entity: u64) -> Key {
    Key::Pair { entity: EntityId(entity), number: 0 }
}

fn keys(storage: &FjallStorage, tag: Tag, ids: RangeInclusive<u64>) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        keys.extend(Key::of_bytes(key));
        ControlFlow::Continue(())
    };
    storage.scan(tag, ids, &mut visit).unwrap();
    keys
}

#[test]
fn what_is_kept_is_there_after_opening_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint");
    let mut storage = FjallStorage::open(&path).unwrap();
    for entity in [3, 1, u64::MAX, 2] {
        storage.put(pair(entity), &[1; 100]).unwrap();
    }
    let mut batch = Batch::default();
    batch.put(Key::Source { id: 2 }, &[2]);
    batch.put(Key::Meta, &[3]);
    batch.delete(pair(2));
    storage.batch(&batch).unwrap();
    storage.flush().unwrap();
    storage.close().unwrap();

    let mut storage = FjallStorage::open(&path).unwrap();
    assert_eq!(storage.get(pair(1)), Ok(Some(vec![1; 100])));
    assert_eq!((storage.get(pair(2)), storage.get(Key::Meta)), (Ok(None), Ok(Some(vec![3]))));
    assert_eq!(keys(&storage, Tag::Sig, 0..=u64::MAX), [1, 3, u64::MAX].map(pair));
    assert_eq!(keys(&storage, Tag::Sig, 2..=3), [pair(3)]);
    assert_eq!(keys(&storage, Tag::Src, 0..=u64::MAX), [Key::Source { id: 2 }]);
    storage.delete(pair(1)).unwrap();
    assert_eq!(keys(&storage, Tag::Sig, 0..=2), []);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// A run of pairs with a meta record, long enough to become tables.
fn run(version: u8) -> Batch {
    let mut batch = Batch::default();
    batch.put(Key::Meta, &[version; 50]);
    for entity in (0..=RUN_BYTES_MIN as u64 / 400).map(pair) {
        batch.put(entity, &[version; 400]);
    }
    batch
}

#[test]
fn a_run_is_kept_with_its_meta_record_and_changed_by_what_comes_later() {
    let folder = TempDir::new().unwrap();
    let mut storage = FjallStorage::open(folder.path()).unwrap();
    storage.put(pair(1), &[1; 30]).unwrap();
    storage.put(pair(u64::MAX), &[1; 30]).unwrap();
    storage.put(Key::Source { id: 1 }, &[1; 20]).unwrap();
    let tables = |path: &Path| {
        let sig = path.join("keyspaces").join("2").join("tables");
        fs::read_dir(sig).unwrap().count()
    };
    assert_eq!(tables(folder.path()), 0);
    storage.batch(&run(2)).unwrap();
    assert!(tables(folder.path()) > 0, "it did not go through the journal");
    storage.put(pair(3), &[3; 30]).unwrap();
    let all = 2 + RUN_BYTES_MIN / 400;
    let assert_kept = |storage: &FjallStorage| {
        assert_eq!(storage.get(Key::Meta), Ok(Some(vec![2; 50])));
        assert_eq!(storage.get(pair(1)), Ok(Some(vec![2; 400])));
        assert_eq!(storage.get(pair(3)), Ok(Some(vec![3; 30])));
        assert_eq!(storage.get(pair(u64::MAX)), Ok(Some(vec![1; 30])));
        assert_eq!(keys(storage, Tag::Sig, 0..=u64::MAX).len(), all);
        assert_eq!(keys(storage, Tag::Meta, 0..=u64::MAX), [Key::Meta]);
        assert_eq!(keys(storage, Tag::Src, 0..=u64::MAX).len(), 1);
    };
    assert_kept(&storage);
    // As after the end of the process: nothing was flushed that the run did not need.
    let copy = TempDir::new().unwrap();
    copy_folder(folder.path(), copy.path());
    storage.close().unwrap();
    for path in [folder.path(), copy.path()] {
        let mut storage = FjallStorage::open(path).unwrap();
        assert_kept(&storage);
        storage.put(Key::Meta, &[4; 50]).unwrap();
        assert_eq!(storage.get(Key::Meta), Ok(Some(vec![4; 50])));
        storage.batch(&run(5)).unwrap();
        assert_eq!(storage.get(Key::Meta), Ok(Some(vec![5; 50])));
        assert_eq!(storage.get(pair(3)), Ok(Some(vec![5; 400])));
        storage.close().unwrap();
    }
}

#[test]
fn what_was_removed_still_takes_its_bytes() {
    let folder = TempDir::new().unwrap();
    let mut storage = FjallStorage::open(folder.path()).unwrap();
    assert_eq!(storage.stored_bytes(), 0);
    storage.batch(&run(1)).unwrap();
    let taken = storage.stored_bytes();
    assert!(taken >= RUN_BYTES_MIN as u64, "{taken}");
    let mut removal = Batch::default();
    run(1).changes().for_each(|(key, _)| removal.delete(key));
    storage.batch(&removal).unwrap();
    assert_eq!(keys(&storage, Tag::Sig, 0..=u64::MAX), []);
    assert!(storage.stored_bytes() >= taken);
}

#[test]
fn a_meta_record_in_a_keyspace_of_its_own_is_moved_by_the_first_batch() {
    let folder = TempDir::new().unwrap();
    let storage = FjallStorage::open(folder.path()).unwrap();
    let apart = &storage.keyspaces[Tag::Meta as usize];
    apart.insert(&*Key::Meta.to_bytes(), [1; 40]).unwrap();
    storage.close().unwrap();
    let mut storage = FjallStorage::open(folder.path()).unwrap();
    assert_eq!(storage.get(Key::Meta), Ok(Some(vec![1; 40])));
    assert_eq!(keys(&storage, Tag::Meta, 0..=0), [Key::Meta]);
    storage.batch(&run(2)).unwrap();
    assert_eq!(storage.get(Key::Meta), Ok(Some(vec![2; 50])));
    storage.close().unwrap();
    let storage = FjallStorage::open(folder.path()).unwrap();
    assert!(!storage.is_meta_apart);
    assert_eq!(storage.get(Key::Meta), Ok(Some(vec![2; 50])));
}

#[test]
fn a_database_that_is_open_elsewhere_is_refused() {
    let folder = TempDir::new().unwrap();
    let storage = FjallStorage::open(folder.path()).unwrap();
    let error = FjallStorage::open(folder.path()).err().unwrap();
    assert_eq!(error.kind, StorageErrorKind::Locked);
    assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
    storage.close().unwrap();
    FjallStorage::open(folder.path()).unwrap().close().unwrap();
}

#[test]
fn a_folder_that_cannot_be_one_is_a_typed_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "not a folder").unwrap();
    let error = FjallStorage::open(&path).err().unwrap();
    assert_eq!((error.kind, error.action), (StorageErrorKind::Io, StorageAction::Open));
}

#[test]
fn errors_of_the_system_are_told_apart() {
    let of = |kind: io::ErrorKind| kind_of(&fjall::Error::Io(kind.into()));
    assert_eq!(of(io::ErrorKind::StorageFull), StorageErrorKind::OutOfSpace);
    assert_eq!(of(io::ErrorKind::QuotaExceeded), StorageErrorKind::OutOfSpace);
    assert_eq!(of(io::ErrorKind::PermissionDenied), StorageErrorKind::Io);
    assert_eq!(kind_of(&fjall::Error::Poisoned), StorageErrorKind::Poisoned);
    assert_eq!(kind_of(&fjall::Error::Unrecoverable), StorageErrorKind::Damaged);
    let panicked = guarded::<()>(|| panic!("no such block"));
    let error = error(Path::new("x"), StorageAction::Get, panicked.unwrap_err());
    assert_eq!(error.kind, StorageErrorKind::Damaged);
    assert!(error.cause.contains("no such block"), "{error}");
}

fn key() -> PartitionKey {
    PartitionKey::new([5; 16])
}

pub(in crate::store) fn ledger() -> SignalLedger {
    SignalLedger::new(Schema::from_toml(SCHEMA).unwrap().into(), key(), 0..4096)
}

pub(in crate::store) fn record(ledger: &mut SignalLedger, entities: std::ops::Range<u64>) {
    for entity in entities.map(EntityId) {
        let (hash, time) = (key().hash(entity), Timestamp(entity.0 * 1_000_000_000_000));
        let signal = SignalId(0);
        ledger.on_event(&RoutedEvent { entity, time, weight: 1.5, hash, signal });
    }
}

fn checkpoint(ledger: &mut SignalLedger, saver: &mut Saver<FjallStorage>, lsn: u64) {
    let mut walk = saver.begin_walk().unwrap();
    while let Some(chunk) = ledger.checkpoint(&mut walk, ebbtide_wal::Lsn::new(lsn), &[0]) {
        saver.commit(&chunk).unwrap();
    }
    let name = "orders".to_owned();
    let source = SourceRecord { name, runs: vec![(0, lsn)] };
    saver.put_sources(vec![(source_id("orders"), source)]).unwrap();
    saver.finish(1, vec![(0, lsn)]).unwrap();
}

struct Restore(SignalLedger);

impl LoadSink for Restore {
    fn pair(
        &mut self,
        (entity, _): (EntityId, u8),
        record: PairRecord,
        round: Round,
    ) -> Result<(), RecordFault> {
        let (hash, signal, saved) = (key().hash(entity), SignalId(0), Some(round));
        self.0.restore(&RestoredPair { entity, hash, signal, record, saved }).map(drop)
    }

    fn source(&mut self, _: u64, record: SourceRecord) -> Result<(), RecordFault> {
        assert_eq!(record.name, "orders");
        Ok(())
    }

    fn ids(&mut self, key: Key, _: IdsRecord) -> Result<(), RecordFault> {
        panic!("nothing was written under {key}")
    }
}

fn answers(ledger: &SignalLedger) -> Vec<String> {
    let mut all: Vec<_> = ledger.iter(Timestamp::MAX).map(|of| format!("{of:?}")).collect();
    all.sort_unstable();
    all
}

/// Two checkpoints, the second of some pairs of the first and some new ones.
fn saved(path: &Path) -> SignalLedger {
    let opening = Opening {
        number: 1,
        schema_toml: SCHEMA.into(),
        signal_names: vec!["view".into()],
        covered: Vec::new(),
    };
    let mut saver = Saver::create(FjallStorage::open(path).unwrap(), [7; 16], opening).unwrap();
    let mut ledger = ledger();
    record(&mut ledger, 0..3000);
    checkpoint(&mut ledger, &mut saver, 3000);
    record(&mut ledger, 2000..4000);
    checkpoint(&mut ledger, &mut saver, 5000);
    saver.into_storage().close().unwrap();
    ledger
}

#[test]
fn a_ledger_comes_back_from_the_database_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut original = saved(folder.path());
    let storage = FjallStorage::open(folder.path()).unwrap();
    let mut restored = Restore(ledger());
    let loaded = load(&storage, &mut restored).unwrap();
    // Pages of 234: 3000 pairs, then 2000 of which half are new, and a source.
    let records = 13 + 9 + 1;
    assert_eq!((loaded.meta.covered.clone(), loaded.meta.records), (vec![(0, 5000)], records));
    assert_eq!(answers(&original), answers(&restored.0));

    let mut saver = Saver::resume(storage, loaded, restored.0.rounds().clone());
    for ledger in [&mut original, &mut restored.0] {
        record(ledger, 3900..4100);
    }
    checkpoint(&mut restored.0, &mut saver, 5200);
    let storage = saver.into_storage();
    let mut again = Restore(ledger());
    load(&storage, &mut again).unwrap();
    assert_eq!(answers(&original), answers(&again.0));
    storage.close().unwrap();
}

#[test]
fn a_record_altered_or_lost_in_the_database_is_named() {
    let folder = TempDir::new().unwrap();
    let ledger = saved(folder.path());
    assert_eq!(ledger.pairs(), 4000);
    let mut storage = FjallStorage::open(folder.path()).unwrap();
    let page = keys(&storage, Tag::Sig, 234..=234)[0];
    let whole = storage.get(page).unwrap().unwrap();
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    storage.put(page, &flipped).unwrap();
    let error = load(&storage, &mut Restore(self::ledger())).err().unwrap();
    let named = LoadError::Record {
        tag: Tag::Sig,
        key: "00000000000000ea0001000000000000000002".into(),
        fault: RecordFault::Digest,
    };
    assert_eq!(error, named);
    storage.delete(page).unwrap();
    let error = load(&storage, &mut Restore(self::ledger())).err().unwrap();
    assert_eq!(error, LoadError::Count { found: 22, expected: 23 });
    storage.put(page, &whole).unwrap();
    load(&storage, &mut Restore(self::ledger())).unwrap();
    storage.delete(Key::Meta).unwrap();
    assert_eq!(read_meta(&storage), Err(LoadError::MetaMissing));
}

/// Whatever is done to a file of the database: what loads as the last checkpoint is the last
/// checkpoint. A damaged journal may also load as an earlier one, whole in itself; that it is not
/// the last is for the log to know.
#[test]
fn damaged_files_never_pass_for_the_last_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("checkpoint");
    let mut ledger = saved(&path);
    into_tables(&path);
    let mut saver = resumed(&path);
    record(&mut ledger, 3500..5000);
    checkpoint(&mut ledger, &mut saver, 6500);
    saver.into_storage().close().unwrap();
    let (truth, files) = (answers(&ledger), files(&path));
    let (mut refused, mut whole) = (0, 0);
    // The one behind the last file: none is damaged.
    for damaged in (0..=files.len()).filter(|&at| files.get(at).is_none_or(|f| !f.1.is_empty())) {
        for part in 0..8 {
            let copy = TempDir::new().unwrap();
            for (index, (below, bytes)) in files.iter().enumerate() {
                let mut bytes = bytes.clone();
                if index == damaged {
                    let at = bytes.len() * part / 8;
                    bytes[at] ^= 0x55;
                }
                let to = copy.path().join(below);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
            let mut restored = Restore(self::ledger());
            let loaded = FjallStorage::open(copy.path())
                .map_err(LoadError::from)
                .and_then(|storage| load(&storage, &mut restored));
            match loaded {
                Ok(loaded) if loaded.meta.checkpoint == 3 => {
                    assert_eq!(answers(&restored.0), truth, "part {part} of file {damaged}");
                    whole += 1;
                }
                Ok(loaded) => assert!(loaded.meta.covered < vec![(0, 6500)]),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10 && whole >= 8, "{refused} refused, {whole} whole");
}

/// A count in a table that asks for more memory than there is would end the process.
#[test]
fn numbers_that_cannot_be_are_refused_and_torn_tables_are_not() {
    let folder = TempDir::new().unwrap();
    let ledger = saved(folder.path());
    into_tables(folder.path());
    let tables: Vec<_> = files(folder.path())
        .into_iter()
        .filter(|(name, _)| name.contains("/tables/"))
        .map(|(name, bytes)| (folder.path().join(name), bytes))
        .collect();
    assert!(tables.len() >= 4);
    let torn = tables[0].0.with_file_name("77");
    for (path, bytes) in &tables {
        let place = bytes.windows(4).rposition(|window| window == b"TOC!").unwrap();
        let mut many = bytes.clone();
        many[place + 7] = 0xff;
        fs::write(path, many).unwrap();
        let error = FjallStorage::open(folder.path()).err().unwrap();
        assert_eq!(error.kind, StorageErrorKind::Damaged);
        assert!(error.cause.contains(&*path.to_string_lossy()), "{error}");
        fs::write(path, bytes).unwrap();
        fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
        let mut restored = Restore(self::ledger());
        let storage = FjallStorage::open(folder.path()).unwrap();
        load(&storage, &mut restored).unwrap();
        assert_eq!(answers(&restored.0), answers(&ledger));
        storage.close().unwrap();
    }
}

fn resumed(path: &Path) -> Saver<FjallStorage> {
    let storage = FjallStorage::open(path).unwrap();
    let mut restored = Restore(ledger());
    let loaded = load(&storage, &mut restored).unwrap();
    Saver::resume(storage, loaded, restored.0.rounds().clone())
}

/// Moves everything from the journal into tables.
fn into_tables(path: &Path) {
    let storage = FjallStorage::open(path).unwrap();
    for keyspace in &storage.keyspaces {
        keyspace.rotate_memtable_and_wait().unwrap();
    }
    storage.close().unwrap();
}

/// The files below a folder, without the zeros at the end of a journal.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|end| end == "jnl") {
                let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                bytes.truncate(used);
            }
            let below = path.strip_prefix(folder).unwrap();
            found.push((below.to_str().unwrap().to_owned(), bytes));
        }
    }
    found.sort();
    found
}

fn copy_folder(from: &Path, to: &Path) {
    for (below, bytes) in files(from) {
        let path = to.join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
