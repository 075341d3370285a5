//! The keyed hash that spreads entities over partitions and over the slots of a partition, and its
//! wide form, which makes one key of an event's entity, signal type and id.
//!
//! Promises: SipHash-1-3 under a 128-bit key of the store's own, so a caller who chooses entity ids
//! cannot aim them at one shard, and one who chooses event ids cannot make two events one. Frozen
//! by golden vectors: a changed hash would lose data silently.
//! Source: Aumasson, Bernstein, *SipHash: a fast short-input PRF*, INDOCRYPT 2012.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::wide::{self, Kernel};
use crate::{EntityHash, EntityId};
use siphasher::sip128;
use std::fmt;

/// Entities that are hashed side by side.
const LANES: usize = 8;

/// The secret of one store under which its entities are partitioned.
#[derive(Clone, Copy)]
pub struct PartitionKey {
    bytes: [u8; 16],
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
        Self { bytes }
    }

    /// The hash of an entity in this store.
    #[must_use]
    #[inline]
    pub fn hash(&self, entity: EntityId) -> EntityHash {
        let [hash] = self.hash_lanes([entity]);
        hash
    }

    /// The hashes of many entities, each at its place: in half the time of one by one.
    ///
    /// # Panics
    ///
    /// If there is not one place for each.
    pub fn hash_all(&self, entities: &[EntityId], hashes: &mut [EntityHash]) {
        assert_eq!(entities.len(), hashes.len(), "a place for the hash of each entity");
        wide::run(HashAll { key: *self, entities, hashes });
    }

    /// SipHash-1-3 of one word of eight bytes in each lane.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a key are 64 bits each")]
    fn hash_lanes<const N: usize>(&self, entities: [EntityId; N]) -> [EntityHash; N] {
        let key = u128::from_le_bytes(self.bytes);
        let (first, second) = (key as u64, (key >> 64) as u64);
        let mut state = [
            [first ^ 0x736f_6d65_7073_6575; N],
            [second ^ 0x646f_7261_6e64_6f6d; N],
            [first ^ 0x6c79_6765_6e65_7261; N],
            [second ^ 0x7465_6462_7974_6573; N],
        ];
        // The word, then the number of bytes, which ends every message.
        for message in [entities.map(|entity| entity.0), [8 << 56; N]] {
            mix(&mut state[3], message);
            round(&mut state);
            mix(&mut state[0], message);
        }
        mix(&mut state[2], [0xFF; N]);
        (0..3).for_each(|_| round(&mut state));
        let [a, b, c, d] = state;
        std::array::from_fn(|lane| {
            EntityHash(((a[lane] ^ b[lane] ^ c[lane] ^ d[lane]) >> 32) as u32)
        })
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
        sip128::SipHasher13::new_with_key(&self.bytes).hash(&event).as_u128()
    }
}

#[inline(always)]
fn mix<const N: usize>(words: &mut [u64; N], message: [u64; N]) {
    for lane in 0..N {
        words[lane] ^= message[lane];
    }
}

#[inline(always)]
fn round<const N: usize>([a, b, c, d]: &mut [[u64; N]; 4]) {
    for lane in 0..N {
        a[lane] = a[lane].wrapping_add(b[lane]);
        b[lane] = b[lane].rotate_left(13) ^ a[lane];
        a[lane] = a[lane].rotate_left(32);
        c[lane] = c[lane].wrapping_add(d[lane]);
        d[lane] = d[lane].rotate_left(16) ^ c[lane];
        a[lane] = a[lane].wrapping_add(d[lane]);
        d[lane] = d[lane].rotate_left(21) ^ a[lane];
        c[lane] = c[lane].wrapping_add(b[lane]);
        b[lane] = b[lane].rotate_left(17) ^ c[lane];
        c[lane] = c[lane].rotate_left(32);
    }
}

struct HashAll<'a> {
    key: PartitionKey,
    entities: &'a [EntityId],
    hashes: &'a mut [EntityHash],
}

impl Kernel for HashAll<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let Self { key, entities, hashes } = self;
        let (groups, rest) = entities.as_chunks::<LANES>();
        let (group_hashes, rest_hashes) = hashes.as_chunks_mut::<LANES>();
        for (group, hashes) in groups.iter().zip(group_hashes) {
            *hashes = key.hash_lanes(*group);
        }
        for (&entity, hash) in rest.iter().zip(rest_hashes) {
            *hash = key.hash(entity);
        }
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
    fn many_hashes_are_those_of_one_by_one() {
        let key = PartitionKey::new([9; 16]);
        for count in [0, 1, 7, 8, 9, 200] {
            let entities: Vec<_> = (0..count).map(|i| EntityId((i * i) << 40 | i)).collect();
            let mut hashes = vec![EntityHash(0); entities.len()];
            key.hash_all(&entities, &mut hashes);
            let want: Vec<_> = entities.iter().map(|&entity| key.hash(entity)).collect();
            assert_eq!(hashes, want);
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
