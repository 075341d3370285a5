//! Opening a store: one step after the other, none of which a crash can spoil.
//!
//! ```text
//! prepare   lock ─▶ manifest, made if there is none ─▶ seal ─▶ storage ─▶ schema
//! recover   records ─▶ shards;  logs, merged ─▶ shards;  each shard starts its log behind them all
//! enter     the meta record names the new opening and its logs ─▶ events may come
//! ```
//!
//! Promises: no event is accepted before the meta record knows the log it goes to, so a log that
//! is lost is missed. Invariants: each shard's first new record has a higher number than every
//! record of every log.
//! Fails by: [`StoreError`]; the store is then as it was.
//! Not here: threads of shards (the builder starts them, and gives their inboxes here).

use super::checkpointer::{Checkpointer, Pace};
use super::files::{self, StoreFiles};
use super::intake::{Dealer, Intake as _, Outlets, Rebuilt, ShardParts};
use super::keeper::Charge;
use super::manifest::Manifest;
use super::recover::{LEAVING, LogsOf, LogsRead, read_logs};
use super::savers::Savers;
use super::whole::Reading;
use super::{Durability, FjallStorage, StoreError, StoreLock, retune, seal};
use crate::runtime::{DurableWork, Recovered};
use ebbtide_router::Placement;
use ebbtide_shard::checkpoint::{
    FORMAT_VERSION, LoadError, MetaRecord, Opening, RecordFault, Saver, read_meta,
};
use ebbtide_shard::limits::SIGNALS_MAX;
use ebbtide_shard::recovery::Recovering;
use ebbtide_shard::schema::evolution::{Evolution, Retune};
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::SourceTable;
use ebbtide_shard::{PartitionKey, Schema, Shard, ShardPort};
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{
    Log, LogIdentity, LogOptions, ReplayOptions, Replayed, StartOptions, ready, replay,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far an opening has come, for a host that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryProgress {
    /// The checkpoint is being read.
    Restoring {
        /// Records so far.
        records: u64,
        /// Records there are.
        of: u64,
    },
    /// The logs are being read.
    Replaying {
        /// Events so far.
        events: u64,
    },
}

/// What an opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the store was made just now.
    pub created: bool,
    /// Which opening of the store this is, counted from 1.
    pub opening: u64,
    /// Pairs restored from the checkpoint, and records of sources and ids.
    pub records_restored: u64,
    /// How long that took.
    pub restore_duration: Duration,
    /// Events read from the logs behind the checkpoint.
    pub events_read: u64,
    /// How long that took.
    pub replay_duration: Duration,
    /// What was found in each log, by its number.
    pub logs: BTreeMap<u32, ebbtide_wal::RecoveryReport>,
}

impl RecoveryReport {
    /// Bytes behind the ends of the logs that a crash left unfinished. None of them was durable.
    #[must_use]
    pub fn truncated_bytes(&self) -> u64 {
        self.logs.values().map(|log| log.truncated_bytes).sum()
    }

    /// Whether every log was closed in order.
    #[must_use]
    pub fn clean_shutdown(&self) -> bool {
        self.logs.values().all(|log| log.clean_shutdown)
    }
}

/// A store that is locked and known, and not yet read.
pub(crate) struct Prepared {
    files: StoreFiles,
    manifest: Manifest,
    schema: Arc<Schema>,
    numbers: SignalNumbers,
    names: Vec<String>,
    storage: FjallStorage,
    meta: MetaRecord,
    created: bool,
    lock: Arc<StoreLock>,
}

/// Locks the store in `directory`, makes it if there is none, and checks that `schema` fits.
pub(crate) fn prepare(
    directory: &Path,
    schema: &Arc<Schema>,
    retune: Option<Retune>,
) -> Result<Prepared, StoreError> {
    files::make_directory(directory)?;
    let root = directory.canonicalize().map_err(files::failed("looking at", directory))?;
    files::check_private(&root, true)?;
    let files = StoreFiles::new(&root);
    let lock = Arc::new(StoreLock::take(&files)?);
    let (manifest, created) = match Manifest::read(&files)? {
        Some(manifest) => (manifest, false),
        None => (create(&files, schema)?, true),
    };
    let (storage, meta) = open_storage(&files, &manifest)?;
    // What a crash left of a checkpoint that was to take this one's place, or the one before.
    files::remove_directory(&files.next_checkpoint())?;
    let (storage, meta) = fit(&files, &manifest, (storage, meta), schema, retune)?;
    let (numbers, names) = numbers(&files, &meta, schema)?;
    let schema = Arc::clone(schema);
    Ok(Prepared { files, manifest, schema, numbers, names, storage, meta, created, lock })
}

