//! Whether what was written is what a storage holds.

use super::record::verify;
use super::{Key, RecordDigest, RecordFault, StorageEngine, StorageError, Tag};
use std::ops::ControlFlow;

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

/// Reads all pages from the first to the last of those `written`, which are in order, and compares
/// those; gives the first that is not as it was written.
pub(super) fn read_through(
    storage: &impl StorageEngine,
    written: &[Written],
) -> Result<Result<(), (Key, ReadBack)>, StorageError> {
    let (Some(first), Some(last)) = (written.first(), written.last()) else { return Ok(Ok(())) };
    let (mut left, mut read) = (written.iter().peekable(), Ok(()));
    storage.scan(Tag::Sig, first.0.id()..=last.0.id(), &mut |found, value| {
        let Some(found) = Key::of_bytes(found) else { return ControlFlow::Continue(()) };
        // Those that come before it are not there.
        while let Some(&(key, digest)) = left.next_if(|(key, _)| read.is_ok() && *key <= found) {
            let value = (key == found).then_some(value);
            read = compare(key, digest, value).map_err(|found| (key, found));
        }
        if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut rest =
        left.map(|&(key, digest)| compare(key, digest, None).map_err(|found| (key, found)));
    Ok(read.and_then(|()| rest.find(Result::is_err).unwrap_or(Ok(()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntityId;
    use crate::checkpoint::{IdsRecord, MemoryStorage, Round, encode};

    /// Written in odd places, deleted in even ones.
    #[test]
    fn keys_that_went_are_between_those_that_are_there() {
        let key = |entity| Key::Page { entity: EntityId(entity), number: 0, round: Round::FIRST };
        let ids = Key::Ids { opening: 1, shard: 1, sequence: 1 };
        let record = encode(ids, &IdsRecord { entries: vec![(1, 1)] }).unwrap();
        let value = |key| {
            let mut value = record[..record.len() - 16].to_vec();
            value.extend_from_slice(&crate::checkpoint::digest::digest(key, &value));
            value
        };
        let mut storage = MemoryStorage::new();
        let mut written = Vec::new();
        for entity in 0..9 {
            let (key, is_there) = (key(entity), entity % 2 == 1);
            written.push((key, is_there.then(|| RecordDigest::of_value(&value(key)).unwrap())));
            if is_there {
                storage.put(key, &value(key)).unwrap();
            }
        }
        assert_eq!(read_through(&storage, &written), Ok(Ok(())));
        let harmed = |harm: &dyn Fn(&mut MemoryStorage)| {
            let mut storage = storage.after_power_cut(usize::MAX);
            harm(&mut storage);
            read_through(&storage, &written).unwrap()
        };
        for entity in 0..9 {
            let key = key(entity);
            let found = if entity % 2 == 1 { ReadBack::Missing } else { ReadBack::Undeleted };
            let change = |storage: &mut MemoryStorage| match entity % 2 {
                1 => storage.delete(key).unwrap(),
                _ => storage.put(key, &value(key)).unwrap(),
            };
            assert_eq!(harmed(&change), Err((key, found)));
        }
        let stale = |storage: &mut MemoryStorage| {
            let mut other = vec![9; 40];
            other.extend_from_slice(&crate::checkpoint::digest::digest(key(3), &other));
            storage.put(key(3), &other).unwrap();
        };
        assert_eq!(harmed(&stale), Err((key(3), ReadBack::Stale)));
    }
}
