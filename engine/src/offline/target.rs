//! A new directory that appears under its name whole, or not at all.
//!
//! Promises: what is made lies beside the name it is to get, private to its owner, and is removed
//! when anything fails; nothing that exists is replaced. Only the end of the process leaves it
//! behind, under a name that says what it was. It has the lock that every store has.
//! Fails by: [`TargetError`].

use crate::StoreError;
use crate::store::StoreFiles;
use crate::store::files::{self, failed};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Why a directory cannot be made under a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Something has the name. Name a directory that does not exist.
    #[error("{} is there already; name a directory that is not", .path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The name lies inside of the store. Name a place outside of it.
    #[error("{} lies inside of the store {}; name a place outside of it", .path.display(),
        .store.display())]
    Inside {
        /// The name.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// The folder it is to lie in is not there. Make it first.
    #[error("{} cannot be made: its folder is not there; make that first", .path.display())]
    NoFolder {
        /// The name.
        path: PathBuf,
    },
    /// A step of it failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A directory that is being made.
pub(super) struct Target {
    stage: TempDir,
    path: PathBuf,
}

impl Target {
    /// Begins with a directory that is to be called `path`, for what is taken from the store at
    /// `store`.
    pub(super) fn begin(path: &Path, store: &Path) -> Result<Self, TargetError> {
        let no_folder = || TargetError::NoFolder { path: path.to_owned() };
        if files::length(path)?.is_some() {
            return Err(TargetError::Exists { path: path.to_owned() });
        }
        let name = path.file_name().ok_or_else(no_folder)?;
        let folder = folder_outside(path, store)?;
        let stage = tempfile::Builder::new()
            .prefix(".ebbtide-unfinished-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&folder)
            .map_err(failed("making a directory in", &folder))?;
        files::create(&StoreFiles::new(stage.path()).lock())?;
        Ok(Self { stage, path: folder.join(name) })
    }

    /// The places of the store that is being made.
    pub(super) fn files(&self) -> StoreFiles {
        StoreFiles::new(self.stage.path())
    }

    /// Gives the directory its name, once all that is in it is durable.
    pub(super) fn finish(self) -> Result<(), TargetError> {
        let Self { stage, path } = self;
        files::sync_tree(stage.path()).map_err(failed("syncing", stage.path()))?;
        match renameat_with(CWD, stage.path(), CWD, &path, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return Err(TargetError::Exists { path }),
            // File systems that know no such step; nothing had the name a moment ago.
            Err(Errno::INVAL) => files::rename(stage.path(), &path)?,
            renamed => renamed.map_err(|errno| failed("renaming to", &path)(errno.into()))?,
        }
        let _it_has_another_name = stage.keep();
        Ok(files::sync_directory(path.parent().unwrap_or(Path::new("/")))?)
    }
}

/// The folder that `path` is to be made in: it must be there, and not in the store at `store`,
/// since nothing but an engine makes anything there.
fn folder_outside(path: &Path, store: &Path) -> Result<PathBuf, TargetError> {
    let no_folder = || TargetError::NoFolder { path: path.to_owned() };
    let folder = files::parent_of(path);
    let folder = match folder.canonicalize() {
        Err(error) if is_none(&error) => return Err(no_folder()),
        found => found.map_err(failed("looking at", folder))?,
    };
    if !folder.is_dir() {
        return Err(no_folder());
    }
    if folder.starts_with(store) {
        let (path, store) = (path.to_owned(), store.to_owned());
        return Err(TargetError::Inside { path, store });
    }
    Ok(folder)
}

/// Refuses a file that would come to lie inside of the store in `directory`.
///
/// # Errors
///
/// [`TargetError`]; also where the file's folder is not there.
pub fn check_outside(path: &Path, directory: &Path) -> Result<(), TargetError> {
    let store = directory.canonicalize();
    // What is no directory holds nothing; whoever reads it says so.
    store.map_or(Ok(()), |store| folder_outside(path, &store).map(drop))
}

/// Whether there is no folder of that name.
fn is_none(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_appears_whole_or_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("new"), folder.path().join("store"));
        let entries = || fs::read_dir(folder.path()).unwrap().count();
        let target = Target::begin(&path, &store).unwrap();
        fs::write(target.files().manifest(), "begun").unwrap();
        assert_eq!((entries(), path.exists()), (1, false));
        drop(target);
        assert_eq!(entries(), 0);

        let target = Target::begin(&path, &store).unwrap();
        fs::write(target.files().manifest(), "done").unwrap();
        target.finish().unwrap();
        assert_eq!(fs::read(path.join("MANIFEST")).unwrap(), b"done");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(entries(), 1);
    }

    #[test]
    fn no_name_that_exists_lies_in_the_store_or_nowhere_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (store, path) = (root.join("store"), root.join("new"));
        fs::create_dir(&store).unwrap();
        let refused = |path: &Path| Target::begin(path, &store).err().unwrap();
        assert!(matches!(refused(&store), TargetError::Exists { .. }));
        assert!(matches!(refused(&store.join("inside")), TargetError::Inside { .. }));
        assert!(matches!(refused(&root.join("none/new")), TargetError::NoFolder { .. }));
        assert!(matches!(refused(&store.join("../store/x")), TargetError::Inside { .. }));
        // Another one may have come first.
        let target = Target::begin(&path, &store).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(target.finish(), Err(TargetError::Exists { .. })));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    }
}
