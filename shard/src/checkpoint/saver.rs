//! The one writer of a storage: it keeps the meta record true, batch by batch.
//!
//! ```text
//! note opening ─▶ begin walk ─▶ commit chunk … ─run─▶ pages ─▶ batch ─▶ flush ─▶ read back
//!                               put sources, put ids, delete … ─▶ batch
//!                 finish ─▶ flush, read back ─▶ let go of pages that no pair needs
//!                        ─▶ flush, read back ─▶ batch that raises `covered` ─▶ flush ─▶ meta
//! wants anew?  ─▶ anew: a saver of an empty storage, whose walk is of all pairs ─▶ as above
//! ```
//!
//! Pages are never changed. A pair that changed goes to a page of the round under way; those of
//! rounds before go once no pair has its latest state in their round. A walk writes out every pair
//! when as much as half of what is stored is not the latest, when pages are mostly empty, and when
//! there are records of single pairs.
//! Promises: each batch carries the meta record that is right once it is applied; `covered` rises
//! only after all records of the checkpoint were flushed, read back and hashed again. What reading
//! back sees is the storage's view of them, caches included: it finds a stale or lost version, not
//! a fault of the medium, which the next load finds.
//! Invariants: records and their set digest are those of the storage; their digests are known, so
//! that a change needs no reading. Rounds rise; `rounds` says where the latest state of each pair
//! is, of those that are written.
//! Fails by: [`SaveError`]. After one nothing more is taken: whether the batch was applied is not
//! known, and the ledger counts its records as saved. Opening the store again settles both.

mod anew;

use super::load::Page;
use super::read_back::{ReadBack, Written, compare};
use super::run::{Pages, Run};
use super::{
    Batch, Chunk, FORMAT_VERSION, IdsRecord, Key, Loaded, MetaRecord, Record, RecordDigest,
    RecordFault, Round, Rounds, SetDigest, SourceRecord, StorageEngine, StorageError, encode,
};
use crate::Walk;
use crate::limits::{PAGES_DROPPED_MAX, RUN_BYTES_MAX, STORED_BYTES_FEW};
use std::collections::BTreeMap;

/// What an opening of the store changes in the meta record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which opening it is, counted from 1.
    pub number: u64,
    /// The schema, as TOML.
    pub schema_toml: String,
    /// The signal types the store ever had, by their stored numbers: those of the last opening, and
    /// new ones behind them.
    pub signal_names: Vec<String>,
    /// The logs that must be there from now on, and up to where each is covered: those of before,
    /// without those that are gone, and new ones.
    pub covered: Vec<(u32, u64)>,
}

/// A finished checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointDone {
    /// Which checkpoint it is, counted from 1.
    pub number: u64,
    /// BLAKE3 of the meta record's value: stands for all of the checkpoint.
    pub digest: [u8; 32],
    /// How far each log is covered.
    pub covered: Vec<(u32, u64)>,
    /// Pairs, and records of sources and ids, written since the checkpoint before.
    pub records: u64,
    /// Bytes of keys and values written.
    pub bytes: u64,
}

/// Why a checkpoint is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The storage failed. Open the store again.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record was written and is not there. Keep the log, and do not trust the device.
    #[error("record {} of the checkpoint was written and cannot be read back: {found}", key)]
    ReadBack {
        /// Which one.
        key: Key,
        /// What is there.
        found: ReadBack,
    },
    /// A record breaks its own rules; nothing was written.
    #[error("record {} of the checkpoint cannot be written: {fault}", key)]
    Refused {
        /// Which one.
        key: Key,
        /// Which rule.
        fault: RecordFault,
    },
    /// There is a checkpoint where a new store was to be.
    #[error("there is a checkpoint already")]
    Exists,
    /// Something failed before. Open the store again.
    #[error("the checkpoint takes nothing more since this failed: {cause}; open the store again")]
    Failed {
        /// What failed.
        cause: String,
    },
}

/// The writer of one storage.
#[derive(Debug)]
pub struct Saver<S> {
    storage: S,
    meta: MetaRecord,
    others: BTreeMap<Key, RecordDigest>,
    pages: BTreeMap<Key, Page>,
    /// The latest one begun.
    round: Round,
    rounds: Rounds,
    /// Pairs with records of before that the last walk found changed.
    rewritten: u64,
    run: Run,
    run_bytes_max: usize,
    dropped_max: usize,
    stored_bytes_few: u64,
    /// What was written and not yet read back.
    unread: Vec<Written>,
    records: u64,
    bytes: u64,
    failed: Option<String>,
}

