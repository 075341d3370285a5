//! What the newest events of one signal type have in common, worked out once and not for each.
//!
//! Promises: what is answered within the front is answered to the bit as without it. Events
//! outside, far behind or the first beyond, take the general way.

use super::top::TopList;
use crate::Timestamp;
use crate::limits::HALF_LIVES_MAX;
use crate::signal::half_life::{Era, HalfLife};

/// The stretch of time in which every half-life of a signal type keeps its landmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    first: Timestamp,
    last: Timestamp,
    /// One for each half-life; the rest are not used.
    eras: [Era; HALF_LIVES_MAX],
    /// Sums below this, as bits, enter no ranking. Never above what the list's bar says.
    bars: [u64; HALF_LIVES_MAX],
}

impl Front {
    /// A front no event is within: the first one moves it.
    pub(super) const NOWHERE: Self = Self {
        first: Timestamp::MAX,
        last: Timestamp(0),
        eras: [Era::NONE; HALF_LIVES_MAX],
        bars: [0; HALF_LIVES_MAX],
    };

    /// Whether both times are within.
    #[inline]
    pub(super) fn holds(&self, one: Timestamp, other: Timestamp) -> bool {
        self.first <= one.min(other) && one.max(other) <= self.last
    }

    /// Whether `time` is beyond, so that the front has to move.
    #[inline]
    pub(super) fn is_behind(&self, time: Timestamp) -> bool {
        self.last < time
    }

    /// The front around `time`.
    pub(super) fn around(time: Timestamp, half_lives: &[HalfLife], tops: &[TopList]) -> Self {
        let mut front = Self { first: Timestamp(0), last: Timestamp::MAX, ..Self::NOWHERE };
        for (era, half_life) in front.eras.iter_mut().zip(half_lives) {
            *era = half_life.era(time);
            front.first = front.first.max(era.first);
            front.last = front.last.min(era.last);
        }
        front.lift_bars(tops);
        front
    }

    /// Takes over the bars of the lists, which have risen.
    pub(super) fn lift_bars(&mut self, tops: &[TopList]) {
        for ((bar, era), top) in self.bars.iter_mut().zip(&self.eras).zip(tops) {
            *bar = top.least_sum(era.landmark);
        }
    }

    /// The landmarks within, one for each half-life.
    #[inline]
    pub(super) fn eras(&self) -> &[Era; HALF_LIVES_MAX] {
        &self.eras
    }

    /// Whether a pair with this sum, last updated within, may have to enter the ranking of
    /// half-life `k`.
    #[inline]
    pub(super) fn may_rank(&self, k: usize, sum: f64) -> bool {
        sum.to_bits() >= self.bars[k]
    }
}
