//! The index of a table: where the slot of each pair is, by a mark of 32 bits of its hash.
//!
//! ```text
//! mark ─low bits─▶ directory ─▶ segment ─┐
//!   └──────────high bits──────▶ group ───┴▶ one cache line: 8 marks, 8 slots
//! ```
//!
//! Promises: the slot of a pair is found in one cache line of the index, seldom two; growing moves
//! the entries of one segment, at most `SEGMENT_ENTRIES`, and looks at no slot. Invariants: the
//! entries of a group are taken from the first on; no group between the one that a mark names and
//! the one it is in has a free entry; nothing is ever removed; at most three quarters of a
//! segment's entries are taken, seven eighths of a small index's, all of a single group's; all
//! entries of the directory that end alike in a segment's `depth` bits name it.
//! Source: Fagin, Nievergelt, Pippenger, Strong, *Extendible hashing*, TODS 1979.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::blocks::Blocks;
use crate::limits::{
    DIRECTORY_BITS_MAX, GROUP_ENTRIES, SEGMENT_GROUP_BITS, SEGMENT_GROUPS, SMALL_INDEX_BITS,
};
use crate::{EntityHash, SignalId};

/// Slots by mark.
#[derive(Debug)]
pub(super) struct Index {
    groups: Blocks<Group>,
    /// Groups of a segment, as a power of two: of the only one, until that is of full size.
    group_bits: u32,
    /// Which segment holds the marks that end in a number of bits. Its length is a power of two.
    directory: Box<[u32]>,
    segments: Vec<Segment>,
    /// Entries of a segment that are not in the group their mark names; empty but while it splits.
    strays: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    taken: usize,
    /// Bits that the marks in it have in common.
    depth: u32,
}

/// Entries that are looked at all at once.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Group {
    marks: [u32; GROUP_ENTRIES],
    /// [`NO_SLOT`] in a free entry.
    slots: [u32; GROUP_ENTRIES],
}

const NO_SLOT: u32 = u32::MAX;
const _: () = assert!(size_of::<Group>() == crate::limits::CACHE_LINE_BYTES);

/// Where the search for a pair begins, and for which mark.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    group: usize,
    mark: u32,
}

impl Home {
    /// Of no pair.
    pub const NOWHERE: Self = Self { group: 0, mark: 0 };
}

impl Group {
    const FREE: Self = Self { marks: [0; GROUP_ENTRIES], slots: [NO_SLOT; GROUP_ENTRIES] };

    /// The slot of the one entry with this mark; if there are none or several, any number.
    #[inline(always)]
    fn likely(&self, mark: u32) -> u32 {
        let mut slot = 0;
        // Without a branch, and all side by side.
        for (here, of_entry) in self.marks.iter().zip(&self.slots) {
            slot |= of_entry & u32::from(*here == mark).wrapping_neg();
        }
        slot
    }

    /// Its entries.
    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        self.marks.into_iter().zip(self.slots).take_while(|&(_, slot)| slot != NO_SLOT)
    }

    /// Takes the next entry; says `false` if there is none.
    fn push(&mut self, (mark, slot): (u32, u32)) -> bool {
        // Counted without a branch: how many there are is hard to foretell.
        let taken = self.slots.iter().filter(|&&slot| slot != NO_SLOT).count();
        let has_room = taken < GROUP_ENTRIES;
        if has_room {
            (self.marks[taken], self.slots[taken]) = (mark, slot);
        }
        has_room
    }

    /// Whether no entry has this mark, and none of a mark that begins here is in another group.
    #[inline(always)]
    fn lacks(&self, mark: u32) -> bool {
        let mut any = 0;
        for here in self.marks {
            any |= u32::from(here == mark);
        }
        any == 0 && !self.is_full()
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.slots[GROUP_ENTRIES - 1] != NO_SLOT
    }
}

impl Default for Index {
    fn default() -> Self {
        let mut groups = Blocks::default();
        groups.extend(1, Group::FREE);
        let segments = vec![Segment { taken: 0, depth: 0 }];
        Self { groups, group_bits: 0, directory: [0].into(), segments, strays: Vec::new() }
    }
}

impl Index {
    /// Where the search for a pair begins, as long as the index does not grow.
    #[inline(always)]
    pub(super) fn home(&self, hash: EntityHash, signal: SignalId) -> Home {
        self.home_of(hash.mark(signal))
    }

    #[inline(always)]
    fn home_of(&self, mark: u32) -> Home {
        let last = self.directory.len().wrapping_sub(1);
        let segment = self.directory[mark as usize & last] as usize;
        let group = group_of(mark, self.group_bits);
        Home { group: segment.wrapping_shl(self.group_bits) | group, mark }
    }

    /// Asks for the cache line of a home.
    #[inline(always)]
    pub(super) fn fetch(&self, home: Home) {
        self.groups.fetch(home.group);
    }

