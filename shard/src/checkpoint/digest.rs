//! Digests: of one record, and of all records of a checkpoint together.
//!
//! Promises: a record's digest covers its key and its bytes, so a record under another's key is no
//! record. The digest of a set is kept up as records come, change and go, in any order.
//! Why a sum vouches for a set: a record that is missing, or there in an older version, shifts the
//! sum by a number that would have to be chosen to go unseen. It guards against accidents, not
//! against someone who can write the files.

use super::Key;
use std::cell::RefCell;
use std::num::NonZeroU64;

/// Bytes of the digest at the end of a value.
pub(super) const DIGEST_BYTES: usize = 16;

thread_local! {
    /// Keyed once for each thread: what it costs to make one is as much as a record. With room for
    /// a key and an archive in one piece: chunks are hashed side by side only if they come so.
    static HASHER: RefCell<(blake3::Hasher, Vec<u8>)> =
        RefCell::new((blake3::Hasher::new_derive_key("ebbtide record v1"), Vec::new()));
}

/// The digest that stands behind the archive of a record.
pub(super) fn digest(key: Key, archive: &[u8]) -> [u8; DIGEST_BYTES] {
    let hash = HASHER.with_borrow_mut(|(hasher, whole)| {
        whole.clear();
        whole.extend_from_slice(&key.to_bytes());
        whole.extend_from_slice(archive);
        hasher.reset().update(whole).finalize()
    });
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// What stands for one version of one record: the first 8 bytes of its digest, little-endian, and
/// 1 for 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordDigest(NonZeroU64);

impl RecordDigest {
    /// The digest a value ends with; `None` if it is too short to have one.
    #[must_use]
    pub fn of_value(value: &[u8]) -> Option<Self> {
        value.last_chunk().map(Self::of)
    }

    pub(super) fn of(digest: &[u8; DIGEST_BYTES]) -> Self {
        let first = u64::from_le_bytes(std::array::from_fn(|i| digest[i]));
        Self(NonZeroU64::new(first).unwrap_or(NonZeroU64::MIN))
    }

    /// As a number, never zero.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// What stands for a set of records, or for the change from one set to another: the wrapping sum
/// of their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetDigest(pub u64);

impl SetDigest {
    /// Takes a record into the set.
    #[must_use]
    pub const fn with(self, record: RecordDigest) -> Self {
        Self(self.0.wrapping_add(record.get()))
    }

    /// Takes a record out of the set.
    #[must_use]
    pub const fn without(self, record: Option<RecordDigest>) -> Self {
        match record {
            Some(record) => Self(self.0.wrapping_sub(record.get())),
            None => self,
        }
    }

    /// Takes all of another set in, or changes as it says.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_digest_of_zero_counts_as_one() {
        assert_eq!(RecordDigest::of_value(&[0; 16]).map(RecordDigest::get), Some(1));
        assert_eq!(RecordDigest::of_value(&[0; 15]), None);
    }

    proptest! {
        #[test]
        fn a_set_does_not_care_for_the_order_of_its_changes(
            records in prop::collection::vec(1..u64::MAX, 1..20),
            gone in 0..20usize,
        ) {
            let records = records.into_iter().filter_map(NonZeroU64::new);
            let records: Vec<_> = records.map(RecordDigest).collect();
            let gone = gone.min(records.len());
            let all = records.iter().fold(SetDigest::default(), |set, &one| set.with(one));
            let left = records[..gone].iter().fold(all, |set, &one| set.without(Some(one)));
            let kept = records[gone..].iter().rev().fold(SetDigest::default(), |s, &r| s.with(r));
            prop_assert_eq!(left, kept);
        }
    }
}
