//! The warm tier: 60 per-minute and 168 per-hour counters for each pair, in as little room as they
//! need.
//!
//! ```text
//! class      block  holds                              for
//! packed32     64   32 non-empty buckets, up to 255    almost every pair
//! packed96    128   96 non-empty buckets, up to 255
//! packed160   192  160 non-empty buckets, up to 255
//! dense8      256   every bucket, up to 255
//! dense16     512   every bucket, up to 65,535
//! dense32     960   every bucket, up to 4,294,967,295  the hottest pairs
//! ```
//!
//! Promises: every class answers alike; a pair moves to the smallest class that holds its counts
//! when its own is too small, and starts over in the smallest once all its buckets have expired. A
//! bucket of the widest class that is full stays full, and the pair says so.
//!
//! Positions 0..60 stand for minutes, 60..228 for hours. Which minute a position stands for follows
//! from the pair's last update, kept in its hot state: the ring always ends there. Not here: what a
//! window is ([`super::window`]).

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

mod block;
mod dense;
mod packed;
mod slab;

use super::window::{Ring, Window};
use crate::Timestamp;
use crate::limits::{BLOCK_INDEX_BITS, BUCKETS};
pub(crate) use block::{Block, Seen};
use dense::Dense;
use packed::Packed;
use slab::Slab;

/// The counters of one pair, written out: minutes at 0..60, hours at 60..228.
type Counts = [u32; BUCKETS];

/// A bucket that is not empty: its position and its count.
pub type Listed = (u8, u32);

/// What came of counting one event in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    /// It is counted, or older than all buckets.
    Counted,
    /// It is not: the block's class has no room for it.
    NeedsRoom,
    /// It is not, and no class has room: the bucket is at its end.
    Saturated,
}

/// The counters of one pair, in one class of block.
trait BucketedCounter: Copy {
    /// A block whose buckets are all empty.
    const EMPTY: Self;

    /// The block that holds `counts`, unless this class lacks the room for them and one event more.
    fn holding(counts: &Counts, heads: Heads) -> Option<Self>;

    /// Whether a block has room for the `listed` buckets, as [`BucketedCounter::holding`] does.
    fn fits_listed(listed: &[Listed]) -> bool;

    /// Takes over the `listed` buckets, which come by position and fit. All were empty.
    fn take_listed(&mut self, listed: &[Listed], heads: Heads);

    /// Lets `ring` end with `to`, later than `head`: the buckets that come in are empty.
    fn advance(&mut self, ring: Ring, head: u32, to: u32);

    /// Counts one event in the last bucket of both rings, which end with `head`. Says `false`, and
    /// has counted it in none, where one of them is empty or full.
    fn add_newest(&mut self, head: Heads) -> bool;

    /// Counts one event in `bucket` of a `ring` that ends with `head` and holds it.
    fn add(&mut self, ring: Ring, head: u32, bucket: u32) -> Added;

    /// Events in the `newest` buckets of a `ring` that ends with `head`.
    fn sum(&self, ring: Ring, head: u32, newest: usize) -> u64;

    /// Asks for the cache lines with the buckets of an event.
    fn fetch(&self, event: Heads);

    /// All buckets, written out.
    fn counts(&self, heads: Heads) -> Counts;

    /// Adds those that are not empty to `list`, by position.
    fn list(&self, heads: Heads, list: &mut Vec<Listed>);
}

/// A bucket of each ring: a minute, and the hour it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heads {
    minute: u32,
}

impl Heads {
    /// In place of those that are not known.
    pub(crate) const NONE: Self = Self { minute: 0 };

    /// The buckets that hold `time`.
    #[inline]
    pub(crate) fn of(time: Timestamp) -> Self {
        Self { minute: Ring::Minutes.bucket(time) }
    }

    #[inline(always)]
    fn hour(self) -> u32 {
        self.minute / Ring::Minutes.len()
    }

    /// The positions of both.
    #[inline(always)]
    fn positions(self) -> [usize; 2] {
        [Ring::Minutes.position(self.minute), Ring::Hours.position(self.hour())]
    }

    /// The bucket of a ring.
    #[inline(always)]
    pub(crate) fn of_ring(self, ring: Ring) -> u32 {
        if ring == Ring::Minutes { self.minute } else { self.hour() }
    }

