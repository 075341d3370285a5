//! Why bytes are not a record.

use super::FORMAT_VERSION;
use crate::limits::{IDS_RECORD_ENTRIES_MAX, PAGE_PAIRS_MAX, RECORD_VALUE_BYTES_MAX, SHARDS_MAX};

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The key is none of this keyspace.
    #[error("its key is none of this keyspace")]
    Key,
    /// Too short for a digest, or longer than any record.
    #[error("it has {bytes} bytes; a record has 16 to {RECORD_VALUE_BYTES_MAX}")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// The digest does not belong to this key and these bytes.
    #[error("its digest does not fit its key and its bytes")]
    Digest,
    /// The digest fits, but the archive holds no record.
    #[error("its archive is broken: {cause}")]
    Structure {
        /// What the reader of archives says.
        cause: String,
    },
    /// A sum that is negative, infinite, no number, or there without a half-life.
    #[error("its sum {index} is not that of a score")]
    Sum {
        /// Which one.
        index: usize,
    },
    /// None, too many, or others than the schema has.
    #[error("it has {count} half-lives; the schema has others for this signal type")]
    HalfLives {
        /// How many it has.
        count: u8,
    },
    /// Empty, out of order, or past the last position.
    #[error("its bucket at position {position} is empty, out of order or past the last")]
    Bucket {
        /// Which one.
        position: u8,
    },
    /// Fewer events than its buckets hold, or none.
    #[error("it counts {all_time} events in all, and more in its buckets or none")]
    AllTime {
        /// How many it counts.
        all_time: u64,
    },
    /// A page without pairs, with too many, in no order, under another key than that of its first,
    /// or with other counts than its pairs name.
    #[error(
        "its pairs are none, more than {PAGE_PAIRS_MAX}, out of order, not those of its key, or \
         name other counts than it has"
    )]
    Page,
    /// A pair that is in two pages of one round.
    #[error("it is there twice, as written in one round")]
    Twice,
    /// A signal type that the meta record does not name.
    #[error("it is of signal type {number}, which has no name")]
    Signal {
        /// The stored number.
        number: u8,
    },
    /// A source whose id is not made of its name, or whose name is too long.
    #[error("the name of its source, of {bytes} bytes, is too long or not that of its key")]
    SourceName {
        /// How long the name is.
        bytes: usize,
    },
    /// Runs that do not begin with the first partition, or go back, or past the last.
    #[error("its offsets do not cover the partitions in order")]
    Runs,
    /// No ids, or too many.
    #[error("it holds {count} ids, not 1 to {IDS_RECORD_ENTRIES_MAX}")]
    Ids {
        /// How many.
        count: usize,
    },
    /// Written by another version.
    #[error("it has format version {found}; this version reads up to {FORMAT_VERSION}")]
    Format {
        /// The version it has.
        found: u32,
    },
    /// Names of signal types that are too many, too long, or the same.
    #[error("its signal type {number} has a name that is not one, or no number is left for it")]
    SignalName {
        /// The first number concerned.
        number: usize,
    },
    /// Logs that are out of order, or too many.
    #[error("its logs are out of order, or not below {SHARDS_MAX}")]
    Logs,
    /// Whoever takes the records has no use for this one.
    #[error("it was refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
}
