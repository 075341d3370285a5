//! Many entities read at once: a matrix of features, or the best by a weighted sum of them.
//!
//! ```text
//! entity i+32: ask for the slot     i+16: find it, ask for the counts     i: evaluate
//! ```
//!
//! Promises: the same bits as one read after the other. What depends on the instant alone, the
//! decay of each half-life, is worked out once for a group and not for each entity.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::SignalLedger;
use super::table::Slot as _;
use crate::limits::TOP_K_MAX;
use crate::request::Rows;
use crate::signal::buckets::Heads;
use crate::signal::hot::HotSignalState;
use crate::wide::{self, Kernel};
use crate::{EntityHash, EntityId, Feature, SignalId, Timestamp, TopEntry};

/// Entities that take each step of the way together.
const GROUP: usize = 16;

/// Where in the table the entities of a group are, or their search begins.
type Places = [usize; GROUP];

/// An entity with its hash.
type Asked = (EntityHash, EntityId);

impl SignalLedger {
    /// The numbers that `columns` name, as of `now`, row by row into `values`; zero for a pair
    /// without events.
    ///
    /// # Panics
    ///
    /// If `values` has not one place for each column of each entity.
    pub fn read_rows(
        &self,
        entities: &[Asked],
        columns: &[Feature],
        now: Timestamp,
        values: &mut [f64],
    ) {
        let places = entities.len() * columns.len();
        assert_eq!(values.len(), places, "one place for each column of each entity");
        wide::run(ReadRows { ledger: self, entities, columns, now, values });
    }

    /// Reads `rows` and keeps the best `k` entities by the sum of their features, each times its
    /// weight, best first, ties by the smaller id; `values` are then those sums.
    ///
    /// # Panics
    ///
    /// As [`SignalLedger::read_rows`].
    pub fn rank_rows(&self, rows: &mut Rows, k: usize, now: Timestamp) {
        let Rows { columns, entities, values, weights, ranked } = rows;
        self.read_rows(entities, columns, now, values);
        ranked.clear();
        let features = values.chunks_exact(columns.len().max(1));
        let weights = &*weights;
        let sum = |row: &[f64]| row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
        ranked.extend(features.zip(&*entities).map(|(row, &(_, entity))| (sum(row), entity)));
        keep_best(ranked, k);
    }
}

impl SignalLedger {
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
        let mut top = self.top_candidates(signal, half_life, now);
        TopEntry::keep_best(&mut top, k.min(TOP_K_MAX));
        top
    }

    /// The best and some more, in no particular order.
    pub(super) fn top_candidates(
        &self,
        signal: SignalId,
        k: usize,
        now: Timestamp,
    ) -> Vec<TopEntry> {
        let half_life = &self.schema.def(signal).half_lives()[k];
        let decay = half_life.decay_at(now);
        let candidates = self.tops[signal.index()][k].candidates();
        let mut top = Vec::with_capacity(candidates.len());
        for candidates in candidates.chunks(GROUP) {
            let mut places = [0; GROUP];
            for (&entity, place) in candidates.iter().zip(&mut places) {
                *place = self.states.start(self.key.hash(entity), signal);
                self.states.fetch(*place);
            }
            for (&entity, &place) in candidates.iter().zip(&places) {
                let Some((_, state)) = self.states.seek(place, entity, signal) else { continue };
                let rank = state.rank(k, half_life);
                // Not a candidate whose sum has sunk to zero: an event of weight zero, long after
                // the others, can do that.
                if rank > 0 {
                    let score = state.score_with(k, half_life, &decay);
                    top.push(TopEntry { entity, score, rank });
                }
            }
        }
        top
    }
}

/// Leaves the best `k`, best first: by the greater value, then by the smaller id.
pub fn keep_best(ranked: &mut Vec<(f64, EntityId)>, k: usize) {
    let order = |a: &(f64, EntityId), b: &(f64, EntityId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k, order);
        ranked.truncate(k);
    }
    ranked.sort_unstable_by(order);
}