/// Checks that `schema` fits what is stored, and carries out what was decided if it does not.
fn fit(
    files: &StoreFiles,
    manifest: &Manifest,
    (storage, meta): (FjallStorage, MetaRecord),
    schema: &Arc<Schema>,
    retune: Option<Retune>,
) -> Result<(FjallStorage, MetaRecord), StoreError> {
    let stored = stored_schema(files, &meta)?;
    let misfit = |source| StoreError::Schema { path: files.root().to_owned(), source };
    let evolution = Evolution::between(&stored, schema, retune).map_err(misfit)?;
    if !retune::moves_sums(&stored, schema, &evolution) {
        return Ok((storage, meta));
    }
    let (old_numbers, _) = numbers(files, &meta, &stored)?;
    let (new_numbers, names) = numbers(files, &meta, schema)?;
    let reading = Reading {
        files,
        manifest,
        storage: &storage,
        meta: &meta,
        schema: &Arc::new(stored),
        numbers: &old_numbers,
        read_covered: false,
    };
    retune::write_next(&reading, (schema, &new_numbers, names), &evolution)?;
    let path = files.checkpoint();
    storage.close().map_err(|source| StoreError::Storage { path, source })?;
    files::exchange(&files.next_checkpoint(), &files.checkpoint())?;
    files::remove_directory(&files.next_checkpoint())?;
    open_storage(files, manifest)
}

/// The schema a store was last opened with.
pub(crate) fn stored_schema(files: &StoreFiles, meta: &MetaRecord) -> Result<Schema, StoreError> {
    Schema::from_toml(&meta.schema_toml).map_err(|error| bad_schema(files, &error))
}

/// The stored numbers of a schema's signal types, and the names of all numbers then.
pub(crate) fn numbers(
    files: &StoreFiles,
    meta: &MetaRecord,
    schema: &Schema,
) -> Result<(SignalNumbers, Vec<String>), StoreError> {
    let misfit = |source| StoreError::Numbers { path: files.root().to_owned(), source };
    SignalNumbers::assign(&meta.signal_names, schema).map_err(misfit)
}

pub(crate) fn bad_schema(files: &StoreFiles, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::SchemaDamaged { path: files.checkpoint(), why: error.to_string() }
}

/// Makes an empty store. Its manifest is there first under another name, by which a crash on the
/// way is known, and gets its own last: without it there is no store.
fn create(files: &StoreFiles, schema: &Schema) -> Result<Manifest, StoreError> {
    let begun = Manifest::has_begun(files)?;
    if let Some(found) = files.first_stranger(begun)? {
        return Err(StoreError::NotAStore { path: files.root().to_owned(), found });
    }
    let manifest = Manifest::random()?;
    manifest.begin(files)?;
    // What a crash left of an earlier attempt.
    files::remove_directory(&files.checkpoint())?;
    files::make_directory(&files.checkpoint())?;
    let path = files.checkpoint();
    let failed = |source| StoreError::Storage { path: path.clone(), source };
    let storage = FjallStorage::open(&path).map_err(failed)?;
    let names: Vec<_> = schema.signals().map(|(_, def)| def.name().to_owned()).collect();
    let opening = Opening {
        number: 1,
        schema_toml: schema.to_toml(),
        signal_names: names,
        covered: Vec::new(),
    };
    let saver = Saver::create(storage, manifest.store.0, opening);
    let saver = saver.map_err(|source| StoreError::Save { path: path.clone(), source })?;
    saver.into_storage().close().map_err(failed)?;
    Manifest::finish(files)?;
    Ok(manifest)
}

/// Opens the storage of a store, once its seal, if there is one, is known to be whole.
fn open_storage(
    files: &StoreFiles,
    manifest: &Manifest,
) -> Result<(FjallStorage, MetaRecord), StoreError> {
    let path = files.checkpoint();
    files::check_private(&path, true)?;
    seal::check(files)?;
    seal::remove(files)?;
    let failed = |source| StoreError::Storage { path: path.clone(), source };
    let storage = FjallStorage::open(&path).map_err(failed)?;
    let meta = known_meta(&storage, files, manifest)?;
    Ok((storage, meta))
}

