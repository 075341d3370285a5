//! The keyed hash that spreads entities over partitions and over the slots of a partition.
//!
//! Promises: SipHash-1-3 under a 128-bit key of the store's own, so a caller who chooses entity ids
//! cannot aim them at one shard. Frozen by golden vectors: a changed hash would lose data silently.
//! Source: Aumasson, Bernstein, *SipHash: a fast short-input PRF*, INDOCRYPT 2012.

use crate::{EntityHash, EntityId};
use siphasher::sip::SipHasher13;
use std::fmt;

/// The secret of one store under which its entities are partitioned.
#[derive(Clone, Copy)]
pub struct PartitionKey {
    hasher: SipHasher13,
}

impl PartitionKey {
    /// The key made of these bytes. They should be random, and must stay the same for a store's
    /// life.
    ///
    /// ```
    /// use ebbtide_shard::{EntityId, PartitionKey};
    /// let key = PartitionKey::new([7; 16]);
    /// assert!(key.hash(EntityId(42)).partition() < 4096);
    /// ```
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self { hasher: SipHasher13::new_with_key(&bytes) }
    }

    /// The hash of an entity in this store.
    #[must_use]
    #[inline]
    pub fn hash(&self, entity: EntityId) -> EntityHash {
        let hash = self.hasher.hash(&entity.0.to_le_bytes());
        EntityHash((hash >> 32) as u32)
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartitionKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From an implementation of SipHash-1-3 that shares no code with this one.
    #[test]
    fn the_hash_is_frozen() {
        let zeros = PartitionKey::new([0; 16]);
        let counting = PartitionKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        for (entity, under_zeros, under_counting) in [
            (0, 0xBD60_ACB6, 0x5CB9_6F6B),
            (1, 0x1E9F_7341, 0x32C5_EA5C),
            (42, 0x7B3E_724B, 0x2D9B_012A),
            (u64::MAX, 0x2F20_5BE2, 0x823F_3073),
            (0x0123_4567_89AB_CDEF, 0x8662_046E, 0x0782_A12A),
        ] {
            let hashes = (zeros.hash(EntityId(entity)).0, counting.hash(EntityId(entity)).0);
            assert_eq!(hashes, (under_zeros, under_counting), "entity {entity}");
        }
    }

    #[test]
    fn entities_in_sequence_spread_evenly_over_partitions() {
        let key = PartitionKey::new([3; 16]);
        let mut counts = vec![0u32; crate::limits::PARTITIONS];
        for entity in 0..409_600 {
            counts[key.hash(EntityId(entity)).partition()] += 1;
        }
        // 100 expected per partition; five standard deviations are 50.
        assert!(counts.iter().all(|&count| (50..150).contains(&count)));
    }
}
