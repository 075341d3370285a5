//! What is written at once: a batch of changes, and a chunk of a ledger's records.

use super::record::ascend;
use super::{Key, RecordDigest, SetDigest};
use ebbtide_wal::Lsn;

/// Changes that are applied together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(Key, Option<Vec<u8>>)>,
}

impl Batch {
    /// Keeps `value` under `key`.
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Removes what is under `key`.
    pub fn delete(&mut self, key: Key) {
        self.changes.push((key, None));
    }

    /// The changes, a value or its removal for each key.
    #[must_use]
    pub fn changes(&self) -> &[(Key, Option<Vec<u8>>)] {
        &self.changes
    }

    /// The changes, to keep.
    #[must_use]
    pub fn into_changes(self) -> Vec<(Key, Option<Vec<u8>>)> {
        self.changes
    }

    /// In the order of keys, in which storages take them fastest.
    ///
    /// # Panics
    ///
    /// If a key is changed twice: storages disagree on which change wins.
    pub(super) fn sort(&mut self) {
        self.changes.sort_unstable_by_key(|&(key, _)| key);
        let keys = self.changes.iter().map(|&(key, _)| key);
        assert!(ascend(keys), "a batch changes each key once");
    }
}

/// Records of a ledger that a step of a walk wrote out, and what they do to the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    lsn: Lsn,
    puts: Vec<(Key, Vec<u8>)>,
    change: SetDigest,
    new_records: u64,
    last: bool,
}

impl Chunk {
    /// An empty chunk of states that include the log up to `lsn`.
    #[must_use]
    pub fn new(lsn: Lsn) -> Self {
        let (puts, change) = (Vec::new(), SetDigest::default());
        Self { lsn, puts, change, new_records: 0, last: false }
    }

    /// Everything up to here is in the states; commit the chunk only when the log is durable up
    /// to here.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The records, as values under keys.
    #[must_use]
    pub fn puts(&self) -> &[(Key, Vec<u8>)] {
        &self.puts
    }

    /// How the records change the digest of all records.
    #[must_use]
    pub const fn change(&self) -> SetDigest {
        self.change
    }

    /// How many of the records are the first of their pair.
    #[must_use]
    pub const fn new_records(&self) -> u64 {
        self.new_records
    }

    /// Whether the walk ends with this chunk.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// Adds a record, in place of the one with the digest `old`.
    pub(crate) fn put(
        &mut self,
        put: (Key, Vec<u8>),
        old: Option<RecordDigest>,
        new: RecordDigest,
    ) {
        self.puts.push(put);
        self.change = self.change.without(old).with(new);
        self.new_records += u64::from(old.is_none());
    }

    pub(crate) fn set_last(&mut self) {
        self.last = true;
    }

    pub(super) fn into_puts(self) -> Vec<(Key, Vec<u8>)> {
        self.puts
    }
}
