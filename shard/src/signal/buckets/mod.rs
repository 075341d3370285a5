//! The warm tier: 60 per-minute and 168 per-hour counters for each pair, in as little room as they
//! need.
//!
//! ```text
//! class      bytes  holds                              for
//! few          64   32 non-empty buckets, up to 255    almost every pair: beside its hot state
//! packed96    128   96 non-empty buckets, up to 255
//! packed160   192  160 non-empty buckets, up to 255
//! dense8      256   every bucket, up to 255
//! dense16     512   every bucket, up to 65,535
//! dense32     960   every bucket, up to 4,294,967,295  the hottest pairs
//! ```
//!
//! Promises: every class answers alike; a pair moves to the smallest class that holds its counts
//! when its own is too small, and starts over in the smallest once all its buckets have expired. A
//! bucket of the widest class that is full stays full, and the pair says so. An event in the minute
//! of its pair's last update mostly touches no block: of a pair that has one it waits beside the
//! hot state.
//!
//! Positions 0..60 stand for minutes, 60..228 for hours. Which minute a position stands for follows
//! from the pair's last update, kept in its hot state: the ring always ends there. Not here: what a
//! window is ([`super::window`]).

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

mod block;
mod dense;
mod packed;
mod slab;
mod waiting;

use super::window::Ring;
use crate::Timestamp;
use crate::limits::{BLOCK_INDEX_BITS, BUCKETS};
pub(crate) use block::{Block, Seen};
use dense::Dense;
use packed::Packed;
use slab::Slab;

/// The counters of one pair, written out: minutes at 0..60, hours at 60..228.
type Counts = [u32; BUCKETS];

/// A bucket that is not empty: its position and its count.
pub(crate) type Listed = (u8, u32);

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

    /// Whether a block has room for the `listed` buckets, and for one event more.
    fn fits_listed(listed: &[Listed]) -> bool;

    /// Takes over the `listed` buckets, which come by position and fit. All were empty.
    fn take_listed(&mut self, listed: &[Listed], heads: Heads);

    /// Lets `ring` end with `to`, later than `head`: the buckets that come in are empty.
    fn advance(&mut self, ring: Ring, head: u32, to: u32);

    /// Counts so many events in the last bucket of both rings, which end with `head` and are not
    /// empty. Says `false`, and has counted them in none, where one of them has no room.
    fn add_newest(&mut self, head: Heads, events: u8) -> bool;

    /// Whether events may wait that are of the last bucket of both rings, which end with `head`:
    /// neither is empty, and each has room for as many as may wait, and for one more, in this class
    /// or a wider one.
    fn lets_wait(&self, head: Heads) -> bool;

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

/// The counters of a pair with few buckets, as almost every pair is one: they stand beside its hot
/// state.
pub(crate) type FewCounters = Packed<32>;

/// Where the counters of one pair are: a class and a place in it, or beside its hot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct BucketRef(u32);

/// The counters of one pair: the few beside its hot state, or a block and, in place of the few,
/// what waits for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters<'p> {
    pub(crate) at: BucketRef,
    pub(crate) few: &'p FewCounters,
}

/// The same, to change.
#[derive(Debug)]
pub(crate) struct CountersMut<'p> {
    pub(crate) at: &'p mut BucketRef,
    pub(crate) few: &'p mut FewCounters,
}

/// The classes of larger blocks, in order of size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Packed96,
    Packed160,
    Dense8,
    Dense16,
    Dense32,
}

const CLASS_SHIFT: u32 = BLOCK_INDEX_BITS;

impl BucketRef {
    /// Beside the hot state.
    pub(crate) const FEW: Self = Self(u32::MAX);

    fn new(class: Class, index: u32) -> Self {
        assert!(index >> CLASS_SHIFT == 0, "a shard holds at most 2^29 blocks of one class");
        Self((class as u32) << CLASS_SHIFT | index)
    }

    #[inline(always)]
    const fn class(self) -> Option<Class> {
        match self.0 >> CLASS_SHIFT {
            0 => Some(Class::Packed96),
            1 => Some(Class::Packed160),
            2 => Some(Class::Dense8),
            3 => Some(Class::Dense16),
            4 => Some(Class::Dense32),
            _ => None,
        }
    }

