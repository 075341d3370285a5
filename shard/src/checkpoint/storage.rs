//! The trait behind which checkpoints are kept, and how its implementations fail.
//!
//! Promises asked of an implementation: a batch is applied whole or not at all, also by a crash; of
//! the batches since the last flush a crash keeps the first ones, at least none; what was flushed
//! stays. Keys of different tags are in keyspaces of their own, each in the order of bytes.
//! Calls block: a thread of its own makes them, never a shard.

use super::{Batch, Key, Tag};
use std::fmt;
use std::ops::{Bound, ControlFlow, RangeInclusive};

/// What a scan calls for each key and value, until it breaks off.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// A place where records are kept under keys.
pub trait StorageEngine: Send + Sync {
    /// The value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it cannot be read.
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError>;

    /// Visits the keys of one keyspace whose id lies in a range, in the order of their bytes.
    /// Several threads may scan at once.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it cannot be read.
    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError>;

    /// Applies all changes of a batch, or none.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if that is not known to have succeeded.
    fn batch(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Makes everything so far survive a power cut.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if that is not known to have succeeded.
    fn flush(&mut self) -> Result<(), StorageError>;

    /// Lets others have the caller's core, if it may have kept them from it for long: the writer of
    /// a checkpoint calls this between small pieces of its work. Nothing unless implemented; what
    /// wraps a storage hands it on.
    fn give_way(&self) {}

    /// Bytes that records of pairs take where they are kept, those included that were removed and
    /// are still there; zero if it is not known.
    fn stored_bytes(&self) -> u64 {
        0
    }

    /// Keeps a value under a key, in place of the one before.
    ///
    /// # Errors
    ///
    /// As [`StorageEngine::batch`].
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), StorageError> {
        let mut batch = Batch::default();
        batch.put(key, value);
        self.batch(&batch)
    }

    /// Removes a key and its value, if it is there.
    ///
    /// # Errors
    ///
    /// As [`StorageEngine::batch`].
    fn delete(&mut self, key: Key) -> Result<(), StorageError> {
        let mut batch = Batch::default();
        batch.delete(key);
        self.batch(&batch)
    }
}

impl<S: StorageEngine> StorageEngine for &mut S {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
        (**self).get(key)
    }

    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        (**self).scan(tag, ids, visit)
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
        (**self).batch(batch)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        (**self).flush()
    }

    fn give_way(&self) {
        (**self).give_way();
    }

    fn stored_bytes(&self) -> u64 {
        (**self).stored_bytes()
    }
}

/// The range of key bytes that holds these ids.
#[must_use]
pub fn key_bounds(ids: &RangeInclusive<u64>) -> (Bound<[u8; 8]>, Bound<[u8; 8]>) {
    let first = Bound::Included(ids.start().to_be_bytes());
    let behind = ids.end().checked_add(1).map(u64::to_be_bytes);
    (first, behind.map_or(Bound::Unbounded, Bound::Excluded))
}

/// What was asked of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageAction {
    /// To open it.
    Open,
    /// To read one value.
    Get,
    /// To read a range.
    Scan,
    /// To apply a batch.
    Batch,
    /// To make it durable.
    Flush,
    /// To close it.
    Close,
    /// To let it take another's place.
    Replace,
}

impl fmt::Display for StorageAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Get => "read a record of",
            Self::Scan => "read through",
            Self::Batch => "write to",
            Self::Flush => "flush",
            Self::Close => "close",
            Self::Replace => "replace",
        })
    }
}

/// What kind of failure it was, and so what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The device, or the share of it we may use, is full.
    OutOfSpace,
    /// Someone else has it open.
    Locked,
    /// An earlier write failed; it takes no more until it is opened again.
    Poisoned,
    /// Its files do not hold together.
    Damaged,
    /// Anything else the system said.
    Io,
}

impl StorageErrorKind {
    /// What to do next.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::OutOfSpace => "free some space, then open the store again",
            Self::Locked => "close the store where it is open",
            Self::Poisoned => "open the store again",
            Self::Damaged => "keep a copy of the files, then restore a backup",
            Self::Io => "see to the device or its permissions, then open the store again",
        }
    }
}

/// Why a storage did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} the checkpoint in {place}: {cause}; {}", kind.advice())]
pub struct StorageError {
    /// What was asked for.
    pub action: StorageAction,
    /// Of which storage: a path, or what stands for one.
    pub place: String,
    /// What kind of failure it is.
    pub kind: StorageErrorKind,
    /// What the storage says.
    pub cause: String,
}

impl StorageError {
    /// Whether it is space that is missing.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.kind == StorageErrorKind::OutOfSpace
    }
}
