//! The record of a pair: its hot state and its non-empty buckets.

use super::{Record, RecordFault, ascend};
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
        let half_lives = usize::from(self.half_lives);
        if !(1..=HALF_LIVES_MAX).contains(&half_lives) {
            return Err(RecordFault::HalfLives { count: self.half_lives });
        }
        for (index, &sum) in self.sums.iter().enumerate() {
            let is_score = sum.is_finite() && sum.is_sign_positive();
            if !is_score || (index >= half_lives && sum != 0.0) {
                return Err(RecordFault::Sum { index });
            }
        }
        self.check_counts()
    }
}

impl PairRecord {
    fn check_counts(&self) -> Result<(), RecordFault> {
        let mut sums = [0; 2];
        for &(position, count) in &self.counts {
            let place = usize::from(position);
            if place >= BUCKETS || count == 0 {
                return Err(RecordFault::Bucket { position });
            }
            sums[usize::from(place >= MINUTE_BUCKETS)] += u64::from(count);
        }
        if !ascend(self.counts.iter().map(|&(position, _)| position)) {
            let position = self.counts.last().map_or(0, |&(position, _)| position);
            return Err(RecordFault::Bucket { position });
        }
        let most = sums[0].max(sums[1]).max(1);
        let all_time = self.all_time;
        if all_time < most { Err(RecordFault::AllTime { all_time }) } else { Ok(()) }
    }
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
