//! What can be wrong with a store: one variant for each thing a host or an operator would do
//! differently.
//!
//! Promises: every message says what is wrong, where, and what to do; [`StoreError::code`] never
//! changes, so that scripts and runbooks may rely on it; a crash alone leads to none of the
//! damage variants.

use ebbtide_shard::checkpoint::{LoadError, SaveError, StorageError, StorageErrorKind};
use ebbtide_shard::schema::evolution::EvolutionError;
use ebbtide_shard::schema::numbers::NumbersError;
use ebbtide_wal::{IoFault, RecoverError, is_unreadable};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a store was not opened, or could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused a step. Mend its cause and open again.
    #[error("{doing} {} failed: {cause}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The cause's kind.
        kind: io::ErrorKind,
        /// The operating system's number for the cause, where it came from there.
        raw_os_error: Option<i32>,
        /// The cause in words.
        cause: String,
    },
    /// Files may not become as long as a store's do. Raise the limit: the kernel ends a process
    /// that writes beyond it, unless the process ignores the signal.
    #[error(
        "a store's files may become {needed} bytes long and the limit is {limit}; raise `ulimit -f`"
    )]
    FileLimit {
        /// How long files may become.
        limit: u64,
        /// How long a store's may.
        needed: u64,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes for a new store: {why}")]
    Random {
        /// What it said.
        why: String,
    },
    /// The directory holds something else. Give an empty or a new directory.
    #[error("{} holds `{found}` and no store; give an empty directory or that of a store",
        .path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Something in it.
        found: String,
    },
    /// There is no store where one was to be looked at.
    #[error("{} holds no store", .path.display())]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// Another engine has the store open. Close that one first.
    #[error("the store {} is open already{}; close it there first", .path.display(),
        .pid.map(|pid| format!(", in process {pid}")).unwrap_or_default())]
    AlreadyOpen {
        /// The directory.
        path: PathBuf,
        /// The process that has it open, where the kernel tells.
        pid: Option<u32>,
    },
    /// Something in the store is a symbolic link. Put the file itself there.
    #[error("{} is a symbolic link; a store follows none: put the file itself there",
        .path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Something in the store is not the kind of file it must be.
    #[error("{} is not a {}; move it away", .path.display(),
        if *.directory { "directory" } else { "regular file" })]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// Whether it must be a directory.
        directory: bool,
    },
    /// Others may change the store's files.
    #[error("{} can be changed by other users (mode {mode:o}); `chmod go-w` it", .path.display())]
    NotPrivate {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The store was written by a newer version. Use that one.
    #[error("{} has format {found}, this version reads up to {newest}; use a newer version",
        .path.display())]
    UnsupportedFormat {
        /// Where that is written.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest this version reads.
        newest: u32,
    },
    /// The manifest is damaged. Restore the file from a backup.
    #[error("{} is damaged ({what}); restore the file from a backup", .path.display())]
    ManifestDamaged {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: &'static str,
    },
    /// The seal is damaged. Restore the store from a backup, or remove the seal to have the
    /// records judged by their own digests.
    #[error(
        "{} is damaged; restore it from a backup, or remove it to have the records judged by \
         their own digests", .path.display()
    )]
    SealDamaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the checkpoint changed after the store was closed. Restore it from a backup, or
    /// salvage the store.
    #[error(
        "{} is not as it was when the store was closed; restore the store from a backup, or \
         salvage it", .path.display()
    )]
    SealBroken {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint's storage failed or does not open.
    #[error("{source}")]
    Storage {
        /// Its directory.
        path: PathBuf,
        /// What it said.
        source: StorageError,
    },
    /// The checkpoint is incomplete or damaged. Restore it from a backup, or salvage the store.
    #[error("{}", of_checkpoint(.path, .source))]
    Checkpoint {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: LoadError,
    },
    /// The checkpoint is of another store. Put each back where it belongs.
    #[error("the checkpoint in {} is of another store; put it back where it belongs",
        .path.display())]
    ForeignCheckpoint {
        /// Its directory.
        path: PathBuf,
    },
    /// A log cannot be read back.
    #[error("log {}: {source}", .path.display())]
    Log {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: RecoverError,
    },
    /// A step on a log's files failed. Mend its cause and open again.
    #[error("log {}: {fault}", .path.display())]
    LogFault {
        /// Its directory.
        path: PathBuf,
        /// What failed.
        fault: IoFault,
    },
    /// The checkpoint knows records that no log reaches: the logs are older than it.
    #[error(
        "the checkpoint in {} holds record {found} and the logs end at {last}: \
         they do not belong together; restore both from one backup", .path.display()
    )]
    CheckpointAhead {
        /// Its directory.
        path: PathBuf,
        /// The last record it includes.
        found: u64,
        /// The last record of the logs.
        last: u64,
    },
    /// A log that the checkpoint does not know holds events: the checkpoint is older than the logs.
    #[error(
        "{} holds events and the checkpoint does not know it: they do not belong together; \
         restore both from one backup", .path.display()
    )]
    UnknownLog {
        /// The log's directory.
        path: PathBuf,
    },
    /// The schema does not fit what is stored.
    #[error("the schema does not fit the store {}: {source}", .path.display())]
    Schema {
        /// The store's directory.
        path: PathBuf,
        /// What does not fit.
        source: EvolutionError,
    },
    /// The schema in the checkpoint does not read. Restore it from a backup.
    #[error("the schema in {} does not read: {why}; restore it from a backup", .path.display())]
    SchemaDamaged {
        /// The checkpoint's directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store has known as many signal types as it can.
    #[error("the schema does not fit the store {}: {source}", .path.display())]
    Numbers {
        /// The store's directory.
        path: PathBuf,
        /// What does not fit.
        source: NumbersError,
    },
    /// Scores can be rebuilt only from every event, and not all of them are in the logs any more.
    #[error(
        "{} does not hold every event any more, so scores cannot be rebuilt from it; \
         let them restart instead", .path.display()
    )]
    CannotRebuild {
        /// The logs.
        path: PathBuf,
    },
    /// The checkpoint could not be written.
    #[error("the checkpoint in {}: {source}", .path.display())]
    Save {
        /// Its directory.
        path: PathBuf,
        /// What went wrong.
        source: SaveError,
    },
    /// Something lies among the logs that is none. Move it away.
    #[error("{} is not a log; move it away", .path.display())]
    Stranger {
        /// What.
        path: PathBuf,
    },
    /// There was no room, or no permission, for a copy of the checkpoint to look at. Free some
    /// space there, or set `TMPDIR` to a place that has it.
    #[error("the {bytes} bytes of {} cannot be copied to {} to look at them: {cause}; free space \
             there or set TMPDIR to another place", .path.display(), .to.display())]
    Copy {
        /// The checkpoint's directory.
        path: PathBuf,
        /// Where a copy was to be made.
        to: PathBuf,
        /// How much there is to copy.
        bytes: u64,
        /// What the operating system said.
        cause: String,
    },
    /// The log was written to faster than it could be copied. Try again at a quieter time.
    #[error("log {} moved on while it was copied; try again", .path.display())]
    Busy {
        /// The log's directory.
        path: PathBuf,
    },
    /// The checkpoint's storage took too long to close. It is left to itself; nothing is lost.
    #[error("the checkpoint's storage was not closed within {patience:?}; nothing is lost")]
    SlowClose {
        /// How long was waited.
        patience: Duration,
    },
    /// The engine is closed, or lives in memory only.
    #[error("the engine has no open store")]
    Closed,
    /// A shard could not take over its part.
    #[error("shard {shard} could not take its part of the store: {why}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why not.
        why: String,
    },
}

