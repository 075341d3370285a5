//! The ledger written out pair by pair while events go on, and put back.
//!
//! ```text
//! slot ─dirty?─▶ record ─▶ chunk ─▶ storage;  the slot keeps the record's digest
//! ```
//!
//! Promises: a walk from beginning to end writes out every pair that was dirty when it began,
//! whatever is applied between its steps; a step is bounded, however large a partition is. A ledger
//! put back answers to the bit as the one that was written out, then and after the same events.
//! Why a table that grows does not hide a pair, and does not keep a walk from its end: no slot
//! moves, and new ones come behind all others, where it does not go.

use super::SignalLedger;
use crate::checkpoint::{Chunk, Key, PairRecord, RecordDigest, RecordFault};
use crate::limits::{WALK_RECORDS_MAX, WALK_SLOTS_MAX};
use crate::signal::hot::HotSignalState;
use crate::{EntityHash, EntityId, Materializer, RoutedEvent, SignalId, Timestamp};
use ebbtide_wal::Lsn;

/// How far a checkpoint has come in a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    slot: usize,
    /// Behind the last pair that there was when it began; not known before its first step.
    end: Option<usize>,
    finished: bool,
    records_max: usize,
    slots_max: usize,
}

impl Walk {
    /// A walk at its beginning, with steps of the usual size.
    #[must_use]
    pub fn begin() -> Self {
        Self::in_steps_of(WALK_RECORDS_MAX, WALK_SLOTS_MAX)
    }

    pub(crate) fn in_steps_of(records_max: usize, slots_max: usize) -> Self {
        Self { slot: 0, end: None, finished: false, records_max, slots_max }
    }
}

/// A pair as a checkpoint holds it.
#[derive(Clone, Debug)]
pub struct RestoredPair {
    /// Whose it is.
    pub entity: EntityId,
    /// The keyed hash of the entity.
    pub hash: EntityHash,
    /// Of which signal type.
    pub signal: SignalId,
    /// Its state.
    pub record: PairRecord,
    /// Under which digest the storage holds the record; `None` if it does not, and the next
    /// checkpoint has to write it.
    pub saved: Option<RecordDigest>,
}

impl Materializer for SignalLedger {
    #[inline]
    fn on_event(&mut self, event: &RoutedEvent) {
        self.apply_one(event);
    }

    fn checkpoint(&mut self, walk: &mut Walk, lsn: Lsn, numbers: &[u8]) -> Option<Chunk> {
        if walk.finished {
            return None;
        }
        let (mut chunk, mut record) = (Chunk::new(lsn), PairRecord::blank());
        let mut looks = 0;
        let end = *walk.end.get_or_insert(self.states.len());
        while walk.slot < end {
            let slot = walk.slot;
            walk.slot += 1;
            if self.states.at(slot).is_some_and(HotSignalState::is_dirty) {
                self.write_out(slot, numbers, (&mut chunk, &mut record));
            }
            looks += 1;
            if looks == walk.slots_max || chunk.puts().len() == walk.records_max {
                return Some(chunk);
            }
        }
        walk.finished = true;
        chunk.set_last();
        Some(chunk)
    }

    fn restore(&mut self, pair: &RestoredPair) -> Result<(), RecordFault> {
        let &RestoredPair { entity, hash, signal, ref record, saved } = pair;
        assert!(self.owns(hash), "a pair is restored in the shard that owns it");
        let half_lives = self.schema.def(signal).half_lives().len();
        if usize::from(record.half_lives) != half_lives {
            return Err(RecordFault::HalfLives { count: record.half_lives });
        }
        let time = Timestamp(record.last_update);
        let place = RoutedEvent { entity, time, weight: 0.0, hash, signal };
        let (state, slot) = Self::find_or_take(&mut self.states, &place);
        assert!(state.all_time() == 0, "a pair is restored once, and before its events");
        state.restore(record.sums, record.all_time);
        if record.saturated {
            state.set_saturated();
        }
        if let Some(digest) = saved {
            state.set_saved(digest.get());
        }
        self.buckets.put_back(state.buckets_mut(), time, &record.counts);
        self.rank(slot, signal);
        Ok(())
    }
}

impl SignalLedger {
    /// Makes room for so many pairs that will be restored.
    pub(crate) fn reserve(&mut self, pairs: usize) {
        self.states.reserve(pairs);
    }

    /// Asks for the memory in which a pair will be restored.
    pub(crate) fn fetch(&self, hash: EntityHash, signal: SignalId) {
        self.states.fetch_home(self.states.home(hash, signal));
    }

    /// Puts the record of a slot's pair in the chunk, and its digest in the slot. What is in
    /// `record` before does not matter.
    fn write_out(
        &mut self,
        slot: usize,
        numbers: &[u8],
        (chunk, record): (&mut Chunk, &mut PairRecord),
    ) {
        let Some(state) = self.states.at_mut(slot) else { return };
        let half_lives = self.schema.def(state.signal()).half_lives().len();
        let mut counts = std::mem::take(&mut record.counts);
        counts.clear();
        self.buckets.list(state.buckets(), state.last_update(), &mut counts);
        *record = PairRecord {
            lsn: chunk.lsn().get(),
            last_update: state.last_update().as_nanos(),
            sums: state.sums(),
            all_time: state.all_time(),
            half_lives: u8::try_from(half_lives).expect("at most three half-lives"),
            saturated: state.is_saturated(),
            counts,
        };
        let key = Key::Pair { entity: state.entity(), number: numbers[state.signal().index()] };
        let digest = chunk.put(key, record, RecordDigest::new(state.saved()));
        state.set_saved(digest.expect("the ledger keeps the rules of its records").get());
    }
}

#[cfg(test)]
mod tests;