    /// Whether it names no block.
    #[inline(always)]
    const fn is_few(self) -> bool {
        self.0 >> CLASS_SHIFT > Class::Dense32 as u32
    }

    #[inline(always)]
    const fn index(self) -> u32 {
        self.0 & ((1 << CLASS_SHIFT) - 1)
    }
}

/// The counters of those pairs of a shard that have many buckets.
#[derive(Debug, Default)]
pub(crate) struct BucketStore {
    packed96: Slab<Packed<96>>,
    packed160: Slab<Packed<160>>,
    dense8: Slab<Dense<u8>>,
    dense16: Slab<Dense<u16>>,
    dense32: Slab<Dense<u32>>,
}

/// Runs `$then` on the block that `$at` names, whatever its class; `$few` where it names none.
macro_rules! on_block {
    ($store:expr, $at:expr, $get:ident, |$block:ident| $then:expr, few: $few:expr) => {
        match $at.class() {
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
            None => $few,
        }
    };
}
use on_block;

impl BucketStore {
    /// Counts an event in its buckets, for the pair whose counters end with `old`, those of its
    /// last update before this event. Says `false` if a bucket is full for good and the event is
    /// not in it.
    #[must_use]
    #[inline(always)]
    pub(crate) fn record(
        &mut self,
        mut counters: CountersMut<'_>,
        old: Heads,
        event: Heads,
    ) -> bool {
        if event.minute == old.minute && counters.few.add_one() {
            return true;
        }
        if counters.at.is_few() && event.hour().wrapping_sub(Ring::Hours.len()) < old.hour() {
            let heads = old.max(event);
            let added = count(counters.few, old, heads, event);
            return added == [Added::Counted; 2] || self.finish(&mut counters, heads, event, added);
        }
        self.record_any(counters, old, event)
    }

    /// The same, for pairs with many counters, or with none that has not expired.
    #[inline(never)]
    fn record_any(&mut self, mut counters: CountersMut<'_>, old: Heads, event: Heads) -> bool {
        let (heads, is_of_earlier_minute) = (old.max(event), event < old);
        if event.hour() >= old.hour() + Ring::Hours.len() {
            self.release(&mut counters);
        } else if !is_of_earlier_minute {
            self.settle(&mut counters, old);
        }
        let added = on_block!(self, counters.at, get_mut, |block| count(block, old, heads, event),
            few: count(counters.few, old, heads, event));
        if added != [Added::Counted; 2] {
            return self.finish(&mut counters, heads, event, added);
        }
        // What waits may go on, but where the room that was seen for it may be gone.
        if !is_of_earlier_minute || counters.at.class() == Some(Class::Dense32) {
            self.settle(&mut counters, heads);
            self.let_wait(&mut counters, heads);
        }
        true
    }

    /// Asks for the cache lines, of a larger block, that counting in the buckets of an event
    /// touches.
    #[inline(always)]
    pub(crate) fn fetch(&self, at: BucketRef, event: Heads) {
        on_block!(self, at, get, |block| block.fetch(event), few: ());
    }

    /// Adds the counters that are not zero, which end at `head`, to `list`, by position.
    pub(crate) fn list(&self, counters: Counters<'_>, head: Timestamp, list: &mut Vec<Listed>) {
        let heads = Heads::of(head);
        let first = list.len();
        on_block!(self, counters.at, get, |block| block.list(heads, list),
            few: counters.few.list(heads, list));
        counters.add_waiting_to(&mut list[first..], heads);
    }