    /// The bucket at a position: its ring, and how many before the last it is.
    fn bucket(self, position: usize) -> (Ring, usize) {
        let ring = if position < Ring::Minutes.count() { Ring::Minutes } else { Ring::Hours };
        let last = self.position(ring, 0);
        (ring, if position > last { last + ring.count() - position } else { last - position })
    }

    /// How many buckets of a ring stand at positions up to that of the last.
    fn ages_up_to_last(self, ring: Ring) -> usize {
        ring.position(self.of_ring(ring)) - ring.first() + 1
    }

    /// The position of a bucket so many before the last.
    fn position(self, ring: Ring, ago: usize) -> usize {
        let last = ring.position(self.of_ring(ring));
        if ago > last - ring.first() { last + ring.count() - ago } else { last - ago }
    }
}

/// Where the counters of one pair are: a class and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct BucketRef(u32);

/// The classes, in order of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Packed32,
    Packed96,
    Packed160,
    Dense8,
    Dense16,
    Dense32,
}

const CLASS_SHIFT: u32 = BLOCK_INDEX_BITS;

impl BucketRef {
    /// Nowhere: no bucket of the pair holds anything.
    pub const NONE: Self = Self(u32::MAX);

    fn new(class: Class, index: u32) -> Self {
        assert!(index >> CLASS_SHIFT == 0, "a shard holds at most 2^29 blocks of one class");
        Self((class as u32) << CLASS_SHIFT | index)
    }

    const fn class(self) -> Option<Class> {
        match self.0 >> CLASS_SHIFT {
            0 => Some(Class::Packed32),
            1 => Some(Class::Packed96),
            2 => Some(Class::Packed160),
            3 => Some(Class::Dense8),
            4 => Some(Class::Dense16),
            5 => Some(Class::Dense32),
            _ => None,
        }
    }

    /// Whether it is in the smallest class, as almost every pair is.
    #[inline(always)]
    const fn is_packed32(self) -> bool {
        const { assert!(Class::Packed32 as u32 == 0) };
        self.0 < 1 << CLASS_SHIFT
    }

    #[inline(always)]
    const fn index(self) -> u32 {
        self.0 & ((1 << CLASS_SHIFT) - 1)
    }
}

/// The counters of every pair of a shard.
#[derive(Debug, Default)]
pub struct BucketStore {
    packed32: Slab<Packed<32>>,
    packed96: Slab<Packed<96>>,
    packed160: Slab<Packed<160>>,
    dense8: Slab<Dense<u8>>,
    dense16: Slab<Dense<u16>>,
    dense32: Slab<Dense<u32>>,
}

/// Runs `$then` on the block that `$at` names, whatever its class; `$none` where it names none.
macro_rules! on_block {
    ($store:expr, $at:expr, $get:ident, |$block:ident| $then:expr, none: $none:expr) => {
        match $at.class() {
            Some(Class::Packed32) => {
                let $block = $store.packed32.$get($at.index());
                $then
            }
            Some(Class::Packed96) => {
                let $block = $store.packed96.$get($at.index());
                $then
            }
            Some(Class::Packed160) => {
                let $block = $store.packed160.$get($at.index());
                $then
            }
            Some(Class::Dense8) => {
                let $block = $store.dense8.$get($at.index());
                $then
            }
            Some(Class::Dense16) => {
                let $block = $store.dense16.$get($at.index());
                $then
            }
            Some(Class::Dense32) => {
                let $block = $store.dense32.$get($at.index());
                $then
            }
            None => $none,
        }
    };
}

impl BucketStore {
    /// Counts an event in its buckets, for the pair whose counters are at `at` and end with `old`,
    /// those of its last update before this event. Says `false` if a bucket is full for good and
    /// the event is not in it.
    #[must_use]
    #[inline(always)]
    pub(crate) fn record(&mut self, at: &mut BucketRef, old: Heads, event: Heads) -> bool {
        let is_same_minute = event.minute == old.minute;
        if at.is_packed32() {
            let block = self.packed32.get_mut(at.index());
            if is_same_minute && block.add_newest(event) {
                return true;
            }
            if event.hour().wrapping_sub(Ring::Hours.len()) < old.hour() {
                let heads = old.max(event);
                let added = count(block, old, heads, event);
                return added == [Added::Counted; 2] || self.finish(at, heads, event, added);
            }
        } else if is_same_minute
            && on_block!(self, *at, get_mut, |block| block.add_newest(event), none: false)
        {
            return true;
        }
        self.record_any(at, old, event)
    }

