//! What a verification found: one variant for each kind of thing that is wrong.
//!
//! Promises: every message says what is wrong, where, and what to do; [`Finding::code`] never
//! changes; a crash leads to none of them.

use crate::StoreError;
use ebbtide_shard::EntityId;
use ebbtide_shard::checkpoint::LoadError;
use ebbtide_wal::storage::FileName;
use ebbtide_wal::{Lsn, RecoverError};
use std::path::{Path, PathBuf};

/// Something that is wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// A log that an opening would refuse as well, or what a checkpoint covers of it.
    #[error("{}: {source}", .path.display())]
    Log {
        /// The segment's file, or the log's directory.
        path: PathBuf,
        /// What is wrong.
        source: RecoverError,
    },
    /// Anything else that an opening would refuse as well.
    #[error(transparent)]
    Store(StoreError),
    /// The file that is locked is not empty.
    #[error("{} has {bytes} bytes and a store's lock has none; empty it", .path.display())]
    LockNotEmpty {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// There are logs and no manifest.
    #[error(
        "{} is missing: the copy was not finished, or the file was lost; restore it from a backup",
        .path.display()
    )]
    ManifestMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A log noted a later checkpoint than the one that is there.
    #[error(
        "{} ends at record {covered} of log {log}, which noted a checkpoint up to {noted}: an \
         older one came back; restore the store from a backup, or salvage it", .path.display()
    )]
    CheckpointBehind {
        /// The checkpoint's directory.
        path: PathBuf,
        /// The log that knows better.
        log: u32,
        /// Up to where the checkpoint covers it.
        covered: u64,
        /// Up to where a later one did.
        noted: u64,
    },
    /// A segment lost its seal after its log was closed. No record is concerned.
    #[error(
        "{} has {bytes} bytes at offset {offset} that are no seal; no record is lost: open the \
         store, take a checkpoint and close it to have it mended, and see to the device",
        .path.display()
    )]
    SealOfSegment {
        /// The segment's file.
        path: PathBuf,
        /// Where its last frame ends.
        offset: u64,
        /// Bytes behind that.
        bytes: u64,
    },
    /// The logs do not give what the records say.
    #[error(
        "entity {}, signal type `{signal}`: {difference}; restore the store from a backup, or \
         salvage it", .entity.0
    )]
    Differs {
        /// Whose.
        entity: EntityId,
        /// Of which signal type.
        signal: String,
        /// How they differ.
        difference: Difference,
    },
}

/// How a pair differs from what the logs give.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Difference {
    /// The logs hold more events than were counted.
    #[error("the logs hold {logged} events of it and {stored} are counted")]
    Events {
        /// Events in the logs.
        logged: u64,
        /// Events counted.
        stored: u64,
    },
    /// Another time of the last event.
    #[error("its last event is at {stored} ns, and by the logs at {logged} ns")]
    LastUpdate {
        /// By the logs.
        logged: u64,
        /// By the record.
        stored: u64,
    },
    /// Other counts in the buckets.
    #[error("its buckets count otherwise than the logs")]
    Buckets,
    /// Another score.
    #[error("its score of the half-life {half_life} is not that of its events")]
    Score {
        /// The half-life's label.
        half_life: String,
    },
}

impl From<StoreError> for Finding {
    fn from(error: StoreError) -> Self {
        let StoreError::Log { path, source } = error else { return Self::Store(error) };
        let file = source.segment().map(|seq| path.join(FileName::Segment(seq).to_string()));
        Self::Log { path: file.unwrap_or(path), source }
    }
}

impl Finding {
    /// A short name for scripts and runbooks.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log { source, .. } => source.code(),
            Self::Store(error) => error.code(),
            Self::LockNotEmpty { .. } => "store-lock-not-empty",
            Self::ManifestMissing { .. } => "store-manifest-missing",
            Self::CheckpointBehind { .. } => "checkpoint-behind",
            Self::SealOfSegment { .. } => "log-seal-damaged",
            Self::Differs { .. } => "pair-differs",
        }
    }

    /// The file or directory that is concerned, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Store(error) => error.path(),
            Self::Log { path, .. }
            | Self::LockNotEmpty { path, .. }
            | Self::ManifestMissing { path }
            | Self::CheckpointBehind { path, .. }
            | Self::SealOfSegment { path, .. } => Some(path),
            Self::Differs { .. } => None,
        }
    }

    /// Where in the file, if that is known.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Log { source, .. } => source.offset(),
            Self::SealOfSegment { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// The first record of a log that is concerned, if that is known.
    #[must_use]
    pub fn lsn(&self) -> Option<u64> {
        match self {
            Self::Log { source, .. } => source.lsn().map(Lsn::get),
            _ => None,
        }
    }

    /// The key of the record of the checkpoint that is concerned, in hexadecimal digits.
    #[must_use]
    pub fn record(&self) -> Option<&str> {
        match self {
            Self::Store(StoreError::Checkpoint {
                source: LoadError::Record { key, .. }, ..
            }) => Some(key),
            _ => None,
        }
    }

    /// The entity whose pair differs from its events.
    #[must_use]
    pub fn entity(&self) -> Option<EntityId> {
        match self {
            Self::Differs { entity, .. } => Some(*entity),
            _ => None,
        }
    }
}
