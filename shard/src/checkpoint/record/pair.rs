//! A pair by itself: its hot state and its non-empty buckets. Format 1 has a record for each.

use super::{Record, RecordFault};
use crate::checkpoint::{Key, Tag};
use crate::limits::{BUCKETS, HALF_LIVES_MAX, MINUTE_BUCKETS};
use rkyv::{Archive, Deserialize, Serialize};

/// The state of one entity and signal type.
#[derive(Clone, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub struct PairRecord {
    /// The state includes the log up to here; what comes later has to be applied to it.
    pub lsn: u64,
    /// The newest event time, in nanoseconds; the rings of buckets end there.
    pub last_update: u64,
    /// The sums against their landmarks; zero where there is no half-life.
    pub sums: [f64; HALF_LIVES_MAX],
    /// Events ever counted.
    pub all_time: u64,
    /// How many half-lives the signal type has.
    pub half_lives: u8,
    /// Whether a counter has reached its end.
    pub saturated: bool,
    /// The buckets that are not empty, as position and count, by position.
    pub counts: Vec<(u8, u32)>,
}

impl Record for PairRecord {
    const TAG: Tag = Tag::Sig;

    fn check(&self, _key: Key) -> Result<(), RecordFault> {
        check_state((&self.sums, self.half_lives), self.all_time, &self.counts)
    }
}

impl PairRecord {
    /// Without any state: to be written to.
    #[must_use]
    pub const fn blank() -> Self {
        Self {
            lsn: 0,
            last_update: 0,
            sums: [0.0; HALF_LIVES_MAX],
            all_time: 0,
            half_lives: 0,
            saturated: false,
            counts: Vec::new(),
        }
    }
}

/// Whether a pair's state means something.
pub(super) fn check_state(
    (sums, half_lives): (&[f64; HALF_LIVES_MAX], u8),
    all_time: u64,
    counts: &[(u8, u32)],
) -> Result<(), RecordFault> {
    let used = usize::from(half_lives);
    if !(1..=HALF_LIVES_MAX).contains(&used) {
        return Err(RecordFault::HalfLives { count: half_lives });
    }
    for (index, &sum) in sums.iter().enumerate() {
        let is_score = sum.is_finite() && sum.is_sign_positive();
        if !is_score || (index >= used && sum != 0.0) {
            return Err(RecordFault::Sum { index });
        }
    }
    check_counts(all_time, counts)
}

fn check_counts(all_time: u64, counts: &[(u8, u32)]) -> Result<(), RecordFault> {
    let (mut sums, mut ascends, mut next) = ([0; 2], true, 0);
    for &(position, count) in counts {
        let place = usize::from(position);
        if place >= BUCKETS || count == 0 {
            return Err(RecordFault::Bucket { position });
        }
        ascends &= place >= next;
        next = place + 1;
        sums[usize::from(place >= MINUTE_BUCKETS)] += u64::from(count);
    }
    if !ascends {
        let position = counts.last().map_or(0, |&(position, _)| position);
        return Err(RecordFault::Bucket { position });
    }
    let most = sums[0].max(sums[1]).max(1);
    if all_time < most { Err(RecordFault::AllTime { all_time }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!(size_of::<ArchivedPairRecord>(), 58);
        assert_eq!(align_of::<ArchivedPairRecord>(), 1);
        assert_eq!(offset_of!(ArchivedPairRecord, lsn), 0);
        assert_eq!(offset_of!(ArchivedPairRecord, last_update), 8);
        assert_eq!(offset_of!(ArchivedPairRecord, sums), 16);
        assert_eq!(offset_of!(ArchivedPairRecord, all_time), 40);
        assert_eq!(offset_of!(ArchivedPairRecord, half_lives), 48);
        assert_eq!(offset_of!(ArchivedPairRecord, saturated), 49);
        assert_eq!(offset_of!(ArchivedPairRecord, counts), 50);
        assert_eq!(size_of::<rkyv::Archived<(u8, u32)>>(), 5);
    }
}