/// The meta record of a storage, of whatever store.
pub(crate) fn any_meta(
    storage: &FjallStorage,
    files: &StoreFiles,
) -> Result<MetaRecord, StoreError> {
    let path = files.checkpoint();
    read_meta(storage).map_err(|source| match source {
        LoadError::MetaDamaged(RecordFault::Format { found }) if found > FORMAT_VERSION => {
            StoreError::UnsupportedFormat { path, found, newest: FORMAT_VERSION }
        }
        source => StoreError::Checkpoint { path, source },
    })
}

/// The meta record of a storage, if it is of this store and of a known format.
pub(crate) fn known_meta(
    storage: &FjallStorage,
    files: &StoreFiles,
    manifest: &Manifest,
) -> Result<MetaRecord, StoreError> {
    let path = files.checkpoint();
    let meta = any_meta(storage, files)?;
    if meta.store_id != manifest.store.0 {
        return Err(StoreError::ForeignCheckpoint { path });
    }
    Ok(meta)
}

/// What was read, while the shards begin with it.
pub(crate) struct Restored {
    files: StoreFiles,
    saver: Saver<FjallStorage>,
    report: RecoveryReport,
    /// Logs of shards that there are no more.
    leaving: Vec<u32>,
    opening: Opening,
    lock: Arc<StoreLock>,
}

impl Prepared {
    /// The key entities are hashed under.
    pub(crate) fn key(&self) -> PartitionKey {
        self.manifest.partition_key()
    }

    /// Ways to the shards of a placement, and the shards' ends of them.
    pub(crate) fn outlets(&self, placement: Placement) -> (Outlets, Vec<ShardParts>) {
        Outlets::new(placement, &self.meta)
    }

    /// What a shard does on its own thread: takes in its part, then goes on with its log.
    pub(crate) fn work(
        &self,
        port: &Arc<ShardPort>,
        placement: Placement,
        parts: ShardParts,
        memory_bytes_max: usize,
    ) -> DurableWork {
        let partitions = placement.partitions(port.shard());
        let (schema, numbers, key) = (Arc::clone(&self.schema), self.numbers.clone(), self.key());
        let own_port = Arc::clone(port);
        let recover = move || {
            let recovering = Recovering::new(schema, numbers.clone(), key, partitions.clone());
            let rebuilt = parts.take_in(recovering, SourceTable::new(partitions))?;
            let Some(rebuilt) = rebuilt else { return Ok(None) };
            let Rebuilt { recovering, sources, replayed, options } = rebuilt;
            let make = move |log: Log| {
                let (ledger, ids, _) = recovering.finish();
                let mut shard = Shard::new(own_port, ledger, log, memory_bytes_max)
                    .with_numbers(by_signal(&numbers))
                    .with_sources(sources)
                    .with_recent_ids(ids);
                let opened = shard.open_log(placement.shards());
                opened.map(|_| shard).map_err(|error| error.to_string())
            };
            Ok(Some(Recovered { replayed, options, make: Box::new(make) }))
        };
        let directory = self.files.log(number(port.shard()));
        let (port, lock) = (Arc::clone(port), Arc::clone(&self.lock));
        DurableWork { port, directory, lock, recover: Box::new(recover) }
    }

