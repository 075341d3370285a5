//! Recent ids: the keys of the events a shard counted last, by which it tells a repeat.
//!
//! ```text
//! key ─▶ newer? older? ─no─▶ remember in newer ─full─▶ newer becomes older, older is forgotten
//! ```
//!
//! Promises: at least the last [`IDS_PER_GENERATION`] keys are known, and no key that was not
//! remembered. What is known follows from the counted events alone, in their order: a repeat
//! changes nothing, so a log without the repeats rebuilds it exactly.
//!
//! Saving: [`RecentIds::take_unsaved`] gives the keys in chunks, each once. A chunk is stored under
//! its shard, generation and first position; chunks of a generation below
//! [`RecentIds::oldest_generation`] are not needed. To come back under the same layout, [`restore`]
//! every chunk. Under another one begin [`RecentIds::after`] the highest generation found and
//! [`adopt`] the keys of the shard's partitions: each outlives that many new ones. Adopted keys are
//! saved again, so the chunks found can go once a checkpoint is complete.
//!
//! Memory of a generation is reserved whole when its first key comes, and nothing grows after
//! that, so no turn is long because of it.
//!
//! [`restore`]: RecentIds::restore
//! [`adopt`]: RecentIds::adopt

use crate::limits::IDS_PER_GENERATION;
use crate::{EntityHash, EntityId, Timestamp};
use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// The key of an event known by its content: 128 bits of BLAKE3 over entity, stored number of the
/// signal type, time and the bits of the admitted weight. Part of the stored format.
///
/// ```
/// use ebbtide_shard::dedup::content_key;
/// use ebbtide_shard::{EntityId, Timestamp};
/// let key = |weight| content_key(EntityId(42), 3, Timestamp::from_seconds(1), weight);
/// assert_eq!(key(1.0), key(1.0));
/// assert_ne!(key(1.0), key(1.5));
/// ```
#[must_use]
pub fn content_key(entity: EntityId, number: u8, time: Timestamp, weight: f64) -> u128 {
    static CONTEXT: LazyLock<ContextKey> =
        LazyLock::new(|| hash_derive_key_context("ebbtide content id v1"));
    let mut content = [0; 25];
    content[..8].copy_from_slice(&entity.0.to_le_bytes());
    content[8] = number;
    content[9..17].copy_from_slice(&time.0.to_le_bytes());
    content[17..].copy_from_slice(&weight.to_bits().to_le_bytes());
    let digest = blake3::Hasher::new_from_context_key(&CONTEXT).update(&content).finalize();
    let digest = digest.as_bytes();
    u128::from_le_bytes(std::array::from_fn(|i| digest[i]))
}

/// The keys a shard remembers, in two generations.
///
/// ```
/// use ebbtide_shard::EntityHash;
/// use ebbtide_shard::dedup::RecentIds;
/// let mut ids = RecentIds::new();
/// assert!(ids.is_new(7, EntityHash(1)));
/// assert!(!ids.is_new(7, EntityHash(1)));
/// let chunk = ids.take_unsaved(100).unwrap();
/// assert_eq!((chunk.generation, chunk.first, &chunk.ids[..]), (1, 0, &[(EntityHash(1), 7)][..]));
/// assert!(ids.take_unsaved(100).is_none());
/// ```
pub struct RecentIds {
    /// Keys after which a generation is full.
    bound: usize,
    /// Spreads keys over the index. Random, so nobody can choose contents that meet there.
    seed: RandomState,
    newer: Generation,
    older: Generation,
    /// The number of the newer generation; the older one has the number before.
    newest: u64,
}

/// Keys in order of arrival, and an index over them.
#[derive(Default)]
struct Generation {
    keys: Vec<u128>,
    hashes: Vec<EntityHash>,
    index: HashTable<u32>,
    /// How many of the keys, from the front, have been taken for saving.
    saved: usize,
}

/// Keys that a checkpoint has to save: some neighbours of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsavedIds {
    /// The generation.
    pub generation: u64,
    /// The position of the first one in it.
    pub first: u32,
    /// The keys, in order of arrival, with the hashes of their entities.
    pub ids: Vec<(EntityHash, u128)>,
}

impl std::fmt::Debug for RecentIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecentIds").field("keys", &self.len()).finish_non_exhaustive()
    }
}

impl Default for RecentIds {
    fn default() -> Self {
        Self::new()
    }
}