struct ReadRows<'a> {
    ledger: &'a SignalLedger,
    entities: &'a [Asked],
    columns: &'a [Feature],
    now: Timestamp,
    values: &'a mut [f64],
}

impl Kernel for ReadRows<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(mut self) {
        let mut first = 0;
        for columns in self.columns.chunk_by(|a, b| a.signal() == b.signal()) {
            self.read_signal(columns, first);
            first += columns.len();
        }
    }
}

impl ReadRows<'_> {
    /// Reads columns of one signal type, the first of which is column `first` of the matrix.
    #[inline(always)]
    fn read_signal(&mut self, columns: &[Feature], first: usize) {
        let (width, signal, ledger) = (self.columns.len(), columns[0].signal(), self.ledger);
        let heads = Heads::of(self.now);
        let mut places = [[0; GROUP]; 3];
        let [mut here, mut found, mut begun] = places.each_mut();
        let mut beginning = self.entities.chunks(GROUP);
        let mut finding = self.entities.chunks(GROUP);
        ledger.begin_reading(beginning.next(), signal, found);
        ledger.begin_reading(beginning.next(), signal, begun);
        ledger.seek_reading(finding.next(), signal, heads, found);
        let rows = self.values.chunks_mut(GROUP * width);
        for (group, rows) in self.entities.chunks(GROUP).zip(rows) {
            (here, found, begun) = (found, begun, here);
            ledger.begin_reading(beginning.next(), signal, begun);
            ledger.seek_reading(finding.next(), signal, heads, found);
            let mut states = [None; GROUP];
            for ((state, &(_, entity)), &place) in states.iter_mut().zip(group).zip(&*here) {
                *state = ledger.states.at(place).filter(|state| state.is(entity, signal));
            }
            for (column, &feature) in columns.iter().enumerate() {
                let out = rows.iter_mut().skip(first + column).step_by(width);
                ledger.evaluate(feature, self.now, states.into_iter().zip(out));
            }
        }
    }
}

impl SignalLedger {
    #[inline(always)]
    fn begin_reading(&self, group: Option<&[Asked]>, signal: SignalId, places: &mut Places) {
        for (&(hash, _), place) in group.unwrap_or_default().iter().zip(places) {
            *place = self.states.start(hash, signal);
            self.states.fetch(*place);
        }
    }

    #[inline(always)]
    fn seek_reading(
        &self,
        group: Option<&[Asked]>,
        signal: SignalId,
        heads: Heads,
        places: &mut Places,
    ) {
        for (&(_, entity), place) in group.unwrap_or_default().iter().zip(places) {
            if let Some((slot, state)) = self.states.seek(*place, entity, signal) {
                *place = slot;
                self.buckets.fetch(state.buckets(), heads);
            }
        }
    }

    /// One column of a group.
    #[inline(always)]
    fn evaluate<'a>(
        &self,
        feature: Feature,
        now: Timestamp,
        column: impl Iterator<Item = (Option<&'a HotSignalState>, &'a mut f64)>,
    ) {
        let def = self.schema.def(feature.signal());
        let count = |state: &HotSignalState, window: usize| {
            let (head, window) = (state.last_update(), &def.windows()[window]);
            self.buckets.count(state.buckets(), head, window, now.max(head))
        };
        match feature {
            Feature::Score { half_life: k, .. } => {
                let half_life = &def.half_lives()[k];
                let decay = half_life.decay_at(now);
                fill(column, |state| state.score_with(k, half_life, &decay));
            }
            Feature::Count { window, .. } => fill(column, |state| count(state, window) as f64),
            Feature::Velocity { window, .. } => {
                fill(column, |state| def.windows()[window].velocity(count(state, window)));
            }
            Feature::AllTime { .. } => fill(column, |state| state.all_time() as f64),
        }
    }
}

/// The value of each state, zero where there is none.
#[inline(always)]
fn fill<'a>(
    column: impl Iterator<Item = (Option<&'a HotSignalState>, &'a mut f64)>,
    value: impl Fn(&HotSignalState) -> f64,
) {
    for (state, out) in column {
        *out = state.map_or(0.0, &value);
    }
}