    /// Puts the `listed` counters, which end at `head`, in the smallest class that holds them, in
    /// place of what is there. They come by position, and none is zero.
    pub(crate) fn put_back(
        &mut self,
        mut counters: CountersMut<'_>,
        head: Timestamp,
        listed: &[Listed],
    ) {
        self.release(&mut counters);
        let heads = Heads::of(head);
        if FewCounters::fits_listed(listed) {
            counters.few.take_listed(listed, heads);
        } else {
            *counters.at = self.put_back_many(heads, listed);
        }
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

    fn written_out(&self, counters: Counters<'_>, heads: Heads) -> Counts {
        let mut counts = on_block!(self, counters.at, get, |block| block.counts(heads),
            few: counters.few.counts(heads));
        heads.positions().into_iter().for_each(|at| counts[at] += u32::from(counters.waiting()));
        counts
    }

    /// Puts the counters of a pair in the smallest dense class that holds them and one event more.
    fn put_dense(&mut self, counters: &mut CountersMut<'_>, counts: &Counts) {
        self.release(counters);
        *counters.at = if let Some(block) = Dense::<u8>::holding(counts) {
            BucketRef::new(Class::Dense8, self.dense8.insert(block))
        } else if let Some(block) = Dense::<u16>::holding(counts) {
            BucketRef::new(Class::Dense16, self.dense16.insert(block))
        } else {
            BucketRef::new(Class::Dense32, self.dense32.insert(Dense(*counts)))
        };
    }

    /// Bytes taken by the blocks, free ones included.
    #[must_use]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.packed96.memory_bytes()
            + self.packed160.memory_bytes()
            + self.dense8.memory_bytes()
            + self.dense16.memory_bytes()
            + self.dense32.memory_bytes()
    }

    /// Does what [`count`] could not, once nothing waits; says `false` if a bucket is full for
    /// good.
    #[cold]
    fn finish(
        &mut self,
        counters: &mut CountersMut<'_>,
        heads: Heads,
        event: Heads,
        [minute, hour]: [Added; 2],
    ) -> bool {
        self.settle(counters, heads);
        let mut all = minute != Added::Saturated && hour != Added::Saturated;
        for (added, ring) in [(minute, Ring::Minutes), (hour, Ring::Hours)] {
            if added == Added::NeedsRoom {
                let place = (ring, heads.of_ring(ring), event.of_ring(ring));
                all &= self.add_with_more_room(counters, heads, place);
            }
        }
        self.let_wait(counters, heads);
        all
    }

    fn add_with_more_room(
        &mut self,
        counters: &mut CountersMut<'_>,
        heads: Heads,
        (ring, head, bucket): (Ring, u32, u32),
    ) -> bool {
        let add = |store: &mut Self, counters: &mut CountersMut<'_>| {
            on_block!(store, counters.at, get_mut, |block| block.add(ring, head, bucket),
                few: counters.few.add(ring, head, bucket))
        };
        // The other ring's bucket may have made room for this one too.
        let mut added = add(self, counters);
        if added == Added::NeedsRoom {
            if !self.widen(counters) {
                let counts = self.written_out(counters.as_ref(), heads);
                self.put_dense(counters, &counts);
            }
            added = add(self, counters);
        }
        assert!(added != Added::NeedsRoom, "a class was chosen with room for one event more");
        added == Added::Counted
    }

    /// Moves a pair with more buckets than its block has room for to the next class, as most pairs
    /// that move do; says `false` if it takes another one.
    fn widen(&mut self, counters: &mut CountersMut<'_>) -> bool {
        debug_assert_eq!(counters.as_ref().waiting(), 0, "it was settled");
        let wider = match counters.at.class() {
            None => {
                let block = counters.few.widened();
                block.map(|block| BucketRef::new(Class::Packed96, self.packed96.insert(block)))
            }
            Some(Class::Packed96) => {
                let block = self.packed96.get(counters.at.index()).widened();
                block.map(|block| BucketRef::new(Class::Packed160, self.packed160.insert(block)))
            }
            _ => None,
        };
        let Some(wider) = wider else { return false };
        self.release(counters);
        *counters.at = wider;
        true
    }

    /// Lets all counters of a pair go.
    fn release(&mut self, counters: &mut CountersMut<'_>) {
        let index = counters.at.index();
        match counters.at.class() {
            None => {}
            Some(Class::Packed96) => self.packed96.remove(index),
            Some(Class::Packed160) => self.packed160.remove(index),
            Some(Class::Dense8) => self.dense8.remove(index),
            Some(Class::Dense16) => self.dense16.remove(index),
            Some(Class::Dense32) => self.dense32.remove(index),
        }
        (*counters.at, *counters.few) = (BucketRef::FEW, FewCounters::EMPTY);
    }
}

impl CountersMut<'_> {
    fn as_ref(&self) -> Counters<'_> {
        Counters { at: *self.at, few: self.few }
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
