//! Powers of two from fixed-point exponents, in IEEE basic operations only.
//!
//! Promises: [`exp2_fraction`] is within 3e-16 (relative) of `2^x`; it is *strictly* increasing in
//! its argument, because one step of the argument (2^-48) moves the result by at least ten units in
//! the last place, more than all its rounding together. `f64::exp2` promises neither precision nor
//! the same bits on two hosts, so it must not decide stored state.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::exp2_table::EXP2_BITS;

/// Bits of the fraction of a fixed-point exponent.
pub const FRACTION_BITS: u32 = 48;
/// One, as a fixed-point exponent.
pub const ONE: u64 = 1 << FRACTION_BITS;

/// Fraction bits below those that choose the table entry.
const REST_BITS: u32 = FRACTION_BITS - 7;
const REST_UNIT: f64 = 1.0 / ONE as f64;

/// `ln(2)^k / k!`, the Taylor coefficients of `2^x` at 0; on `0..1/128` the sixth is below 4e-17.
const C1: f64 = std::f64::consts::LN_2;
const C2: f64 = 0.240_226_506_959_100_7;
const C3: f64 = 0.055_504_108_664_821_58;
const C4: f64 = 0.009_618_129_107_628_477;
const C5: f64 = 0.001_333_355_814_642_844_3;

/// `2^(fraction / 2^48)` for a fraction from 0 to [`ONE`], both included.
///
/// ```
/// use ebbtide_shard::signal::exp2::{exp2_fraction, ONE};
/// assert_eq!(exp2_fraction(0), 1.0);
/// assert_eq!(exp2_fraction(ONE / 2), std::f64::consts::SQRT_2);
/// assert_eq!(exp2_fraction(ONE), 2.0);
/// ```
///
/// # Panics
///
/// If `fraction` is above [`ONE`].
#[must_use]
#[inline]
pub fn exp2_fraction(fraction: u64) -> f64 {
    let entry = f64::from_bits(EXP2_BITS[(fraction >> REST_BITS) as usize]);
    let x = (fraction & ((1 << REST_BITS) - 1)) as f64 * REST_UNIT;
    let rise = x * (C1 + x * (C2 + x * (C3 + x * (C4 + x * C5))));
    entry + entry * rise
}

/// `weight · 2^fraction · 2^exponent` lane by lane, to the bit as [`exp2_fraction`] and [`scale`]
/// give it, for fractions below [`ONE`] and exponents from 0 to 1023. Of others it gives some
/// finite number.
///
/// Without a branch, so that a compiler makes vectors of it.
#[inline]
pub fn growth_lanes<const LANES: usize>(
    weights: &[f64; LANES],
    fractions: &[u64; LANES],
    exponents: &[u64; LANES],
    grown: &mut [f64; LANES],
) {
    /// A whole number below 2^52 in the mantissa of this one is itself, once this is taken off.
    const TWO_52: f64 = (1u64 << 52) as f64;
    for lane in 0..LANES {
        let fraction = fractions[lane];
        let entry = f64::from_bits(EXP2_BITS[(fraction >> REST_BITS) as usize & 127]);
        let rest = fraction & ((1 << REST_BITS) - 1);
        let x = (f64::from_bits(TWO_52.to_bits() | rest) - TWO_52) * REST_UNIT;
        let rise = x * (C1 + x * (C2 + x * (C3 + x * (C4 + x * C5))));
        let power = f64::from_bits(((exponents[lane] & 1023) + 1023) << 52);
        grown[lane] = weights[lane] * (entry + entry * rise) * power;
    }
}

/// `x · 2^exponent`, exact unless the result is subnormal or too large for an `f64`.
///
/// ```
/// use ebbtide_shard::signal::exp2::scale;
/// assert_eq!(scale(3.0, -1), 1.5);
/// assert_eq!(scale(1.0, -5000), 0.0);
/// ```
#[must_use]
#[inline(always)]
pub fn scale(x: f64, exponent: i64) -> f64 {
    if (-1022..=1023).contains(&exponent) {
        return x * power_of_two(exponent);
    }
    scale_far(x, exponent)
}

