//! The hot state: everything a write of one (entity, signal) pair touches first, in one cache line.
//!
//! ```text
//! offset  0        8             16        40         48         56        60       61      62
//!         | entity | last_update | sums[3] | all_time | saved    | buckets | signal | flags | 0 |
//! ```
//!
//! Invariants: `sums[k]` is `Σ wᵢ·2^((tᵢ−L)/T)` for half-life `k` of the signal type, with `L` the
//! landmark of `last_update` (derived, never stored); it is finite and not negative. `last_update`
//! never goes back. `saved` is the round of the pair's latest record in the checkpoint, zero before
//! the first; a state that changed since is dirty.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::buckets::BucketRef;
use super::exp2::scale;
use super::half_life::{Decay, HalfLife};
use crate::checkpoint::Round;
use crate::limits::HALF_LIVES_MAX;
use crate::{EntityId, SignalId, Timestamp};

/// One cache line of state for one (entity, signal) pair.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct HotSignalState {
    entity: u64,
    last_update: u64,
    sums: [f64; HALF_LIVES_MAX],
    all_time: u64,
    saved: u64,
    buckets: BucketRef,
    signal: u8,
    flags: u8,
    padding: [u8; 2],
}

const _: () = {
    assert!(size_of::<HotSignalState>() == 64 && align_of::<HotSignalState>() == 64);
    assert!(std::mem::offset_of!(HotSignalState, last_update) == 8);
    assert!(std::mem::offset_of!(HotSignalState, sums) == 16);
    assert!(std::mem::offset_of!(HotSignalState, all_time) == 40);
    assert!(std::mem::offset_of!(HotSignalState, saved) == 48);
    assert!(std::mem::offset_of!(HotSignalState, buckets) == 56);
    assert!(std::mem::offset_of!(HotSignalState, signal) == 60);
    assert!(std::mem::offset_of!(HotSignalState, flags) == 61);
};

const SATURATED: u8 = 1;
/// The first of [`HALF_LIVES_MAX`] flags: the pair is a candidate of that half-life's top list.
const RANKED_SHIFT: u32 = 1;
const DIRTY: u8 = 1 << 4;
const _: () = assert!(1 << (RANKED_SHIFT as usize + HALF_LIVES_MAX) <= DIRTY as usize);

impl HotSignalState {
    /// The state of a pair whose first event is at `time`; the event itself is not yet in it.
    #[must_use]
    pub const fn new(entity: EntityId, signal: SignalId, time: Timestamp) -> Self {
        Self {
            entity: entity.0,
            last_update: time.0,
            sums: [0.0; HALF_LIVES_MAX],
            all_time: 0,
            saved: 0,
            buckets: BucketRef::FEW,
            signal: signal.0,
            flags: 0,
            padding: [0; 2],
        }
    }

    /// Whose state this is.
    #[must_use]
    pub const fn entity(&self) -> EntityId {
        EntityId(self.entity)
    }

    /// Whether this is the state of such a pair.
    #[inline(always)]
    pub(super) const fn is(&self, entity: EntityId, signal: SignalId) -> bool {
        self.entity == entity.0 && self.signal == signal.0
    }

    /// Of which signal type.
    #[must_use]
    pub const fn signal(&self) -> SignalId {
        SignalId(self.signal)
    }

    /// The latest event time seen.
    #[must_use]
    #[inline]
    pub const fn last_update(&self) -> Timestamp {
        Timestamp(self.last_update)
    }

    /// Events ever counted, saturating at `u64::MAX`.
    #[must_use]
    pub const fn all_time(&self) -> u64 {
        self.all_time
    }

    /// Whether a counter of this pair has reached its end and stayed there.
    #[must_use]
    pub const fn is_saturated(&self) -> bool {
        self.flags & SATURATED != 0
    }

    /// Notes for good that a counter reached its end.
    pub(crate) const fn set_saturated(&mut self) {
        self.flags |= SATURATED;
    }

    /// Whether the pair has changed since its record was last saved.
    #[inline]
    pub(crate) const fn is_dirty(&self) -> bool {
        self.flags & DIRTY != 0
    }

    /// In which round the pair was last saved, if it was.
    pub(crate) const fn saved(&self) -> Option<Round> {
        Round::new(self.saved)
    }

    /// Notes that the state as it is now is saved in a round.
    pub(crate) const fn set_saved(&mut self, round: Round) {
        self.saved = round.get();
        self.flags &= !DIRTY;
    }

    /// Notes that the state is not saved.
    pub(crate) const fn forget_saved(&mut self) {
        self.saved = 0;
        self.flags |= DIRTY;
    }

    /// Puts back what was saved of the pair, which is dirty until it is known where. What it ranks
    /// in stays.
    pub(crate) const fn restore(
        &mut self,
        last_update: Timestamp,
        sums: [f64; HALF_LIVES_MAX],
        (all_time, saturated): (u64, bool),
    ) {
        (self.last_update, self.sums, self.all_time) = (last_update.0, sums, all_time);
        self.flags = self.flags & !SATURATED | DIRTY;
        if saturated {
            self.set_saturated();
        }
    }

    /// The sums of all half-lives against their landmarks; zero where there is no half-life.
    pub(crate) const fn sums(&self) -> [f64; HALF_LIVES_MAX] {
        self.sums
    }

    /// Where the pair's windowed counts are.
    #[inline(always)]
    pub(super) const fn buckets_mut(&mut self) -> &mut BucketRef {
        &mut self.buckets
    }