/// The storage says by itself where it lies and what to do.
fn of_checkpoint(path: &Path, source: &LoadError) -> String {
    match source {
        LoadError::Storage(error) => error.to_string(),
        _ => format!(
            "the checkpoint in {}: {source}; restore it from a backup, or salvage the store",
            path.display()
        ),
    }
}

impl StoreError {
    /// A short name for scripts and runbooks.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "store-io",
            Self::FileLimit { .. } => "store-file-limit",
            Self::Random { .. } => "store-random",
            Self::NotAStore { .. } => "store-not-a-store",
            Self::NoStore { .. } => "store-missing",
            Self::AlreadyOpen { .. } => "store-already-open",
            Self::Symlink { .. } => "store-symlink",
            Self::WrongKind { .. } => "store-wrong-kind",
            Self::NotPrivate { .. } => "store-not-private",
            Self::UnsupportedFormat { .. } => "store-format",
            Self::ManifestDamaged { .. } => "store-manifest-damaged",
            Self::SealDamaged { .. } => "store-seal-damaged",
            Self::SealBroken { .. } => "store-seal-broken",
            Self::Storage { .. } => "checkpoint-storage",
            Self::Checkpoint { .. } => "checkpoint-damaged",
            Self::ForeignCheckpoint { .. } => "checkpoint-foreign",
            Self::Log { source, .. } => source.code(),
            Self::LogFault { .. } => "log-io",
            Self::CheckpointAhead { .. } => "checkpoint-ahead",
            Self::UnknownLog { .. } => "log-unknown",
            Self::Schema { .. } => "schema-mismatch",
            Self::SchemaDamaged { .. } => "schema-damaged",
            Self::Numbers { .. } => "schema-numbers",
            Self::CannotRebuild { .. } => "schema-cannot-rebuild",
            Self::Save { .. } => "checkpoint-save",
            Self::Stranger { .. } => "store-stranger",
            Self::Copy { .. } => "checkpoint-copy",
            Self::Busy { .. } => "log-busy",
            Self::SlowClose { .. } => "checkpoint-slow-close",
            Self::Closed => "store-closed",
            Self::Shard { .. } => "shard-failed",
        }
    }

    /// The file or directory that is concerned, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::NotAStore { path, .. }
            | Self::NoStore { path }
            | Self::AlreadyOpen { path, .. }
            | Self::Symlink { path }
            | Self::WrongKind { path, .. }
            | Self::NotPrivate { path, .. }
            | Self::UnsupportedFormat { path, .. }
            | Self::ManifestDamaged { path, .. }
            | Self::SealDamaged { path }
            | Self::SealBroken { path }
            | Self::Storage { path, .. }
            | Self::Checkpoint { path, .. }
            | Self::ForeignCheckpoint { path }
            | Self::Log { path, .. }
            | Self::LogFault { path, .. }
            | Self::CheckpointAhead { path, .. }
            | Self::UnknownLog { path }
            | Self::Schema { path, .. }
            | Self::SchemaDamaged { path, .. }
            | Self::Numbers { path, .. }
            | Self::CannotRebuild { path }
            | Self::Save { path, .. }
            | Self::Stranger { path }
            | Self::Copy { path, .. }
            | Self::Busy { path } => Some(path),
            _ => None,
        }
    }

    /// Whether the device does not have the bytes any more that were to be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        let Self::Io { raw_os_error, .. } = self else { return false };
        raw_os_error.is_some_and(is_unreadable)
    }

    /// Whether what is stored is wrong, rather than the environment or the caller.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::ManifestDamaged { .. }
            | Self::SealDamaged { .. }
            | Self::SealBroken { .. }
            | Self::ForeignCheckpoint { .. }
            | Self::CheckpointAhead { .. }
            | Self::UnknownLog { .. }
            | Self::SchemaDamaged { .. } => true,
            Self::Storage { source, .. }
            | Self::Checkpoint { source: LoadError::Storage(source), .. } => {
                source.kind == StorageErrorKind::Damaged
            }
            Self::Checkpoint { source, .. } => !matches!(source, LoadError::Storage(_)),
            Self::Log { source, .. } => source.is_damage(),
            _ => false,
        }
    }

    /// Whether the store is wrong, in what it holds or in how it lies there, rather than that it
    /// cannot be looked at. Of a store that is read with the schema it holds, as all of
    /// [`crate::offline`] does, this is what an engine would refuse.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        match self {
            Self::Symlink { .. }
            | Self::WrongKind { .. }
            | Self::NotPrivate { .. }
            | Self::Stranger { .. }
            | Self::Schema { .. }
            | Self::Numbers { .. } => true,
            Self::Log { source, .. } => !matches!(source, RecoverError::Io(_)),
            _ => self.is_damage(),
        }
    }
}