impl RecentIds {
    /// Nothing is known, and nothing stored: the first generation is number 1.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bound(IDS_PER_GENERATION)
    }

    /// The same with `bound` keys to a generation.
    ///
    /// # Panics
    ///
    /// If `bound` is zero or more than [`IDS_PER_GENERATION`].
    #[must_use]
    pub fn with_bound(bound: usize) -> Self {
        assert!((1..=IDS_PER_GENERATION).contains(&bound), "a generation of {bound} ids");
        let (newer, older) = (Generation::default(), Generation::default());
        Self { bound, seed: RandomState::default(), newer, older, newest: 1 }
    }

    /// Nothing is known, and chunks of generations up to `stored` may be there: begins with one for
    /// which [`oldest_generation`](Self::oldest_generation) lies above them all.
    #[must_use]
    pub fn after(self, stored: u64) -> Self {
        Self { newest: stored.saturating_add(2).max(self.newest), ..self }
    }

    /// Whether `key` is not known; if so, it is from now on. `hash` is that of the event's entity.
    ///
    /// Call it only for an event that will be counted if this says so: there is no way back.
    #[inline]
    pub fn is_new(&mut self, key: u128, hash: EntityHash) -> bool {
        let spread = self.seed.hash_one(key);
        if self.newer.knows(key, spread) || self.older.knows(key, spread) {
            return false;
        }
        if self.newer.keys.len() >= self.bound {
            self.rotate();
        }
        self.newer.push((key, spread), hash, self.bound, &self.seed);
        true
    }

    /// Puts back a key of a saved chunk, under the layout that saved it. Chunks may come in any
    /// order; what is older than two generations is left out.
    pub fn restore(&mut self, key: u128, hash: EntityHash, generation: u64) {
        if generation > self.newest {
            if generation > self.newest.saturating_add(1) {
                self.rotate();
            }
            self.rotate();
            self.newest = generation;
        }
        let place = match self.newest - generation {
            0 => &mut self.newer,
            1 => &mut self.older,
            _ => return,
        };
        let spread = self.seed.hash_one(key);
        if !place.knows(key, spread) {
            let is_all_saved = place.saved == place.keys.len();
            place.push((key, spread), hash, self.bound, &self.seed);
            place.saved += usize::from(is_all_saved);
        }
    }

    /// Takes over a key that a shard of another layout saved: it is known for at least as many new
    /// keys as make a generation, and is to be saved again. So a store that changes its number of
    /// shards before so many have come keeps them all.
    pub fn adopt(&mut self, key: u128, hash: EntityHash) {
        let spread = self.seed.hash_one(key);
        if !self.newer.knows(key, spread) && !self.older.knows(key, spread) {
            self.older.push((key, spread), hash, self.bound, &self.seed);
        }
    }

    /// Up to `max` keys that no chunk holds yet, oldest first; from now on they count as saved. A
    /// chunk that could not be stored must be stored again.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    pub fn take_unsaved(&mut self, max: usize) -> Option<UnsavedIds> {
        assert!(max > 0, "a chunk holds at least one id");
        let older = self.older.take_unsaved(max, self.newest - 1);
        older.or_else(|| self.newer.take_unsaved(max, self.newest))
    }

    /// The oldest generation that is known: chunks of those below are not needed.
    #[must_use]
    pub fn oldest_generation(&self) -> u64 {
        self.newest - 1
    }

    /// How many keys are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newer.keys.len() + self.older.keys.len()
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes reserved, touched or not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.newer.memory_bytes() + self.older.memory_bytes()
    }

    /// The newer generation becomes the older one, whose memory serves the next.
    #[cold]
    fn rotate(&mut self) {
        std::mem::swap(&mut self.newer, &mut self.older);
        self.newer.clear(self.bound);
        self.newest = self.newest.saturating_add(1);
    }
}

impl Generation {
    #[inline]
    fn knows(&self, key: u128, spread: u64) -> bool {
        self.index.find(spread, |&at| self.keys[at as usize] == key).is_some()
    }

    /// Adds a key it does not know.
    fn push(
        &mut self,
        (key, spread): (u128, u64),
        hash: EntityHash,
        bound: usize,
        seed: &RandomState,
    ) {
        if self.keys.capacity() == 0 {
            self.keys.reserve_exact(bound);
            self.hashes.reserve_exact(bound);
            self.index.reserve(bound, |_| 0);
        }
        let at = u32::try_from(self.keys.len()).expect("positions fit, see `limits`");
        self.keys.push(key);
        self.hashes.push(hash);
        self.index.insert_unique(spread, at, |&at| seed.hash_one(self.keys[at as usize]));
    }

    /// Forgets everything; keeps its memory unless adopted keys have made that larger than usual.
    fn clear(&mut self, bound: usize) {
        if self.keys.len() > bound {
            *self = Self::default();
        }
        self.keys.clear();
        self.hashes.clear();
        self.index.clear();
        self.saved = 0;
    }