    /// Where the pair's windowed counts are.
    #[inline(always)]
    pub(super) const fn buckets(&self) -> BucketRef {
        self.buckets
    }

    /// Whether the pair is a candidate in the top list of half-life `k`.
    #[inline]
    pub(crate) const fn is_ranked(&self, k: usize) -> bool {
        self.flags >> (RANKED_SHIFT as usize + k) & 1 != 0
    }

    /// A bit for each half-life in whose top list the pair is a candidate, the first one lowest.
    #[inline]
    pub(crate) const fn rankings(&self) -> u8 {
        self.flags >> RANKED_SHIFT & ((1 << HALF_LIVES_MAX) - 1)
    }

    /// Enters the pair in, or lets it go from, the candidates of half-life `k`.
    pub(crate) const fn set_ranked(&mut self, k: usize, ranked: bool) {
        let bit = 1 << (RANKED_SHIFT as usize + k);
        if ranked { self.flags |= bit } else { self.flags &= !bit }
    }

    /// Counts one event of `weight` at `time` into the scores of `half_lives` and the all-time
    /// count.
    ///
    /// A late event (`time < last_update`) is aged, not refused; the last update never goes back.
    #[inline]
    pub fn add(&mut self, half_lives: &[HalfLife], time: Timestamp, weight: f64) {
        debug_assert!(weight >= 0.0 && weight.is_finite(), "weights are checked at the edge");
        let newest = self.last_update().max(time);
        for (sum, half_life) in self.sums.iter_mut().zip(half_lives) {
            let event = half_life.phase(time);
            let landmark = half_life.phase(newest).landmark();
            let old_landmark = half_life.phase(Timestamp(self.last_update)).landmark();
            if landmark != old_landmark {
                *sum = scale(*sum, exponent(old_landmark, landmark));
            }
            *sum += scale(weight * event.growth(), exponent(event.whole, landmark));
        }
        self.count(newest);
    }

    /// Counts one event by what it adds to each sum, zero where there is no half-life: as
    /// [`HotSignalState::add`], to the bit, if the gains were worked out against the landmarks of
    /// this state, and the event keeps them. `newest` is the later of its time and the last update.
    #[inline]
    pub(crate) fn gain(&mut self, gains: [f64; HALF_LIVES_MAX], newest: Timestamp) {
        for (sum, gain) in self.sums.iter_mut().zip(gains) {
            *sum += gain;
        }
        self.count(newest);
    }

    /// The sum of half-life `k`, as bits: they order sums as their values do.
    #[inline]
    pub(crate) const fn sum_bits(&self, k: usize) -> u64 {
        self.sums[k].to_bits()
    }

    #[inline]
    fn count(&mut self, newest: Timestamp) {
        self.flags |= DIRTY;
        self.last_update = newest.0;
        match self.all_time.checked_add(1) {
            Some(count) => self.all_time = count,
            None => self.set_saturated(),
        }
    }

    /// The score of half-life `k` as of `now`, or as of the last update if that is later.
    #[must_use]
    #[inline]
    pub fn score(&self, k: usize, half_life: &HalfLife, now: Timestamp) -> f64 {
        self.score_with(k, half_life, &half_life.decay_at(now))
    }

    /// The same, for a decay that is known.
    #[inline(always)]
    pub(crate) fn score_with(&self, k: usize, half_life: &HalfLife, decay: &Decay) -> f64 {
        let last = self.last_update();
        let Decay { whole, double, .. } =
            if decay.now < last { half_life.decay_at(last) } else { *decay };
        let landmark = half_life.phase(last).landmark();
        // 2^-(whole + fraction) = 2^(1 - fraction) · 2^-(whole + 1)
        scale(self.sums[k] * double, exponent(landmark, whole.wrapping_add(1)))
    }

    /// A number that orders pairs of one half-life exactly as their scores do, at every instant;
    /// zero for a score that is zero for good.
    #[must_use]
    #[inline]
    pub(crate) fn rank(&self, k: usize, half_life: &HalfLife) -> u128 {
        let (sum, lift) = normal(self.sums[k]);
        if sum == 0.0 {
            return 0;
        }
        let landmark = half_life.phase(self.last_update()).landmark();
        let bits = sum.to_bits();
        // The exponents add up; the mantissa breaks ties. The sign bit is zero.
        rank_of_zero(landmark) + u128::from(bits) - (u128::from(lift) << 52)
    }

    #[cfg(test)]
    pub(crate) fn set_all_time(&mut self, all_time: u64) {
        self.all_time = all_time;
    }
}

/// What the rank of a pair is above by the bits of its sum; by fewer, for a sum that is not normal.
pub(crate) const fn rank_of_zero(landmark: u64) -> u128 {
    (landmark as u128 + (1 << 11)) << 52
}

/// `from − to` in whole half-lives; both are below 2^45, see `limits`.
#[inline]
const fn exponent(from: u64, to: u64) -> i64 {
    from.wrapping_sub(to).cast_signed()
}

/// `x` as a normal number, and the power of two it was lifted by for that.
#[inline]
fn normal(x: f64) -> (f64, u64) {
    // By its bits, which is cheaper than to compare it. It is not negative.
    if x == 0.0 || x.to_bits() >= f64::MIN_POSITIVE.to_bits() { (x, 0) } else { (scale(x, 64), 64) }
}
