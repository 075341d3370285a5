//! Verification: is everything there that a store promised, and is it what was stored?
//!
//! ```text
//! layout ─▶ manifest ─▶ seal ─▶ checkpoint, a copy: every record ─▶ logs: every frame ─┐
//!                      pairs of checkpoint and logs  ◀─compare─▶  pairs of the logs alone ◀┘
//! ```
//!
//! Promises: nothing of the store changes, not even a time of a file. A store that an engine would
//! open without losing anything has no finding, whatever crash it went through. A changed byte in
//! any file of a store that was closed in order is a finding; so is one anywhere else, unless no
//! reader would ever take it for data: in a spare or temporary file, behind the end of a log, or in
//! the last group of a log that was not closed.
//! Fails by: [`StoreError`] where it cannot look: no store, open elsewhere, no permission, no room.
//! Not here: mending anything.

mod compare;
mod finding;
mod logs;

pub use finding::{Difference, Finding};
pub use logs::LogVerified;

use super::contents::PairCount;
use super::copy::CheckpointCopy;
use super::held::HeldStore;
use crate::StoreError;
use crate::store::manifest::Manifest;
use crate::store::recover::{LEAVING, present_logs};
use crate::store::whole::Reading;
use crate::store::{FjallStorage, StoreFiles, files, open, seal};
use compare::compare;
use ebbtide_shard::EntityId;
use ebbtide_shard::Schema;
use ebbtide_shard::checkpoint::{
    IdsRecord, Key, LoadError, LoadSink, MetaRecord, PairRecord, RecordFault, Round, SourceRecord,
    survey,
};
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_wal::Lsn;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Findings that are kept; more are only counted.
pub const FINDINGS_MAX: usize = 100;

/// What a verification looks at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyStep {
    /// The files of the checkpoint, against the seal.
    Seal,
    /// Its records.
    Records,
    /// The frames of a log.
    Log(u32),
    /// The pairs, rebuilt from the logs.
    Rebuild,
}

/// What was checked, and what was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// The store's id, if its manifest is whole.
    pub store: Option<[u8; 16]>,
    /// The records of the checkpoint, if it could be opened.
    pub checkpoint: Option<CheckpointVerified>,
    /// Each log that has to be there, or is.
    pub logs: Vec<LogVerified>,
    /// How the pairs compare with those rebuilt from the logs; `None` if something was found
    /// before.
    pub rebuilt: Option<Rebuilt>,
    /// Entries of the directory that are no store's; they are left alone.
    pub strangers: u64,
    /// The first [`FINDINGS_MAX`] things that are wrong.
    pub findings: Vec<Finding>,
    /// How many are wrong.
    pub findings_count: u64,
}

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointVerified {
    /// Whether a seal vouches for the files. There is one while a store is closed in order.
    pub sealed: bool,
    /// Bytes of the files.
    pub bytes: u64,
    /// Pairs in records that are whole.
    pub pairs: u64,
    /// Whole records of sources,
    pub sources: u64,
    /// and of remembered ids.
    pub ids: u64,
}

