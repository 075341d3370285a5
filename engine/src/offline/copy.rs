//! A private copy of a checkpoint, since its database writes to its files when it is opened.
//!
//! Promises: the original is only read; the copy is its owner's alone and goes with this value,
//! also when something fails.
//! Fails by: [`StoreError::Copy`], with the bytes it takes and where they were to go, when it
//! cannot be written; [`StoreError::Io`] when the original cannot be read.

use crate::StoreError;
use crate::store::files::{self, CHUNK_BYTES, failed, fill};
use crate::store::{FjallStorage, StoreFiles};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a checkpoint, opened.
pub(crate) struct CheckpointCopy {
    storage: FjallStorage,
    bytes: u64,
    /// Goes after the storage.
    _folder: TempDir,
}

impl CheckpointCopy {
    /// Copies the checkpoint of a held store to a folder of its own and opens it there.
    ///
    /// Where that is `TMPDIR` says, or the system.
    pub(crate) fn open(files: &StoreFiles) -> Result<Self, StoreError> {
        let original = files.checkpoint();
        let listed = Listed::below(&original)?;
        let place = std::env::temp_dir();
        let no_copy = |cause: io::Error| StoreError::Copy {
            path: original.clone(),
            to: place.clone(),
            bytes: listed.bytes,
            cause: cause.to_string(),
        };
        let folder = tempfile::Builder::new()
            .prefix("ebbtide-checkpoint-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&place)
            .map_err(&no_copy)?;
        listed.copy(&original, folder.path(), &no_copy)?;
        let opened = FjallStorage::open_copy(folder.path(), &original);
        let storage = opened.map_err(|source| StoreError::Storage { path: original, source })?;
        Ok(Self { storage, bytes: listed.bytes, _folder: folder })
    }

    pub(crate) fn storage(&self) -> &FjallStorage {
        &self.storage
    }

    /// Bytes of the original's files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Folders and files below a folder, by their paths there.
struct Listed {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    bytes: u64,
}

impl Listed {
    fn below(root: &Path) -> Result<Self, StoreError> {
        let mut listed = Self { folders: Vec::new(), files: Vec::new(), bytes: 0 };
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            let path = root.join(&folder);
            let entries = fs::read_dir(&path).map_err(failed("listing", &path))?;
            for entry in entries {
                let entry = entry.map_err(failed("listing", &path))?;
                let (name, path) = (folder.join(entry.file_name()), entry.path());
                let found = fs::symlink_metadata(&path);
                let found = found.map_err(failed("looking at", &path))?;
                if found.is_dir() {
                    listed.folders.push(name.clone());
                    open.push(name);
                } else if found.is_file() {
                    listed.files.push(name);
                    listed.bytes += found.len();
                } else {
                    return Err(StoreError::WrongKind { path, directory: false });
                }
            }
        }
        Ok(listed)
    }

    /// Copies everything; `no_copy` is for what goes wrong at the place of the copy.
    fn copy(
        &self,
        from: &Path,
        to: &Path,
        no_copy: &impl Fn(io::Error) -> StoreError,
    ) -> Result<(), StoreError> {
        for folder in &self.folders {
            fs::create_dir(to.join(folder)).map_err(no_copy)?;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        for file in &self.files {
            let (path, copy) = (from.join(file), to.join(file));
            let mut source = files::open_to_read(&path)?;
            let mut target = File::create_new(copy).map_err(no_copy)?;
            loop {
                let read = fill(&mut source, &mut chunk).map_err(failed("reading", &path))?;
                target.write_all(&chunk[..read]).map_err(no_copy)?;
                if read < chunk.len() {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide_shard::checkpoint::{Key, StorageEngine as _};

    #[test]
    #[expect(clippy::used_underscore_binding, reason = "where it lies matters to this test only")]
    fn a_copy_can_be_written_to_and_leaves_the_original_and_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let mut storage = FjallStorage::open(&files.checkpoint()).unwrap();
        storage.put(Key::Meta, &[7; 100]).unwrap();
        storage.close().unwrap();
        let before = Listed::below(&files.checkpoint()).unwrap();

        let copy = CheckpointCopy::open(&files).unwrap();
        assert_eq!(copy.storage().get(Key::Meta).unwrap(), Some(vec![7; 100]));
        let place = copy._folder.path().to_owned();
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        drop(copy);
        assert!(!place.exists());
        let after = Listed::below(&files.checkpoint()).unwrap();
        assert_eq!((before.files, before.bytes), (after.files, after.bytes));
    }
}
