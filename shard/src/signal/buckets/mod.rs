//! The warm tier: 60 per-minute and 168 per-hour counters for each pair, in as little room as they need.
//!
//! ```text
//! class      block  holds                              for
//! packed32     64   32 non-empty buckets, up to 255    almost every pair
//! packed96    128   96 non-empty buckets, up to 255
//! dense8      256   every bucket, up to 255
//! dense16     512   every bucket, up to 65,535
//! dense32     960   every bucket, up to 4,294,967,295  the hottest pairs
//! ```
//!
//! Promises: every class answers alike; a pair moves to the smallest class that holds its counts when
//! its own is too small, and starts over in the smallest once all its buckets have expired. A bucket of
//! the widest class that is full stays full, and the pair says so.
//!
//! Positions 0..60 stand for minutes, 60..228 for hours. Which minute a position stands for follows from
//! the pair's last update, kept in its hot state: the ring always ends there.
//! Not here: what a window is ([`super::window`]).

mod dense;
mod packed;
mod slab;

use super::window::{HOURS, MINUTES, Ring, Window};
use crate::Timestamp;
use crate::limits::BUCKETS;
use crate::prefetch::prefetch;
use dense::Dense;
use packed::Packed;
use slab::Slab;
use std::ops::Range;

/// The counters of one pair, written out: minutes at 0..60, hours at 60..228.
pub type Counts = [u32; BUCKETS];

/// What came of counting one event in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    /// It is counted.
    Counted,
    /// It is not: the block's class has no room for it.
    NeedsRoom,
    /// It is not, and no class has room: the bucket is at its end.
    Saturated,
}

/// The counters of one pair, in one class of block.
trait BucketedCounter: Sized + Clone {
    /// A block whose buckets are all empty.
    const EMPTY: Self;

    /// The block that holds `counts`, unless this class lacks the room for them and one event more.
    fn holding(counts: &Counts) -> Option<Self>;

    /// Counts one event at `position`.
    fn add(&mut self, position: usize) -> Added;

    /// Empties the buckets at `positions`.
    fn clear(&mut self, positions: Range<usize>);

    /// Events in the buckets at `positions`.
    fn sum(&self, positions: Range<usize>) -> u64;

    /// All buckets, written out.
    fn counts(&self) -> Counts;
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
    Dense8,
    Dense16,
    Dense32,
}

const CLASS_SHIFT: u32 = 29;

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
            2 => Some(Class::Dense8),
            3 => Some(Class::Dense16),
            4 => Some(Class::Dense32),
            _ => None,
        }
    }

    const fn index(self) -> u32 {
        self.0 & ((1 << CLASS_SHIFT) - 1)
    }
}

/// The counters of every pair of a shard.
#[derive(Debug, Default)]
pub struct BucketStore {
    packed32: Slab<Packed<32>>,
    packed96: Slab<Packed<96>>,
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
    /// Counts an event at `time` for the pair whose counters are at `at` and end at `head`, its last
    /// update before this event. Says `false` if a bucket is full for good and the event is not in it.
    #[must_use]
    #[inline]
    pub fn record(&mut self, at: &mut BucketRef, head: Timestamp, time: Timestamp) -> bool {
        if HOURS.bucket(time) >= HOURS.bucket(head).saturating_add(HOURS.len()) {
            self.release(at);
        }
        if *at == BucketRef::NONE {
            *at = BucketRef::new(Class::Packed32, self.packed32.insert(Packed::EMPTY));
        }
        on_block!(self, *at, get_mut, |block| {
            advance(block, MINUTES, head, time);
            advance(block, HOURS, head, time);
        }, none: ());
        let newest = head.max(time);
        [MINUTES, HOURS].into_iter().fold(true, |all, ring| {
            let bucket = ring.bucket(time);
            let reachable = ring.bucket(newest) - bucket < ring.len();
            all & (!reachable || self.add(at, ring.position(bucket)))
        })
    }

    /// Events in `window` as of `now`, for the pair whose counters are at `at` and end at `head`;
    /// `now` is not before `head`.
    #[must_use]
    #[inline]
    pub fn count(&self, at: BucketRef, head: Timestamp, window: &Window, now: Timestamp) -> u64 {
        let [first, second] = window.positions(head, now);
        on_block!(self, at, get, |block| block.sum(first) + block.sum(second), none: 0)
    }

    /// Asks for the cache line that counting at `at` begins with.
    #[inline]
    pub fn fetch(&self, at: BucketRef) {
        on_block!(self, at, get, |block| prefetch(block), none: ());
    }

    /// All counters at `at`, written out.
    #[must_use]
    pub fn counts(&self, at: BucketRef) -> Counts {
        on_block!(self, at, get, |block| block.counts(), none: [0; BUCKETS])
    }

    /// Puts `counts` in the smallest class that holds them, in place of what is at `at`.
    pub fn replace(&mut self, at: &mut BucketRef, counts: &Counts) {
        self.release(at);
        *at = if let Some(block) = Packed::holding(counts) {
            BucketRef::new(Class::Packed32, self.packed32.insert(block))
        } else if let Some(block) = Packed::holding(counts) {
            BucketRef::new(Class::Packed96, self.packed96.insert(block))
        } else if let Some(block) = Dense::holding(counts) {
            BucketRef::new(Class::Dense8, self.dense8.insert(block))
        } else if let Some(block) = Dense::holding(counts) {
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
            + self.dense8.memory_bytes()
            + self.dense16.memory_bytes()
            + self.dense32.memory_bytes()
    }

    fn add(&mut self, at: &mut BucketRef, position: usize) -> bool {
        match on_block!(self, *at, get_mut, |block| block.add(position), none: Added::Saturated) {
            Added::Counted => true,
            Added::Saturated => false,
            Added::NeedsRoom => self.add_with_more_room(at, position),
        }
    }

    #[cold]
    fn add_with_more_room(&mut self, at: &mut BucketRef, position: usize) -> bool {
        let counts = self.counts(*at);
        self.replace(at, &counts);
        let added =
            on_block!(self, *at, get_mut, |block| block.add(position), none: Added::Saturated);
        assert!(added != Added::NeedsRoom, "a class was chosen with room for one event more");
        added == Added::Counted
    }

    fn release(&mut self, at: &mut BucketRef) {
        let index = at.index();
        match at.class() {
            Some(Class::Packed32) => self.packed32.remove(index),
            Some(Class::Packed96) => self.packed96.remove(index),
            Some(Class::Dense8) => self.dense8.remove(index),
            Some(Class::Dense16) => self.dense16.remove(index),
            Some(Class::Dense32) => self.dense32.remove(index),
            None => {}
        }
        *at = BucketRef::NONE;
    }
}

/// Empties the buckets between `head` and a later `time`: their positions stood for expired ones.
#[inline]
fn advance<C: BucketedCounter>(block: &mut C, ring: Ring, head: Timestamp, time: Timestamp) {
    let last = ring.bucket(time);
    let passed = last.saturating_sub(ring.bucket(head)).min(ring.len());
    if passed > 0 {
        let [first, second] = ring.positions(last, usize::try_from(passed).unwrap_or(BUCKETS));
        block.clear(first);
        block.clear(second);
    }
}

#[cfg(test)]
mod tests;
