//! The ledger written out pair by pair while events go on, and put back.
//!
//! ```text
//! slot ─dirty?─▶ chunk ─▶ pages ─▶ storage;  the slot keeps the round it was written in
//! ```
//!
//! Promises: a walk from beginning to end writes out every pair that was dirty when it began, or
//! every pair, whatever is applied between its steps; a step is bounded, however large a partition
//! is. A ledger put back answers to the bit as the one that was written out, then and after the
//! same events.
//! Why a table that grows does not hide a pair, and does not keep a walk from its end: no slot
//! moves, and new ones come behind all others, where it does not go.

use super::SignalLedger;
use super::top::may_enter;
use crate::checkpoint::{Chunk, ListedPair, PairRecord, RecordFault, Round, Rounds};
use crate::limits::{WALK_RECORDS_MAX, WALK_SLOTS_MAX};
use crate::signal::buckets::Listed;
use crate::{EntityHash, EntityId, Materializer, RoutedEvent, SignalId, Timestamp};
use ebbtide_wal::Lsn;
use std::cmp::Ordering;

/// How far a checkpoint has come in a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    round: Round,
    /// Whether pairs that have not changed are written out too.
    is_of_all: bool,
    slot: usize,
    /// Behind the last pair that there was when it began; not known before its first step.
    end: Option<usize>,
    records_max: usize,
    slots_max: usize,
}

impl Walk {
    /// A walk at its beginning, to write out what has changed since it was last saved.
    #[must_use]
    pub const fn of_changed(round: Round) -> Self {
        Self {
            round,
            is_of_all: false,
            slot: 0,
            end: None,
            records_max: WALK_RECORDS_MAX,
            slots_max: WALK_SLOTS_MAX,
        }
    }

    /// A walk at its beginning, to write out every pair.
    #[must_use]
    pub const fn of_all(round: Round) -> Self {
        Self { is_of_all: true, ..Self::of_changed(round) }
    }

    /// The same in steps of another size.
    #[cfg(test)]
    pub(crate) fn in_steps_of(self, records_max: usize, slots_max: usize) -> Self {
        Self { records_max, slots_max, ..self }
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
    /// In which round the storage has it; `None` if it does not, and the next checkpoint has to
    /// write it.
    pub saved: Option<Round>,
}

impl Materializer for SignalLedger {
    #[inline]
    fn on_event(&mut self, event: &RoutedEvent) {
        self.apply_one(event);
    }

    fn checkpoint(&mut self, walk: &mut Walk, lsn: Lsn, numbers: &[u8]) -> Option<Chunk> {
        if walk.end == Some(walk.slot) {
            return None;
        }
        let (mut chunk, mut counts) = (Chunk::new(lsn, walk.round), Vec::new());
        let end = *walk.end.get_or_insert(self.states.len());
        let stop = end.min(walk.slot + walk.slots_max);
        while walk.slot < stop && chunk.pairs().len() < walk.records_max {
            let slot = walk.slot;
            walk.slot += 1;
            if self.states.at(slot).is_some_and(|kept| walk.is_of_all || kept.hot.is_dirty()) {
                self.write_out(slot, numbers, &mut chunk, &mut counts);
            }
        }
        self.rounds.take_all(chunk.replaced());
        self.rounds.add(chunk.round(), chunk.pairs().len() as u64);
        Some(chunk)
    }

    fn restore(&mut self, pair: &RestoredPair) -> Result<bool, RecordFault> {
        let &RestoredPair { entity, hash, signal, ref record, saved } = pair;
        let listed = ListedPair::of((entity, signal.0), record);
        self.restore_listed((hash, signal), (&listed, &record.counts), saved)
    }
}

impl SignalLedger {
    /// Puts back a pair of this hash and signal type, as [`Materializer::restore`] does. What its
    /// number is and how many counts it says it has does not matter.
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub(crate) fn restore_listed(
        &mut self,
        (hash, signal): (EntityHash, SignalId),
        (pair, counts): (&ListedPair, &[Listed]),
        saved: Option<Round>,
    ) -> Result<bool, RecordFault> {
        assert!(self.owns(hash), "a pair is restored in the shard that owns it");
        let half_lives = self.schema.def(signal).half_lives().len();
        if usize::from(pair.half_lives) != half_lives {
            return Err(RecordFault::HalfLives { count: pair.half_lives });
        }
        let (entity, time) = (EntityId(pair.entity), Timestamp(pair.last_update));
        let place = RoutedEvent { entity, time, weight: 0.0, hash, signal };
        let (kept, slot) = Self::find_or_take(&mut self.states, &place);
        let state = &mut kept.hot;
        if state.all_time() != 0 {
            assert!(saved.is_some() && !state.is_dirty(), "a pair is restored before its events");
            match saved.cmp(&state.saved()) {
                Ordering::Less => return Ok(false),
                Ordering::Equal => return Err(RecordFault::Twice),
                Ordering::Greater => {}
            }
        }
        state.restore(time, pair.sums, (pair.all_time, pair.saturated));
        if let Some(round) = saved {
            if let Some(before) = state.saved() {
                self.rounds.take(before, 1);
            }
            self.rounds.add(round, 1);
            state.set_saved(round);
        }
        self.buckets.put_back(kept.counters_mut(), time, counts);
        let front = &self.fronts[signal.index()];
        if !front.holds(time, time) || may_enter(&kept.hot, front.bars()) {
            self.rank(slot, signal);
        }
        Ok(true)
    }

    /// Asks for the memory in which a pair will be restored, if there is such a signal type.
    #[inline]
    pub(crate) fn fetch(&self, hash: EntityHash, signal: Option<SignalId>) {
        if let Some(signal) = signal {
            self.states.fetch_home(self.states.home(hash, signal));
        }
    }

    /// In which rounds its pairs were last saved.
    #[must_use]
    pub const fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Lets every pair count as never saved, so that it can be saved elsewhere.
    pub fn forget_saved(&mut self) {
        for slot in 0..self.states.len() {
            if let Some(kept) = self.states.at_mut(slot) {
                kept.hot.forget_saved();
            }
        }
        self.rounds = Rounds::default();
    }

    /// Puts a slot's pair in the chunk, and the round in the slot. What is in `counts` before does
    /// not matter.
    fn write_out(
        &mut self,
        slot: usize,
        numbers: &[u8],
        chunk: &mut Chunk,
        counts: &mut Vec<Listed>,
    ) {
        let Some(kept) = self.states.at_mut(slot) else { return };
        let state = &kept.hot;
        let half_lives = self.schema.def(state.signal()).half_lives().len();
        counts.clear();
        self.buckets.list(kept.counters(), state.last_update(), counts);
        let pair = ListedPair {
            entity: state.entity().0,
            lsn: chunk.lsn().get(),
            last_update: state.last_update().as_nanos(),
            sums: state.sums(),
            all_time: state.all_time(),
            number: numbers[state.signal().index()],
            half_lives: u8::try_from(half_lives).expect("at most three half-lives"),
            saturated: state.is_saturated(),
            counts: 0,
        };
        chunk.put(&pair, counts, (state.saved(), state.is_dirty()));
        kept.hot.set_saved(chunk.round());
    }
}

#[cfg(test)]
mod tests;
