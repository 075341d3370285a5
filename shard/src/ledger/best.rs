//! The best of some entities by a weighted sum of features, the best of all by one score.
//!
//! Promises: exact; ties go to the smaller id.

use super::SignalLedger;
use crate::limits::TOP_K_MAX;
use crate::request::Rows;
use crate::{Ranked, SignalId, Timestamp, TopEntry};

/// Candidates whose slots are asked for together.
const GROUP: usize = 16;

impl SignalLedger {
    /// Reads `rows` and keeps the best `k` entities by the sum of their features, each times its
    /// weight, best first, ties by the smaller id.
    ///
    /// # Panics
    ///
    /// As [`SignalLedger::read_rows`].
    pub fn rank_rows(&self, rows: &mut Rows, k: usize, now: Timestamp) {
        let Rows { columns, entities, values, weights, ranked } = rows;
        self.read_rows(entities, columns, now, values);
        ranked.clear();
        for (row, &(_, entity)) in values.chunks_exact(columns.len().max(1)).zip(&*entities) {
            let value = row.iter().zip(&*weights).map(|(value, weight)| value * weight).sum();
            ranked.push(Ranked { entity, value });
        }
        Ranked::keep_best(ranked, k);
    }

    /// The best `k` entities by one score, best first, ties by the smaller id; exact up to
    /// [`TOP_K_MAX`].
    #[must_use]
    pub fn top_k(
        &self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Vec<TopEntry> {
        let mut top = Vec::new();
        self.top_into((signal, half_life), k, now, &mut top);
        top
    }

    /// The same, in place of what is in `top`.
    pub fn top_into(
        &self,
        score: (SignalId, usize),
        k: usize,
        now: Timestamp,
        top: &mut Vec<TopEntry>,
    ) {
        self.top_candidates(score, now, top);
        TopEntry::keep_best(top, k.min(TOP_K_MAX));
    }

    /// The best and some more, in no particular order.
    pub(super) fn top_candidates(
        &self,
        (signal, k): (SignalId, usize),
        now: Timestamp,
        top: &mut Vec<TopEntry>,
    ) {
        let half_life = &self.schema.def(signal).half_lives()[k];
        let decay = half_life.decay_at(now);
        top.clear();
        for candidates in self.tops[signal.index()][k].candidates().chunks(GROUP) {
            for &slot in candidates {
                self.states.fetch(slot as usize);
            }
            for &slot in candidates {
                let state = &self.states.at(slot as usize).expect("a slot never goes away").hot;
                let rank = state.rank(k, half_life);
                // Not a candidate whose sum has sunk to zero: an event of weight zero, long after
                // the others, can do that.
                if rank > 0 {
                    let score = state.score_with(k, half_life, &decay);
                    top.push(TopEntry { entity: state.entity(), score, rank });
                }
            }
        }
    }
}
