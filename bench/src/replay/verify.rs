//! Compares every answer of the engine with the reference model.
//!
//! Promises: every pair is compared in every number (scores to 1e-9, everything else exactly);
//! every other way of asking (rows, single reads, rankings) must give the same answers; the first
//! differences are named. A model that agrees proves both, for they share no arithmetic.

use super::input::Input;
use super::state::{self, Pair};
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use ebbtide::{Engine, EntityId, Feature, Plan, Reader, Schema, SignalId, Timestamp};
use ebbtide_shard::model::{ModelReading, ReferenceModel};
use serde::Serialize;
use std::collections::HashMap;

/// Scores may differ by so much, relatively.
const TOLERANCE: f64 = 1e-9;
/// Scores below this have lost precision to underflow, in the model as well.
const SCORE_MIN: f64 = 1e-290;
/// Differences that are spelled out.
const DIFFERENCES_SHOWN: usize = 10;
/// Entities in one matrix.
const ROWS: usize = 200;
/// Pairs read one by one as well.
const SINGLE_READS_MAX: usize = 10_000;
/// Places compared in each ranking.
const PLACES: usize = 100;

/// What was compared, and how it came out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verified {
    /// Pairs compared.
    pub(super) pairs: usize,
    /// Scores compared with the model.
    pub(super) scores: usize,
    /// Counts, velocities, totals and times compared with the model.
    pub(super) exact: usize,
    /// Numbers that other ways of asking gave again.
    pub(super) again: usize,
    /// Places of rankings compared.
    pub(super) places: usize,
    /// The largest relative difference of a score.
    pub(super) largest_difference: f64,
    /// What differs, in words; more than these may.
    pub(super) differences: Vec<String>,
    /// How many things differ.
    pub(super) difference_count: usize,
}

impl Verified {
    fn differs(&mut self, what: impl FnOnce() -> String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_SHOWN {
            self.differences.push(what());
        }
    }

    fn expect(&mut self, same: bool, what: impl FnOnce() -> String) {
        if !same {
            self.differs(what);
        }
    }
}

/// Everything the comparison looks at.
pub(super) struct Comparison<'r> {
    /// The engine.
    pub(super) engine: &'r Engine,
    /// What it says of every pair.
    pub(super) pairs: &'r [Pair],
    /// What is right.
    pub(super) model: &'r ReferenceModel,
    /// Where names come from.
    pub(super) input: &'r Input,
    /// When to stop.
    pub(super) interrupt: &'r Interrupt,
    /// The instant of all answers.
    pub(super) as_of: Timestamp,
}

