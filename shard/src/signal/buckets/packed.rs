//! The sparse classes: bitmaps of non-empty buckets and their counts, one byte each.
//!
//! ```text
//! minutes: bit i stands for the minute i before the last;  hours: likewise
//! counts:  | newest minute … oldest minute | not in use | oldest hour … newest hour |
//! ```
//!
//! Promises: counting in the newest bucket looks at no other; time moves on by a shift of the
//! bitmap alone, since the counts of expired buckets border on those not in use. Invariants: as
//! many bits are set as counts are in use; no count in use is zero, but in [`Packed::OPEN`], which
//! holds what waits for another block and is asked for nothing else.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::{Added, BucketedCounter, Counts, Heads, Listed};
use crate::limits::{BUCKETS, HOUR_BUCKETS, MINUTE_BUCKETS};
use crate::prefetch::prefetch;
use crate::signal::window::{HOUR_WORDS, Ring, newest_bits};
use std::ops::Range;

const MINUTES_MASK: u64 = u64::MAX >> (64 - MINUTE_BUCKETS);
const LAST_HOURS_MASK: u64 = u64::MAX >> (64 * HOUR_WORDS - HOUR_BUCKETS);

/// Up to `ROOM` non-empty buckets of up to 255 events.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Packed<const ROOM: usize> {
    minutes: u64,
    hours: [u64; HOUR_WORDS],
    counts: [u8; ROOM],
}

const _: () = {
    assert!(size_of::<Packed<32>>() == 64);
    assert!(size_of::<Packed<96>>() == 128);
    assert!(size_of::<Packed<160>>() == 192);
};

impl<const ROOM: usize> Packed<ROOM> {
    /// No event in any.
    pub(crate) const EMPTY: Self = Self { minutes: 0, hours: [0; HOUR_WORDS], counts: [0; ROOM] };

    /// No event in the newest bucket of either ring, and one may come.
    pub(super) const OPEN: Self = Self { minutes: 1, hours: [1, 0, 0], ..Self::EMPTY };

    /// Events in the newest minute.
    #[inline(always)]
    pub(super) fn of_newest_minute(&self) -> u8 {
        self.counts[0]
    }

    /// Whether the newest bucket of both rings is in use.
    #[inline(always)]
    pub(super) fn holds_newest(&self) -> bool {
        self.is_used(Ring::Minutes, 0) && self.is_used(Ring::Hours, 0)
    }

    /// Counts an event in the newest bucket of both rings. Says `false`, and has counted it in
    /// none, where one of them is empty or full.
    #[inline(always)]
    pub(super) fn add_one(&mut self) -> bool {
        let (minute, hour) = (self.counts[0], self.counts[ROOM - 1]);
        let has_room = minute < u8::MAX && hour < u8::MAX;
        if has_room && self.holds_newest() {
            (self.counts[0], self.counts[ROOM - 1]) = (minute + 1, hour + 1);
            return true;
        }
        false
    }

    /// The same buckets with room for more of them, unless one is full.
    pub(super) fn widened<const WIDER: usize>(&self) -> Option<Packed<WIDER>> {
        let used = |ring: Ring| self.used(ring, ring.count());
        let (minutes, hours) = (used(Ring::Minutes), used(Ring::Hours));
        let mut counts = [0; WIDER];
        counts[..minutes].copy_from_slice(&self.counts[..minutes]);
        counts[WIDER - hours..].copy_from_slice(&self.counts[ROOM - hours..]);
        let wider = Packed { minutes: self.minutes, hours: self.hours, counts };
        (!counts.contains(&u8::MAX)).then_some(wider)
    }

    /// Non-empty buckets among the `newest` of a ring.
    #[inline(always)]
    fn used(&self, ring: Ring, newest: usize) -> usize {
        if ring == Ring::Minutes {
            return (self.minutes & newest_bits(newest, 0)).count_ones() as usize;
        }
        let [day, later, last] = self.hours;
        let mut used = (day & newest_bits(newest, 0)).count_ones();
        if newest > 64 {
            let later = later & newest_bits(newest, 1);
            let last = last & newest_bits(newest, 2);
            // As one number, so that no vector is made of the two.
            used += (u128::from(last) << 64 | u128::from(later)).count_ones();
        }
        used as usize
    }

    /// The bitmaps as they are when so many buckets have passed.
    #[inline(always)]
    pub(super) fn later(&self, minutes: u32, hours: u32) -> [u64; 1 + HOUR_WORDS] {
        let left = |word: u64, by: u32| if by < 64 { word << by } else { 0 };
        let [day, middle, last] = self.hours;
        let [day, middle, last] = if hours < 64 {
            // By two steps, since a shift by all 64 bits is none at all.
            let carried = |word: u64| word >> 1 >> (63 - hours);
            [day << hours, middle << hours | carried(day), last << hours | carried(middle)]
        } else {
            shifted(self.hours, hours)
        };
        [left(self.minutes, minutes), day, middle, last]
    }