impl<S: StorageEngine> Saver<S> {
    /// The saver of a new store, whose first opening this is; its meta record is durable.
    ///
    /// # Errors
    ///
    /// [`SaveError::Exists`] if the storage has a meta record, otherwise as [`Saver::commit`].
    pub fn create(storage: S, store_id: [u8; 16], opening: Opening) -> Result<Self, SaveError> {
        if storage.get(Key::Meta)?.is_some() {
            return Err(SaveError::Exists);
        }
        let meta = MetaRecord {
            format: FORMAT_VERSION,
            store_id,
            openings: 0,
            checkpoint: 0,
            schema_toml: String::new(),
            signal_names: Vec::new(),
            layout: 0,
            covered: Vec::new(),
            records: 0,
            set_digest: 0,
        };
        let (others, pages) = (BTreeMap::new(), BTreeMap::new());
        let mut saver = Self::resume(storage, Loaded { meta, others, pages }, Rounds::default());
        saver.note_opening(opening)?;
        Ok(saver)
    }

    /// The saver of a storage that was loaded in full and not written to since; `rounds` says where
    /// the latest state of each pair is.
    #[must_use]
    pub fn resume(storage: S, loaded: Loaded, rounds: Rounds) -> Self {
        let Loaded { meta, others, pages } = loaded;
        let round = pages.keys().map(|&key| round_of(key)).max().unwrap_or(Round::FIRST);
        Self {
            storage,
            meta,
            others,
            pages,
            round,
            rounds,
            rewritten: 0,
            run: Run::default(),
            run_bytes_max: RUN_BYTES_MAX,
            dropped_max: PAGES_DROPPED_MAX,
            stored_bytes_few: STORED_BYTES_FEW,
            unread: Vec::new(),
            records: 0,
            bytes: 0,
            failed: None,
        }
    }

    /// With shorter runs, one page let go of at a time, and no store too small to be written anew.
    #[cfg(test)]
    pub(super) fn in_runs_of(self, run_bytes_max: usize) -> Self {
        Self { run_bytes_max, dropped_max: 1, stored_bytes_few: 0, ..self }
    }

    /// The meta record as of the last batch.
    #[must_use]
    pub const fn meta(&self) -> &MetaRecord {
        &self.meta
    }

    /// The keys of all records of sources and ids, in order.
    pub fn other_keys(&self) -> impl Iterator<Item = Key> {
        self.others.keys().copied()
    }

    /// The storage, to read it.
    #[must_use]
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage, to close it.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// Makes the names and the schema of an opening durable. Comes before its first chunk, whose
    /// records say signal types by their numbers.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    ///
    /// # Panics
    ///
    /// If the opening is not later than the last, or gives a number another name.
    pub fn note_opening(&mut self, opening: Opening) -> Result<(), SaveError> {
        let Opening { number, schema_toml, signal_names, covered } = opening;
        assert!(number > self.meta.openings, "openings are numbered upwards");
        assert!(signal_names.starts_with(&self.meta.signal_names), "a number keeps its name");
        let meta = self.meta.clone();
        let format = FORMAT_VERSION;
        let meta =
            MetaRecord { format, openings: number, schema_toml, signal_names, covered, ..meta };
        self.write(&mut Batch::default(), meta)?;
        self.flush()
    }

