//! Why a log cannot be read back.
//!
//! Promises: every variant says what is wrong, where, and what to do; `code` never changes, so
//! that scripts may rely on it.
//! Invariants: a crash alone leads to none of the damage variants.
//! Fails by: nothing here fails.
//! Not here: why a log cannot be made writable again (`start`).
//! Source: none.

use thiserror::Error;

use super::SinkError;
use crate::fault::IoFault;
use crate::frame::FrameFault;
use crate::key::LogIdentity;
use crate::lsn::Lsn;
use crate::segment::HeaderFault;

/// Why a log cannot be read back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The file system or device failed: repair it, or the permissions, and open again.
    #[error("the log cannot be read: {0}")]
    Io(#[source] IoFault),
    /// Something under a log file's name is no regular file: move it away.
    #[error("{file} in the log directory is not a regular file: move it away")]
    NotRegular {
        /// Its name.
        file: String,
    },
    /// There is no log where there must be one: restore the directory from a backup.
    #[error("the log is gone: its directory holds no segment; restore it from a backup")]
    Gone,
    /// The header of a segment is damaged or of a newer format.
    #[error("log segment {segment}: {fault}; restore it from a backup, or salvage the store")]
    Header {
        /// The segment.
        segment: u64,
        /// What is wrong with its header.
        #[source]
        fault: HeaderFault,
    },
    /// A segment of another store, shard or place lies under this log's name: put it back where
    /// it belongs.
    #[error(
        "the file of log segment {segment} is segment {found_seq} of shard {} in store {}: \
         put it back where it belongs",
        found.shard, found.store
    )]
    Foreign {
        /// The segment its name says.
        segment: u64,
        /// The segment its header says.
        found_seq: u64,
        /// The log its header says.
        found: LogIdentity,
    },
    /// A segment is missing: restore its file from a backup.
    #[error("log segment {segment} is missing; restore its file from a backup")]
    Missing {
        /// The segment.
        segment: u64,
    },
    /// The log begins later than the checkpoint ends: restore the missing segments, or the
    /// checkpoint that covers them.
    #[error(
        "the log begins after record {begins_after} and the checkpoint ends at {restored}: \
         what lies between is missing"
    )]
    BeginsTooLate {
        /// Everything up to here has left the log.
        begins_after: Lsn,
        /// Everything up to here was restored.
        restored: Lsn,
    },
    /// Durable records are unreadable: restore the file from a backup, or salvage the store.
    #[error(
        "log segment {segment} is damaged at offset {offset}, from record {lsn} on: {fault}; \
         restore the file from a backup, or salvage the store"
    )]
    Damaged {
        /// The segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
        /// The first record that cannot be read.
        lsn: Lsn,
        /// What is wrong there.
        #[source]
        fault: FrameFault,
    },
    /// The file of the last segment lost its end: restore it from a backup.
    #[error(
        "the file of log segment {segment} has {bytes} of its {written_as} bytes; \
         restore it from a backup, or salvage the store"
    )]
    Shortened {
        /// The segment.
        segment: u64,
        /// Length of the file.
        bytes: u64,
        /// Length it was made with.
        written_as: u64,
    },
    /// Whoever replays the log did not accept a batch.
    #[error("the batch of records from {first} on was not accepted: {source}")]
    Refused {
        /// First record of the batch.
        first: Lsn,
        /// Why.
        source: SinkError,
    },
}

impl RecoverError {
    /// A short name for scripts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "log-io",
            Self::NotRegular { .. } => "log-not-regular",
            Self::Gone => "log-gone",
            Self::Header { fault: HeaderFault::Version { .. }, .. } => "log-format",
            Self::Header { .. } => "log-header",
            Self::Foreign { .. } => "log-foreign",
            Self::Missing { .. } => "log-segment-missing",
            Self::BeginsTooLate { .. } => "log-begins-too-late",
            Self::Damaged { .. } => "log-damaged",
            Self::Shortened { .. } => "log-shortened",
            Self::Refused { .. } => "log-refused",
        }
    }

    /// The segment that is concerned, if it is one.
    #[must_use]
    pub const fn segment(&self) -> Option<u64> {
        match self {
            Self::Header { segment, .. }
            | Self::Foreign { segment, .. }
            | Self::Missing { segment }
            | Self::Damaged { segment, .. }
            | Self::Shortened { segment, .. } => Some(*segment),
            _ => None,
        }
    }

    /// Where in the segment's file the damage begins, if that is known.
    #[must_use]
    pub const fn offset(&self) -> Option<u64> {
        match self {
            Self::Damaged { offset, .. } => Some(*offset),
            Self::Header { .. } | Self::Foreign { .. } => Some(0),
            Self::Shortened { bytes, .. } => Some(*bytes),
            _ => None,
        }
    }

    /// The first record that is concerned, if that is known.
    #[must_use]
    pub const fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Damaged { lsn, .. } => Some(*lsn),
            Self::Refused { first, .. } => Some(*first),
            _ => None,
        }
    }

    /// Whether the log's bytes are wrong, rather than the environment or the caller.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::NotRegular { .. } | Self::Refused { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_says_where_and_what_to_do() {
        let error = RecoverError::Damaged {
            segment: 4,
            offset: 8192,
            lsn: Lsn::new(77),
            fault: FrameFault::Payload,
        };
        let text = error.to_string();
        assert!(text.contains("segment 4 is damaged at offset 8192, from record 77 on"), "{text}");
        assert!(text.contains("restore"), "{text}");
        assert_eq!(error.code(), "log-damaged");
        let place = (error.segment(), error.offset(), error.lsn());
        assert_eq!(place, (Some(4), Some(8192), Some(Lsn::new(77))));
        let elsewhere = RecoverError::Gone;
        assert_eq!((elsewhere.segment(), elsewhere.offset(), elsewhere.lsn()), (None, None, None));
        assert!(error.is_damage());
    }
}
