//! What the newest events of one signal type have in common, worked out once and not for each.
//!
//! Promises: what is answered within the front is answered to the bit as without it. Events
//! outside, far behind or the first beyond, take the general way.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::top::{LeastSum, TopList};
use crate::Timestamp;
use crate::limits::HALF_LIVES_MAX;
use crate::signal::exp2::growth_lanes;
use crate::signal::half_life::{HalfLife, Phase};

/// The stretch of time in which every half-life of a signal type keeps its landmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    first: Timestamp,
    last: Timestamp,
    /// In whole half-lives, one for each; the rest are not used.
    landmarks: [u64; HALF_LIVES_MAX],
    /// Who is above none of these enters no ranking. Never above what the list's bar says; above
    /// any sum where there is no half-life.
    bars: [LeastSum; HALF_LIVES_MAX],
    half_lives: [HalfLife; HALF_LIVES_MAX],
    /// One where there is a half-life, zero where there is none.
    used: [f64; HALF_LIVES_MAX],
}

impl Front {
    /// A front no event is within: the first one moves it.
    pub(super) fn nowhere(half_lives: &[HalfLife]) -> Self {
        let filled = |k| half_lives.get(k).unwrap_or(&half_lives[0]);
        Self {
            first: Timestamp::MAX,
            last: Timestamp(0),
            landmarks: [0; HALF_LIVES_MAX],
            bars: [LeastSum::NONE; HALF_LIVES_MAX],
            half_lives: std::array::from_fn(|k| *filled(k)),
            used: std::array::from_fn(|k| if k < half_lives.len() { 1.0 } else { 0.0 }),
        }
    }

    /// Whether all times from `oldest` to `newest` are within.
    #[inline]
    pub(super) fn holds(&self, oldest: Timestamp, newest: Timestamp) -> bool {
        self.first <= oldest && newest <= self.last
    }

    /// Whether `time` is beyond, so that the front has to move.
    #[inline]
    pub(super) fn is_behind(&self, time: Timestamp) -> bool {
        self.last < time
    }

    /// Moves to around `time`.
    pub(super) fn move_to(&mut self, time: Timestamp, tops: &[TopList]) {
        (self.first, self.last) = (Timestamp(0), Timestamp::MAX);
        for (landmark, half_life) in self.landmarks.iter_mut().zip(&self.half_lives) {
            let era = half_life.era(time);
            *landmark = era.landmark;
            self.first = self.first.max(era.first);
            self.last = self.last.min(era.last);
        }
        self.lift_bars(tops);
    }

    /// Takes over the bars of the lists, which have risen.
    pub(super) fn lift_bars(&mut self, tops: &[TopList]) {
        for ((bar, &landmark), top) in self.bars.iter_mut().zip(&self.landmarks).zip(tops) {
            *bar = top.least_sum(landmark);
        }
    }

    /// What pairs last updated within have to be above to enter a ranking, for each half-life.
    #[inline]
    pub(super) fn bars(&self) -> &[LeastSum; HALF_LIVES_MAX] {
        &self.bars
    }

    /// What counts of a `weight` for each half-life: nothing where there is none.
    #[inline]
    pub(super) fn weights(&self, weight: f64) -> [f64; HALF_LIVES_MAX] {
        self.used.map(|used| used * weight)
    }

    /// What events of this signal type add to each sum, by their weights and times: as
    /// [`Front::growth`] and [`Front::weights`] say it of each.
    #[inline(always)]
    pub(super) fn gains<const LANES: usize>(
        &self,
        (times, weights): (&[u64; LANES], &[f64; LANES]),
        gains: &mut [[f64; LANES]; HALF_LIVES_MAX],
    ) {
        for (k, gains) in gains.iter_mut().enumerate() {
            let (mut wholes, mut fractions) = ([0; LANES], [0; LANES]);
            self.half_lives[k].phase_lanes(times, &mut wholes, &mut fractions);
            let exponents = wholes.map(|whole| whole.wrapping_sub(self.landmarks[k]));
            let weights = weights.map(|weight| self.used[k] * weight);
            growth_lanes(&weights, &fractions, &exponents, gains);
        }
    }

    /// How far a weight at `time` has grown since each landmark, in whole half-lives and the rest.
    /// Of a time outside the front, and where there is no half-life, it says nothing.
    #[inline]
    pub(super) fn growth(&self, time: Timestamp) -> [Phase; HALF_LIVES_MAX] {
        std::array::from_fn(|k| {
            let Phase { whole, fraction } = self.half_lives[k].phase(time);
            Phase { whole: whole.wrapping_sub(self.landmarks[k]), fraction }
        })
    }
}
