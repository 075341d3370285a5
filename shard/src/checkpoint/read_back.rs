//! Whether what was written is what a storage holds.

use super::record::verify;
use super::{Key, RecordDigest, RecordFault};

/// What was found in place of a record that had been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBack {
    /// Nothing.
    #[error("it is missing")]
    Missing,
    /// Something that was deleted.
    #[error("it was deleted and is still there")]
    Undeleted,
    /// Another version.
    #[error("another version is there")]
    Stale,
    /// Bytes that are no record.
    #[error("{0}")]
    Damaged(#[from] RecordFault),
}

/// A key that was written, with the digest of its record; `None` if it was deleted.
pub(super) type Written = (Key, Option<RecordDigest>);

/// Whether what is read under `key` is what was written.
pub(super) fn compare(
    key: Key,
    written: Option<RecordDigest>,
    value: Option<&[u8]>,
) -> Result<(), ReadBack> {
    match (written, value) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(ReadBack::Undeleted),
        (Some(_), None) => Err(ReadBack::Missing),
        (Some(digest), Some(value)) => {
            let (_, found) = verify(key, value)?;
            if found == digest { Ok(()) } else { Err(ReadBack::Stale) }
        }
    }
}
