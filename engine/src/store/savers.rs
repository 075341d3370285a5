//! The writer of the checkpoint that counts, and that of one that is to take its place.
//!
//! ```text
//! begin ─wants anew?─▶ checkpoint.new/ ─▶ written, flushed, read back like any other ─▶ closed
//!       ─▶ the two directories are exchanged ─▶ opened again ─▶ the old one is removed
//! ```
//!
//! Promises: until the exchange the store has its old checkpoint, as it was, and from then on the
//! new one; the logs are told of it afterwards only. Where none can be begun, or the file system
//! exchanges no directories, checkpoints are written beside what is old. One that fails gives back
//! the space it took.
//! Why: what was removed from a database stays in its files; a directory of its own is the way to
//! be rid of it.
//! Fails by: [`SaveError`]; nothing more is written then.
//! Not here: when that is worth it (`Saver::wants_anew`).

use super::FjallStorage;
use super::files::{self, StoreFiles};
use ebbtide_shard::Walk;
use ebbtide_shard::checkpoint::{
    CheckpointDone, Key, SaveError, Saver, StorageAction, StorageError, StorageErrorKind,
};
use std::path::Path;

/// Bytes that are to stay free while a checkpoint is written anew.
const ROOM_BYTES: u64 = 16 << 20;

/// The writers of a store's checkpoints.
pub(crate) struct Savers {
    files: StoreFiles,
    /// Of the checkpoint that counts; none once it failed to be replaced.
    current: Option<Saver<FjallStorage>>,
    /// Of the one that is to take its place, while that is being written.
    next: Option<Saver<FjallStorage>>,
    /// How many have taken the place of another.
    replaced: u64,
    /// Why the last one that was to be written anew was not.
    refused: Option<String>,
}

impl Savers {
    pub(super) const fn new(files: StoreFiles, saver: Saver<FjallStorage>) -> Self {
        Self { files, current: Some(saver), next: None, replaced: 0, refused: None }
    }

    /// The keys of all records of sources and ids.
    pub(super) fn other_keys(&self) -> impl Iterator<Item = Key> {
        self.current.iter().flat_map(Saver::other_keys)
    }

    /// Begins a checkpoint: where it is written is decided now. Of ids those `to_go` are left out
    /// where it is written anew.
    pub(super) fn begin_walk(&mut self, to_go: &[Key]) -> Result<Walk, SaveError> {
        if let Some(current) = self.current.as_ref().filter(|saver| saver.wants_anew()) {
            let next = begin_anew(&self.files, current, to_go);
            if next.is_err() {
                self.clear_away();
            }
            let place = self.files.next_checkpoint().display().to_string();
            (self.next, self.refused) = match next {
                Ok(next) => (Some(next), None),
                Err(SaveError::Storage(error)) if error.place == place => {
                    (None, Some(error.to_string()))
                }
                // What counts is damaged.
                Err(error) => return Err(error),
            };
        }
        self.saver()?.begin_walk()
    }

    /// The writer of the checkpoint that is being taken.
    pub(super) fn saver(&mut self) -> Result<&mut Saver<FjallStorage>, SaveError> {
        self.next.as_mut().or(self.current.as_mut()).ok_or_else(closed)
    }

    /// Makes the checkpoint count, and lets it take the other's place if it was written anew.
    pub(super) fn finish(
        &mut self,
        layout: u32,
        covered: Vec<(u32, u64)>,
    ) -> Result<CheckpointDone, SaveError> {
        let done = self.saver()?.finish(layout, covered)?;
        if let Some(next) = self.next.take() {
            self.current = Some(self.replace(next)?);
            self.replaced += 1;
            self.clear_away();
        }
        Ok(done)
    }

    /// Lets what `next` has written take the place of what counts.
    fn replace(&mut self, next: Saver<FjallStorage>) -> Result<Saver<FjallStorage>, SaveError> {
        let (next_path, path) = (self.files.next_checkpoint(), self.files.checkpoint());
        let exchange = || files::exchange(&next_path, &path).map_err(|error| failed(&path, &error));
        let (mut is_tried, mut is_done) = (false, false);
        let replaced = next.reopened(|storage| {
            storage.close()?;
            // No thread of the database may write where another one lies.
            self.current.take().into_iter().for_each(|saver| saver.into_storage().abandon());
            is_tried = true;
            exchange()?;
            is_done = true;
            Ok(FjallStorage::open(&path)?)
        });
        if replaced.is_err() {
            // The logs have not been told yet. Where it is not sure which of the two is which, the
            // next opening removes what it does not open.
            let is_sure = if is_done { exchange().is_ok() } else { !is_tried };
            if is_sure {
                self.clear_away();
            }
        }
        replaced
    }

    /// Gives up a checkpoint that is being written anew. The one before counts.
    pub(super) fn give_up(&mut self) {
        if let Some(next) = self.next.take() {
            next.into_storage().abandon();
            self.clear_away();
        }
    }

    /// How many checkpoints were written anew.
    pub(super) const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Why the last one that was to be written anew was not, if so.
    pub(super) const fn refused(&self) -> Option<&String> {
        self.refused.as_ref()
    }

    /// The checkpoint that counts, to copy it. One that is being written anew is no part of it.
    pub(super) fn storage(&self) -> Result<&FjallStorage, SaveError> {
        self.current.as_ref().map(Saver::storage).ok_or_else(closed)
    }

    /// Closes the checkpoint that counts.
    pub(super) fn close(mut self) -> Result<(), StorageError> {
        self.give_up();
        self.current.map_or(Ok(()), |saver| saver.into_storage().close())
    }

    /// Removes what does not count. What is left is removed before the next one, and at opening.
    fn clear_away(&self) {
        let _best_effort = files::remove_directory(&self.files.next_checkpoint());
    }
}

/// The writer of an empty checkpoint that can take the place of what `current` wrote.
fn begin_anew(
    files: &StoreFiles,
    current: &Saver<FjallStorage>,
    to_go: &[Key],
) -> Result<Saver<FjallStorage>, SaveError> {
    let path = files.next_checkpoint();
    let prepared = files::remove_directory(&path).and_then(|()| files::try_exchange(files));
    let prepared = prepared.and_then(|()| files::free_bytes(files.root()));
    let free = prepared.map_err(|error| failed(&path, &error))?;
    // Tables are somewhat longer than what they hold, and the logs go on.
    let needed = current.latest_bytes() / 8 * 9 + ROOM_BYTES;
    if free < needed {
        let (action, kind) = (StorageAction::Replace, StorageErrorKind::OutOfSpace);
        let cause = format!("{free} bytes are free, and it may take {needed}");
        return Err(StorageError { action, place: path.display().to_string(), kind, cause }.into());
    }
    current.anew(FjallStorage::open(&path)?, to_go)
}

fn failed(path: &Path, error: &super::StoreError) -> SaveError {
    let (action, kind) = (StorageAction::Replace, StorageErrorKind::Io);
    let (place, cause) = (path.display().to_string(), error.to_string());
    StorageError { action, place, kind, cause }.into()
}

fn closed() -> SaveError {
    SaveError::Failed { cause: "the checkpoint could not be replaced".into() }
}

#[cfg(test)]
mod tests;