/// Three factors of 2^±1022 carry any finite `x` to zero or to infinity.
#[cold]
fn scale_far(mut x: f64, exponent: i64) -> f64 {
    let mut left = exponent.clamp(-3 * 1022, 3 * 1022);
    while left != 0 {
        let step = left.clamp(-1022, 1022);
        x *= power_of_two(step);
        left -= step;
    }
    x
}

/// `2^exponent` for the exponent of a normal number.
#[inline(always)]
fn power_of_two(exponent: i64) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(((exponent + 1023).cast_unsigned()) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dashu_float::FBig;
    use dashu_float::round::mode::HalfEven;

    type Big = FBig<HalfEven, 2>;

    fn big(x: f64) -> Big {
        Big::try_from(x).unwrap().with_precision(200).value()
    }

    /// `2^(fraction / 2^48)` to 200 bits.
    fn exact(fraction: u64) -> Big {
        let ln2 = big(2.0).ln();
        (big(fraction as f64) / big(ONE as f64) * ln2).exp()
    }

    fn relative_error(got: f64, want: &Big) -> f64 {
        ((big(got) - want) / want).to_f64().value().abs()
    }

    #[test]
    fn every_table_entry_is_the_nearest_double() {
        for (i, &bits) in EXP2_BITS.iter().enumerate() {
            let want = exact((i as u64) << REST_BITS);
            let here = relative_error(f64::from_bits(bits), &want);
            assert!(here <= relative_error(f64::from_bits(bits + 1), &want), "entry {i}");
            assert!(here <= relative_error(f64::from_bits(bits - 1), &want), "entry {i}");
        }
    }

    #[test]
    fn fractions_are_within_three_parts_in_ten_to_the_sixteen() {
        let mut worst: f64 = 0.0;
        for i in 0..4000u64 {
            let fraction = (i * 0x1234_5678_9ABC + i * i) % ONE;
            worst = worst.max(relative_error(exp2_fraction(fraction), &exact(fraction)));
        }
        assert!(worst < 3e-16, "worst relative error {worst:e}");
    }

    #[test]
    fn one_step_of_the_fraction_always_raises_the_result() {
        for entry in 0..128u64 {
            let edge = (entry + 1) << REST_BITS;
            for step in edge - 200..(edge + 200).min(ONE) {
                assert!(exp2_fraction(step) < exp2_fraction(step + 1), "at {step}");
            }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_one_by_one() {
        for i in 0..4000u64 {
            let fractions: [u64; 8] =
                std::array::from_fn(|lane| (i * 0x1234_5678_9ABC + lane as u64 * i * i) % ONE);
            let exponents: [u64; 8] = std::array::from_fn(|lane| (i + 37 * lane as u64) % 960);
            let weights: [f64; 8] = std::array::from_fn(|lane| (i * 7 + lane as u64) as f64 / 3.0);
            let mut grown = [f64::NAN; 8];
            growth_lanes(&weights, &fractions, &exponents, &mut grown);
            for lane in 0..8 {
                let alone = weights[lane] * exp2_fraction(fractions[lane]);
                assert_eq!(
                    grown[lane].to_bits(),
                    scale(alone, exponents[lane].cast_signed()).to_bits()
                );
            }
        }
        let mut beyond = [f64::NAN; 2];
        growth_lanes(&[0.0, 1.0], &[u64::MAX; 2], &[u64::MAX; 2], &mut beyond);
        assert!(beyond[0] == 0.0 && beyond[1].is_finite());
    }

    #[test]
    fn scaling_covers_every_exponent_without_looping_long() {
        assert_eq!(scale(1.5, 1023), 1.5 * 2f64.powi(1023));
        assert_eq!(scale(1.0, -1074), f64::from_bits(1));
        assert_eq!(scale(2f64.powi(1000), -2000), 2f64.powi(-1000));
        assert_eq!(scale(1e300, i64::MIN), 0.0);
        assert_eq!(scale(1.0, i64::MAX), f64::INFINITY);
        assert_eq!(scale(0.0, i64::MAX), 0.0);
    }
}
