//! The record of a pair: its hot state and its non-empty buckets.

use super::{Record, RecordFault};
use crate::checkpoint::digest::DIGEST_BYTES;
use crate::checkpoint::{Key, Tag};
use crate::limits::{BUCKETS, HALF_LIVES_MAX, MINUTE_BUCKETS};
use rkyv::{Archive, Deserialize, Serialize};

/// Bytes of the part of fixed size.
const FIXED_BYTES: usize = 58;
/// Where the list of counts is named there.
const LIST_AT: usize = 50;
/// Bytes of a bucket in the list.
const COUNT_BYTES: usize = 5;

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

    /// As `rkyv` does it, without asking for memory: a test compares the two.
    fn archive_into(&self, bytes: &mut Vec<u8>) -> Result<(), RecordFault> {
        let counts = self.counts.len();
        // And for the digest behind it.
        bytes.reserve(counts * COUNT_BYTES + FIXED_BYTES + DIGEST_BYTES);
        for &(position, count) in &self.counts {
            let [a, b, c, d] = count.to_le_bytes();
            bytes.extend_from_slice(&[position, a, b, c, d]);
        }
        let mut fixed = [0; FIXED_BYTES];
        let [first, second, third] = self.sums.map(f64::to_le_bytes);
        let behind = i32::try_from(LIST_AT + counts * COUNT_BYTES).expect("there are 228 buckets");
        let count = u32::try_from(counts).expect("there are 228 buckets");
        let fields: [(usize, &[u8]); 9] = [
            (0, &self.lsn.to_le_bytes()),
            (8, &self.last_update.to_le_bytes()),
            (16, &first),
            (24, &second),
            (32, &third),
            (40, &self.all_time.to_le_bytes()),
            (48, &[self.half_lives, u8::from(self.saturated)]),
            (LIST_AT, &(-behind).to_le_bytes()),
            (LIST_AT + 4, &count.to_le_bytes()),
        ];
        for (at, field) in fields {
            fixed[at..at + field.len()].copy_from_slice(field);
        }
        bytes.extend_from_slice(&fixed);
        Ok(())
    }

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
    /// Without any state: to be read into.
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

    /// Takes over what an archive says.
    pub(super) fn read(&mut self, archived: &ArchivedPairRecord) {
        self.lsn = archived.lsn.to_native();
        self.last_update = archived.last_update.to_native();
        self.sums = archived.sums.map(rkyv::rend::unaligned::f64_ule::to_native);
        self.all_time = archived.all_time.to_native();
        self.half_lives = archived.half_lives;
        self.saturated = archived.saturated;
        self.counts.clear();
        self.counts.extend(archived.counts.iter().map(|count| (count.0, count.1.to_native())));
    }

    fn check_counts(&self) -> Result<(), RecordFault> {
        let (mut sums, mut ascends, mut next) = ([0; 2], true, 0);
        for &(position, count) in &self.counts {
            let place = usize::from(position);
            if place >= BUCKETS || count == 0 {
                return Err(RecordFault::Bucket { position });
            }
            ascends &= place >= next;
            next = place + 1;
            sums[usize::from(place >= MINUTE_BUCKETS)] += u64::from(count);
        }
        if !ascends {
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
    use proptest::prelude::*;
    use rkyv::rancor::Error;
    use std::mem::offset_of;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!(size_of::<ArchivedPairRecord>(), FIXED_BYTES);
        assert_eq!(align_of::<ArchivedPairRecord>(), 1);
        assert_eq!(offset_of!(ArchivedPairRecord, lsn), 0);
        assert_eq!(offset_of!(ArchivedPairRecord, last_update), 8);
        assert_eq!(offset_of!(ArchivedPairRecord, sums), 16);
        assert_eq!(offset_of!(ArchivedPairRecord, all_time), 40);
        assert_eq!(offset_of!(ArchivedPairRecord, half_lives), 48);
        assert_eq!(offset_of!(ArchivedPairRecord, saturated), 49);
        assert_eq!(offset_of!(ArchivedPairRecord, counts), LIST_AT);
        assert_eq!(size_of::<rkyv::Archived<(u8, u32)>>(), COUNT_BYTES);
    }

    proptest! {
        #[test]
        fn the_archive_is_the_one_that_rkyv_makes_and_reads(
            fields in (any::<[u64; 6]>(), any::<u8>(), any::<bool>()),
            counts in prop::collection::vec((any::<u8>(), any::<u32>()), 0..BUCKETS),
            before in 0..9usize,
        ) {
            let ([lsn, last_update, all_time, sums @ ..], half_lives, saturated) = fields;
            let sums = sums.map(f64::from_bits);
            let record =
                PairRecord { lsn, last_update, sums, all_time, half_lives, saturated, counts };
            let mut bytes = vec![0xee; before];
            record.archive_into(&mut bytes).unwrap();
            let archive = &bytes[before..];
            let made = rkyv::api::high::to_bytes_in::<_, Error>(&record, Vec::new()).unwrap();
            prop_assert_eq!(archive, &made[..]);
            let mut read = PairRecord { counts: vec![(1, 2)], ..PairRecord::blank() };
            read.read(rkyv::access::<_, Error>(archive).unwrap());
            prop_assert_eq!(format!("{read:?}"), format!("{record:?}"));
        }
    }
}