    fn take_unsaved(&mut self, max: usize, generation: u64) -> Option<UnsavedIds> {
        let (from, to) = (self.saved, self.keys.len().min(self.saved.saturating_add(max)));
        if from == to {
            return None;
        }
        let first = u32::try_from(from).expect("positions fit, see `limits`");
        let ids = self.hashes[from..to].iter().copied().zip(self.keys[from..to].iter().copied());
        self.saved = to;
        Some(UnsavedIds { generation, first, ids: ids.collect() })
    }

    fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<u128>()
            + self.hashes.capacity() * size_of::<EntityHash>()
            + self.index.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From an implementation of BLAKE3 that shares no code with this one.
    #[test]
    fn the_key_of_a_content_is_frozen() {
        let max = u64::MAX;
        for (entity, number, time, weight, key) in [
            (0, 0, 0, 0.0, 0x58FB_6469_D297_F18F_E706_8383_154B_B7B6),
            (42, 3, 1_700_000_000_000_000_000, 1.0, 0x92BC_1FE3_5FFB_FE29_ED90_074C_A1C1_6C39),
            (max, 255, max, 1e15, 0xC2EB_D3C1_C19D_0C80_2714_0DA8_9E72_9AF0),
        ] {
            assert_eq!(content_key(EntityId(entity), number, Timestamp(time), weight), key);
        }
    }

    fn hash(key: u128) -> EntityHash {
        EntityHash(u32::try_from(key * 3).unwrap())
    }

    /// Offers each key and says which ones were new, in order.
    fn offer(ids: &mut RecentIds, keys: &[u128]) -> Vec<u128> {
        keys.iter().copied().filter(|&key| ids.is_new(key, hash(key))).collect()
    }

    fn chunks(ids: &mut RecentIds, max: usize) -> Vec<UnsavedIds> {
        std::iter::from_fn(|| ids.take_unsaved(max)).collect()
    }

    fn restored(bound: usize, chunks: &[UnsavedIds]) -> RecentIds {
        let mut ids = RecentIds::with_bound(bound);
        for chunk in chunks {
            chunk.ids.iter().for_each(|&(hash, key)| ids.restore(key, hash, chunk.generation));
        }
        ids
    }

