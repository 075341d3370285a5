//! The meta record: what the other records must add up to, and what they mean.

use super::{Record, RecordFault, ascend};
use crate::checkpoint::{Key, Tag};
use crate::limits::{SHARDS_MAX, SIGNAL_NAME_BYTES_MAX, STORED_SIGNALS_MAX};
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the format of checkpoints. Those before are read too.
pub const FORMAT_VERSION: u32 = 4;

/// The one record that vouches for all others.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct MetaRecord {
    /// [`FORMAT_VERSION`], or one before.
    pub format: u32,
    /// Which store this is.
    pub store_id: [u8; 16],
    /// How often it was opened.
    pub openings: u64,
    /// How many checkpoints were finished.
    pub checkpoint: u64,
    /// The schema of the last opening, as TOML.
    pub schema_toml: String,
    /// The signal types the store ever had, by their stored numbers.
    pub signal_names: Vec<String>,
    /// How many shards the store had at the last checkpoint; zero before the first.
    pub layout: u32,
    /// Logs and how far each is covered: every event up to there is in the records. By log.
    pub covered: Vec<(u32, u64)>,
    /// How many records there are besides this one.
    pub records: u64,
    /// The sum of their digests.
    pub set_digest: u64,
}

impl Record for MetaRecord {
    const TAG: Tag = Tag::Meta;

    fn check(&self, _key: Key) -> Result<(), RecordFault> {
        if !(1..=FORMAT_VERSION).contains(&self.format) {
            return Err(RecordFault::Format { found: self.format });
        }
        let mut seen = BTreeSet::new();
        for (number, name) in self.signal_names.iter().enumerate() {
            let is_name = (1..=SIGNAL_NAME_BYTES_MAX).contains(&name.len());
            if !is_name || number >= STORED_SIGNALS_MAX || !seen.insert(name) {
                return Err(RecordFault::SignalName { number });
            }
        }
        let mut logs = self.covered.iter().map(|&(log, _)| log).chain(Some(self.layout));
        let in_order = ascend(self.covered.iter().map(|&(log, _)| log));
        let bounded = logs.all(|log| usize::try_from(log).is_ok_and(|log| log <= SHARDS_MAX));
        if in_order && bounded { Ok(()) } else { Err(RecordFault::Logs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!(size_of::<ArchivedMetaRecord>(), 80);
        assert_eq!(offset_of!(ArchivedMetaRecord, format), 0);
        assert_eq!(offset_of!(ArchivedMetaRecord, store_id), 4);
        assert_eq!(offset_of!(ArchivedMetaRecord, openings), 20);
        assert_eq!(offset_of!(ArchivedMetaRecord, checkpoint), 28);
        assert_eq!(offset_of!(ArchivedMetaRecord, schema_toml), 36);
        assert_eq!(offset_of!(ArchivedMetaRecord, signal_names), 44);
        assert_eq!(offset_of!(ArchivedMetaRecord, layout), 52);
        assert_eq!(offset_of!(ArchivedMetaRecord, covered), 56);
        assert_eq!(offset_of!(ArchivedMetaRecord, records), 64);
        assert_eq!(offset_of!(ArchivedMetaRecord, set_digest), 72);
        assert_eq!(size_of::<rkyv::Archived<(u32, u64)>>(), 12);
    }
}
