//! A copy of a store in another directory, of one that is closed or while it is open.
//!
//! ```text
//! records ─▶ checkpoint/ ─▶ logs, from their ends ─▶ read the copy back ─▶ SEAL ─▶ MANIFEST
//! ```
//!
//! Promises: the copy is a store of its own that opens as this one would after a crash in the
//! moment the copy was finished; it was read back in full before it counts. The manifest comes
//! last.
//! Why from the end: a log grows forward, so what is read later lies before what was read earlier,
//! and no hole can appear that was never in the original.
//! Invariants: whoever calls lets no checkpoint be taken meanwhile, so no record changes, and
//! segments that vanish are covered by the checkpoint that is copied.
//! Fails by: [`StoreError`]; a copy without a manifest is no store.

use super::files::{self, StoreFiles};
use super::intake::{Dealer, Intake, PairIntake};
use super::manifest::Manifest;
use super::recover::{LEAVING, LogsOf, present_logs, read_logs};
use super::{FjallStorage, RecoveryProgress, StoreError, StoreLock, open, seal};
use ebbtide_shard::EntityHash;
use ebbtide_shard::RestoredPair;
use ebbtide_shard::checkpoint::{
    Batch, Key, RecordFault, StorageEngine, StorageError, Tag, load, read_meta,
};
use ebbtide_shard::recovery::ReplayedEvent;
use ebbtide_wal::limits::BLOCK_BYTES;
use ebbtide_wal::storage::FileName;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Records in one batch of the copy.
const BATCH_RECORDS: usize = 512;
/// Times a log is copied again because it moved on meanwhile.
const TRIES: usize = 20;

/// Copies a store to `to`, which must be empty or not there.
pub(crate) fn write(
    from: &StoreFiles,
    storage: &FjallStorage,
    to: &Path,
) -> Result<(), StoreError> {
    files::make_directory(to)?;
    let root = to.canonicalize().map_err(files::failed("looking at", to))?;
    let copy = StoreFiles::new(&root);
    if let Some(found) = copy.first_entry()? {
        return Err(StoreError::NotAStore { path: root, found });
    }
    let _nobody_opens_it_meanwhile = begin(&copy)?;
    let damaged = |source| StoreError::Checkpoint { path: from.checkpoint(), source };
    let meta = read_meta(storage).map_err(damaged)?;
    copy_records(from, storage, &copy)?;
    files::make_directory(&copy.logs())?;
    let leaving: BTreeSet<u32> =
        meta.covered.iter().filter(|&&(_, lsn)| lsn == LEAVING).map(|&(log, _)| log).collect();
    for log in present_logs(from)?.into_iter().filter(|log| !leaving.contains(log)) {
        copy_log(&from.log(log), &copy.log(log))?;
    }
    let manifest = Manifest::read(from)?;
    let manifest = manifest.ok_or_else(|| StoreError::NoStore { path: from.root().to_owned() })?;
    check(&copy, &manifest)?;
    seal::write(&copy)?;
    manifest.begin(&copy)?;
    Manifest::finish(&copy)
}

/// Takes the lock of a copy. Not before there is something else: a new store may be made in a
/// directory with a lock alone, as a crash would leave it.
fn begin(copy: &StoreFiles) -> Result<StoreLock, StoreError> {
    files::make_directory(&copy.checkpoint())?;
    StoreLock::take(copy)
}

