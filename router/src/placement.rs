//! Which shard owns which partition.
//!
//! Promises: every partition has exactly one owner; a shard's partitions are contiguous and their
//! numbers differ by at most one between shards; a pure function of the number of shards.

use ebbtide_shard::EntityHash;
use ebbtide_shard::limits::{PARTITIONS, SHARDS_MAX};
use std::ops::Range;

/// The partitions dealt out over some number of shards.
///
/// ```
/// use ebbtide_router::Placement;
/// let placement = Placement::over(3).unwrap();
/// assert_eq!(placement.partitions(0), 0..1366);
/// assert_eq!(placement.partitions(2), 2731..4096);
/// assert!(Placement::over(0).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    shards: usize,
}

impl Placement {
    /// A placement over 1 to [`SHARDS_MAX`] shards; `None` for another number.
    #[must_use]
    pub const fn over(shards: usize) -> Option<Self> {
        if shards >= 1 && shards <= SHARDS_MAX { Some(Self { shards }) } else { None }
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> usize {
        self.shards
    }

    /// The shard that owns an entity of this hash.
    #[must_use]
    #[inline]
    pub const fn shard(&self, hash: EntityHash) -> usize {
        hash.partition() * self.shards / PARTITIONS
    }

    /// The partitions a shard owns.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub const fn partitions(&self, shard: usize) -> Range<usize> {
        assert!(shard < self.shards, "no such shard");
        let (start, end) = (shard * PARTITIONS, (shard + 1) * PARTITIONS);
        start.div_ceil(self.shards)..end.div_ceil(self.shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_belongs_to_the_shard_that_claims_it() {
        for shards in (1..=40).chain([255, 256, 1000, SHARDS_MAX]) {
            let placement = Placement::over(shards).unwrap();
            let mut next = 0;
            for shard in 0..shards {
                let mine = placement.partitions(shard);
                assert_eq!(mine.start, next);
                assert!(!mine.is_empty() && mine.len().abs_diff(PARTITIONS / shards) <= 1);
                for partition in mine.clone() {
                    let hash = EntityHash(u32::try_from(partition << 20).unwrap() | 0xF_FFFF);
                    assert_eq!(placement.shard(hash), shard);
                }
                next = mine.end;
            }
            assert_eq!(next, PARTITIONS);
        }
    }

    #[test]
    fn numbers_of_shards_outside_the_limits_are_refused() {
        assert!(Placement::over(0).is_none());
        assert!(Placement::over(SHARDS_MAX + 1).is_none());
    }
}
