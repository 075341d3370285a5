//! Every record of a checkpoint that can still be read, whatever became of the others.
//!
//! Promises: a stretch of a keyspace that the database cannot read is stepped over, as narrowly as
//! can be found; the work is bounded.
//! Not here: what a record means (`ebbtide_shard::checkpoint`).

use ebbtide_shard::checkpoint::{StorageEngine, Tag};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Stretches that are stepped over before the rest of a keyspace is given up.
const STRETCHES_MAX: u32 = 1024;

/// The values of one keyspace under their keys.
pub(super) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads a keyspace.
pub(super) fn gather(storage: &impl StorageEngine, tag: Tag) -> Values {
    let (mut found, mut from) = (Values::new(), 0);
    for _ in 0..STRETCHES_MAX {
        let mut last = None;
        let read = storage.scan(tag, from..=u64::MAX, &mut |key, value| {
            last = Some(key.to_vec());
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        });
        if read.is_ok() {
            break;
        }
        let bad = last.and_then(|key| id(&key)).unwrap_or(from);
        match behind(storage, tag, bad) {
            Some(next) => from = next,
            None => break,
        }
    }
    found
}

/// The id a key begins with.
fn id(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|id| u64::from_be_bytes(*id))
}

/// The first id behind `bad` from which something can be read: in doubling steps, then between the
/// last two.
fn behind(storage: &impl StorageEngine, tag: Tag, bad: u64) -> Option<u64> {
    let reads =
        |from: u64| storage.scan(tag, from..=u64::MAX, &mut |_, _| ControlFlow::Break(())).is_ok();
    let (mut low, mut step, mut high) = (bad, 1, bad.checked_add(1)?);
    while !reads(high) {
        (low, step) = (high, step * 2);
        high = bad.checked_add(step)?;
        if step > u64::MAX / 2 {
            return None;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if reads(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide_shard::EntityId;
    use ebbtide_shard::checkpoint::{
        Batch, Key, MemoryStorage, StorageAction, StorageError, StorageErrorKind, Visit,
    };
    use std::ops::RangeInclusive;

    /// Cannot read what lies between two ids.
    struct Torn(MemoryStorage, RangeInclusive<u64>);

    impl StorageEngine for Torn {
        fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
            self.0.get(key)
        }

        fn scan(
            &self,
            tag: Tag,
            ids: RangeInclusive<u64>,
            visit: &mut Visit<'_>,
        ) -> Result<(), StorageError> {
            let Self(storage, torn) = self;
            if ids.end() < torn.start() || ids.start() > torn.end() || tag != Tag::Sig {
                return storage.scan(tag, ids, visit);
            }
            let mut broken = false;
            if ids.start() < torn.start() {
                let before = *ids.start()..=*torn.start() - 1;
                storage.scan(tag, before, &mut |key, value| {
                    let flow = visit(key, value);
                    broken = flow == ControlFlow::Break(());
                    flow
                })?;
            }
            if broken {
                return Ok(());
            }
            let (action, kind) = (StorageAction::Scan, StorageErrorKind::Damaged);
            let (place, cause) = ("memory".to_owned(), "a torn block".to_owned());
            Err(StorageError { action, place, kind, cause })
        }

        fn batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
            self.0.batch(batch)
        }

        fn flush(&mut self) -> Result<(), StorageError> {
            self.0.flush()
        }
    }

    #[test]
    fn a_stretch_that_cannot_be_read_costs_nothing_around_it() {
        let mut storage = MemoryStorage::default();
        let key = |n: u64| Key::Pair { entity: EntityId(n * 1_000_003), number: 0 };
        for n in 0..100 {
            storage.put(key(n), &[7]).unwrap();
        }
        let torn = Torn(storage, 40 * 1_000_003..=49 * 1_000_003);
        let found = gather(&torn, Tag::Sig);
        let kept = (0..40).chain(50..100).map(|n| key(n).to_bytes().to_vec());
        assert!(kept.eq(found.keys().cloned()));
        assert_eq!(gather(&torn, Tag::Ids), Values::new());
    }
}
