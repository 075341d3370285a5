//! A copy of a store that no engine has open: file by file, checked before and after.
//!
//! ```text
//! verify the store ─▶ copy each file, sync it ─▶ read it back ─▶ verify the copy ─▶ its name
//! ```
//!
//! Promises: the copy holds the same bytes in every file that counts, and was read back from where
//! it lies; it appears under its name when all of that is done, or not at all. The store is not
//! changed, and no engine can open it meanwhile.
//! Fails by: [`BackupError`].
//! Not here: a store that is open; its engine copies it (`crate::Engine::backup`).

use super::held::HeldStore;
use super::target::{Target, TargetError};
use super::verify::{Finding, Verification, verify};
use crate::StoreError;
use crate::store::StoreFiles;
use crate::store::backup::segments;
use crate::store::files::{self, CHUNK_BYTES, failed, fill};
use crate::store::recover::present_logs;
use rustix::fs::{Advice, fadvise};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What a copy holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct BackedUp {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was found when the copy was verified.
    pub verified: Verification,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The copy cannot have its name.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The store cannot be read, or the copy not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is damaged, so a copy would be. Restore an earlier one, or salvage the store.
    #[error("{first}{}; an earlier backup is better than a copy of this", others(*.count))]
    Damaged {
        /// The first thing that is wrong.
        first: Box<Finding>,
        /// How many are.
        count: u64,
    },
    /// The copy does not read as what was written. See to the device it was to lie on.
    #[error("{} was copied and reads differently; see to the device of {}", .path.display(),
        .to.display())]
    Differs {
        /// The original of the file.
        path: PathBuf,
        /// Where the copy was to lie.
        to: PathBuf,
    },
}

fn others(count: u64) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

impl BackupError {
    /// Whether it is the store that is wrong.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Store(error) | Self::Target(TargetError::Store(error)) => error.is_finding(),
            Self::Target(_) | Self::Differs { .. } => false,
        }
    }
}

/// Copies the store in `directory` to `to`, which must not exist.
///
/// ```
/// use ebbtide::offline::backup;
/// use ebbtide::{Engine, Schema};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let (directory, to) = (folder.path().join("signals"), folder.path().join("copy"));
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// Engine::builder(&directory).schema(schema.clone()).open()?.close(Duration::from_secs(5))?;
/// let backed_up = backup(&directory, &to)?;
/// assert!(backed_up.bytes > 0);
/// Engine::builder(&to).schema(schema).open()?.close(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`BackupError`]; nothing is left behind then.
pub fn backup(directory: &Path, to: &Path) -> Result<BackedUp, BackupError> {
    let (target, backed_up) = HeldStore::look(directory, |held| copy(held, directory, to))?;
    target.finish()?;
    Ok(backed_up)
}

fn copy(held: &HeldStore, directory: &Path, to: &Path) -> Result<(Target, BackedUp), BackupError> {
    let store = held.files();
    let target = Target::begin(to, store.root())?;
    let found = verify(directory, &mut |_| {})?;
    if let Some(error) = damaged(found) {
        return Err(error);
    }
    let copy = target.files();
    // The lock is there, and empty.
    let (mut count, mut bytes) = (1, 0);
    for (from, to) in parts(store, &copy)? {
        bytes += copy_file(&from, &to)?;
        count += 1;
    }
    let verified = verify(copy.root(), &mut |_| {})?;
    if !verified.is_whole() {
        let (path, to) = (store.root().to_owned(), to.to_owned());
        return Err(BackupError::Differs { path, to });
    }
    Ok((target, BackedUp { files: count, bytes, verified }))
}

fn damaged(found: Verification) -> Option<BackupError> {
    let count = found.findings_count;
    let first = found.findings.into_iter().next().map(Box::new)?;
    Some(BackupError::Damaged { first, count })
}

/// The files that make a store, each with its place in the copy; the folders there are made.
fn parts(store: &StoreFiles, copy: &StoreFiles) -> Result<Vec<(PathBuf, PathBuf)>, StoreError> {
    let mut parts = Vec::new();
    below(&store.checkpoint(), &copy.checkpoint(), &mut parts)?;
    files::make_directory(&copy.logs())?;
    for log in present_logs(store)? {
        let (from, to) = (store.log(log), copy.log(log));
        files::make_directory(&to)?;
        for name in segments(&from)? {
            parts.push((from.join(&name), to.join(&name)));
        }
    }
    if files::length(&store.seal())?.is_some() {
        parts.push((store.seal(), copy.seal()));
    }
    parts.push((store.manifest(), copy.manifest()));
    Ok(parts)
}

fn below(from: &Path, to: &Path, parts: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), StoreError> {
    files::make_directory(to)?;
    for entry in fs::read_dir(from).map_err(failed("listing", from))? {
        let entry = entry.map_err(failed("listing", from))?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let found = fs::symlink_metadata(&path).map_err(failed("looking at", &path))?;
        if found.is_dir() {
            below(&path, &copy, parts)?;
        } else {
            // Its permissions are the database's matter: nobody gets past those of the folder.
            files::check_kind(&found, &path, false)?;
            parts.push((path, copy));
        }
    }
    Ok(())
}

/// Copies a file, syncs it, and reads it back from the device; gives its bytes.
fn copy_file(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let mut source = files::open_to_read(from)?;
    let target = files::create(to)?;
    let (mut written, mut bytes) = (blake3::Hasher::new(), 0_u64);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = fill(&mut source, &mut chunk).map_err(failed("reading", from))?;
        let part = &chunk[..read];
        if part.is_empty() {
            break;
        }
        written.update(part);
        // The end of a log's last segment is room that was reserved; in the copy it takes none.
        if part.iter().any(|&byte| byte != 0) {
            target.write_all_at(part, bytes).map_err(failed("writing", to))?;
        }
        bytes += read as u64;
    }
    target.set_len(bytes).map_err(failed("writing", to))?;
    target.sync_all().map_err(failed("syncing", to))?;
    // Not from memory; where the system will not have it, what it holds is as good as it gets.
    let _as_it_likes = fadvise(&target, 0, None, Advice::DontNeed);
    drop(target);
    let mut found = blake3::Hasher::new();
    found.update_reader(files::open_to_read(to)?).map_err(failed("reading", to))?;
    if found.finalize() != written.finalize() {
        return Err(BackupError::Differs { path: from.to_owned(), to: to.to_owned() });
    }
    Ok(bytes)
}
