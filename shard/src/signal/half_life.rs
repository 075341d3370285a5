//! Half-lives, and time counted in them.
//!
//! Promises: [`HalfLife::phase`] turns a timestamp into whole half-lives and a 48-bit fraction with
//! one multiplication; it never goes down as time goes up, and the distance of two phases is the
//! true distance to within one unit of the fraction (a score moves by under 2.5e-15 per unit). The
//! multiplier replaces a division by the half-life; it amounts to a half-life off by one part in
//! 2^63.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::exp2::{FRACTION_BITS, ONE, exp2_fraction};
use crate::Timestamp;
use crate::limits::{HALF_LIFE_NS_MAX, HALF_LIFE_NS_MIN, LANDMARK_BITS};
use std::time::Duration;

/// Time in which a score loses half its weight, checked and ready for use.
///
/// ```
/// use ebbtide_shard::signal::half_life::HalfLife;
/// use std::time::Duration;
/// let hour = HalfLife::new(Duration::from_secs(3600)).unwrap();
/// assert!((hour.decay_rate_per_second() - 2f64.ln() / 3600.0).abs() < 1e-18);
/// assert!(HalfLife::new(Duration::ZERO).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfLife {
    ns: u64,
    /// `2^(64 + shift) / ns`, rounded down: 64 significant bits.
    reciprocal: u64,
    /// How far the upper half of the product of a time and the reciprocal is moved down to reach
    /// whole half-lives: less than 64.
    shift: u32,
}

/// The times that share one landmark of a half-life, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Era {
    /// The earliest.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
    /// Their landmark, in whole half-lives.
    pub landmark: u64,
}

impl Era {
    /// An era without any time in it.
    pub const NONE: Self = Self { first: Timestamp::MAX, last: Timestamp(0), landmark: 0 };
}

/// The decay of one half-life as of one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decay {
    pub(crate) now: Timestamp,
    /// Whole half-lives up to it.
    pub(crate) whole: u64,
    /// Twice the decay over the rest.
    pub(crate) double: f64,
}

/// A timestamp counted in half-lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phase {
    /// Whole half-lives since the Unix epoch.
    pub whole: u64,
    /// The rest, in units of 2^-48 half-lives.
    pub fraction: u64,
}

impl HalfLife {
    /// A half-life from [`HALF_LIFE_NS_MIN`] to [`HALF_LIFE_NS_MAX`], or `None` outside.
    #[must_use]
    pub fn new(length: Duration) -> Option<Self> {
        let ns = u64::try_from(length.as_nanos()).ok()?;
        if !(HALF_LIFE_NS_MIN..=HALF_LIFE_NS_MAX).contains(&ns) {
            return None;
        }
        // The largest shift for which 2^(64 + shift) / ns still fits 64 bits.
        let shift = if ns.is_power_of_two() { ns.ilog2() - 1 } else { ns.ilog2() };
        let reciprocal = u64::try_from((1u128 << (64 + shift)) / u128::from(ns)).ok()?;
        Some(Self { ns, reciprocal, shift })
    }

    /// The half-life in nanoseconds.
    #[must_use]
    pub const fn as_nanos(&self) -> u64 {
        self.ns
    }

    /// λ = ln 2 / half-life, per second, as the running formula `S·exp(−λ·dt)` uses it.
    #[must_use]
    pub fn decay_rate_per_second(&self) -> f64 {
        std::f64::consts::LN_2 / (self.ns as f64 / 1e9)
    }

    /// `time` counted in half-lives.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a product are 64 bits each")]
    pub fn phase(&self, time: Timestamp) -> Phase {
        let product = u128::from(time.0) * u128::from(self.reciprocal);
        self.phase_of((product >> 64) as u64, product as u64)
    }

