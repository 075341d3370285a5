//! What is written at once: a batch of changes, and a chunk of a ledger's pairs.
//!
//! Promises: values lie one behind the other in one piece of memory, and so do pairs, so that one
//! of them costs no allocation of its own, and a thread that gives them away leaves nothing to be
//! freed but that.

use super::{Key, ListedPair, PairList, Round, Rounds};
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

    /// Keeps under `key` what `write` adds to the values before it.
    ///
    /// # Errors
    ///
    /// That of `write`; the batch is then of no use.
    pub(super) fn put_with<T, E>(
        &mut self,
        key: Key,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<T, E> {
        let first = self.values.len();
        let written = write(&mut self.values)?;
        self.changes.push((key, Some(first..self.values.len())));
        Ok(written)
    }

    /// Forgets all changes, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.values.clear();
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

/// Pairs of a ledger that a step of a walk wrote out, in no order, and which records they replace.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    lsn: Lsn,
    round: Round,
    pairs: PairList,
    replaced: Rounds,
    rewritten: u64,
}

impl Chunk {
    /// An empty chunk of states that include the log up to `lsn`.
    #[must_use]
    pub fn new(lsn: Lsn, round: Round) -> Self {
        let (pairs, replaced) = (PairList::default(), Rounds::default());
        Self { lsn, round, pairs, replaced, rewritten: 0 }
    }

    /// Everything up to here is in the states; commit the chunk only when the log is durable up
    /// to here.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// In which round they are written.
    #[must_use]
    pub const fn round(&self) -> Round {
        self.round
    }

    /// The pairs.
    #[must_use]
    pub const fn pairs(&self) -> &PairList {
        &self.pairs
    }

    /// In which rounds they had their latest records before; a new pair had none.
    #[must_use]
    pub const fn replaced(&self) -> &Rounds {
        &self.replaced
    }

    /// How many of the pairs that had records before have changed since.
    #[must_use]
    pub const fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Adds a pair, whose latest record was in the round `before`, and whether it changed since.
    pub(crate) fn put(
        &mut self,
        pair: &ListedPair,
        counts: &[(u8, u32)],
        (before, has_changed): (Option<Round>, bool),
    ) {
        self.pairs.push(pair, counts);
        if let Some(before) = before {
            self.replaced.add(before, 1);
            self.rewritten += u64::from(has_changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_changes_of_a_key_the_last_one_counts() {
        let [one, two, three] = [3, 1, 2].map(|id| Key::Source { id });
        let mut batch = Batch::default();
        batch.put(one, b"old");
        batch.put(two, b"two");
        batch.put(one, b"older");
        batch.put(three, b"gone");
        batch.put(one, b"new");
        batch.delete(three);
        batch.sort();
        let want: [(Key, Option<&[u8]>); 3] =
            [(two, Some(b"two")), (three, None), (one, Some(b"new"))];
        assert!(batch.changes().eq(want));
        assert_eq!((batch.len(), batch.value_bytes()), (3, 18));
    }
}