fn copy_records(
    from: &StoreFiles,
    storage: &FjallStorage,
    copy: &StoreFiles,
) -> Result<(), StoreError> {
    let (there, here) = (from.checkpoint(), copy.checkpoint());
    let reading = |source| StoreError::Storage { path: there.clone(), source };
    let writing = |source| StoreError::Storage { path: here.clone(), source };
    let mut target = FjallStorage::open(&here).map_err(writing)?;
    for tag in Tag::ALL {
        let (mut batch, mut count, mut written) = (Batch::default(), 0, Ok(()));
        storage
            .scan(tag, 0..=u64::MAX, &mut |key, value| {
                let Some(key) = Key::of_bytes(key) else { return ControlFlow::Continue(()) };
                batch.put(key, value);
                count += 1;
                if count % BATCH_RECORDS == 0 {
                    written = target.batch(&std::mem::take(&mut batch));
                }
                if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(reading)?;
        let rest: Result<(), StorageError> = written.and_then(|()| target.batch(&batch));
        rest.map_err(writing)?;
    }
    target.flush().map_err(writing)?;
    target.close().map_err(writing)
}

/// Copies the segments of one log until none has moved on meanwhile.
fn copy_log(from: &Path, to: &Path) -> Result<(), StoreError> {
    files::make_directory(to)?;
    let mut settled = BTreeSet::new();
    for _ in 0..TRIES {
        let before = segments(from)?;
        for name in &before {
            if !settled.contains(name) {
                copy_backwards(&from.join(name), &to.join(name))?;
            }
        }
        let after = segments(from)?;
        // Those that are not the last are not written to any more, but for their seal.
        settled.extend(before.iter().rev().skip(2).cloned());
        for gone in segments(to)?.difference(&after) {
            files::remove_file(&to.join(gone))?;
        }
        if before == after {
            return files::sync_directory(to);
        }
    }
    Err(StoreError::Busy { path: from.to_owned() })
}

/// The names of a log's segments.
pub(crate) fn segments(directory: &Path) -> Result<BTreeSet<OsString>, StoreError> {
    let listed = fs::read_dir(directory).map_err(files::failed("listing", directory))?;
    let mut segments = BTreeSet::new();
    for entry in listed {
        let name = entry.map_err(files::failed("listing", directory))?.file_name();
        if matches!(FileName::parse(&name.to_string_lossy()), Some(FileName::Segment(_))) {
            segments.insert(name);
        }
    }
    Ok(segments)
}

/// Copies a file block by block from its end to its beginning; one that vanishes is left out.
fn copy_backwards(from: &Path, to: &Path) -> Result<(), StoreError> {
    let source = match fs::File::open(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(files::failed("opening", from))?,
    };
    let bytes = source.metadata().map_err(files::failed("looking at", from))?.len();
    let target = files::create(to)?;
    target.set_len(bytes).map_err(files::failed("writing", to))?;
    let mut block = [0; BLOCK_BYTES];
    let blocks = bytes.div_ceil(BLOCK_BYTES as u64);
    for offset in (0..blocks).rev().map(|number| number * BLOCK_BYTES as u64) {
        let length = usize::try_from(bytes - offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let part = &mut block[..length];
        source.read_exact_at(part, offset).map_err(files::failed("reading", from))?;
        if part.iter().any(|&byte| byte != 0) {
            target.write_all_at(part, offset).map_err(files::failed("writing", to))?;
        }
    }
    target.sync_all().map_err(files::failed("syncing", to))
}

/// Takes everything and keeps nothing.
struct Nobody;

impl PairIntake for Nobody {
    fn pair(&mut self, _: RestoredPair, _: bool) -> Result<(), RecordFault> {
        Ok(())
    }
}

impl Intake for Nobody {
    fn id(&mut self, _: EntityHash, _: u128) {}

    fn event(&mut self, _: ReplayedEvent) {}
}

/// Reads a whole store back and keeps nothing of it.
fn check(files: &StoreFiles, manifest: &Manifest) -> Result<(), StoreError> {
    let path = files.checkpoint();
    let failed = |source| StoreError::Storage { path: path.clone(), source };
    let storage = FjallStorage::open(&path).map_err(failed)?;
    let checked = check_storage(files, manifest, &storage);
    let closed = storage.close().map_err(failed);
    checked.and(closed)
}

fn check_storage(
    files: &StoreFiles,
    manifest: &Manifest,
    storage: &FjallStorage,
) -> Result<(), StoreError> {
    let damaged = |source| StoreError::Checkpoint { path: files.checkpoint(), source };
    let meta = open::known_meta(storage, files, manifest)?;
    let schema = open::stored_schema(files, &meta)?;
    let (numbers, _) = open::numbers(files, &meta, &schema)?;
    let key = manifest.partition_key();
    let (mut nobody, mut silent) = (Nobody, |_: RecoveryProgress| {});
    let mut dealer = Dealer::new(&meta, (&key, &numbers), &mut nobody, &mut silent);
    load(storage, &mut dealer).map_err(damaged)?;
    let mut sources = std::mem::take(&mut dealer.sources);
    let (store, numbers, meta) = (manifest.store, &numbers, &meta);
    let of = LogsOf { files, store, key: &key, numbers, meta, read_covered: false };
    read_logs(of, &mut sources, &mut dealer).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide_shard::Schema;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_copy_that_was_only_begun_is_no_place_for_a_new_store() {
        let folder = tempfile::tempdir().unwrap();
        let hour = Duration::from_hours(1);
        let schema = Schema::builder().signal("view", |s| s.half_lives([hour]).windows([hour]));
        let schema = Arc::new(schema.build().unwrap());
        drop(begin(&StoreFiles::new(folder.path())).unwrap());
        match open::prepare(folder.path(), &schema, None) {
            Err(StoreError::NotAStore { found, .. }) => assert_eq!(found, "checkpoint"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a new store was made in it"),
        }
    }
}