    /// Events in the newest non-empty buckets of a ring, as many as `used`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a block has fewer than 256 places")]
    pub(super) fn sum_used(&self, ring: Ring, used: usize) -> u32 {
        let first = if ring == Ring::Minutes { 0 } else { ROOM.wrapping_sub(used) };
        // All places are looked at, and those of others are zero: vectors hold them.
        let mut counts = self.counts;
        for (place, count) in counts.iter_mut().enumerate() {
            let is_used = (place as u8).wrapping_sub(first as u8) < used as u8;
            *count &= u8::wrapping_neg(u8::from(is_used));
        }
        let mut sum = 0u32;
        for count in counts {
            sum = sum.wrapping_add(count.into());
        }
        sum
    }

    /// Where the count of the bucket after the `newer` ones stands.
    #[inline(always)]
    fn place(ring: Ring, newer: usize) -> usize {
        if ring == Ring::Minutes { newer } else { ROOM - newer - 1 }
    }

    #[inline(always)]
    fn words(&self, ring: Ring) -> &[u64] {
        if ring == Ring::Minutes { std::slice::from_ref(&self.minutes) } else { &self.hours }
    }

    #[inline(always)]
    fn is_used(&self, ring: Ring, ago: usize) -> bool {
        self.words(ring)[ago / 64] >> (ago % 64) & 1 != 0
    }

    #[inline(always)]
    fn set_used(&mut self, ring: Ring, ago: usize) {
        let word =
            if ring == Ring::Minutes { &mut self.minutes } else { &mut self.hours[ago / 64] };
        *word |= 1 << (ago % 64);
    }

    /// Gives the bucket after the `newer` ones, which is empty, a `count`; says `false` if there is
    /// no room.
    #[inline(always)]
    fn open(&mut self, ring: Ring, ago: usize, newer: usize, count: u8) -> bool {
        let used = self.used(ring, ring.count());
        let other = if ring == Ring::Minutes { Ring::Hours } else { Ring::Minutes };
        if used + self.used(other, other.count()) == ROOM {
            return false;
        }
        self.insert(ring, newer, used, count);
        self.set_used(ring, ago);
        true
    }

    /// Puts a count between the `newer` ones of the `used` and the older, which move on by one:
    /// those of minutes upward from the first place, those of hours downward from the last.
    #[inline(always)]
    fn insert(&mut self, ring: Ring, newer: usize, used: usize, count: u8) {
        let older = used - newer;
        // Eight counts move as one word, of which the low byte is the first.
        let word = if ring == Ring::Minutes {
            self.counts.get_mut(newer..).and_then(<[u8]>::first_chunk_mut)
        } else {
            self.counts.get_mut(..ROOM - newer).and_then(<[u8]>::last_chunk_mut)
        };
        if let Some(bytes) = word.filter(|_| older < 8) {
            let (old, kept_bits) = (u64::from_le_bytes(*bytes), 8 * (7 - older));
            let (moved, mask) = if ring == Ring::Minutes {
                (old << 8 | u64::from(count), u64::MAX >> kept_bits)
            } else {
                (old >> 8 | u64::from(count) << 56, u64::MAX << kept_bits)
            };
            *bytes = (moved & mask | old & !mask).to_le_bytes();
            return;
        }
        if ring == Ring::Minutes {
            self.counts.copy_within(newer..used, newer + 1);
        } else {
            self.counts.copy_within(ROOM - used..ROOM - newer, ROOM - used - 1);
        }
        self.counts[Self::place(ring, newer)] = count;
    }
}

impl<const ROOM: usize> BucketedCounter for Packed<ROOM> {
    const EMPTY: Self = Self::EMPTY;

    fn fits_listed(listed: &[Listed]) -> bool {
        let mut most = 0;
        for &(_, count) in listed {
            most = count.max(most);
        }
        // Room for one event more: in every bucket, and for one bucket more.
        most < u32::from(u8::MAX) && listed.len() + 1 < ROOM
    }

    fn take_listed(&mut self, listed: &[Listed], heads: Heads) {
        debug_assert!(Self::fits_listed(listed), "it was asked before");
        let [last_minute, last_hour] = heads.positions();
        // The newest of a ring stand at positions up to the last one, the others behind it. Found
        // by halves, which takes no branch that is hard to foretell.
        debug_assert!(listed.is_sorted_by_key(|&(at, _)| at), "they come by position");
        let up_to = |last: usize| listed.partition_point(|&(at, _)| usize::from(at) <= last);
        let (minutes, hours) = listed.split_at(up_to(MINUTE_BUCKETS - 1));
        let (newest, older) = minutes.split_at(up_to(last_minute));
        let (newest_hours, older_hours) = hours.split_at(up_to(last_hour) - minutes.len());
        let (of_newest, rest) = self.counts.split_at_mut(newest.len());
        let mut bits = 0;
        for (listed, places, end) in
            [(newest, of_newest, last_minute), (older, rest, last_minute + MINUTE_BUCKETS)]
        {
            for (&(at, count), place) in listed.iter().rev().zip(places) {
                bits |= 1 << (end - usize::from(at));
                *place = narrow(count);
            }
        }
        self.minutes = bits;
        let (rest, of_newest) = self.counts.split_at_mut(ROOM - newest_hours.len());
        let of_older = &mut rest[ROOM - hours.len()..];
        for (listed, places, end) in [
            (newest_hours, of_newest, last_hour),
            (older_hours, of_older, last_hour + HOUR_BUCKETS),
        ] {
            for (&(at, count), place) in listed.iter().zip(places) {
                let ago = end - usize::from(at);
                self.hours[ago / 64] |= 1 << (ago % 64);
                *place = narrow(count);
            }
        }
    }

