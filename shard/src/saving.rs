//! A checkpoint on its way out of a shard, a little each turn, while traffic goes on.
//!
//! ```text
//! begin: covered = last appended ─▶ walk the partitions ─▶ sources, ids ─▶ done
//!          each part waits until the log is durable up to it, then goes to whoever saves it
//! ```
//!
//! Promises: when all parts are saved, every event up to `covered` is in the records; nothing the
//! log could still lose is ever handed out, since its numbers would be used again.
//! Invariants: parts leave in the order they were made. At most [`SAVE_PARTS_WAITING_MAX`] of them
//! wait, so a slow disk holds the walk and not the memory.
//! Fails by: ending early, when nobody takes the parts any more.
//! Not here: the thread that saves (the engine's checkpointer).

use crate::checkpoint::Chunk;
use crate::dedup::{RecentIds, UnsavedIds};
use crate::limits::{IDS_RECORD_ENTRIES_MAX, SAVE_PARTS_WAITING_MAX};
use crate::source::{SourceName, SourceTable};
use crate::{Materializer as _, SignalLedger, Walk};
use ebbtide_wal::Lsn;
use std::collections::VecDeque;

/// One part of a checkpoint, as a shard hands it out.
#[derive(Debug)]
pub enum SavePart {
    /// Pairs that changed, or some of all.
    Pairs(Chunk),
    /// How far each source has come in this shard's partitions: runs of equal offsets, each with
    /// its first partition.
    Sources(Vec<(SourceName, Vec<(u16, u64)>)>),
    /// Ids remembered since the last checkpoint, at most [`IDS_RECORD_ENTRIES_MAX`].
    Ids(UnsavedIds),
    /// That was all.
    Done {
        /// Every event up to here is in the parts of this checkpoint, or in earlier ones.
        covered: Lsn,
        /// Generations of ids before this one are forgotten.
        oldest_generation: u64,
    },
}

/// Takes the parts of one shard.
pub trait SaveSink: Send {
    /// Whether a part would be taken now.
    fn has_room(&self) -> bool;

    /// Takes a part; says `false` if nobody listens any more.
    fn take(&mut self, part: SavePart) -> bool;
}

/// A checkpoint under way.
pub(crate) struct Saving {
    walk: Option<Walk>,
    covered: Lsn,
    /// Made, with the last record each includes.
    waiting: VecDeque<(Lsn, SavePart)>,
    sink: Box<dyn SaveSink>,
}

/// What a shard saves.
pub(crate) struct Saved<'s> {
    pub(crate) ledger: &'s mut SignalLedger,
    pub(crate) sources: &'s SourceTable,
    pub(crate) ids: &'s mut RecentIds,
    pub(crate) numbers: &'s [u8],
}

impl Saving {
    /// Begins when the log has been appended to up to `appended`.
    pub(crate) fn begin(appended: Lsn, walk: Walk, sink: Box<dyn SaveSink>) -> Self {
        Self { walk: Some(walk), covered: appended, waiting: VecDeque::new(), sink }
    }

    /// Whether [`Saving::step`] would do anything.
    pub(crate) fn has_work(&self, durable: Lsn) -> bool {
        let walks = self.walk.is_some() && self.waiting.len() < SAVE_PARTS_WAITING_MAX;
        let leaves = self.waiting.front().is_some_and(|&(lsn, _)| lsn <= durable);
        walks || (leaves && self.sink.has_room())
    }

    /// Makes a part and hands out those that may go. Says `false` once all is handed out, or nobody
    /// takes it any more.
    pub(crate) fn step(&mut self, mut shard: Saved<'_>, appended: Lsn, durable: Lsn) -> bool {
        if self.walk.is_some() && self.waiting.len() < SAVE_PARTS_WAITING_MAX {
            self.make(&mut shard, appended);
        }
        while self.sink.has_room()
            && let Some(&(lsn, _)) = self.waiting.front()
            && lsn <= durable
        {
            let (_, part) = self.waiting.pop_front().expect("it was just seen");
            if !self.sink.take(part) {
                return false;
            }
        }
        self.walk.is_some() || !self.waiting.is_empty()
    }

    fn make(&mut self, shard: &mut Saved<'_>, appended: Lsn) {
        let Some(walk) = &mut self.walk else { return };
        if let Some(chunk) = shard.ledger.checkpoint(walk, appended, shard.numbers) {
            if !chunk.pairs().is_empty() {
                self.waiting.push_back((appended, SavePart::Pairs(chunk)));
            }
            return;
        }
        self.walk = None;
        let mut last = |part| self.waiting.push_back((appended, part));
        let sources = shard.sources;
        let runs = |slot| (sources.name(slot).clone(), sources.runs(slot));
        last(SavePart::Sources(sources.slots().map(runs).collect()));
        while let Some(ids) = shard.ids.take_unsaved(IDS_RECORD_ENTRIES_MAX) {
            last(SavePart::Ids(ids));
        }
        let oldest_generation = shard.ids.oldest_generation();
        last(SavePart::Done { covered: self.covered, oldest_generation });
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").field("covered", &self.covered).finish_non_exhaustive()
    }
}
