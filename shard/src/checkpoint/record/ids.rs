//! The record of remembered ids: a run of those one shard has seen.

use super::{Record, RecordFault};
use crate::checkpoint::{Key, Tag};
use crate::limits::IDS_RECORD_ENTRIES_MAX;
use rkyv::{Archive, Deserialize, Serialize};

/// Some of the ids a shard remembers, in the order they came.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct IdsRecord {
    /// The keyed hash of the entity, which says the partition, and the key that was seen.
    pub entries: Vec<(u32, u128)>,
}

impl Record for IdsRecord {
    const TAG: Tag = Tag::Ids;

    fn check(&self, _key: Key) -> Result<(), RecordFault> {
        let count = self.entries.len();
        let holds = (1..=IDS_RECORD_ENTRIES_MAX).contains(&count);
        if holds { Ok(()) } else { Err(RecordFault::Ids { count }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!(size_of::<ArchivedIdsRecord>(), 8);
        assert_eq!(size_of::<rkyv::Archived<(u32, u128)>>(), 20);
    }
}
