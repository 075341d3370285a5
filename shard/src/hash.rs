//! The keyed hash that spreads entities over partitions and over the slots of a partition, and its
//! wide form, which makes one key of an event's entity, signal type and id.
//!
//! Promises: SipHash-1-3 under a 128-bit key of the store's own, so a caller who chooses entity ids
//! cannot aim them at one shard, and one who chooses event ids cannot make two events one. Frozen
//! by golden vectors: a changed hash would lose data silently.
//! Source: Aumasson, Bernstein, *SipHash: a fast short-input PRF*, INDOCRYPT 2012.

use crate::{EntityHash, EntityId};
use siphasher::sip::SipHasher13;
use siphasher::sip128;
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

    /// The key by which an event with an id is known again in this store: SipHash-1-3 of 128 bits
    /// over its entity, the stored number of its signal type, and the id.
    ///
    /// ```
    /// use ebbtide_shard::{EntityId, PartitionKey};
    /// let key = PartitionKey::new([7; 16]);
    /// assert_ne!(key.id_key(EntityId(42), 0, 1), key.id_key(EntityId(43), 0, 1));
    /// ```
    #[must_use]
    #[inline]
    pub fn id_key(&self, entity: EntityId, number: u8, id: u128) -> u128 {
        let mut event = [0; 25];
        event[..8].copy_from_slice(&entity.0.to_le_bytes());
        event[8] = number;
        event[9..].copy_from_slice(&id.to_le_bytes());
        sip128::SipHasher13::new_with_key(&self.hasher.key()).hash(&event).as_u128()
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

    /// From an implementation of SipHash-1-3 of 128 bits that shares no code with this one.
    #[test]
    fn the_key_of_an_id_is_frozen() {
        let zeros = PartitionKey::new([0; 16]);
        let counting = PartitionKey::new(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        let bytes = 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF;
        for ((entity, number, id), under_zeros, under_counting) in [
            (
                (0, 0, 0),
                0x7CB8_CF8D_DF6B_0F24_9B5A_66ED_3A46_3D49,
                0x5515_1837_AE35_4104_067F_4F61_1B9A_530C,
            ),
            (
                (42, 3, 7),
                0xF06E_F190_42D9_4EE3_CC1B_18C7_BDA2_FD71,
                0xF062_9661_01B4_B3EC_4C43_3CE4_6B06_9184,
            ),
            (
                (42, 3, 7 << 64),
                0xEFFF_DFD5_E3D2_AAC5_CAB3_A43D_1BC9_76C1,
                0xED0E_363C_67C8_30AB_24D3_DD6D_38D6_2D9C,
            ),
            (
                (u64::MAX, 255, u128::MAX),
                0x14EE_6735_2768_350B_85B7_49CC_5C06_97E8,
                0x40CE_ECE2_73F9_B292_21DE_3406_1686_4CA7,
            ),
            (
                (0x0123_4567_89AB_CDEF, 1, bytes),
                0x8987_40D3_40BE_A347_B7F9_3F17_DB9F_6BC1,
                0x5429_016C_9BA9_E7EB_CFD2_85E0_7A87_A652,
            ),
        ] {
            let [zeros, counting] =
                [zeros, counting].map(|key| key.id_key(EntityId(entity), number, id));
            assert_eq!((zeros, counting), (under_zeros, under_counting), "entity {entity}");
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