    /// The phase in the product of a time and the reciprocal, by its halves.
    #[inline(always)]
    fn phase_of(&self, high: u64, low: u64) -> Phase {
        // The fraction stands below the whole; shifts that cannot overflow save a core the look.
        let below = high.wrapping_shl(self.shift.wrapping_neg()) | low.wrapping_shr(self.shift);
        Phase { whole: high.wrapping_shr(self.shift), fraction: below >> (64 - FRACTION_BITS) }
    }

    /// `times` counted in half-lives, whole ones and the rest, lane by lane as [`HalfLife::phase`]
    /// gives them.
    ///
    /// Without a branch and in products of 32 bits by 32, so that a compiler makes vectors of it.
    #[inline(always)]
    pub(crate) fn phase_lanes<const LANES: usize>(
        &self,
        times: &[u64; LANES],
        wholes: &mut [u64; LANES],
        fractions: &mut [u64; LANES],
    ) {
        const HALF_BITS: u32 = 32;
        const LOW_MASK: u64 = (1 << HALF_BITS) - 1;
        // The lowest bits of the product, which are left out, are below the fraction.
        const { assert!(HALF_LIFE_NS_MIN.ilog2() - 1 + 64 - FRACTION_BITS >= HALF_BITS) };
        let reciprocal_low = self.reciprocal & LOW_MASK;
        let reciprocal_high = self.reciprocal >> HALF_BITS;
        for lane in 0..LANES {
            let (low, high) = (times[lane] & LOW_MASK, times[lane] >> HALF_BITS);
            let crossed = [low.wrapping_mul(reciprocal_high), high.wrapping_mul(reciprocal_low)];
            let carried = (low.wrapping_mul(reciprocal_low) >> HALF_BITS)
                .wrapping_add(crossed[0] & LOW_MASK)
                .wrapping_add(crossed[1] & LOW_MASK);
            let product_high = high
                .wrapping_mul(reciprocal_high)
                .wrapping_add(crossed[0] >> HALF_BITS)
                .wrapping_add(crossed[1] >> HALF_BITS)
                .wrapping_add(carried >> HALF_BITS);
            let phase = self.phase_of(product_high, carried << HALF_BITS);
            (wholes[lane], fractions[lane]) = (phase.whole, phase.fraction);
        }
    }

    /// What every score of this half-life is multiplied by as of `now`.
    #[inline]
    pub(crate) fn decay_at(&self, now: Timestamp) -> Decay {
        let phase = self.phase(now);
        Decay { now, whole: phase.whole, double: phase.double_decay() }
    }

    /// All times that have the landmark of `time`.
    #[must_use]
    pub fn era(&self, time: Timestamp) -> Era {
        let landmark = self.phase(time).landmark();
        let first = self.first_of(landmark).unwrap_or(time);
        let next = self.first_of(landmark + (1 << LANDMARK_BITS));
        Era { first, last: next.map_or(Timestamp::MAX, |next| Timestamp(next.0 - 1)), landmark }
    }

    /// The earliest time of which so many whole half-lives have passed; `None` if there is none.
    fn first_of(&self, whole: u64) -> Option<Timestamp> {
        // The reciprocal is rounded down, so the whole is reached there or a few nanoseconds later.
        let about = whole.checked_mul(self.ns)?;
        (about..=u64::MAX).map(Timestamp).find(|&time| self.phase(time).whole >= whole)
    }
}

impl Phase {
    /// The landmark at or before this phase, in whole half-lives: a multiple of 2^9.
    #[must_use]
    #[inline(always)]
    pub const fn landmark(self) -> u64 {
        self.whole >> LANDMARK_BITS << LANDMARK_BITS
    }

    /// `2^fraction`, in `1.0..2.0`: the growing part of a forward-decayed weight.
    #[must_use]
    #[inline]
    pub fn growth(self) -> f64 {
        exp2_fraction(self.fraction)
    }

