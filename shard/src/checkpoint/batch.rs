//! What is written at once: a batch of changes, and a chunk of a ledger's records.
//!
//! Promises: values lie one behind the other in one piece of memory, so that a record costs no
//! allocation of its own, and a thread that gives them away leaves nothing to be freed but that.

use super::record::{PairRecord, encode_into};
use super::{Key, RecordDigest, RecordFault, SetDigest};
use ebbtide_wal::Lsn;
use std::ops::Range;

/// Changes that are applied together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Where the value of each key lies; `None` for a key that is removed.
    changes: Vec<(Key, Option<Range<usize>>)>,
    values: Vec<u8>,
}

impl Batch {
    /// Keeps `value` under `key`.
    pub fn put(&mut self, key: Key, value: &[u8]) {
        let first = self.values.len();
        self.values.extend_from_slice(value);
        self.changes.push((key, Some(first..self.values.len())));
    }

    /// Removes what is under `key`.
    pub fn delete(&mut self, key: Key) {
        self.changes.push((key, None));
    }

    /// The changes, a value or its removal for each key.
    #[must_use]
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (Key, Option<&[u8]>)> {
        self.changes.iter().map(|(key, place)| (*key, place.clone().map(|at| &self.values[at])))
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all values.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.values.len()
    }

    /// Adds the changes of another batch, which come later.
    pub(super) fn append(&mut self, other: &Self) {
        let first = self.values.len();
        self.values.extend_from_slice(&other.values);
        let moved = |at: &Range<usize>| first + at.start..first + at.end;
        self.changes.extend(other.changes.iter().map(|(key, at)| (*key, at.as_ref().map(moved))));
    }

    /// In the order of keys, in which storages take them fastest, and each key once: of several
    /// changes the last one counts.
    pub(super) fn sort(&mut self) {
        // Stable, so that the last change of a key stays the last.
        self.changes.sort_by_key(|&(key, _)| key);
        self.changes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
    }
}

/// Records of a ledger that a step of a walk wrote out, and what they do to the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    lsn: Lsn,
    puts: Batch,
    change: SetDigest,
    new_records: u64,
    last: bool,
}

impl Chunk {
    /// An empty chunk of states that include the log up to `lsn`.
    #[must_use]
    pub fn new(lsn: Lsn) -> Self {
        let (puts, change) = (Batch::default(), SetDigest::default());
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
    pub const fn puts(&self) -> &Batch {
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

    /// Adds a record, in place of the one with the digest `old`; gives back its own.
    pub(crate) fn put(
        &mut self,
        key: Key,
        record: &PairRecord,
        old: Option<RecordDigest>,
    ) -> Result<RecordDigest, RecordFault> {
        let Batch { changes, values } = &mut self.puts;
        let first = values.len();
        let new = encode_into(key, record, values)?;
        changes.push((key, Some(first..values.len())));
        self.change = self.change.without(old).with(new);
        self.new_records += u64::from(old.is_none());
        Ok(new)
    }

    pub(crate) fn set_last(&mut self) {
        self.last = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_changes_of_a_key_the_last_one_counts() {
        let [one, two, three] = [3, 1, 2].map(|id| Key::Source { id });
        let (mut batch, mut later) = (Batch::default(), Batch::default());
        batch.put(one, b"old");
        batch.put(two, b"two");
        batch.put(one, b"older");
        later.put(three, b"gone");
        later.put(one, b"new");
        later.delete(three);
        batch.append(&later);
        batch.sort();
        let want: [(Key, Option<&[u8]>); 3] =
            [(two, Some(b"two")), (three, None), (one, Some(b"new"))];
        assert!(batch.changes().eq(want));
        assert_eq!((batch.len(), batch.value_bytes()), (3, 18));
    }
}
