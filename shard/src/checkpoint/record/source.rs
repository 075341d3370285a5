//! The record of a source: how far it has come, partition by partition.

use super::{Record, RecordFault, ascend};
use crate::EntityId;
use crate::checkpoint::{Key, Tag};
use crate::limits::{PARTITIONS, SOURCE_NAME_BYTES_MAX};
use rkyv::{Archive, Deserialize, Serialize};

/// The id of a source: the first 8 bytes of the BLAKE3 digest of its name, little-endian.
#[must_use]
pub fn source_id(name: &str) -> u64 {
    EntityId::of_name(name).0
}

/// How far a source has come.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its name.
    pub name: String,
    /// Runs of partitions that have come equally far: the first of them, and the offset of the last
    /// event. The first run begins with the first partition.
    pub runs: Vec<(u16, u64)>,
}

impl Record for SourceRecord {
    const TAG: Tag = Tag::Src;

    fn check(&self, key: Key) -> Result<(), RecordFault> {
        let bytes = self.name.len();
        if bytes > SOURCE_NAME_BYTES_MAX || key != (Key::Source { id: source_id(&self.name) }) {
            return Err(RecordFault::SourceName { bytes });
        }
        let mut partitions = self.runs.iter().map(|&(first, _)| usize::from(first));
        let covered = partitions.next() == Some(0) && partitions.all(|first| first < PARTITIONS);
        let in_order = ascend(self.runs.iter().map(|&(first, _)| first));
        if covered && in_order { Ok(()) } else { Err(RecordFault::Runs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!(size_of::<ArchivedSourceRecord>(), 16);
        assert_eq!(offset_of!(ArchivedSourceRecord, name), 0);
        assert_eq!(offset_of!(ArchivedSourceRecord, runs), 8);
        assert_eq!(size_of::<rkyv::Archived<(u16, u64)>>(), 10);
    }
}