    /// The slot of the pair of a home, most likely, if it was ever entered; if not, any number.
    #[inline(always)]
    pub(super) fn likely(&self, home: Home) -> usize {
        self.groups.get(home.group).map_or(0, |group| group.likely(home.mark) as usize)
    }

    /// The first slot of which `is` says that it is the pair's, among those of all pairs that have
    /// the mark of a home.
    #[inline]
    pub(super) fn find(&self, home: Home, mut is: impl FnMut(usize) -> bool) -> Option<usize> {
        for group in self.groups_from(home) {
            let group = self.groups.get(group)?;
            // The usual case of a new pair.
            if group.lacks(home.mark) {
                break;
            }
            let Group { marks, slots } = group;
            for (&mark, &slot) in marks.iter().zip(slots) {
                if mark == home.mark && slot != NO_SLOT && is(slot as usize) {
                    return Some(slot as usize);
                }
            }
            if !group.is_full() {
                break;
            }
        }
        None
    }

    /// Enters a pair that is not entered yet.
    ///
    /// # Panics
    ///
    /// If there are more pairs than the largest directory can spread.
    pub(super) fn insert(&mut self, hash: EntityHash, signal: SignalId, slot: usize) {
        let slot = u32::try_from(slot).expect("a shard holds at most 2^29 pairs");
        let mark = hash.mark(signal);
        loop {
            let segment = self.home_of(mark).group >> self.group_bits;
            if self.segments[segment].taken < self.most_taken() {
                return self.put((mark, slot));
            }
            self.make_room(segment, mark);
        }
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.groups.memory_bytes()
            + size_of_val(&*self.directory)
            + self.segments.capacity() * size_of::<Segment>()
            + self.strays.capacity() * size_of::<(u32, u32)>()
    }

    /// Entries of a segment that may be taken.
    fn most_taken(&self) -> usize {
        let entries = GROUP_ENTRIES << self.group_bits;
        match self.group_bits {
            0 => entries,
            // Few enough to search long in: they stay in the nearest caches.
            1..=SMALL_INDEX_BITS => entries / 8 * 7,
            _ => entries / 4 * 3,
        }
    }

    /// The groups of a segment, from a home on.
    fn groups_from(&self, home: Home) -> impl Iterator<Item = usize> + use<> {
        let (group, count) = (home.group, 1 << self.group_bits);
        let segment = group & !(count - 1);
        (group..group + count).map(move |group| segment | group & (count - 1))
    }

    /// Takes an entry of a segment that has one.
    fn put(&mut self, entry: (u32, u32)) {
        let home = self.home_of(entry.0);
        self.segments[home.group >> self.group_bits].taken += 1;
        let mut groups = self.groups_from(home);
        let took =
            groups.any(|group| self.groups.get_mut(group).is_some_and(|group| group.push(entry)));
        assert!(took, "a segment has a free entry as long as it is not all taken");
    }

    /// Makes a segment, that of `mark`, half as full: the only one of a small index twice as large,
    /// any other two of it.
    #[cold]
    fn make_room(&mut self, segment: usize, mark: u32) {
        if self.group_bits < SEGMENT_GROUP_BITS {
            self.double();
        } else {
            self.split(segment, mark);
        }
    }

    /// Makes the only segment twice as large.
    fn double(&mut self) {
        let entries: Vec<_> = self.groups.as_slice().iter().flat_map(Group::entries).collect();
        self.groups.as_mut_slice().fill(Group::FREE);
        self.groups.extend(1 << self.group_bits, Group::FREE);
        self.group_bits += 1;
        self.segments[0].taken = 0;
        for entry in entries {
            self.put(entry);
        }
    }

    /// Gives the upper half of a segment's marks, in the order of their next bit, to a new one.
    fn split(&mut self, segment: usize, mark: u32) {
        let depth = self.segments[segment].depth;
        assert!(depth < DIRECTORY_BITS_MAX, "a shard holds at most 2^29 pairs");
        if 1 << depth == self.directory.len() {
            self.directory = self.directory.repeat(2).into();
        }
        let new = self.segments.len();
        let half = Segment { taken: 0, depth: depth + 1 };
        self.segments[segment] = half;
        self.segments.push(half);
        self.groups.extend(SEGMENT_GROUPS, Group::FREE);
        let name = u32::try_from(new).expect("a directory of 2^20 entries names them all");
        let upper_half = mark as usize & ((1 << depth) - 1) | 1 << depth;
        self.directory.iter_mut().skip(upper_half).step_by(2 << depth).for_each(|at| *at = name);
        self.part([segment, new], depth);
    }