    /// The same, for pairs without counters, with many, or with none that has not expired.
    #[inline(never)]
    fn record_any(&mut self, at: &mut BucketRef, old: Heads, event: Heads) -> bool {
        if event.hour() >= old.hour() + Ring::Hours.len() {
            self.release(at);
        }
        if *at == BucketRef::NONE {
            debug_assert!(event.minute >= old.minute, "the first event is the newest one");
            *at = BucketRef::new(Class::Packed32, self.packed32.insert(Packed::ONE));
            return true;
        }
        let heads = old.max(event);
        let added = on_block!(self, *at, get_mut, |block| count(block, old, heads, event),
            none: [Added::Saturated; 2]);
        added == [Added::Counted; 2] || self.finish(at, heads, event, added)
    }

    /// Events in `window` as of `now`, for the pair whose counters are at `at` and end at `head`;
    /// `now` is not before `head`.
    #[must_use]
    #[inline]
    pub fn count(&self, at: BucketRef, head: Timestamp, window: &Window, now: Timestamp) -> u64 {
        self.block(at).count(window, Heads::of(head), Heads::of(now))
    }

    /// Asks for the cache lines that counting at `at` in the buckets of an event touches.
    #[inline(always)]
    pub(crate) fn fetch(&self, at: BucketRef, event: Heads) {
        if at.is_packed32() {
            self.packed32.fetch(at.index());
        } else {
            on_block!(self, at, get, |block| block.fetch(event), none: ());
        }
    }

    /// Adds the counters at `at` that are not zero, which end at `head`, to `list`, by position.
    pub fn list(&self, at: BucketRef, head: Timestamp, list: &mut Vec<Listed>) {
        on_block!(self, at, get, |block| block.list(Heads::of(head), list), none: ());
    }

    /// Puts the `listed` counters, which end at `head`, in the smallest class that holds them, in
    /// place of what is at `at`. They come by position, and none is zero.
    pub fn put_back(&mut self, at: &mut BucketRef, head: Timestamp, listed: &[Listed]) {
        self.release(at);
        let heads = Heads::of(head);
        *at = if Packed::<32>::fits_listed(listed) {
            let index = self.packed32.insert_with(|block| block.take_listed(listed, heads));
            BucketRef::new(Class::Packed32, index)
        } else {
            self.put_back_many(heads, listed)
        };
    }

    #[inline(never)]
    fn put_back_many(&mut self, heads: Heads, listed: &[Listed]) -> BucketRef {
        macro_rules! put_back_in {
            ($block:ty, $class:ident, $slab:ident) => {
                if <$block>::fits_listed(listed) {
                    let index = self.$slab.insert_with(|block| block.take_listed(listed, heads));
                    return BucketRef::new(Class::$class, index);
                }
            };
        }
        put_back_in!(Packed<96>, Packed96, packed96);
        put_back_in!(Packed<160>, Packed160, packed160);
        put_back_in!(Dense<u8>, Dense8, dense8);
        put_back_in!(Dense<u16>, Dense16, dense16);
        let index = self.dense32.insert_with(|block| block.take_listed(listed, heads));
        BucketRef::new(Class::Dense32, index)
    }

    fn written_out(&self, at: BucketRef, heads: Heads) -> Counts {
        on_block!(self, at, get, |block| block.counts(heads), none: [0; BUCKETS])
    }

    fn put(&mut self, at: &mut BucketRef, heads: Heads, counts: &Counts) {
        self.release(at);
        *at = if let Some(block) = Packed::<32>::holding(counts, heads) {
            BucketRef::new(Class::Packed32, self.packed32.insert(block))
        } else if let Some(block) = Packed::<96>::holding(counts, heads) {
            BucketRef::new(Class::Packed96, self.packed96.insert(block))
        } else if let Some(block) = Packed::<160>::holding(counts, heads) {
            BucketRef::new(Class::Packed160, self.packed160.insert(block))
        } else if let Some(block) = Dense::<u8>::holding(counts, heads) {
            BucketRef::new(Class::Dense8, self.dense8.insert(block))
        } else if let Some(block) = Dense::<u16>::holding(counts, heads) {
            BucketRef::new(Class::Dense16, self.dense16.insert(block))
        } else {
            BucketRef::new(Class::Dense32, self.dense32.insert(Dense(*counts)))
        };
    }

