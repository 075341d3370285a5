//! A new store of what can still be read of a damaged one, and what could not.
//!
//! ```text
//! manifest ─▶ records that verify ─┐
//!             logs, over damage ───┴▶ state ─▶ new store, sealed, verified ─▶ its name
//! ```
//!
//! Promises: the damaged store is only read. Every event that the new store counts was in the old
//! one, and is counted once. Of a store without damage nothing is lost: the new one answers alike,
//! to the bit. Whatever is known or feared to be lost is told.
//! A source goes on behind the last offset up to which the new store holds all its events, so that
//! sending them again fills what is missing and counts nothing twice; what it had recorded behind a
//! gap is left out for that, unless it is to be kept. Then nothing counts twice either, and what
//! is missing stays so.
//! Fails by: [`SalvageError`]; nothing is left behind then.

mod logs;
mod records;
mod taken;
mod trouble;
mod troubles;

pub use trouble::Trouble;
pub use troubles::TROUBLES_MAX;

use super::copy::CheckpointCopy;
use super::held::HeldStore;
use super::target::{Target, TargetError};
use super::verify::verify;
use crate::store::manifest::Manifest;
use crate::store::recover::LEAVING;
use crate::store::sources::SourceOffsets;
use crate::store::whole::{Unsaved, Whole, Written};
use crate::store::{StoreFiles, files, intake::Dealer, open, seal};
use crate::{RecoveryProgress, StoreError};
use ebbtide_shard::checkpoint::{
    FORMAT_VERSION, MetaRecord, Opening, SourceRecord, StorageErrorKind, Tag,
};
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::recovery::Recovering;
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::SourceId;
use ebbtide_shard::{PartitionKey, Schema};
use ebbtide_wal::{Lsn, StoreId};
use logs::{LogsOf, LogsRead, read_logs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use taken::Taken;
use troubles::Troubles;

/// What a salvage may go by.
#[derive(Clone, Debug, Default)]
pub struct SalvageOptions {
    /// The schema the store was made with, for a checkpoint that does not tell it any more. Signal
    /// types stand in the logs by their numbers, which follow the order of their names as long as
    /// none was added later.
    pub schema: Option<Schema>,
    /// Whether to keep events of sources that were recorded behind a gap. The source then goes on
    /// behind them, and what is missing is never filled.
    pub keep_sourced: bool,
}

/// What was saved, and what was not.
#[derive(Debug)]
#[non_exhaustive]
pub struct Salvage {
    /// Pairs in the new store.
    pub pairs: u64,
    /// Events that were counted again from the logs.
    pub events: u64,
    /// Each source: its name, the offset it goes on behind, and how many of its events were left
    /// out.
    pub sources: Vec<(String, u64, u64)>,
    /// The first of what stood in the way, at most [`TROUBLES_MAX`] and one.
    pub troubles: Vec<Trouble>,
    /// How much stood in the way.
    pub troubles_count: u64,
    /// How much of that cost something.
    pub losses: u64,
}

/// Why there is no new store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// The new store cannot have its name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The store cannot be read, or the new one not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The schema is lost with the checkpoint. Give the one the store was made with.
    #[error(
        "the checkpoint in {} does not tell the schema any more ({why}); give the schema the store \
         was made with", .path.display()
    )]
    NoSchema {
        /// The checkpoint's directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The new store does not verify. See to the device it was to lie on.
    #[error("the new store {} does not verify; see to the device it lies on", .path.display())]
    Differs {
        /// Where it was to lie.
        path: PathBuf,
    },
}

/// Makes a new store in `to`, which must not exist, of what is left of the one in `directory`.
///
/// # Errors
///
/// [`SalvageError`]. What is lost of the store is in the [`Salvage`].
pub fn salvage(
    directory: &Path,
    to: &Path,
    options: &SalvageOptions,
) -> Result<Salvage, SalvageError> {
    let (target, salvage) = HeldStore::look(directory, |held| save(held, to, options))?;
    target.finish()?;
    Ok(salvage)
}

fn save(
    held: &HeldStore,
    to: &Path,
    options: &SalvageOptions,
) -> Result<(Target, Salvage), SalvageError> {
    let files = held.files();
    let target = Target::begin(to, files.root())?;
    let mut troubles = Troubles::default();
    let known = identity(held, &mut troubles)?;
    let checkpoint = Checkpoint::open(files, known.as_ref())?;
    let manifest = match &known {
        Some(known) => known.renewed()?,
        None => Manifest::random()?,
    };
    let found = Found { files, known, manifest, checkpoint, options };
    let (whole, mut salvage, meta) = found.rebuild(&mut troubles)?;
    let copy = target.files();
    write(whole, &copy, &manifest, &meta)?;
    if !verify(copy.root(), &mut |_| {})?.is_whole() {
        return Err(SalvageError::Differs { path: to.to_owned() });
    }
    salvage.troubles = troubles.first;
    (salvage.troubles_count, salvage.losses) = (troubles.count, troubles.losses);
    Ok((target, salvage))
}

