//! What stood in the way of a salvage: one variant for each kind, and whether it cost anything.
//!
//! Promises: every message says what cannot be read and what that means for the new store.

use ebbtide_shard::EntityId;
use ebbtide_shard::checkpoint::{RecordFault, Tag};
use ebbtide_shard::limits::PAGE_PAIRS_MAX;
use ebbtide_wal::{Gap, Lsn};
use std::io;
use std::path::PathBuf;

/// Something that could not be read as it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// One bit of the manifest was flipped and is known again: nothing is lost.
    #[error("{} had one flipped bit, which is mended", .path.display())]
    ManifestMended {
        /// The file.
        path: PathBuf,
    },
    /// The manifest, and the key that places entities with it.
    #[error(
        "{} is lost, and the key that places entities with it: remembered ids are forgotten, and \
         sources go on from the least that all their events had come to", .path.display()
    )]
    Manifest {
        /// The file.
        path: PathBuf,
    },
    /// A seal that does not fit; the records vouch for themselves.
    #[error("{why}: each record is judged by itself")]
    Seal {
        /// What does not fit.
        why: String,
    },
    /// The whole checkpoint.
    #[error(
        "the checkpoint in {} cannot be read ({why}): what its records held is lost, but for what \
         the logs still hold", .path.display()
    )]
    Checkpoint {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The record of some pairs.
    #[error(
        "a record of up to {PAGE_PAIRS_MAX} pairs is lost, the first of them of entity {}, signal \
         type number {number} ({fault}), but for what earlier records of them and the logs still \
         hold", .entity.0
    )]
    Page {
        /// Whose the first of them is.
        entity: EntityId,
        /// The stored number of its signal type.
        number: u8,
        /// What is wrong.
        fault: RecordFault,
    },
    /// The record of a pair by itself, in a store of format 1.
    #[error(
        "entity {}, signal type number {number}: its record is lost ({fault}), but for what the \
         logs still hold", .entity.0
    )]
    Pair {
        /// Whose.
        entity: EntityId,
        /// The stored number of the signal type.
        number: u8,
        /// What is wrong.
        fault: RecordFault,
    },
    /// A part of the checkpoint, and the logs still hold every event: nothing is lost.
    #[error("{what}; the logs hold every event, and all is rebuilt from them: nothing is lost")]
    Rebuilt {
        /// What cannot be read as it was written.
        what: Box<Trouble>,
    },
    /// A record of another kind.
    #[error(
        "record {key} of keyspace {tag} is lost ({fault}): what it says was counted before counts \
         again if it is sent again"
    )]
    Record {
        /// In which keyspace.
        tag: Tag,
        /// Its key, in hexadecimal digits.
        key: String,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Records of which nothing is left.
    #[error("{count} more records of the checkpoint are gone without a trace")]
    Records {
        /// How many.
        count: u64,
    },
    /// Records that are not those that were written last.
    #[error(
        "some records of the checkpoint are not those written last: events may be missing in them"
    )]
    Stale,
    /// A log that must be there.
    #[error("log {log} is gone: all its records behind {after} are lost")]
    LogGone {
        /// Its number.
        log: u32,
        /// What the checkpoint includes of it.
        after: Lsn,
    },
    /// Records in the middle or at the end of a log.
    #[error("log {log}, segment {} from offset {}: {} are lost{}", .gap.segment, .gap.offset,
        records(.gap), cause(.gap))]
    Gap {
        /// Its number.
        log: u32,
        /// Where.
        gap: Gap,
    },
    /// A part of a log that the checkpoint includes: nothing is lost.
    #[error(
        "log {log}, segment {} from offset {}: what cannot be read there is in the checkpoint{}",
        .gap.segment, .gap.offset, cause(.gap)
    )]
    Covered {
        /// Its number.
        log: u32,
        /// Where.
        gap: Gap,
    },
    /// The logs end before the checkpoint does.
    #[error(
        "the checkpoint includes record {found} and the logs end at {last}: what came behind \
             that is lost"
    )]
    LogsEnd {
        /// The last record the checkpoint includes.
        found: u64,
        /// The last record of the logs.
        last: u64,
    },
    /// Events of a source whose name is lost, with its record and the batch that named it.
    #[error(
        "the name of source {id:016x} is lost: {count} of its events are left out, and it begins \
         again; what it had sent before them counts again if it is sent again"
    )]
    Unnamed {
        /// The first 8 bytes of the BLAKE3 digest of its name, as a little-endian number.
        id: u64,
        /// How many.
        count: u64,
    },
    /// A batch whose bytes are whole and mean nothing.
    #[error("log {log}: the batch of {count} records from {first} on is lost: {why}")]
    Batch {
        /// Its number.
        log: u32,
        /// The first record.
        first: Lsn,
        /// How many.
        count: u32,
        /// Why.
        why: String,
    },
    /// Events of a signal type that the schema does not have. The others of the batch are counted.
    #[error(
        "log {log}: of the batch of {count} records from {first} on, {unknown} are lost: the \
         schema does not have their signal type"
    )]
    UnknownSignal {
        /// Its number.
        log: u32,
        /// The first record of the batch.
        first: Lsn,
        /// How many records it has.
        count: u32,
        /// How many of them are lost.
        unknown: u32,
    },
}

fn records(gap: &Gap) -> String {
    let first = gap.after.next();
    match gap.until {
        Some(until) => format!("records {first} to {} (at most)", until.previous()),
        None => format!("records from {first} on, it is not known how many,"),
    }
}

fn cause(gap: &Gap) -> String {
    let cause = gap.raw_os_error.map(io::Error::from_raw_os_error);
    cause.map(|cause| format!(" ({cause})")).unwrap_or_default()
}

impl Trouble {
    /// The trouble with a part of a checkpoint; `complete` says whether the logs hold every event.
    pub(super) fn of_checkpoint(self, complete: bool) -> Self {
        if complete { Self::Rebuilt { what: Box::new(self) } } else { self }
    }

    /// Whether the new store holds less because of it.
    #[must_use]
    pub const fn is_loss(&self) -> bool {
        !matches!(
            self,
            Self::ManifestMended { .. }
                | Self::Seal { .. }
                | Self::Rebuilt { .. }
                | Self::Covered { .. }
        )
    }
}