    #[inline(always)]
    fn advance(&mut self, ring: Ring, head: u32, to: u32) {
        let passed = to - head;
        if ring == Ring::Minutes {
            self.minutes = self.minutes.checked_shl(passed).unwrap_or(0) & MINUTES_MASK;
        } else {
            self.hours = shifted(self.hours, passed);
        }
    }

    fn add_newest(&mut self, _head: Heads, events: u8) -> bool {
        debug_assert!(self.holds_newest(), "neither is empty");
        let [minute, hour] = [self.counts[0], self.counts[ROOM - 1]];
        let (Some(minute), Some(hour)) = (minute.checked_add(events), hour.checked_add(events))
        else {
            return false;
        };
        (self.counts[0], self.counts[ROOM - 1]) = (minute, hour);
        true
    }

    fn lets_wait(&self, _head: Heads) -> bool {
        self.holds_newest()
    }

    #[inline(always)]
    fn add(&mut self, ring: Ring, head: u32, bucket: u32) -> Added {
        let ago = ring.ago(head, bucket);
        let newer = if ago == 0 { 0 } else { self.used(ring, ago) };
        if !self.is_used(ring, ago) {
            let opened = self.open(ring, ago, newer, 1);
            return if opened { Added::Counted } else { Added::NeedsRoom };
        }
        let place = Self::place(ring, newer);
        match self.counts[place].checked_add(1) {
            Some(count) => {
                self.counts[place] = count;
                Added::Counted
            }
            None => Added::NeedsRoom,
        }
    }

    #[inline(always)]
    fn sum(&self, ring: Ring, _head: u32, newest: usize) -> u64 {
        self.sum_used(ring, self.used(ring, newest)).into()
    }

    #[inline(always)]
    fn fetch(&self, _event: Heads) {
        prefetch(self);
        prefetch(&self.counts[ROOM - 1]);
    }

    fn counts(&self, heads: Heads) -> Counts {
        let mut counts = [0; BUCKETS];
        for ring in [Ring::Minutes, Ring::Hours] {
            let mut newer = 0;
            for (i, &word) in self.words(ring).iter().enumerate() {
                let mut left = word;
                while left != 0 {
                    let ago = 64 * i + left.trailing_zeros() as usize;
                    let place = Self::place(ring, newer);
                    counts[heads.position(ring, ago)] = u32::from(self.counts[place]);
                    newer += 1;
                    left &= left - 1;
                }
            }
        }
        counts
    }

    fn list(&self, heads: Heads, out: &mut Vec<Listed>) {
        for ring in [Ring::Minutes, Ring::Hours] {
            let last = heads.position(ring, 0);
            // The newest so many stand at positions up to the last one, the others behind it.
            let newest = heads.ages_up_to_last(ring);
            for (ages, from) in [(0..newest, last), (newest..ring.count(), last + ring.count())] {
                let mut newer = self.used(ring, ages.end);
                for word in (ages.start / 64..ages.end.div_ceil(64)).rev() {
                    let mut left = self.words(ring)[word] & bits(&ages, word);
                    while left != 0 {
                        let bit = left.ilog2();
                        left ^= 1 << bit;
                        newer -= 1;
                        let place = Self::place(ring, newer);
                        let at = from - (64 * word + bit as usize);
                        let at = u8::try_from(at).expect("there are 228 positions");
                        out.push((at, u32::from(self.counts[place])));
                    }
                }
            }
        }
    }
}

/// A count that was seen to fit.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it was seen to fit")]
const fn narrow(count: u32) -> u8 {
    count as u8
}

/// Which bits of a bitmap's word stand for these ages, one of which at least is behind its begin.
fn bits(ages: &Range<usize>, word: usize) -> u64 {
    let (first, end) = (ages.start.saturating_sub(64 * word), (ages.end - 64 * word).min(64));
    u64::MAX << first & u64::MAX >> (64 - end)
}

/// The bitmap of hours when so many more have passed.
#[inline(always)]
fn shifted(hours: [u64; HOUR_WORDS], passed: u32) -> [u64; HOUR_WORDS] {
    let mut moved = hours;
    let bits = passed % 64;
    for _ in 0..HOUR_WORDS.min((passed / 64) as usize) {
        moved = [0, moved[0], moved[1]];
    }
    // By two steps, since a shift by all 64 bits is none at all.
    let carried = |word: u64| word >> 1 >> (63 - bits);
    let [first, second, third] = moved;
    [
        first << bits,
        second << bits | carried(first),
        (third << bits | carried(second)) & LAST_HOURS_MASK,
    ]
}