    /// `2^(1 − fraction)`, in `(1.0..=2.0)`: twice the shrinking part of a score read at this
    /// phase.
    #[must_use]
    #[inline]
    pub fn double_decay(self) -> f64 {
        exp2_fraction(ONE - self.fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: &[u64] = &[
        HALF_LIFE_NS_MIN,
        1 << 20,
        1_000_000_007,
        3_600_000_000_000,
        1 << 50,
        604_800_000_000_000,
        HALF_LIFE_NS_MAX,
    ];

    fn fixed_point(half_life: &HalfLife, ns: u64) -> u128 {
        let phase = half_life.phase(Timestamp(ns));
        (u128::from(phase.whole) << FRACTION_BITS) + u128::from(phase.fraction)
    }

    #[test]
    fn the_reciprocal_has_all_64_bits() {
        for &ns in NS {
            let half_life = HalfLife::new(Duration::from_nanos(ns)).unwrap();
            assert_eq!(half_life.reciprocal.leading_zeros(), 0, "{ns}");
        }
    }

    #[test]
    fn distances_in_phase_are_true_to_one_unit() {
        for &ns in NS {
            let half_life = HalfLife::new(Duration::from_nanos(ns)).unwrap();
            for start in [0, 1, 1_700_000_000_000_000_000, u64::MAX / 2] {
                for dt in [0, 1, ns - 1, ns, ns.saturating_mul(7), 1000u64.saturating_mul(ns)] {
                    let Some(end) = start.checked_add(dt) else { continue };
                    let got = fixed_point(&half_life, end) - fixed_point(&half_life, start);
                    let want = (u128::from(dt) << FRACTION_BITS) / u128::from(ns);
                    assert!(got.abs_diff(want) <= 1, "T {ns} start {start} dt {dt}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn lanes_are_counted_as_each_time_alone() {
        for &ns in NS {
            let half_life = HalfLife::new(Duration::from_nanos(ns)).unwrap();
            let mut random = ns;
            for turn in 0..500 {
                let times: [u64; 16] = std::array::from_fn(|lane| {
                    random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(ns | 1);
                    let edge = [0, ns.wrapping_mul(random), 1 << 32, u64::MAX][lane % 4];
                    // Of every size, and beside what carries.
                    if turn % 2 == 0 {
                        random >> (random >> 58)
                    } else {
                        edge.wrapping_sub(turn % 3)
                    }
                });
                let (mut wholes, mut fractions) = ([0; 16], [0; 16]);
                half_life.phase_lanes(&times, &mut wholes, &mut fractions);
                let lanes = wholes.into_iter().zip(fractions);
                for (time, (whole, fraction)) in times.into_iter().zip(lanes) {
                    assert_eq!(half_life.phase(Timestamp(time)), Phase { whole, fraction });
                }
            }
        }
    }

    #[test]
    fn an_era_is_all_times_of_one_landmark() {
        for &ns in NS {
            let half_life = HalfLife::new(Duration::from_nanos(ns)).unwrap();
            for time in [0, 1, 1_700_000_000_000_000_000, u64::MAX / 2, u64::MAX] {
                let landmark = |time| half_life.phase(Timestamp(time)).landmark();
                let era = half_life.era(Timestamp(time));
                assert!((era.first.0..=era.last.0).contains(&time));
                assert_eq!(
                    (landmark(era.first.0), landmark(era.last.0)),
                    (era.landmark, era.landmark)
                );
                let before = era.first.0.checked_sub(1);
                assert!(before.is_none_or(|before| landmark(before) < era.landmark), "T {ns}");
                let after = era.last.0.checked_add(1);
                assert!(after.is_none_or(|after| landmark(after) > era.landmark), "T {ns}");
            }
        }
    }

    #[test]
    fn half_lives_outside_the_limits_are_refused() {
        assert!(HalfLife::new(Duration::from_nanos(HALF_LIFE_NS_MIN - 1)).is_none());
        assert!(HalfLife::new(Duration::from_nanos(HALF_LIFE_NS_MAX + 1)).is_none());
        assert!(HalfLife::new(Duration::MAX).is_none());
    }
}
