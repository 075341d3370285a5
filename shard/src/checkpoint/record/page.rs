//! The record of a page: pairs that lie side by side in the order of keys, with their counts.
//!
//! Promises: a list that was checked names as many counts as it has, so going through it finds
//! each pair's own.
//! Why pages: a database takes a record in, and gives it back, at the same price whatever it holds.

use super::pair::check_state;
use super::{PairRecord, Record, RecordFault};
use crate::EntityId;
use crate::checkpoint::{Key, Tag};
use crate::limits::{HALF_LIVES_MAX, PAGE_PAIRS_MAX};
use rkyv::{Archive, Deserialize, Serialize};

/// A pair as it stands in a list, without its counts.
#[derive(Clone, Copy, Debug, PartialEq, Archive, Serialize, Deserialize)]
pub struct ListedPair {
    /// Whose it is.
    pub entity: u64,
    /// The state includes the log up to here; what comes later has to be applied to it.
    pub lsn: u64,
    /// The newest event time, in nanoseconds; the rings of buckets end there.
    pub last_update: u64,
    /// The sums against their landmarks; zero where there is no half-life.
    pub sums: [f64; HALF_LIVES_MAX],
    /// Events ever counted.
    pub all_time: u64,
    /// The stored number of the signal type.
    pub number: u8,
    /// How many half-lives the signal type has.
    pub half_lives: u8,
    /// Whether a counter has reached its end.
    pub saturated: bool,
    /// How many buckets are not empty.
    pub counts: u8,
}

/// Pairs and their counts, each in one piece of memory. A page is such a list of at most
/// [`PAGE_PAIRS_MAX`], in order.
#[derive(Clone, Debug, Default, PartialEq, Archive, Serialize, Deserialize)]
pub struct PairList {
    /// The pairs.
    pub pairs: Vec<ListedPair>,
    /// The buckets that are not empty, as position and count, by position, of one pair behind those
    /// of the one before.
    pub counts: Vec<(u8, u32)>,
}

impl ListedPair {
    /// A pair that stands by itself, without its counts.
    #[must_use]
    pub fn of((entity, number): (EntityId, u8), record: &PairRecord) -> Self {
        let PairRecord { lsn, last_update, sums, all_time, half_lives, saturated, .. } = *record;
        let (entity, counts) = (entity.0, 0);
        Self { entity, lsn, last_update, sums, all_time, number, half_lives, saturated, counts }
    }

    /// Entity and number: what pairs are ordered by.
    #[must_use]
    pub const fn place(&self) -> (u64, u8) {
        (self.entity, self.number)
    }

    /// Says the same in `record`, whose list is used again.
    pub fn write_to(&self, counts: &[(u8, u32)], record: &mut PairRecord) {
        let Self { lsn, last_update, sums, all_time, half_lives, saturated, .. } = *self;
        let mut list = std::mem::take(&mut record.counts);
        list.clear();
        list.extend_from_slice(counts);
        *record =
            PairRecord { lsn, last_update, sums, all_time, half_lives, saturated, counts: list };
    }
}

impl PairList {
    /// Adds a pair with its counts.
    ///
    /// # Panics
    ///
    /// If there are more counts than buckets.
    pub fn push(&mut self, pair: &ListedPair, counts: &[(u8, u32)]) {
        let count = u8::try_from(counts.len()).expect("there are 228 buckets");
        self.pairs.push(ListedPair { counts: count, ..*pair });
        self.counts.extend_from_slice(counts);
    }

    /// Adds a pair that stands by itself.
    ///
    /// # Panics
    ///
    /// As [`PairList::push`].
    pub fn push_record(&mut self, pair: (EntityId, u8), record: &PairRecord) {
        self.push(&ListedPair::of(pair, record), &record.counts);
    }

