//! The log of the original design: entries with a length and a BLAKE3 hash each, written and synced
//! in groups of a hundred.
//!
//! ```text
//! entry   | length 4 | BLAKE3 32 | record |      group   100 entries, in whole blocks
//! ```
//!
//! Promises: a record is durable once its group is; a group is written when it is full. The design
//! also writes one that is 10 ms old; whoever offers as fast as it can fills groups long before,
//! and calls [`GroupCommitLog::flush`] at the end instead of waiting. It goes to the bare device,
//! and nothing is done beside it: no queue, no thread, no deduplication.

use super::raw_device::RawDevice;
use ebbtide_wal::aligned::AlignedBuf;
use ebbtide_wal::limits::block_ceil;
use std::io;

/// Entries of one group.
pub const GROUP_ENTRIES: usize = 100;
/// Bytes of an entry beside its record.
pub const ENTRY_OVERHEAD_BYTES: usize = 4 + blake3::OUT_LEN;
/// Largest record it takes.
const RECORD_BYTES_MAX: usize = 256;

/// A log that commits in groups of [`GROUP_ENTRIES`].
#[derive(Debug)]
pub struct GroupCommitLog {
    device: RawDevice,
    group: AlignedBuf,
    bytes: usize,
    entries: usize,
    /// Groups written.
    pub groups: u64,
}

impl GroupCommitLog {
    /// A log on a device.
    #[must_use]
    pub fn new(device: RawDevice) -> Self {
        let most = GROUP_ENTRIES * (ENTRY_OVERHEAD_BYTES + RECORD_BYTES_MAX);
        let group = AlignedBuf::zeroed(block_ceil(most));
        Self { device, group, bytes: 0, entries: 0, groups: 0 }
    }

    /// Takes a record; a group that is full with it is durable afterwards.
    ///
    /// # Errors
    ///
    /// Of the device.
    ///
    /// # Panics
    ///
    /// If the record is longer than 256 bytes.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        assert!(record.len() <= RECORD_BYTES_MAX, "records are events");
        let length = u32::try_from(record.len()).expect("checked above");
        self.push(&length.to_le_bytes());
        self.push(blake3::hash(record).as_bytes());
        self.push(record);
        self.entries += 1;
        if self.entries == GROUP_ENTRIES { self.flush() } else { Ok(()) }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.group[self.bytes..][..bytes.len()].copy_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Makes durable what was taken.
    ///
    /// # Errors
    ///
    /// Of the device.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.entries == 0 {
            return Ok(());
        }
        self.device.write(&self.group[..block_ceil(self.bytes)])?;
        (self.bytes, self.entries) = (0, 0);
        self.groups += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw_device::Syncing;
    use super::*;

    #[test]
    fn a_hundred_entries_make_a_group_and_each_can_be_checked() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let mut log = GroupCommitLog::new(RawDevice::create(&path, 1, Syncing::Dsync).unwrap());
        for n in 0..u8::try_from(GROUP_ENTRIES + 1).unwrap() {
            log.record(&[n; 25]).unwrap();
        }
        assert_eq!(log.groups, 1);
        log.flush().unwrap();
        log.flush().unwrap();
        assert_eq!(log.groups, 2);
        let read = std::fs::read(&path).unwrap();
        let entry = &read[7 * (ENTRY_OVERHEAD_BYTES + 25)..][..ENTRY_OVERHEAD_BYTES + 25];
        assert_eq!(entry[..4], 25_u32.to_le_bytes());
        assert_eq!(entry[4..36], *blake3::hash(&[7; 25]).as_bytes());
        assert_eq!(entry[36..], [7; 25]);
    }
}