    /// Parts the entries of the first of two segments, by a bit of their marks. A mark names the
    /// same group of either, so only those that had made way for others are put in anew.
    fn part(&mut self, segments: [usize; 2], bit: u32) {
        let mut strays = std::mem::take(&mut self.strays);
        for place in 0..SEGMENT_GROUPS {
            let at = segments.map(|segment| segment << SEGMENT_GROUP_BITS | place);
            let groups = self.groups.as_mut_slice();
            let (parted, mut taken) = (std::mem::replace(&mut groups[at[0]], Group::FREE), [0; 2]);
            // Each to where it stays: groups built elsewhere and then copied are waited for.
            for (mark, slot) in parted.entries() {
                if group_of(mark, SEGMENT_GROUP_BITS) != place {
                    strays.push((mark, slot));
                    continue;
                }
                let half = (mark >> bit & 1) as usize;
                let group = &mut groups[at[half]];
                (group.marks[taken[half]], group.slots[taken[half]]) = (mark, slot);
                taken[half] += 1;
            }
            for (segment, taken) in segments.into_iter().zip(taken) {
                self.segments[segment].taken += taken;
            }
        }
        strays.drain(..).for_each(|entry| self.put(entry));
        self.strays = strays;
    }
}

/// Which group of a segment a mark names.
#[inline(always)]
fn group_of(mark: u32, group_bits: u32) -> usize {
    // Shifts that cannot overflow save a core the look.
    (u64::from(mark).wrapping_shl(group_bits) >> u32::BITS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEGMENT_ENTRIES;

    #[test]
    fn the_directory_names_each_segment_where_its_bits_say() {
        let mut index = Index::default();
        for slot in 0..50_000u32 {
            index.insert(EntityHash(slot.wrapping_mul(0x9E37_79B9)), SignalId(0), slot as usize);
        }
        let Index { directory, segments, .. } = &index;
        assert!(directory.len() >= segments.len() && segments.len() > 8);
        for (named, segment) in segments.iter().enumerate() {
            let entries: Vec<usize> =
                (0..directory.len()).filter(|&at| directory[at] as usize == named).collect();
            assert_eq!(entries.len(), directory.len() >> segment.depth);
            let low = entries[0] & ((1 << segment.depth) - 1);
            assert!(entries.iter().all(|at| at & ((1 << segment.depth) - 1) == low));
        }
        let taken: usize = segments.iter().map(|segment| segment.taken).sum();
        assert_eq!(taken, 50_000);
    }

    #[test]
    fn pairs_of_one_mark_are_all_candidates() {
        let mut index = Index::default();
        let (one, other) = (EntityHash(7), EntityHash(8));
        (0..300).for_each(|slot| index.insert(one, SignalId(2), slot));
        (300..400).for_each(|slot| index.insert(other, SignalId(2), slot));
        let candidates = |hash, signal| {
            let mut slots = Vec::new();
            let found = index.find(index.home(hash, signal), |slot| {
                slots.push(slot);
                false
            });
            assert_eq!(found, None);
            slots.sort_unstable();
            slots
        };
        assert_eq!(candidates(one, SignalId(2)), (0..300).collect::<Vec<_>>());
        assert_eq!(candidates(other, SignalId(2)), (300..400).collect::<Vec<_>>());
        assert_eq!(candidates(one, SignalId(3)), []);
    }

    #[test]
    fn a_pair_alone_with_its_mark_is_found_at_once() {
        let mut index = Index::default();
        let hash = |slot: u32| EntityHash(slot.wrapping_mul(0x9E37_79B9));
        (0..20_000).for_each(|slot| index.insert(hash(slot), SignalId(0), slot as usize));
        let is_likely =
            |slot: &u32| index.likely(index.home(hash(*slot), SignalId(0))) == *slot as usize;
        let at_once = (0..20_000).filter(is_likely).count();
        assert!(at_once > 19_000, "{at_once}");
    }

    /// All marks name one group of their segments, so nearly all entries are in others.
    #[test]
    fn entries_that_made_way_are_found_after_their_segment_split() {
        let (mut index, signal) = (Index::default(), SignalId(0));
        let names_first = |hash: &EntityHash| group_of(hash.mark(signal), SEGMENT_GROUP_BITS) == 0;
        let mut hashes: Vec<_> = (0..).map(EntityHash).filter(names_first).take(7_001).collect();
        let other = hashes.pop().unwrap();
        for (slot, &hash) in hashes.iter().enumerate() {
            index.insert(hash, signal, slot);
        }
        assert!(index.segments.len() >= 3 && index.strays.is_empty());
        for (slot, &hash) in hashes.iter().enumerate().step_by(7) {
            assert_eq!(index.find(index.home(hash, signal), |found| found == slot), Some(slot));
        }
        assert_eq!(index.find(index.home(other, signal), |_| true), None);
    }

    #[test]
    #[should_panic(expected = "a shard holds at most")]
    fn more_pairs_of_one_mark_than_a_segment_holds_are_too_many() {
        let mut index = Index::default();
        (0..SEGMENT_ENTRIES).for_each(|slot| index.insert(EntityHash(5), SignalId(0), slot));
    }
}