    /// Each pair with its counts.
    pub fn iter(&self) -> impl Iterator<Item = (&ListedPair, &[(u8, u32)])> {
        let mut left = &self.counts[..];
        self.pairs.iter().map(move |pair| {
            let (counts, rest) = left.split_at_checked(pair.counts.into()).unwrap_or((left, &[]));
            left = rest;
            (pair, counts)
        })
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Lets all go, and keeps the memory.
    pub fn clear(&mut self) {
        self.pairs.clear();
        self.counts.clear();
    }

    /// Bytes of memory that are in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.pairs) + size_of_val(&*self.counts)
    }

    /// Bytes of its archive.
    pub(crate) const fn archive_bytes(&self) -> usize {
        size_of::<ArchivedPairList>()
            + self.pairs.len() * size_of::<ArchivedListedPair>()
            + self.counts.len() * size_of::<rkyv::Archived<(u8, u32)>>()
    }

    /// Adds all of another list behind.
    pub(crate) fn append(&mut self, other: &Self) {
        self.pairs.extend_from_slice(&other.pairs);
        self.counts.extend_from_slice(&other.counts);
    }

    /// Takes over what an archive says.
    pub(super) fn read(&mut self, archived: &ArchivedPairList) {
        self.clear();
        self.pairs.extend(archived.pairs.iter().map(|pair| ListedPair {
            entity: pair.entity.to_native(),
            lsn: pair.lsn.to_native(),
            last_update: pair.last_update.to_native(),
            sums: pair.sums.map(rkyv::rend::unaligned::f64_ule::to_native),
            all_time: pair.all_time.to_native(),
            number: pair.number,
            half_lives: pair.half_lives,
            saturated: pair.saturated,
            counts: pair.counts,
        }));
        self.counts.extend(archived.counts.iter().map(|count| (count.0, count.1.to_native())));
    }
}

impl Record for PairList {
    const TAG: Tag = Tag::Sig;

    fn check(&self, key: Key) -> Result<(), RecordFault> {
        let Key::Page { entity, number, .. } = key else { return Err(RecordFault::Key) };
        let counts: usize = self.pairs.iter().map(|pair| usize::from(pair.counts)).sum();
        let begins = self.pairs.first().is_some_and(|pair| pair.place() == (entity.0, number));
        let ascends = self.pairs.is_sorted_by(|one, next| one.place() < next.place());
        if !begins || !ascends || self.len() > PAGE_PAIRS_MAX || counts != self.counts.len() {
            return Err(RecordFault::Page);
        }
        self.iter().try_for_each(|(pair, counts)| {
            check_state((&pair.sums, pair.half_lives), pair.all_time, counts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_layout_of_the_archive_is_frozen() {
        assert_eq!((size_of::<ArchivedPairList>(), align_of::<ArchivedPairList>()), (16, 1));
        assert_eq!(offset_of!(ArchivedPairList, pairs), 0);
        assert_eq!(offset_of!(ArchivedPairList, counts), 8);
        assert_eq!((size_of::<ArchivedListedPair>(), align_of::<ArchivedListedPair>()), (60, 1));
        let offsets = [
            offset_of!(ArchivedListedPair, entity),
            offset_of!(ArchivedListedPair, lsn),
            offset_of!(ArchivedListedPair, last_update),
            offset_of!(ArchivedListedPair, sums),
            offset_of!(ArchivedListedPair, all_time),
            offset_of!(ArchivedListedPair, number),
            offset_of!(ArchivedListedPair, half_lives),
            offset_of!(ArchivedListedPair, saturated),
            offset_of!(ArchivedListedPair, counts),
        ];
        assert_eq!(offsets, [0, 8, 16, 24, 48, 56, 57, 58, 59]);
        assert_eq!(size_of::<rkyv::Archived<(u8, u32)>>(), 5);
        let mut list = PairList::default();
        for counts in [&[][..], &[(1, 2), (3, 4)], &[(5, 6)]] {
            let mut archive = Vec::new();
            list.archive_into(&mut archive).unwrap();
            assert_eq!(list.archive_bytes(), archive.len());
            list.push_record(
                (EntityId(1), 2),
                &PairRecord { counts: counts.into(), ..PairRecord::blank() },
            );
        }
    }
}