/// How the pairs of checkpoint and logs compare with those of the logs alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Pairs in all.
    pub pairs: u64,
    /// Pairs the logs still hold every event of: they are the same to the bit.
    pub whole: u64,
    /// Pairs the logs hold some events of: no more than were counted.
    pub in_part: u64,
    /// Scores below those rebuilt, as they are since a half-life changed and they restarted.
    pub restarted: u64,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings_count == 0
    }

    fn note(&mut self, finding: impl Into<Finding>) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding.into());
        }
    }

    /// Notes an error that is about the store itself, and gives back any other.
    fn judge<T>(&mut self, outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_finding() => {
                self.note(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Verifies the store in `directory`, which no engine may have open; `progress` is told each step.
///
/// ```
/// use ebbtide::offline::verify;
/// use ebbtide::{Engine, Schema};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let directory = folder.path().join("signals");
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// Engine::builder(&directory).schema(schema).open()?.close(Duration::from_secs(5))?;
/// assert!(verify(&directory, &mut |_| {})?.is_whole());
///
/// let seal = directory.join("SEAL");
/// let mut bytes = std::fs::read(&seal)?;
/// bytes[20] ^= 1;
/// std::fs::write(&seal, bytes)?;
/// let verified = verify(&directory, &mut |_| {})?;
/// assert_eq!(verified.findings[0].code(), "store-seal-damaged");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`StoreError`] where it cannot be looked at. What is wrong with it is in the [`Verification`].
pub fn verify(
    directory: &Path,
    progress: &mut dyn FnMut(VerifyStep),
) -> Result<Verification, StoreError> {
    let looked = HeldStore::look(directory, |held| check(held.files(), progress));
    // What lies in the place of the lock may be wrong too, and nothing can be held by it then.
    let mut unheld = Verification::default();
    Ok(unheld.judge(looked)?.unwrap_or(unheld))
}

fn check(
    files: &StoreFiles,
    progress: &mut dyn FnMut(VerifyStep),
) -> Result<Verification, StoreError> {
    let mut found = Verification::default();
    let manifest = layout(files, &mut found)?;
    progress(VerifyStep::Seal);
    let sealed = seal(files, &mut found)?;
    progress(VerifyStep::Records);
    let opened = match &manifest {
        Some(manifest) => Opened::open(files, manifest, sealed, &mut found)?,
        None => None,
    };
    let meta = opened.as_ref().map(|opened| &opened.meta);
    if let Some(manifest) = &manifest {
        logs::verify(files, (manifest, meta), &mut found, progress)?;
    }
    if let (Some(manifest), Some(opened), true) = (&manifest, &opened, found.is_whole()) {
        progress(VerifyStep::Rebuild);
        rebuild(&opened.reading(files, manifest), &mut found)?;
    }
    Ok(found)
}

/// Checks what lies in the directory, and reads who the store is.
fn layout(files: &StoreFiles, found: &mut Verification) -> Result<Option<Manifest>, StoreError> {
    found.judge(files::check_private(files.root(), true))?;
    let lock = files.lock();
    if let Some(bytes) = files::length(&lock)?.filter(|&bytes| bytes > 0) {
        found.note(Finding::LockNotEmpty { path: lock, bytes });
    }
    found.strangers = files.strangers()?;
    let manifest = Manifest::read(files);
    let Some(manifest) = found.judge(manifest)? else { return Ok(None) };
    if manifest.is_none() {
        if !files.logs().is_dir() {
            return Err(StoreError::NoStore { path: files.root().to_owned() });
        }
        found.note(Finding::ManifestMissing { path: files.manifest() });
    }
    found.store = manifest.map(|manifest| manifest.store.0);
    Ok(manifest)
}

/// Compares the checkpoint's files with the seal. Says whether there is one.
fn seal(files: &StoreFiles, found: &mut Verification) -> Result<bool, StoreError> {
    let path = files.checkpoint();
    if files::length(&path)?.is_none() {
        found.note(StoreError::Checkpoint { path, source: LoadError::MetaMissing });
        return Ok(false);
    }
    if found.judge(files::check_private(&path, true))?.is_none() {
        return Ok(false);
    }
    let broken = found.judge(seal::differences(files))?.flatten();
    let sealed = broken.is_some();
    for path in broken.into_iter().flatten() {
        found.note(StoreError::SealBroken { path });
    }
    Ok(sealed)
}

/// A checkpoint that can be read.
struct Opened {
    copy: CheckpointCopy,
    meta: MetaRecord,
    schema: Arc<Schema>,
    numbers: SignalNumbers,
}

impl Opened {
    /// Opens a copy of the checkpoint and reads every record.
    fn open(
        files: &StoreFiles,
        manifest: &Manifest,
        sealed: bool,
        found: &mut Verification,
    ) -> Result<Option<Self>, StoreError> {
        let readable = files::length(&files.checkpoint())?.is_some();
        if !readable || files::check_private(&files.checkpoint(), true).is_err() {
            return Ok(None);
        }
        let copy = match CheckpointCopy::open(files) {
            // Whatever keeps a database from opening whose files are known to have changed.
            Err(error @ StoreError::Storage { .. }) if !found.is_whole() => {
                found.note(error);
                None
            }
            opened => found.judge(opened)?,
        };
        let Some(copy) = copy else { return Ok(None) };
        let held = CheckpointVerified { sealed, bytes: copy.bytes(), ..Default::default() };
        let mut read = Read { held, pairs: PairCount::default() };
        let meta = found.judge(open::known_meta(copy.storage(), files, manifest))?;
        let Some(meta) = meta else { return Ok(None) };
        let mut faults = Bounded::default();
        survey(copy.storage(), &meta, &mut read, &mut |fault| faults.push(fault));
        let pairs = read.pairs.seen.len() as u64;
        found.checkpoint = Some(CheckpointVerified { pairs, ..read.held });
        found.findings_count += faults.more;
        for source in faults.first {
            found
                .judge(Err::<(), _>(StoreError::Checkpoint { path: files.checkpoint(), source }))?;
        }
        let schema = open::stored_schema(files, &meta);
        let Some(schema) = found.judge(schema)? else { return Ok(None) };
        let numbers = open::numbers(files, &meta, &schema);
        let Some((numbers, _)) = found.judge(numbers)? else { return Ok(None) };
        Ok(Some(Self { copy, meta, schema: Arc::new(schema), numbers }))
    }

    fn reading<'a>(
        &'a self,
        files: &'a StoreFiles,
        manifest: &'a Manifest,
    ) -> Reading<'a, FjallStorage> {
        let (storage, meta) = (self.copy.storage(), &self.meta);
        let (schema, numbers) = (&self.schema, &self.numbers);
        // All of it was read before.
        Reading { files, manifest, storage, meta, schema, numbers, read_covered: false }
    }
}

/// What reading the records found.
struct Read {
    held: CheckpointVerified,
    pairs: PairCount,
}

impl LoadSink for Read {
    fn pair(&mut self, pair: (EntityId, u8), _: PairRecord, _: Round) -> Result<(), RecordFault> {
        self.pairs.add(pair);
        Ok(())
    }

    fn source(&mut self, _: u64, _: SourceRecord) -> Result<(), RecordFault> {
        self.held.sources += 1;
        Ok(())
    }

    fn ids(&mut self, _: Key, _: IdsRecord) -> Result<(), RecordFault> {
        self.held.ids += 1;
        Ok(())
    }
}

/// Puts the state together as an opening does, and again from the logs alone, and compares both.
fn rebuild(
    reading: &Reading<'_, FjallStorage>,
    found: &mut Verification,
) -> Result<(), StoreError> {
    let Some(stored) = found.judge(reading.whole())? else { return Ok(()) };
    let begins = found.logs.iter().map(|log| (log.number, log.begins_after));
    let begins: BTreeMap<u32, Lsn> = begins.collect();
    let logged = reading.whole_from_kept_logs(&begins, &stored.sources);
    let Some(logged) = found.judge(logged)? else { return Ok(()) };
    let mut differences = Bounded::default();
    let rebuilt = compare((stored, logged), reading, &mut |finding| differences.push(finding));
    found.findings_count += differences.more;
    for finding in differences.first {
        found.note(finding);
    }
    found.rebuilt = Some(rebuilt);
    Ok(())
}

/// The first [`FINDINGS_MAX`] of many things, and how many more there were.
struct Bounded<T> {
    first: Vec<T>,
    more: u64,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { first: Vec::new(), more: 0 }
    }
}

impl<T> Bounded<T> {
    fn push(&mut self, one: T) {
        if self.first.len() < FINDINGS_MAX {
            self.first.push(one);
        } else {
            self.more += 1;
        }
    }
}

/// Numbers of the logs that must be there or are, but for those that are leaving.
fn log_numbers(
    files: &StoreFiles,
    meta: Option<&MetaRecord>,
    found: &mut Verification,
) -> Result<BTreeSet<u32>, StoreError> {
    let covered = meta.map(|meta| meta.covered.as_slice()).unwrap_or_default();
    let leaving: BTreeSet<u32> =
        covered.iter().filter(|&&(_, lsn)| lsn == LEAVING).map(|&(log, _)| log).collect();
    let present = found.judge(present_logs(files))?.unwrap_or_default();
    let all = covered.iter().map(|&(log, _)| log).chain(present);
    Ok(all.filter(|log| !leaving.contains(log)).collect())
}

#[cfg(test)]
mod tests;
