//! The way of parts of a checkpoint from the shards to the thread that saves them.
//!
//! Promises: a shard may always send a few parts, and all shards together as many as shall wait
//! while a run is written. What is on its way is bounded by the two together, and a part of each
//! shard.
//! Not here: what becomes of a part (`keeper`).

use super::keeper::Order;
use ebbtide_shard::limits::RUN_BYTES_MAX;
use ebbtide_shard::saving::{SavePart, SaveSink};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

/// Parts of one shard that may be on their way, whatever others have there.
const PARTS_UNDER_WAY: usize = 4;
/// Bytes of all shards up to which more may come: most of a run, so that shards fill the next one
/// while one is written.
const BYTES_UNDER_WAY: usize = 32 << 20;
const _: () = assert!(BYTES_UNDER_WAY < RUN_BYTES_MAX, "what waits is less than what is written");

/// The way of one shard's parts.
pub(super) struct PartLane {
    shard: usize,
    orders: Sender<Order>,
    under_way: Arc<UnderWay>,
}

impl PartLane {
    pub(super) fn new(shard: usize, orders: Sender<Order>, under_way: Arc<UnderWay>) -> Self {
        Self { shard, orders, under_way }
    }
}

impl SaveSink for PartLane {
    fn has_room(&self) -> bool {
        self.under_way.has_room(self.shard)
    }

    fn take(&mut self, part: SavePart) -> bool {
        self.under_way.enter(self.shard, part_bytes(&part));
        self.orders.send(Order::Part(self.shard, part)).is_ok()
    }
}

/// What is on its way, of one checkpoint.
pub(super) struct UnderWay {
    /// Of each shard.
    parts: Vec<AtomicUsize>,
    /// Of all shards.
    bytes: AtomicUsize,
}

impl UnderWay {
    /// Nothing yet, of so many shards.
    pub(super) fn of(shards: usize) -> Self {
        Self { parts: (0..shards).map(|_| AtomicUsize::new(0)).collect(), bytes: 0.into() }
    }

    fn has_room(&self, shard: usize) -> bool {
        self.parts[shard].load(Ordering::Acquire) < PARTS_UNDER_WAY
            || self.bytes.load(Ordering::Acquire) < BYTES_UNDER_WAY
    }

    fn enter(&self, shard: usize, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.parts[shard].fetch_add(1, Ordering::AcqRel);
    }

    /// Whether nothing is.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let none = |count: &AtomicUsize| count.load(Ordering::Acquire) == 0;
        none(&self.bytes) && self.parts.iter().all(none)
    }

    /// A part has arrived.
    pub(super) fn leave(&self, shard: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.parts[shard].fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes of a part, if there may be many.
pub(super) fn part_bytes(part: &SavePart) -> usize {
    match part {
        SavePart::Pairs(chunk) => chunk.pairs().bytes(),
        SavePart::Ids(ids) => size_of_val(&*ids.ids),
        SavePart::Sources(_) | SavePart::Done { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_room_for_a_few_parts_whatever_others_send() {
        let under_way = UnderWay::of(2);
        under_way.enter(0, BYTES_UNDER_WAY - 1);
        for _ in 1..PARTS_UNDER_WAY {
            assert!(under_way.has_room(0));
            under_way.enter(0, 0);
        }
        assert!(under_way.has_room(0), "up to so many bytes any number of parts");
        under_way.enter(0, 1);
        assert!(!under_way.has_room(0) && under_way.has_room(1));
        (0..PARTS_UNDER_WAY).for_each(|_| under_way.enter(1, 100));
        assert!(!under_way.has_room(1));
        under_way.leave(1, 100);
        assert!(under_way.has_room(1) && !under_way.has_room(0));
        under_way.leave(0, BYTES_UNDER_WAY - 1);
        assert!(under_way.has_room(0));
    }
}