    fn keys() -> impl Strategy<Value = Vec<u128>> {
        prop::collection::vec(0..40u128, 0..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn the_last_keys_are_known_and_none_that_was_not_remembered(
            bound in 1..12usize,
            keys in keys(),
        ) {
            let mut ids = RecentIds::with_bound(bound);
            let mut counted = Vec::new();
            for key in keys {
                let ago = counted.iter().rev().position(|&earlier| earlier == key);
                let is_new = ids.is_new(key, hash(key));
                match ago {
                    Some(ago) if ago < bound => prop_assert!(!is_new, "{ago} keys ago"),
                    Some(ago) if ago < 2 * bound => {}
                    _ => prop_assert!(is_new),
                }
                if is_new {
                    counted.push(key);
                }
                prop_assert!(ids.len() <= 2 * bound);
                prop_assert!(ids.len() >= counted.len().min(bound));
            }
        }

        #[test]
        fn saved_and_restored_ids_go_on_as_if_nothing_had_been(
            bound in 1..12usize,
            max in 1..9usize,
            (before, between, after) in (keys(), keys(), keys()),
            shuffled in any::<bool>(),
        ) {
            let mut uninterrupted = RecentIds::with_bound(bound);
            offer(&mut uninterrupted, &before);
            let mut saved = chunks(&mut uninterrupted, max);
            offer(&mut uninterrupted, &between);
            saved.extend(chunks(&mut uninterrupted, max));
            let needed = uninterrupted.oldest_generation();
            saved.retain(|chunk| chunk.generation >= needed);
            if shuffled {
                saved.reverse();
            }
            let mut back = restored(bound, &saved);
            prop_assert!(back.take_unsaved(1).is_none());
            prop_assert_eq!(back.len(), uninterrupted.len());
            let counted = offer(&mut uninterrupted, &after);
            prop_assert_eq!(offer(&mut back, &after), counted);
            prop_assert_eq!(chunks(&mut back, max), chunks(&mut uninterrupted, max));
        }

        #[test]
        fn the_log_rebuilds_what_no_chunk_holds(
            bound in 1..12usize,
            (before, unsaved, after) in (keys(), keys(), keys()),
        ) {
            let mut uninterrupted = RecentIds::with_bound(bound);
            offer(&mut uninterrupted, &before);
            let saved = chunks(&mut uninterrupted, usize::MAX);
            let logged = offer(&mut uninterrupted, &unsaved);
            let mut back = restored(bound, &saved);
            prop_assert_eq!(offer(&mut back, &logged), logged);
            prop_assert_eq!(offer(&mut back, &after), offer(&mut uninterrupted, &after));
        }

        #[test]
        fn adopted_keys_outlive_a_generation_of_new_ones(
            bound in 1..12usize,
            (one, other) in (keys(), keys()),
            new in 0..12u128,
        ) {
            let mut old = [one, other].map(|keys| {
                let mut ids = RecentIds::with_bound(bound);
                offer(&mut ids, &keys);
                ids
            });
            let saved: Vec<_> = old.iter_mut().flat_map(|ids| chunks(ids, 5)).collect();
            let highest = saved.iter().map(|chunk| chunk.generation).max().unwrap_or(0);
            let mut ids = RecentIds::with_bound(bound).after(highest);
            prop_assert!(ids.oldest_generation() > highest);
            let adopted: Vec<_> = saved.iter().flat_map(|chunk| chunk.ids.clone()).collect();
            for &(hash, key) in &adopted {
                ids.adopt(key, hash);
            }
            let again: usize = chunks(&mut ids, 7).iter().map(|chunk| chunk.ids.len()).sum();
            prop_assert_eq!(again, ids.len(), "each is saved again, once");
            for key in 0..new.min(bound as u128) {
                prop_assert!(ids.is_new(1000 + key, hash(key)));
            }
            for (hash, key) in adopted {
                prop_assert!(!ids.is_new(key, hash));
            }
        }
    }

    #[test]
    fn chunks_are_neighbours_of_one_generation_and_each_key_is_in_one() {
        let mut ids = RecentIds::with_bound(4);
        offer(&mut ids, &[1, 2, 3, 4, 2, 5, 6]);
        let chunk = |generation, first, keys: &[u128]| {
            let ids = keys.iter().map(|&key| (hash(key), key)).collect();
            UnsavedIds { generation, first, ids }
        };
        assert_eq!(ids.take_unsaved(3), Some(chunk(1, 0, &[1, 2, 3])));
        assert_eq!(ids.take_unsaved(3), Some(chunk(1, 3, &[4])));
        assert_eq!(ids.take_unsaved(3), Some(chunk(2, 0, &[5, 6])));
        assert_eq!(ids.take_unsaved(3), None);
        assert_eq!(ids.oldest_generation(), 1);
        offer(&mut ids, &[7, 8, 9]);
        assert_eq!(ids.oldest_generation(), 2);
        assert_eq!(ids.take_unsaved(9), Some(chunk(2, 2, &[7, 8])));
        assert_eq!(ids.take_unsaved(9), Some(chunk(3, 0, &[9])));
    }

    #[test]
    fn any_generation_number_can_be_restored() {
        for generation in [0, 1, 2, 3, u64::MAX - 1, u64::MAX] {
            let mut ids = RecentIds::with_bound(1).after(generation);
            ids.restore(7, hash(7), generation);
            let mut ids = RecentIds::with_bound(1);
            ids.restore(7, hash(7), generation);
            assert!(!ids.is_new(7, hash(7)), "{generation}");
            assert!(ids.is_new(8, hash(8)) && ids.is_new(9, hash(9)));
        }
    }

    #[test]
    fn a_generation_reserves_its_memory_once() {
        assert_eq!(RecentIds::new().memory_bytes(), 0, "nothing until the first id");
        let mut ids = RecentIds::with_bound(1000);
        let mut seen = vec![0];
        for key in 0..100_000 {
            ids.is_new(key, hash(key));
            if ids.memory_bytes() != seen[seen.len() - 1] {
                seen.push(ids.memory_bytes());
            }
        }
        assert_eq!(seen.len(), 3, "one step for each generation: {seen:?}");
        assert_eq!(seen[2], 2 * seen[1]);

        let mut full = RecentIds::new();
        full.is_new(1, hash(1));
        assert!((29 << 20..31 << 20).contains(&full.memory_bytes()), "{}", full.memory_bytes());
    }

    #[test]
    fn the_memory_of_adopted_keys_is_given_back() {
        let mut ids = RecentIds::with_bound(8);
        (0..1000).for_each(|key| ids.adopt(key, hash(key)));
        assert_eq!(ids.len(), 1000);
        let large = ids.memory_bytes();
        (1000..1100).for_each(|key| assert!(ids.is_new(key, hash(key))));
        assert!(ids.memory_bytes() < large / 10 && ids.len() <= 16);
    }
}
