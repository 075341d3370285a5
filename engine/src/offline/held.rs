//! A store that is kept from engines while it is looked at.
//!
//! Promises: nothing is changed and nothing made, so reading is all the permission it takes; any
//! number of lookers may hold a store at once. Where there is no lock to hold, as in a copy made by
//! other means, an engine that came meanwhile is noticed.
//! Fails by: [`StoreError::NoStore`] where there is none, [`StoreError::AlreadyOpen`] while an
//! engine has it, or when one had it before the look was over.
//! Not here: what its files hold.

use crate::StoreError;
use crate::store::files::{self, failed};
use crate::store::{Manifest, StoreFiles, StoreLock};
use std::io::ErrorKind;
use std::path::Path;

/// A store nobody can open meanwhile.
#[derive(Debug)]
pub(crate) struct HeldStore {
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
        let lock = StoreLock::share(&files)?;
        Ok(Self { files, lock })
    }

    /// Does `work` on the store in `directory`. What an engine may have done to it meanwhile counts
    /// for nothing.
    pub(crate) fn look<T, E: From<StoreError>>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_engine_that_comes_while_there_is_no_lock_to_hold_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
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
    fn where_there_is_no_folder_there_is_no_store() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [folder.path().join("none"), file.join("below"), file] {
            assert_eq!(HeldStore::take(&path).unwrap_err().code(), "store-missing");
        }
    }
}