impl Comparison<'_> {
    /// Compares.
    ///
    /// # Errors
    ///
    /// If a shard is down, or a signal has come. Differences are part of the result.
    pub(super) fn run(&self) -> Result<Verified, Fault> {
        let mut verified = Verified::default();
        self.compare_pairs(&mut verified)?;
        let mut reader = self.engine.reader()?;
        self.compare_rows(&mut verified, &mut reader)?;
        self.compare_single_reads(&mut verified, &mut reader)?;
        self.compare_rankings(&mut verified, &mut reader)?;
        Ok(verified)
    }

    fn schema(&self) -> &Schema {
        self.engine.schema()
    }

    fn name(&self, entity: EntityId, signal: SignalId) -> String {
        format!("{} {}", self.input.spelling(entity.0), self.schema().def(signal).name())
    }

    fn compare_pairs(&self, verified: &mut Verified) -> Result<(), Fault> {
        let wanted = self.model.pairs().len();
        let found = self.pairs.len();
        verified.expect(wanted == found, || format!("{found} pairs are held, {wanted} are right"));
        for pair @ &(entity, signal, _) in self.pairs {
            self.interrupt.check()?;
            verified.pairs += 1;
            match self.model.read(entity, signal, self.as_of) {
                Some(want) => self.compare_pair(verified, pair, &want),
                None => verified.differs(|| {
                    format!("{}: there never was such an event", self.name(entity, signal))
                }),
            }
        }
        Ok(())
    }

    fn compare_pair(&self, verified: &mut Verified, pair: &Pair, want: &ModelReading) {
        let (entity, signal, got) = pair;
        let name = || self.name(*entity, *signal);
        for (k, (&got, &want)) in got.scores().iter().zip(&want.scores).enumerate() {
            verified.scores += 1;
            let difference = if want > SCORE_MIN { (got - want).abs() / want } else { got - want };
            verified.largest_difference = verified.largest_difference.max(difference);
            verified.expect(difference.abs() <= TOLERANCE, || {
                format!("{}: score {k} is {got:?}, {want:?} is right", name())
            });
        }
        verified.exact += got.counts().len() + got.velocities().len() + 3;
        verified.expect(got.counts() == want.counts, || {
            format!("{}: counts are {:?}, {:?} are right", name(), got.counts(), want.counts)
        });
        verified.expect(got.velocities() == want.velocities, || {
            format!(
                "{}: velocities are {:?}, {:?} are right",
                name(),
                got.velocities(),
                want.velocities
            )
        });
        let (totals, right) = ((got.all_time, got.last_update), (want.all_time, want.last_update));
        verified.expect(totals == right && got.as_of == want.as_of, || {
            format!("{}: all-time and last update are {totals:?}, {right:?} are right", name())
        });
    }

    /// Every number again, as matrices with one column for each.
    fn compare_rows(&self, verified: &mut Verified, reader: &mut Reader) -> Result<(), Fault> {
        let plan = everything(self.schema())?;
        let mut entities: Vec<EntityId> = self.pairs.iter().map(|pair| pair.0).collect();
        entities.dedup();
        let width = plan.columns().len();
        let mut matrix = Vec::new();
        let mut rest = self.pairs;
        for chunk in entities.chunks(ROWS) {
            self.interrupt.check()?;
            matrix.clear();
            matrix.resize(chunk.len() * width, f64::NAN);
            let read = reader.read_many(chunk, &plan, self.as_of, &mut matrix);
            read.map_err(Fault::environment)?;
            for (&entity, row) in chunk.iter().zip(matrix.chunks_exact(width)) {
                let mine = rest.iter().take_while(|pair| pair.0 == entity).count();
                let (pairs, others) = rest.split_at(mine);
                rest = others;
                self.compare_row(verified, pairs, (entity, &plan), row);
            }
        }
        Ok(())
    }

    fn compare_row(
        &self,
        verified: &mut Verified,
        pairs: &[Pair],
        (entity, plan): (EntityId, &Plan),
        row: &[f64],
    ) {
        for (&column, &got) in plan.columns().iter().zip(row) {
            let pair = pairs.iter().find(|pair| pair.1 == column.signal());
            let want = pair.map_or(0.0, |(_, _, reading)| match column {
                Feature::Score { half_life, .. } => reading.scores()[half_life],
                Feature::Count { window, .. } => reading.counts()[window] as f64,
                Feature::Velocity { window, .. } => reading.velocities()[window],
                Feature::AllTime { .. } => reading.all_time as f64,
            });
            verified.again += 1;
            verified.expect(got.to_bits() == want.to_bits(), || {
                format!(
                    "{}: {column:?} is {got:?} in a row, {want:?} by itself",
                    self.name(entity, column.signal())
                )
            });
        }
    }

    fn compare_single_reads(
        &self,
        verified: &mut Verified,
        reader: &mut Reader,
    ) -> Result<(), Fault> {
        let every = self.pairs.len().div_ceil(SINGLE_READS_MAX).max(1);
        for &(entity, signal, want) in self.pairs.iter().step_by(every) {
            self.interrupt.check()?;
            let got = reader.read(entity, signal, self.as_of).map_err(Fault::environment)?;
            verified.again += 1;
            verified.expect(got == Some(want), || {
                format!("{}: a single read says {got:?}", self.name(entity, signal))
            });
        }
        Ok(())
    }

    /// Every ranking against the pairs, best first. Scores that underflow are beyond comparing; so
    /// are those as of the past, which stand each for another instant, and the newest is taken.
    fn compare_rankings(&self, verified: &mut Verified, reader: &mut Reader) -> Result<(), Fault> {
        let together = self.pairs.iter().map(|pair| pair.2.as_of).max().unwrap_or(self.as_of);
        let pairs = state::pairs(self.engine, together)?;
        for (signal, def) in self.schema().signals() {
            for (k, label) in def.half_life_labels().enumerate() {
                let mut want: Vec<(EntityId, f64)> = pairs
                    .iter()
                    .filter(|pair| pair.1 == signal && pair.2.scores()[k] > SCORE_MIN)
                    .map(|pair| (pair.0, pair.2.scores()[k]))
                    .collect();
                want.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                let places = want.len().min(PLACES);
                let top = reader.top_k(signal, k, places, together).map_err(Fault::environment)?;
                verified.places += places;
                let got: Vec<_> = top.iter().map(|entry| (entry.entity, entry.score)).collect();
                let same = is_best(&got, &want);
                verified.expect(same, || format!("{} by {label}: wrong ranking", def.name()));
            }
        }
        Ok(())
    }
}