    /// Reads everything that is stored and hands it to the shards, which start their logs then.
    pub(crate) fn restore(
        self,
        outlets: &mut Outlets,
        log: LogOptions,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<Restored, StoreError> {
        let Self { files, manifest, schema, numbers, names, storage, meta, created, lock } = self;
        let key = manifest.partition_key();
        let mut dealer = Dealer::new(&meta, (&key, &numbers), outlets, progress);
        let begun = Instant::now();
        let damaged = |source| StoreError::Checkpoint { path: files.checkpoint(), source };
        let (loaded, rounds) = dealer.load(&storage, meta.clone())?.map_err(damaged)?;
        let restore_duration = begun.elapsed();

        let begun = Instant::now();
        dealer.hand_over_ids(|_| true);
        let mut sources = std::mem::take(&mut dealer.sources);
        let store = manifest.store;
        let of = LogsOf {
            files: &files,
            store,
            key: &key,
            numbers: &numbers,
            meta: &meta,
            read_covered: false,
        };
        let mut read = read_logs(of, &mut sources, &mut dealer)?;
        dealer.intake.flush();
        if dealer.last_included > read.last {
            let (found, last) = (dealer.last_included.get(), read.last.get());
            return Err(StoreError::CheckpointAhead { path: files.checkpoint(), found, last });
        }
        let report = RecoveryReport {
            created,
            opening: meta.openings,
            records_restored: rounds.pairs() + loaded.others_count(),
            restore_duration,
            events_read: dealer.events,
            replay_duration: begun.elapsed(),
            logs: read.logs.iter().map(|(&log, replayed)| (log, replayed.report)).collect(),
        };
        clear_away(&files, &meta, &read)?;
        let records = Arc::new(sources.records());
        let mut covered = known_logs(&meta);
        for shard in 0..outlets.shards() {
            let number = number(shard);
            let replayed = match read.logs.remove(&number) {
                Some(replayed) => replayed,
                None => new_log(&files, LogIdentity { store, shard: number })?,
            };
            covered.entry(number).or_insert(0);
            let options = StartOptions { log, seed: seed()?, lsn_first_min: read.last.next() };
            outlets.go(shard, &records, (replayed, options));
        }
        let opening = Opening {
            number: meta.openings + 1,
            schema_toml: schema.to_toml(),
            signal_names: names,
            covered: covered.into_iter().collect(),
        };
        let (leaving, saver) =
            (read.logs.into_keys().collect(), Saver::resume(storage, loaded, rounds));
        Ok(Restored { files, saver, report, leaving, opening, lock })
    }
}

impl Restored {
    /// Makes the opening count, once every shard's log is there: from now on these logs must be.
    pub(crate) fn enter(&mut self) -> Result<(), StoreError> {
        let path = self.files.checkpoint();
        let entered = self.saver.note_opening(self.opening.clone());
        entered.map_err(|source| StoreError::Save { path, source })
    }
}

/// A store that is in use.
#[derive(Debug)]
pub(crate) struct OpenStore {
    checkpointer: Checkpointer,
    report: RecoveryReport,
    durability: Durability,
}

impl OpenStore {
    /// Begins with checkpoints for the shards behind `ports`.
    pub(crate) fn start(
        restored: Restored,
        (ports, placement): (Vec<Arc<ShardPort>>, Placement),
        pace: Pace,
        direct_io: bool,
    ) -> Result<Self, StoreError> {
        let Restored { files, saver, report, leaving, lock, .. } = restored;
        let durability = Durability::of(&files.logs(), direct_io)?;
        let saver = saver.with_stored_bytes_few(pace.anew_bytes);
        let savers = Savers::new(files.clone(), saver);
        let charge = Charge { files, savers, ports, placement, pace, leaving, lock };
        Ok(Self { checkpointer: Checkpointer::start(charge)?, report, durability })
    }

    pub(crate) fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }

    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    pub(crate) fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Closes the storage and seals it, once the shards have ended.
    pub(crate) fn close(&self, patience: Duration) -> Result<(), StoreError> {
        self.checkpointer.close(patience)
    }
}

fn by_signal(numbers: &SignalNumbers) -> [u8; SIGNALS_MAX] {
    let known = numbers.by_signal();
    std::array::from_fn(|id| known.get(id).copied().unwrap_or(u8::MAX))
}

/// The logs that must be there, and up to where each is covered.
fn known_logs(meta: &MetaRecord) -> BTreeMap<u32, u64> {
    meta.covered.iter().copied().filter(|&(_, lsn)| lsn != LEAVING).collect()
}

/// Removes folders of logs whose events are all in the checkpoint, or that never had any.
fn clear_away(files: &StoreFiles, meta: &MetaRecord, read: &LogsRead) -> Result<(), StoreError> {
    let leaving = meta.covered.iter().filter(|&&(_, lsn)| lsn == LEAVING).map(|&(log, _)| log);
    let gone = leaving.chain(read.unborn.iter().copied());
    gone.into_iter().try_for_each(|log| files::remove_directory(&files.log(log)))
}

fn new_log(files: &StoreFiles, identity: LogIdentity) -> Result<Replayed, StoreError> {
    let path = files.log(identity.shard);
    files::make_directory(&path)?;
    let storage = Threads::open_existing(&path).map_err(files::failed("opening", &path))?;
    let read = replay(&storage, identity, ReplayOptions::default(), |_| Ok(()));
    ready(read).map_err(|source| StoreError::Log { path, source })
}

fn seed() -> Result<[u8; 32], StoreError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StoreError::Random { why: error.to_string() })?;
    Ok(seed)
}

fn number(shard: usize) -> u32 {
    u32::try_from(shard).expect("there are at most 1024 shards")
}
