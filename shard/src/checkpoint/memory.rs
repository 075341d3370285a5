//! The storage engine in memory: the one tests run on, with the faults of real ones.
//!
//! Promises: the same contract as on disk. Faults strike at a counted operation, once or from then
//! on, with the batch applied or not; a power cut keeps what was flushed and as many of the
//! batches after it as the test likes.

use super::{
    Batch, Key, StorageAction, StorageEngine, StorageError, StorageErrorKind, Tag, Visit,
    key_bounds,
};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, RangeInclusive};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Map = BTreeMap<(Tag, Vec<u8>), Vec<u8>>;

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// At which operation, counted from 1 over all kinds of them.
    pub operation: u64,
    /// What it says.
    pub kind: StorageErrorKind,
    /// Whether every operation after it fails as well.
    pub sticky: bool,
    /// Whether what was asked for is done all the same.
    pub done: bool,
}

#[derive(Debug, Default)]
struct Inner {
    now: Map,
    flushed: Map,
    /// Batches since the last flush.
    pending: Vec<Batch>,
    operations: u64,
    fault: Option<Fault>,
    stored_bytes: u64,
    ways_given: u64,
}

/// Records kept in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    inner: Mutex<Inner>,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fails as `fault` says, in place of any fault set before.
    pub fn fail(&mut self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Says from now on that records of pairs take so many bytes; at first it does not know.
    pub fn say_stored(&mut self, bytes: u64) {
        self.lock().stored_bytes = bytes;
    }

    /// Operations so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// How often others were let have the core.
    #[must_use]
    pub fn ways_given(&self) -> u64 {
        self.lock().ways_given
    }

    /// Batches that a power cut could take.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.lock().pending.len()
    }

    /// What a power cut leaves if the first `kept` batches since the last flush had reached the
    /// device.
    #[must_use]
    pub fn after_power_cut(&self, kept: usize) -> Self {
        let inner = self.lock();
        let mut now = inner.flushed.clone();
        for batch in inner.pending.iter().take(kept) {
            apply(&mut now, batch);
        }
        let (flushed, rest) = (now.clone(), Inner::default());
        Self { inner: Mutex::new(Inner { now, flushed, ..rest }) }
    }

    /// Changes, adds or removes (`None`) one value behind the storage's back, under any key.
    pub fn damage(&mut self, tag: Tag, key: &[u8], value: Option<Vec<u8>>) {
        let place = (tag, key.to_vec());
        let now = &mut self.lock().now;
        match value {
            Some(value) => drop(now.insert(place, value)),
            None => drop(now.remove(&place)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts an operation; says what it fails with, and whether it is done all the same.
    fn count(&mut self, action: StorageAction) -> (Result<(), StorageError>, bool) {
        self.operations += 1;
        let now = self.operations;
        let strikes =
            |fault: &Fault| now == fault.operation || (fault.sticky && now > fault.operation);
        match self.fault.filter(strikes) {
            Some(Fault { kind, done, operation, .. }) => {
                let cause = format!("a test asked operation {operation} to fail");
                (Err(StorageError { action, place: "memory".into(), kind, cause }), done)
            }
            None => (Ok(()), true),
        }
    }
}

impl StorageEngine for MemoryStorage {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
        let mut inner = self.lock();
        inner.count(StorageAction::Get).0?;
        Ok(inner.now.get(&(key.tag(), key.to_bytes().to_vec())).cloned())
    }

    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        let mut inner = self.lock();
        inner.count(StorageAction::Scan).0?;
        let (first, behind) = key_bounds(&ids);
        let start = first.map(|first| (tag, first.to_vec()));
        let within = |key: &[u8]| match behind {
            Bound::Excluded(behind) => key < &behind[..],
            Bound::Included(_) | Bound::Unbounded => true,
        };
        for ((of, key), value) in inner.now.range((start, Bound::Unbounded)) {
            if *of != tag || !within(key) || visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut inner = self.lock();
        let (result, done) = inner.count(StorageAction::Batch);
        if done {
            apply(&mut inner.now, batch);
            inner.pending.push(batch.clone());
        }
        result
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let mut inner = self.lock();
        let (result, done) = inner.count(StorageAction::Flush);
        if done {
            inner.flushed = inner.now.clone();
            inner.pending.clear();
        }
        result
    }

    fn give_way(&self) {
        self.lock().ways_given += 1;
    }

    fn stored_bytes(&self) -> u64 {
        self.lock().stored_bytes
    }
}

fn apply(map: &mut Map, batch: &Batch) {
    for (key, value) in batch.changes() {
        let place = (key.tag(), key.to_bytes().to_vec());
        match value {
            Some(value) => drop(map.insert(place, value.to_vec())),
            None => drop(map.remove(&place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntityId;

    fn pair(entity: u64) -> Key {
        Key::Pair { entity: EntityId(entity), number: 0 }
    }

    fn keys(storage: &MemoryStorage, tag: Tag, ids: RangeInclusive<u64>) -> Vec<Key> {
        let mut keys = Vec::new();
        storage
            .scan(tag, ids, &mut |key, _| {
                keys.extend(Key::of_bytes(key));
                ControlFlow::Continue(())
            })
            .unwrap();
        keys
    }

    #[test]
    fn a_scan_keeps_to_its_tag_and_range() {
        let mut storage = MemoryStorage::new();
        for entity in [3, 1, u64::MAX, 2] {
            storage.put(pair(entity), &[1]).unwrap();
        }
        storage.put(Key::Source { id: 2 }, &[2]).unwrap();
        storage.put(Key::Meta, &[3]).unwrap();
        assert_eq!(keys(&storage, Tag::Sig, 2..=3), [pair(2), pair(3)]);
        let all = [1, 2, 3, u64::MAX].map(pair);
        assert_eq!(keys(&storage, Tag::Sig, 0..=u64::MAX), all);
        storage.delete(pair(2)).unwrap();
        assert_eq!(storage.get(pair(2)), Ok(None));
        assert_eq!(keys(&storage, Tag::Src, 0..=u64::MAX), [Key::Source { id: 2 }]);
    }

    #[test]
    fn a_power_cut_takes_the_last_batches_first() {
        let mut storage = MemoryStorage::new();
        storage.put(pair(1), &[1]).unwrap();
        storage.flush().unwrap();
        storage.put(pair(1), &[2]).unwrap();
        storage.put(pair(2), &[2]).unwrap();
        assert_eq!(storage.unflushed(), 2);
        let cut = storage.after_power_cut(0);
        assert_eq!((cut.get(pair(1)), cut.get(pair(2))), (Ok(Some(vec![1])), Ok(None)));
        let cut = storage.after_power_cut(1);
        assert_eq!((cut.get(pair(1)), cut.get(pair(2))), (Ok(Some(vec![2])), Ok(None)));
    }

    #[test]
    fn faults_strike_where_they_were_asked_to() {
        let mut storage = MemoryStorage::new();
        let kind = StorageErrorKind::OutOfSpace;
        storage.fail(Some(Fault { operation: 2, kind, sticky: false, done: true }));
        storage.put(pair(1), &[1]).unwrap();
        let failed = storage.put(pair(2), &[2]).unwrap_err();
        assert!(failed.is_out_of_space());
        assert!(failed.to_string().contains("free some space"), "{failed}");
        assert_eq!(storage.get(pair(2)), Ok(Some(vec![2])), "done, though it was said to fail");
        storage.fail(Some(Fault { operation: 4, kind, sticky: true, done: false }));
        assert!(storage.put(pair(3), &[3]).is_err());
        assert!(storage.get(pair(3)).is_err());
        storage.fail(None);
        assert_eq!(storage.get(pair(3)), Ok(None));
    }
}
