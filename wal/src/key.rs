//! What ties a frame to its place: the key of a segment and the chain of hashes.
//!
//! Promises: bytes that verify under a key were written for this store, this shard, this segment
//! and this life of its file; a recycled file's old bytes do not verify.
//! Invariants: the key is derived, never stored; every field of [`SegmentId`] enters it.
//! Fails by: nothing here fails; bytes that do not verify are `frame`'s to report.
//! Not here: secrecy. The key follows from public fields: it stops splicing, stale frames and
//! accidents, not an attacker who can write the files.
//! Source: BLAKE3 key derivation (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020); salted log
//! frames as in the `SQLite` write-ahead log.

use std::fmt;

/// Context of the derivation; a part of the format, never to change within version 1.
const KEY_CONTEXT: &str = "ebbtide wal v1 frame key";
/// Context under which an opening's seed is turned into epochs; not a part of the format.
const EPOCH_CONTEXT: &str = "ebbtide wal v1 epoch source";

/// Length of a full hash.
pub(crate) const HASH_BYTES: usize = 32;
/// Length of the link that a frame carries to the one before it.
pub(crate) const CHAIN_BYTES: usize = 16;

/// Identity of a store: every log of it carries the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Which log: one shard's in one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogIdentity {
    /// The store the log belongs to.
    pub store: StoreId,
    /// The shard that writes it. How many shards there are is not the log's business.
    pub shard: u32,
}

/// Random bytes that tell one life of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub [u8; 16]);

/// Everything that makes one segment's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    /// The log it is a part of.
    pub log: LogIdentity,
    /// Its place in that log, counted from 1.
    pub seq: u64,
    /// Which life of the file.
    pub epoch: Epoch,
}

/// First half of a hash, carried by whatever comes next in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainHash(pub [u8; CHAIN_BYTES]);

impl ChainHash {
    /// Before the first segment of a log.
    pub const START: Self = Self([0; CHAIN_BYTES]);

    /// The link that `hash` gives to its successor.
    #[must_use]
    pub fn of(hash: &[u8; HASH_BYTES]) -> Self {
        let mut link = [0; CHAIN_BYTES];
        link.copy_from_slice(&hash[..CHAIN_BYTES]);
        Self(link)
    }
}

/// Key of one segment's frames.
#[derive(Clone, PartialEq, Eq)]
pub struct FrameKey {
    key: [u8; HASH_BYTES],
    tag: [u8; 8],
}

impl FrameKey {
    /// The key of the segment `id`.
    #[must_use]
    pub fn derive(id: &SegmentId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(KEY_CONTEXT);
        hasher.update(&id.log.store.0);
        hasher.update(&id.log.shard.to_le_bytes());
        hasher.update(&id.seq.to_le_bytes());
        hasher.update(&id.epoch.0);
        let mut bytes = [0_u8; HASH_BYTES + 8];
        hasher.finalize_xof().fill(&mut bytes);
        let (mut key, mut tag) = ([0; HASH_BYTES], [0; 8]);
        key.copy_from_slice(&bytes[..HASH_BYTES]);
        tag.copy_from_slice(&bytes[HASH_BYTES..]);
        Self { key, tag }
    }

    /// First bytes of every frame under this key. A cheap sieve: zeroes, foreign and stale
    /// frames fall through it without being hashed.
    #[must_use]
    pub const fn tag(&self) -> &[u8; 8] {
        &self.tag
    }

    /// For the keyed hash of bytes that come piece by piece.
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.key)
    }

    /// Keyed hash of `bytes`.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> [u8; HASH_BYTES] {
        *blake3::keyed_hash(&self.key, bytes).as_bytes()
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameKey").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Gives each new segment its epoch.
#[derive(Clone)]
pub(crate) struct EpochSource {
    seed: [u8; HASH_BYTES],
}

impl EpochSource {
    /// A source fed by `seed`, which must be fresh random bytes at every opening of a log.
    #[must_use]
    pub(crate) const fn new(seed: [u8; HASH_BYTES]) -> Self {
        Self { seed }
    }

    /// The epoch of the segment `seq` as created by this opening.
    #[must_use]
    pub(crate) fn epoch(&self, log: &LogIdentity, seq: u64) -> Epoch {
        let mut hasher = blake3::Hasher::new_derive_key(EPOCH_CONTEXT);
        hasher.update(&self.seed);
        hasher.update(&log.store.0);
        hasher.update(&log.shard.to_le_bytes());
        hasher.update(&seq.to_le_bytes());
        let mut epoch = [0; 16];
        hasher.finalize_xof().fill(&mut epoch);
        Epoch(epoch)
    }
}

impl fmt::Debug for EpochSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochSource").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId {
        log: LogIdentity { store: StoreId([7; 16]), shard: 3 },
        seq: 5,
        epoch: Epoch([9; 16]),
    };

    #[test]
    fn every_field_of_the_identity_changes_the_key() {
        let base = FrameKey::derive(&ID);
        let log = ID.log;
        let others = [
            SegmentId { log: LogIdentity { store: StoreId([8; 16]), ..log }, ..ID },
            SegmentId { log: LogIdentity { shard: 4, ..log }, ..ID },
            SegmentId { seq: 6, ..ID },
            SegmentId { epoch: Epoch([10; 16]), ..ID },
        ];
        for other in others {
            let key = FrameKey::derive(&other);
            assert_ne!(key.tag(), base.tag(), "{other:?}");
            assert_ne!(key.hash(b"x"), base.hash(b"x"), "{other:?}");
        }
    }

    #[test]
    fn epochs_differ_by_seed_and_by_segment() {
        let source = EpochSource::new([1; 32]);
        assert_eq!(source.epoch(&ID.log, 1), source.epoch(&ID.log, 1));
        assert_ne!(source.epoch(&ID.log, 1), source.epoch(&ID.log, 2));
        assert_ne!(source.epoch(&ID.log, 1), EpochSource::new([2; 32]).epoch(&ID.log, 1));
    }

    #[test]
    fn a_store_id_reads_as_hexadecimal() {
        assert_eq!(StoreId([0xab; 16]).to_string(), "ab".repeat(16));
    }
}
