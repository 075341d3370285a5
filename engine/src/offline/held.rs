//! A store that is kept from engines while it is looked at.
//!
//! Promises: nothing is changed and nothing made, so reading is all the permission it takes; any
//! number of lookers may hold a store at once. Where there is no lock to hold, as in a copy made by
//! other means, an engine that came meanwhile is noticed.
//! Fails by: [`StoreError::NoStore`] where there is neither a manifest nor a log,
//! [`StoreError::AlreadyOpen`] while an engine has it, or when one had it before the look was over.
//! Not here: what its files hold.

use crate::StoreError;
use crate::store::files::{self, failed};
use crate::store::{Manifest, StoreFiles, StoreLock, recover};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A store nobody can open meanwhile.
///
/// ```
/// use ebbtide::offline::{HeldStore, ManifestContents};
/// use ebbtide::{Engine, Schema, StoreError};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let directory = folder.path().join("signals");
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// Engine::builder(&directory).schema(schema.clone()).open()?.close(Duration::from_secs(5))?;
/// HeldStore::look(&directory, |held| {
///     assert!(Engine::builder(&directory).schema(schema).open().is_err());
///     assert!(ManifestContents::read(held)?.is_some());
///     Ok::<_, StoreError>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HeldStore {
    files: StoreFiles,
    /// A copy of a store may come without the file.
    lock: Option<StoreLock>,
}

impl HeldStore {
    /// Holds the store in `directory`.
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        let root = match directory.canonicalize() {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(StoreError::NoStore { path: directory.to_owned() });
            }
            root => root.map_err(failed("looking at", directory))?,
        };
        if !root.is_dir() {
            return Err(StoreError::NoStore { path: directory.to_owned() });
        }
        let files = StoreFiles::new(&root);
        if files::length(&files.manifest())?.or(files::length(&files.logs())?).is_none() {
            return Err(StoreError::NoStore { path: directory.to_owned() });
        }
        let lock = StoreLock::share(&files)?;
        Ok(Self { files, lock })
    }

    /// Does `work` on the store in `directory`. What an engine may have done to it meanwhile counts
    /// for nothing.
    ///
    /// # Errors
    ///
    /// What `work` gives, and [`StoreError`] where there is no store or it cannot be held.
    pub fn look<T, E: From<StoreError>>(
        directory: &Path,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let held = Self::take(directory)?;
        let outcome = work(&held);
        // An engine makes the file before it does anything else, and leaves it there.
        if held.lock.is_none() && files::length(&held.files.lock())?.is_some() {
            let path = held.files.root().to_owned();
            return Err(StoreError::AlreadyOpen { path, pid: None }.into());
        }
        outcome
    }

    /// The folder that holds a folder for each log.
    #[must_use]
    pub fn log_folder(&self) -> PathBuf {
        self.files.logs()
    }

    /// The folders of the logs by their numbers, and what lies among them that an opening would
    /// refuse.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if they cannot be listed.
    pub fn logs(&self) -> Result<(BTreeMap<u32, PathBuf>, Vec<StoreError>), StoreError> {
        let (root, mut folders, mut wrong) = (self.files.logs(), BTreeMap::new(), Vec::new());
        if files::length(&root)?.is_none() || !is_folder(&root, &mut wrong)? {
            return Ok((folders, wrong));
        }
        let (numbers, strangers) = recover::listed_logs(&self.files)?;
        wrong.extend(strangers.into_iter().map(|path| StoreError::Stranger { path }));
        for number in numbers {
            let path = self.files.log(number);
            if is_folder(&path, &mut wrong)? {
                folders.insert(number, path);
            }
        }
        Ok((folders, wrong))
    }

    pub(crate) fn files(&self) -> &StoreFiles {
        &self.files
    }

    /// Who the store is.
    pub(crate) fn manifest(&self) -> Result<Manifest, StoreError> {
        let missing = || match (self.files.logs().is_dir(), self.files.manifest()) {
            (true, path) => StoreError::ManifestDamaged { path, what: "it is missing" },
            (false, _) => StoreError::NoStore { path: self.files.root().to_owned() },
        };
        Manifest::read(&self.files)?.ok_or_else(missing)
    }
}

/// Whether there is a folder at a path that may be looked into; notes what is wrong with it.
fn is_folder(path: &Path, wrong: &mut Vec<StoreError>) -> Result<bool, StoreError> {
    match files::check_private(path, true) {
        Ok(()) => Ok(true),
        Err(error) if error.is_finding() => {
            let may_be_read = matches!(error, StoreError::NotPrivate { .. });
            wrong.push(error);
            Ok(may_be_read)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_engine_that_comes_while_there_is_no_lock_to_hold_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        let look = |meanwhile: &dyn Fn(&StoreFiles)| {
            HeldStore::look(folder.path(), |held| {
                meanwhile(held.files());
                Ok::<_, StoreError>(())
            })
        };
        look(&|_| {}).unwrap();
        let refused = look(&|files| drop(StoreLock::take(files).unwrap())).unwrap_err();
        assert_eq!(refused.code(), "store-already-open");
        assert_eq!(fs::metadata(folder.path().join("LOCK")).unwrap().len(), 0);
        // From now on there is one to hold.
        look(&|files| assert!(StoreLock::take(files).is_err())).unwrap();
    }

    #[test]
    fn where_there_is_neither_manifest_nor_log_there_is_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let empty = folder.path().to_owned();
        for path in [empty, folder.path().join("none"), file.join("below"), file] {
            assert_eq!(HeldStore::take(&path).unwrap_err().code(), "store-missing");
        }
    }

    #[test]
    fn only_folders_named_like_a_log_are_logs_and_what_else_lies_there_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("log");
        let listed = || HeldStore::look(folder.path(), HeldStore::logs).unwrap();
        fs::create_dir(&logs).unwrap();
        for name in ["0000", "0012", "10000", "12", "00012", "+001", "4294967296"] {
            fs::create_dir(logs.join(name)).unwrap();
        }
        fs::write(logs.join("0003"), "").unwrap();
        let (folders, wrong) = listed();
        assert_eq!(folders.into_keys().collect::<Vec<_>>(), [0, 12, 10_000]);
        let mut codes: Vec<_> = wrong.iter().map(StoreError::code).collect();
        codes.sort_unstable();
        assert_eq!(codes[..4], ["store-stranger"; 4]);
        assert_eq!(codes[4..], ["store-wrong-kind"]);
        fs::remove_dir_all(&logs).unwrap();
        fs::write(&logs, "").unwrap();
        let (folders, wrong) = listed();
        assert!(folders.is_empty() && wrong[0].code() == "store-wrong-kind", "{wrong:?}");
    }
}