    /// Bytes taken by the blocks, free ones included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.packed32.memory_bytes()
            + self.packed96.memory_bytes()
            + self.packed160.memory_bytes()
            + self.dense8.memory_bytes()
            + self.dense16.memory_bytes()
            + self.dense32.memory_bytes()
    }

    /// Does what [`count`] could not; says `false` if a bucket is full for good.
    #[cold]
    fn finish(
        &mut self,
        at: &mut BucketRef,
        heads: Heads,
        event: Heads,
        [minute, hour]: [Added; 2],
    ) -> bool {
        let mut all = minute != Added::Saturated && hour != Added::Saturated;
        if minute == Added::NeedsRoom {
            all &= self.add_with_more_room(at, heads, (Ring::Minutes, heads.minute, event.minute));
        }
        if hour == Added::NeedsRoom {
            all &= self.add_with_more_room(at, heads, (Ring::Hours, heads.hour(), event.hour()));
        }
        all
    }

    fn add_with_more_room(
        &mut self,
        at: &mut BucketRef,
        heads: Heads,
        (ring, head, bucket): (Ring, u32, u32),
    ) -> bool {
        let add = |store: &mut Self, at: BucketRef| {
            on_block!(store, at, get_mut, |block| block.add(ring, head, bucket),
                none: Added::Saturated)
        };
        // The other ring's bucket may have made room for this one too.
        let mut added = add(self, *at);
        if added == Added::NeedsRoom {
            if !self.widen(at) {
                let counts = self.written_out(*at, heads);
                self.put(at, heads, &counts);
            }
            added = add(self, *at);
        }
        assert!(added != Added::NeedsRoom, "a class was chosen with room for one event more");
        added == Added::Counted
    }

    /// Moves a pair with more buckets than its block has room for to the next class, as most pairs
    /// that move do; says `false` if it takes another one.
    fn widen(&mut self, at: &mut BucketRef) -> bool {
        let index = at.index();
        let wider = match at.class() {
            Some(Class::Packed32) => {
                let block = self.packed32.get(index).widened();
                block.map(|block| BucketRef::new(Class::Packed96, self.packed96.insert(block)))
            }
            Some(Class::Packed96) => {
                let block = self.packed96.get(index).widened();
                block.map(|block| BucketRef::new(Class::Packed160, self.packed160.insert(block)))
            }
            _ => None,
        };
        let Some(wider) = wider else { return false };
        self.release(at);
        *at = wider;
        true
    }

    fn release(&mut self, at: &mut BucketRef) {
        let index = at.index();
        match at.class() {
            Some(Class::Packed32) => self.packed32.remove(index),
            Some(Class::Packed96) => self.packed96.remove(index),
            Some(Class::Packed160) => self.packed160.remove(index),
            Some(Class::Dense8) => self.dense8.remove(index),
            Some(Class::Dense16) => self.dense16.remove(index),
            Some(Class::Dense32) => self.dense32.remove(index),
            None => {}
        }
        *at = BucketRef::NONE;
    }
}

/// Lets the rings of a block that end with `old` end with `heads`, and counts an event in both,
/// unless its bucket is older than all of a ring's.
#[inline(always)]
fn count<C: BucketedCounter>(block: &mut C, old: Heads, heads: Heads, event: Heads) -> [Added; 2] {
    if heads.minute > old.minute {
        block.advance(Ring::Minutes, old.minute, heads.minute);
    }
    if heads.hour() > old.hour() {
        block.advance(Ring::Hours, old.hour(), heads.hour());
    }
    let is_held = |ring: Ring, head: u32, bucket: u32| head.wrapping_sub(bucket) < ring.len();
    let mut added = [Added::Counted; 2];
    if is_held(Ring::Minutes, heads.minute, event.minute) {
        added[0] = block.add(Ring::Minutes, heads.minute, event.minute);
    }
    if is_held(Ring::Hours, heads.hour(), event.hour()) {
        added[1] = block.add(Ring::Hours, heads.hour(), event.hour());
    }
    added
}

#[cfg(test)]
mod tests;
