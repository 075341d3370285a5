//! A store that is kept from engines while it is looked at.
//!
//! Promises: nothing is changed and nothing made, so reading is all the permission it takes; any
//! number of lookers may hold a store at once.
//! Fails by: [`StoreError::NoStore`] where there is none, [`StoreError::AlreadyOpen`] while an
//! engine has it.
//! Not here: what its files hold.

use crate::StoreError;
use crate::store::files::failed;
use crate::store::{Manifest, StoreFiles, StoreLock};
use std::path::Path;

/// A store nobody can open meanwhile.
#[derive(Debug)]
pub(crate) struct HeldStore {
    files: StoreFiles,
    /// A copy of a store may come without the file.
    _lock: Option<StoreLock>,
}

impl HeldStore {
    /// Holds the store in `directory`.
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        let root = match directory.canonicalize() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NoStore { path: directory.to_owned() });
            }
            root => root.map_err(failed("looking at", directory))?,
        };
        let files = StoreFiles::new(&root);
        let lock = StoreLock::share(&files)?;
        Ok(Self { files, _lock: lock })
    }

    pub(crate) fn files(&self) -> &StoreFiles {
        &self.files
    }

    /// Who the store is.
    pub(crate) fn manifest(&self) -> Result<Manifest, StoreError> {
        let missing = || {
            let is_store = self.files.logs().exists() && self.files.checkpoint().exists();
            match (is_store, self.files.manifest()) {
                (true, path) => StoreError::ManifestDamaged { path, what: "it is missing" },
                (false, _) => StoreError::NoStore { path: self.files.root().to_owned() },
            }
        };
        Manifest::read(&self.files)?.ok_or_else(missing)
    }
}