/// Who the store is, as far as its manifest tells.
fn identity(held: &HeldStore, troubles: &mut Troubles) -> Result<Option<Manifest>, StoreError> {
    match held.manifest() {
        Ok(manifest) => Ok(Some(manifest)),
        Err(StoreError::ManifestDamaged { path, .. }) => {
            let mended = Manifest::mended(held.files());
            troubles.note(match mended {
                Some(_) => Trouble::ManifestMended { path },
                None => Trouble::Manifest { path },
            });
            Ok(mended)
        }
        Err(error) if error.is_unreadable() => {
            troubles.note(Trouble::Manifest { path: held.files().manifest() });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What is left of a checkpoint.
enum Checkpoint {
    /// Its database opens, and its meta record reads.
    Open(Box<(CheckpointCopy, MetaRecord)>),
    Lost {
        why: String,
    },
}

impl Checkpoint {
    fn open(files: &StoreFiles, known: Option<&Manifest>) -> Result<Self, StoreError> {
        let lost = |why: &dyn std::fmt::Display| Ok(Self::Lost { why: why.to_string() });
        if !files.checkpoint().is_dir() {
            return lost(&"it is not there");
        }
        let copy = match CheckpointCopy::open(files) {
            // Whoever tells it says where.
            Err(StoreError::Storage { source, .. }) if source.kind == StorageErrorKind::Damaged => {
                return lost(&source.cause);
            }
            Err(error) if error.is_damage() || error.is_unreadable() => return lost(&error),
            opened => opened?,
        };
        let meta = match open::any_meta(copy.storage(), files) {
            Err(StoreError::Checkpoint { source, .. }) => return lost(&source),
            meta => meta?,
        };
        if known.is_some_and(|known| known.store.0 != meta.store_id) {
            return lost(&"it is of another store");
        }
        Ok(Self::Open(Box::new((copy, meta))))
    }
}

/// What is there to rebuild from.
struct Found<'a> {
    files: &'a StoreFiles,
    known: Option<Manifest>,
    /// Of the new store.
    manifest: Manifest,
    checkpoint: Checkpoint,
    options: &'a SalvageOptions,
}

impl Found<'_> {
    /// Puts together the state, and what the new store's meta record says.
    fn rebuild(
        self,
        troubles: &mut Troubles,
    ) -> Result<(Whole, Salvage, MetaRecord), SalvageError> {
        let (meta, schema, numbers) = self.schema()?;
        let key = self.manifest.partition_key();
        let listed = meta.covered.iter().copied();
        let (leaving, covered): (Vec<_>, Vec<_>) = listed.partition(|&(_, lsn)| lsn == LEAVING);
        let mut of = LogsOf {
            files: self.files,
            store: self.store(&meta),
            key: &key,
            key_is_known: self.known.is_some(),
            numbers: &numbers,
            covered: covered.into_iter().collect(),
            leaving: leaving.into_iter().map(|(log, _)| log).collect(),
            layout: meta.layout,
            forgotten: BTreeSet::new(),
            keep_sourced: self.options.keep_sourced,
        };
        let recovering = Recovering::new(Arc::clone(&schema), numbers.clone(), key, 0..PARTITIONS);
        let (mut unsaved, mut silent) = (Unsaved::new(recovering), |_: RecoveryProgress| {});
        // Every pair may be ahead of its log, since logs are read from their first record on.
        let unplaced = MetaRecord { layout: 0, ..meta.clone() };
        let mut dealer = Dealer::new(&unplaced, (&key, &numbers), &mut unsaved, &mut silent);
        let complete = of.are_complete()?;
        let (mut sources, forgotten) = self.records(&mut dealer, (&key, complete), troubles)?;
        of.forgotten = forgotten;
        let read = read_logs(&of, (&mut sources, troubles), &mut dealer)?;
        if dealer.last_included > read.last {
            let (found, last) = (dealer.last_included.get(), read.last.get());
            troubles.note(Trouble::LogsEnd { found, last });
        }
        if let Checkpoint::Lost { .. } = &self.checkpoint {
            let gone = |&log: &u32| Trouble::LogGone { log, after: Lsn::NONE };
            read.missing.iter().map(gone).for_each(|trouble| troubles.note(trouble));
        }
        for (&source, &count) in read.left_out.iter().filter(|&(&id, _)| !sources.knows(id)) {
            troubles.note(Trouble::Unnamed { id: source.0, count });
        }
        let events = dealer.events;
        let (ledger, ids) = unsaved.finish();
        let records = self.source_records(&sources);
        let salvage = Salvage {
            pairs: ledger.pairs() as u64,
            events,
            sources: told(&records, &read),
            troubles: Vec::new(),
            troubles_count: 0,
            losses: 0,
        };
        let (last, logs) = (Lsn::NONE, BTreeMap::new());
        Ok((Whole { ledger, ids, sources: records, last, logs }, salvage, meta))
    }

    /// Which store's segments count.
    fn store(&self, meta: &MetaRecord) -> Option<StoreId> {
        let known = self.known.map(|known| known.store);
        let is_open = matches!(self.checkpoint, Checkpoint::Open(_));
        known.or_else(|| is_open.then_some(StoreId(meta.store_id)))
    }

    /// The meta record, or what stands for it, and the schema.
    fn schema(&self) -> Result<(MetaRecord, Arc<Schema>, SignalNumbers), SalvageError> {
        let path = self.files.checkpoint();
        let lost = |why: String| SalvageError::NoSchema { path: path.clone(), why };
        let (mut meta, stored) = match &self.checkpoint {
            Checkpoint::Open(open) => {
                let stored = Schema::from_toml(&open.1.schema_toml);
                (open.1.clone(), stored.map_err(|error| format!("it does not read: {error}")))
            }
            Checkpoint::Lost { why } => (no_meta(), Err(why.clone())),
        };
        let given = |why| self.options.schema.clone().ok_or_else(|| lost(why));
        let schema = stored.or_else(given)?;
        let numbers = SignalNumbers::assign(&meta.signal_names, &schema);
        let (numbers, names) =
            numbers.map_err(|source| StoreError::Numbers { path: path.clone(), source })?;
        (meta.schema_toml, meta.signal_names) = (schema.to_toml(), names);
        Ok((meta, Arc::new(schema), numbers))
    }

    /// Takes in every record that reads; gives how far the sources had come, and the partitions in
    /// which they begin again.
    fn records(
        &self,
        dealer: &mut Dealer<'_, Unsaved>,
        (key, complete): (&PartitionKey, bool),
        troubles: &mut Troubles,
    ) -> Result<(SourceOffsets, BTreeSet<usize>), StoreError> {
        let path = self.files.checkpoint();
        let open = match &self.checkpoint {
            Checkpoint::Open(open) => open,
            Checkpoint::Lost { why } => {
                let lost = Trouble::Checkpoint { path, why: why.clone() };
                troubles.note(lost.of_checkpoint(complete));
                return Ok(Default::default());
            }
        };
        match seal::check(self.files) {
            Err(error) if error.is_damage() || error.is_unreadable() => {
                troubles.note(Trouble::Seal { why: error.to_string() });
            }
            checked => drop(checked?),
        }
        let mut taken = Taken::default();
        for tag in [Tag::Sig, Tag::Src, Tag::Ids] {
            for (bytes, value) in records::gather(open.0.storage(), tag) {
                taken.take((tag, &bytes, &value), dealer, complete, troubles);
            }
        }
        taken.compare(&open.1, complete, troubles);
        let mut sources = std::mem::take(&mut dealer.sources);
        // Where nothing else is, sending again fills all and counts nothing twice.
        let is_filled = self.known.is_some() && !complete && !self.options.keep_sourced;
        let forgotten = if is_filled { taken.emptied(&open.1, key) } else { BTreeSet::new() };
        for &partition in &forgotten {
            sources.forget(partition);
        }
        if self.known.is_some() {
            // What is to be counted when it is sent again must not be known as counted.
            dealer.hand_over_ids(|hash| !forgotten.contains(&hash.partition()));
        }
        Ok((sources, forgotten))
    }

    /// The sources' records. Where the key that places entities is lost, the partitions of before
    /// mean nothing, and the least of their offsets stands for all.
    fn source_records(&self, sources: &SourceOffsets) -> Vec<SourceRecord> {
        let mut records = sources.records();
        if self.known.is_none() {
            for record in &mut records {
                record.runs = vec![(0, least(record))];
            }
        }
        records
    }
}

fn least(record: &SourceRecord) -> u64 {
    record.runs.iter().map(|&(_, offset)| offset).min().unwrap_or(0)
}

fn told(records: &[SourceRecord], read: &LogsRead) -> Vec<(String, u64, u64)> {
    let one = |record: &SourceRecord| {
        let left_out = read.left_out.get(&SourceId::of(&record.name)).copied().unwrap_or(0);
        (record.name.clone(), least(record), left_out)
    };
    records.iter().map(one).collect()
}

/// The meta record of a store of which nothing is known.
fn no_meta() -> MetaRecord {
    MetaRecord {
        format: FORMAT_VERSION,
        store_id: [0; 16],
        openings: 1,
        checkpoint: 0,
        schema_toml: String::new(),
        signal_names: Vec::new(),
        layout: 0,
        covered: Vec::new(),
        records: 0,
        set_digest: 0,
    }
}

/// Writes the new store, sealed.
fn write(
    whole: Whole,
    copy: &StoreFiles,
    manifest: &Manifest,
    meta: &MetaRecord,
) -> Result<(), StoreError> {
    let signal_names = meta.signal_names.clone();
    let schema = Schema::from_toml(&meta.schema_toml).expect("it was read before");
    let (numbers, _) = SignalNumbers::assign(&signal_names, &schema).expect("so were these");
    let opening = Opening {
        number: meta.openings.max(1),
        schema_toml: meta.schema_toml.clone(),
        signal_names,
        covered: Vec::new(),
    };
    let (layout, covered, numbers) = (0, Vec::new(), numbers.by_signal());
    whole.write(&copy.checkpoint(), Written { manifest, opening, layout, covered, numbers })?;
    files::make_directory(&copy.logs())?;
    seal::write(copy)?;
    manifest.begin(copy)?;
    Manifest::finish(copy)
}

#[cfg(test)]
mod tests;