    /// Begins a round: the walk to go through every ledger with, for the checkpoint that comes now.
    /// What a checkpoint that was not finished left needless goes first.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    pub fn begin_walk(&mut self) -> Result<Walk, SaveError> {
        self.refuse_after_failure()?;
        self.drop_unneeded()?;
        self.round = self.round.next();
        self.rewritten = 0;
        let walk = if self.wants_all() { Walk::of_all } else { Walk::of_changed };
        Ok(walk(self.round))
    }

    /// Takes a chunk of a ledger's pairs, to be written with others: when there are many, with
    /// [`Saver::write_run`], or when the checkpoint ends. The log must be durable up to
    /// [`Chunk::lsn`].
    ///
    /// # Errors
    ///
    /// [`SaveError`], of whatever kind: then nothing more is taken, but after
    /// [`SaveError::Refused`] of a source or of ids.
    ///
    /// # Panics
    ///
    /// If the chunk is of another round than the one begun last.
    pub fn commit(&mut self, chunk: &Chunk) -> Result<(), SaveError> {
        self.refuse_after_failure()?;
        assert!(chunk.round() == self.round, "a walk is of the round under way");
        self.run.add(chunk);
        self.rewritten += chunk.rewritten();
        if self.run.pairs.bytes() < self.run_bytes_max {
            return Ok(());
        }
        self.write_run()?;
        self.verify_written()
    }

    /// Writes the records of sources, under their ids.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    pub fn put_sources(&mut self, sources: Vec<(u64, SourceRecord)>) -> Result<(), SaveError> {
        self.put_others(sources.into_iter().map(|(id, record)| (Key::Source { id }, record)))
    }

    /// Writes records of remembered ids.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`]; [`SaveError::Refused`] for a key that is not a [`Key::Ids`].
    pub fn put_ids(&mut self, ids: Vec<(Key, IdsRecord)>) -> Result<(), SaveError> {
        self.put_others(ids.into_iter())
    }

    /// Removes records of sources and ids; those that are not there are passed over.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    pub fn delete(&mut self, keys: &[Key]) -> Result<(), SaveError> {
        let (mut batch, mut change, mut gone) = (Batch::default(), SetDigest::default(), 0);
        for &key in keys {
            if let Some(digest) = self.others.remove(&key) {
                batch.delete(key);
                change = change.without(Some(digest));
                gone += 1;
            }
        }
        self.write_records(&mut batch, change, -gone)
    }

    /// Ends a checkpoint: every record written so far is flushed and read back, pages that no pair
    /// needs go, then the logs count as covered as far as `covered` says, for a store of `layout`
    /// shards. After this, and not before, the covered part of the logs may go.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    ///
    /// # Panics
    ///
    /// If a log would be covered less far than before, or pairs need a round of which nothing is
    /// here.
    pub fn finish(
        &mut self,
        layout: u32,
        covered: Vec<(u32, u64)>,
    ) -> Result<CheckpointDone, SaveError> {
        let before: BTreeMap<_, _> = self.meta.covered.iter().copied().collect();
        let falls = |&(log, lsn): &(u32, u64)| before.get(&log).is_some_and(|&old| lsn < old);
        assert!(!covered.iter().any(falls), "a log stays covered");
        self.write_run()?;
        self.run = Run::default();
        self.verify_written()?;
        self.drop_unneeded()?;
        self.verify_written()?;
        assert!(self.is_complete(), "the walk was of all pairs");
        let number = self.meta.checkpoint + 1;
        let meta = self.meta.clone();
        let meta = MetaRecord { checkpoint: number, layout, covered, ..meta };
        let value = self.write(&mut Batch::default(), meta)?;
        self.flush()?;
        self.verify((Key::Meta, RecordDigest::of_value(&value)))?;
        let (records, bytes) = (std::mem::take(&mut self.records), std::mem::take(&mut self.bytes));
        let digest = *blake3::hash(&value).as_bytes();
        Ok(CheckpointDone { number, digest, covered: self.meta.covered.clone(), records, bytes })
    }

    fn put_others<R: Record>(
        &mut self,
        records: impl Iterator<Item = (Key, R)>,
    ) -> Result<(), SaveError> {
        let mut batch = Batch::default();
        for (key, record) in records {
            let refused = |fault| SaveError::Refused { key, fault };
            batch.put(key, &encode(key, &record).map_err(refused)?);
        }
        self.write_others(batch)
    }

    /// Writes a batch of records of sources and ids.
    fn write_others(&mut self, mut batch: Batch) -> Result<(), SaveError> {
        self.records += batch.len() as u64;
        let (mut change, mut new) = (SetDigest::default(), 0);
        for (key, digest) in digests(&batch) {
            let digest = digest.expect("only values were put");
            let old = self.others.insert(key, digest);
            change = change.without(old).with(digest);
            new += i64::from(old.is_none());
        }
        self.write_records(&mut batch, change, new)
    }

    /// Writes what was collected of the chunks. The meta record says nothing of it before.
    ///
    /// # Errors
    ///
    /// As [`Saver::commit`].
    pub fn write_run(&mut self) -> Result<(), SaveError> {
        let refused = |(key, fault)| SaveError::Refused { key, fault };
        let pages = self.run.take_pages(self.round, || self.storage.give_way()).map_err(refused);
        let mut pages = pages.map_err(|error| self.fail(error))?;
        let Pages { batch, known } = &mut pages;
        let change =
            known.iter().fold(SetDigest::default(), |set, (_, page)| set.with(page.digest));
        self.pages.extend(known.drain(..));
        let pairs = self.run.pairs.len() as u64;
        self.records += pairs;
        self.rounds.take_all(&self.run.replaced);
        self.rounds.add(self.round, pairs);
        self.run.clear();
        let new = batch.len().cast_signed() as i64;
        self.write_records(batch, change, new)?;
        self.run.written = pages;
        Ok(())
    }

    /// Lets go of the pages of rounds in which no pair has its latest state. What took their place
    /// was read back, or loaded.
    fn drop_unneeded(&mut self) -> Result<(), SaveError> {
        let is_unneeded = |key: &&Key| !self.rounds.need(round_of(**key));
        let unneeded: Vec<Key> = self.pages.keys().filter(is_unneeded).copied().collect();
        for keys in unneeded.chunks(self.dropped_max) {
            let (mut batch, mut change) = (Batch::default(), SetDigest::default());
            for &key in keys {
                batch.delete(key);
                change = change.without(self.pages.remove(&key).map(|page| page.digest));
            }
            let gone = keys.len().cast_signed() as i64;
            self.write_records(&mut batch, change, -gone)?;
        }
        Ok(())
    }

    /// Writes records with the meta record they make true, and notes that they are to be read back.
    fn write_records(
        &mut self,
        batch: &mut Batch,
        change: SetDigest,
        new: i64,
    ) -> Result<(), SaveError> {
        if batch.is_empty() {
            return self.refuse_after_failure();
        }
        self.unread.extend(digests(batch));
        for (key, value) in batch.changes().filter_map(|(key, value)| Some((key, value?))) {
            self.bytes += (key.to_bytes().len() + value.len()) as u64;
        }
        let records = self.meta.records.checked_add_signed(new);
        let records = records.expect("no more records go than there are");
        let set_digest = SetDigest(self.meta.set_digest).and(change).0;
        self.write(batch, MetaRecord { records, set_digest, ..self.meta.clone() }).map(drop)
    }

    /// Applies a batch together with the meta record, and gives back the value of that.
    fn write(&mut self, batch: &mut Batch, meta: MetaRecord) -> Result<Vec<u8>, SaveError> {
        self.refuse_after_failure()?;
        let refused = |fault| SaveError::Refused { key: Key::Meta, fault };
        let value = encode(Key::Meta, &meta).map_err(refused)?;
        batch.put(Key::Meta, &value);
        batch.sort();
        let done = self.storage.batch(batch);
        done.map_err(|error| self.fail(error.into()))?;
        self.meta = meta;
        Ok(value)
    }

    /// Flushes, and reads back in the order of keys what was written since the last time.
    fn verify_written(&mut self) -> Result<(), SaveError> {
        self.flush()?;
        let mut unread = std::mem::take(&mut self.unread);
        // Stable, so that of several versions of a key the last one comes first.
        unread.reverse();
        unread.sort_by_key(|&(key, _)| key);
        unread.dedup_by_key(|&mut (key, _)| key);
        unread.into_iter().try_for_each(|written| self.verify(written))
    }

    /// Reads back one record.
    fn verify(&mut self, (key, written): Written) -> Result<(), SaveError> {
        self.storage.give_way();
        let value = self.read(key)?;
        compare(key, written, value.as_deref())
            .map_err(|found| self.fail(SaveError::ReadBack { key, found }))
    }

    fn read(&mut self, key: Key) -> Result<Option<Vec<u8>>, SaveError> {
        self.storage.get(key).map_err(|error| self.fail(error.into()))
    }

    fn flush(&mut self) -> Result<(), SaveError> {
        self.refuse_after_failure()?;
        let done = self.storage.flush();
        done.map_err(|error| self.fail(error.into()))
    }

    fn refuse_after_failure(&self) -> Result<(), SaveError> {
        match &self.failed {
            Some(cause) => Err(SaveError::Failed { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Takes nothing more because of `error`.
    fn fail(&mut self, error: SaveError) -> SaveError {
        self.failed = Some(error.to_string());
        self.run = Run::default();
        error
    }
}

/// In which round the pairs of a record were written.
const fn round_of(key: Key) -> Round {
    match key {
        Key::Page { round, .. } => round,
        _ => Round::FIRST,
    }
}

/// The digests of a batch's values, by key; `None` for what it deletes.
fn digests(batch: &Batch) -> impl Iterator<Item = Written> {
    batch.changes().map(|(key, value)| (key, value.and_then(RecordDigest::of_value)))
}
