//! The checkpoint that counts, and the one of all pairs that is to take its place.
//!
//! ```text
//! begin ─wants anew?─▶ checkpoint.new/ ─▶ written, flushed, read back like any other ─▶ closed
//!       ─▶ the two directories are exchanged ─▶ opened again ─▶ the old one is removed
//! ```
//!
//! Promises: until the exchange the store has its old checkpoint, as it was, and from then on the
//! new one; the logs are told of it afterwards only. What was removed from a database stays in its
//! files, so a directory of its own is the way to be rid of it.
//! Fails by: [`SaveError`]; nothing more is written then.
//! Not here: when that is worth it (`Saver::wants_anew`).

use super::files::{self, StoreFiles};
use super::{FjallStorage, StoreError};
use ebbtide_shard::Walk;
use ebbtide_shard::checkpoint::{CheckpointDone, SaveError, Saver, StorageError};

/// The writers of a store's checkpoints.
pub(crate) struct Storages {
    files: StoreFiles,
    /// Of the checkpoint that counts; none if it could not be opened again.
    current: Option<Saver<FjallStorage>>,
    /// Of the one that is to take its place, while that is being written.
    next: Option<Saver<FjallStorage>>,
    anew: u64,
}

impl Storages {
    pub(super) const fn new(files: StoreFiles, saver: Saver<FjallStorage>) -> Self {
        Self { files, current: Some(saver), next: None, anew: 0 }
    }

    /// Begins a checkpoint: where it is written is decided now.
    pub(super) fn begin_walk(&mut self) -> Result<Walk, SaveError> {
        if let Some(current) = self.current.as_ref().filter(|saver| saver.wants_anew()) {
            let path = self.files.next_checkpoint();
            files::remove_directory(&path).map_err(failed)?;
            self.next = Some(current.anew(FjallStorage::open(&path)?)?);
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
            let (files, gone) = (&self.files, self.current.take());
            let taken = next.reopened(|storage| {
                storage.close()?;
                drop(gone);
                files::exchange(&files.next_checkpoint(), &files.checkpoint()).map_err(failed)?;
                Ok(FjallStorage::open(&files.checkpoint())?)
            });
            self.current = Some(taken?);
            self.anew += 1;
        }
        Ok(done)
    }

    /// How many checkpoints have taken the place of another.
    pub(super) const fn anew(&self) -> u64 {
        self.anew
    }

    /// The checkpoint that counts, to copy it. One that is being written anew is no part of it.
    pub(super) fn storage(&self) -> Result<&FjallStorage, SaveError> {
        self.current.as_ref().map(Saver::storage).ok_or_else(closed)
    }

    /// Closes the checkpoint that counts; one that was not finished is removed.
    pub(super) fn close(self) -> Result<(), StorageError> {
        if self.next.is_some() {
            drop(self.next);
            // Whoever opens the store removes it too.
            let _best_effort = files::remove_directory(&self.files.next_checkpoint());
        }
        self.current.map_or(Ok(()), |saver| saver.into_storage().close())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped with it")]
fn failed(error: StoreError) -> SaveError {
    SaveError::Failed { cause: error.to_string() }
}

fn closed() -> SaveError {
    SaveError::Failed { cause: "the checkpoint could not be opened again".into() }
}
