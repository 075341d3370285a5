//! Records: what is kept under a key, and how it is vouched for.
//!
//! ```text
//! value = | archive | first 16 bytes of BLAKE3(key, archive) |
//! ```
//!
//! Promises: [`decode`] gives back what [`encode`] wrote; any other bytes are a [`RecordFault`],
//! never a panic and never an allocation larger than they are. The checks come in the order length,
//! digest, structure, meaning. An archive has no padding and no alignment: every byte counts, and a
//! value is read where it lies.

mod fault;
mod ids;
mod meta;
mod page;
mod pair;
mod source;

pub use fault::RecordFault;
pub use ids::IdsRecord;
pub use meta::{FORMAT_VERSION, MetaRecord};
pub use page::{ListedPair, PairList};
pub use pair::PairRecord;
pub use source::{SourceRecord, source_id};

use super::digest::digest;
use super::{Key, RecordDigest, Tag};
use crate::limits::RECORD_VALUE_BYTES_MAX;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};

/// A kind of record.
pub trait Record:
    Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, Error>>
                      + Deserialize<Self, HighDeserializer<Error>>,
    > + for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Error>>
    + Sized
{
    /// The keyspace of its keys.
    const TAG: Tag;

    /// Adds its archive to `bytes`.
    ///
    /// # Errors
    ///
    /// [`RecordFault::Structure`] if it cannot be archived.
    fn archive_into(&self, bytes: &mut Vec<u8>) -> Result<(), RecordFault> {
        let archived = rkyv::api::high::to_bytes_in::<_, Error>(self, std::mem::take(bytes));
        *bytes = archived.map_err(|cause| RecordFault::Structure { cause: cause.to_string() })?;
        Ok(())
    }

    /// Whether it means something, under this key of its keyspace.
    ///
    /// # Errors
    ///
    /// The first [`RecordFault`] there is.
    fn check(&self, key: Key) -> Result<(), RecordFault>;
}

/// The value that keeps `record` under `key`.
///
/// # Errors
///
/// [`RecordFault`] if the record breaks its own rules, so that it could not be read back.
pub fn encode<R: Record>(key: Key, record: &R) -> Result<Vec<u8>, RecordFault> {
    let mut value = Vec::new();
    encode_into(key, record, &mut value).map(|_| value)
}

/// Adds the value that keeps `record` under `key` to `values`, and gives back its digest.
///
/// # Errors
///
/// As [`encode`]; what is in `values` then is of no use.
pub(crate) fn encode_into<R: Record>(
    key: Key,
    record: &R,
    values: &mut Vec<u8>,
) -> Result<RecordDigest, RecordFault> {
    check(key, record)?;
    let first = values.len();
    record.archive_into(values)?;
    let digest = digest(key, &values[first..]);
    values.extend_from_slice(&digest);
    let bytes = values.len() - first;
    if bytes > RECORD_VALUE_BYTES_MAX {
        return Err(RecordFault::Length { bytes });
    }
    Ok(RecordDigest::of(&digest))
}

/// The record that `value` keeps under `key`, and its digest.
///
/// # Errors
///
/// [`RecordFault`] if [`encode`] cannot have written it.
pub fn decode<R: Record>(key: Key, value: &[u8]) -> Result<(R, RecordDigest), RecordFault> {
    let (archive, digest) = verify(key, value)?;
    let broken = |cause: Error| RecordFault::Structure { cause: cause.to_string() };
    let archived = rkyv::access::<R::Archived, Error>(archive).map_err(broken)?;
    let record = rkyv::deserialize::<R, Error>(archived).map_err(broken)?;
    check(key, &record)?;
    Ok((record, digest))
}

/// Reads a page into `list`, whose memory is used again; gives back its digest.
///
/// # Errors
///
/// As [`decode`]; what is in `list` then is of no use.
pub fn decode_page(
    key: Key,
    value: &[u8],
    list: &mut PairList,
) -> Result<RecordDigest, RecordFault> {
    let (archive, digest) = verify(key, value)?;
    let broken = |cause: Error| RecordFault::Structure { cause: cause.to_string() };
    list.read(rkyv::access(archive).map_err(broken)?);
    check(key, list)?;
    Ok(digest)
}

/// The archive of a value and its digest, if that vouches for it under this key.
pub(super) fn verify(key: Key, value: &[u8]) -> Result<(&[u8], RecordDigest), RecordFault> {
    let length = RecordFault::Length { bytes: value.len() };
    if value.len() > RECORD_VALUE_BYTES_MAX {
        return Err(length);
    }
    let (archive, tail) = value.split_last_chunk().ok_or(length)?;
    if *tail != digest(key, archive) {
        return Err(RecordFault::Digest);
    }
    Ok((archive, RecordDigest::of(tail)))
}

fn check<R: Record>(key: Key, record: &R) -> Result<(), RecordFault> {
    if key.tag() == R::TAG { record.check(key) } else { Err(RecordFault::Key) }
}

/// Whether each is larger than the one before.
pub(super) fn ascend<T: Ord>(mut items: impl Iterator<Item = T>) -> bool {
    let mut last = items.next();
    items.all(|item| {
        let ascends = last.as_ref().is_none_or(|last| *last < item);
        last = Some(item);
        ascends
    })
}

#[cfg(test)]
mod tests;