/// Whether `got` are the best of `want`, which is sorted, each with the score of its own entity.
/// Entities whose scores are equal to the last digit may stand in either order.
fn is_best(got: &[(EntityId, f64)], want: &[(EntityId, f64)]) -> bool {
    let near = |score: f64, right: f64| (score - right).abs() <= 1e-14 * right;
    let mut left: HashMap<EntityId, f64> = want.iter().copied().collect();
    let places = want.len().min(PLACES);
    got.len() == places
        && got.iter().zip(want).all(|(&(entity, score), best)| {
            // Taken out, so that none stands twice.
            let own = left.remove(&entity);
            near(score, best.1) && own.is_some_and(|own| near(score, own))
        })
}

/// A plan with every number of every signal type.
fn everything(schema: &Schema) -> Result<Plan, Fault> {
    let mut plan = Plan::over(schema);
    for (_, def) in schema.signals() {
        let name = def.name();
        for label in def.half_life_labels() {
            plan = plan.score(name, label).map_err(Fault::input)?;
        }
        for label in def.window_labels() {
            plan = plan.count(name, label).map_err(Fault::input)?;
            if def.velocity() {
                plan = plan.velocity(name, label).map_err(Fault::input)?;
            }
        }
        plan = plan.all_time(name).map_err(Fault::input)?;
    }
    Ok(plan.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Right scores under wrong entities passed.
    #[test]
    fn a_ranking_is_of_the_entities_that_have_the_scores() {
        let of = |pairs: &[(u64, f64)]| -> Vec<(EntityId, f64)> {
            pairs.iter().map(|&(entity, score)| (EntityId(entity), score)).collect()
        };
        let want = of(&[(1, 3.0), (2, 2.0), (3, 2.0), (4, 1.0)]);
        assert!(is_best(&want, &want));
        assert!(is_best(&of(&[(1, 3.0), (3, 2.0), (2, 2.0), (4, 1.0)]), &want), "equal scores");
        for wrong in [
            of(&[(4, 3.0), (2, 2.0), (3, 2.0), (1, 1.0)]),
            of(&[(1, 3.0), (2, 2.0), (2, 2.0), (4, 1.0)]),
            of(&[(1, 3.0), (2, 2.0), (9, 2.0), (4, 1.0)]),
            of(&[(1, 3.0), (2, 2.0), (4, 1.0), (3, 2.0)]),
            of(&[(1, 3.0), (2, 2.0), (3, 2.0)]),
        ] {
            assert!(!is_best(&wrong, &want), "{wrong:?}");
        }
    }
}
