//! The same code compiled once more for processors with wider instructions.
//!
//! Promises: a kernel gives the same bits on every processor: nothing is fused or reordered, only
//! done for several numbers at once. Why: programs are built for the oldest processor they may
//! meet, which counts bits and shifts wide numbers in twenty instructions where one would do.

use std::sync::LazyLock;

/// How much of the processor kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// What every processor of its kind has.
    Plain,
    /// x86-64 with AVX2, BMI and bit counts.
    Wide,
    /// The same with AVX-512 for vectors of any length.
    Widest,
}

/// How much of this processor kernels use.
#[inline]
#[must_use]
pub fn width() -> Width {
    static WIDTH: LazyLock<Width> = LazyLock::new(find_width);
    *WIDTH
}

fn find_width() -> Width {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
    {
        let has_widest = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if has_widest { Width::Widest } else { Width::Wide };
    }
    Width::Plain
}

/// A piece of work worth compiling more than once. What it calls must be inlined into it.
pub(crate) trait Kernel {
    /// What it gives.
    type Answer;
    /// Does it.
    fn run(self) -> Self::Answer;
}

/// Runs a kernel with the widest instructions this processor has.
#[inline]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a function for some processors only is unsafe to call")
)]
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Answer {
    #[cfg(target_arch = "x86_64")]
    {
        /// Processors of 2017 and later.
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512dq,avx512vl")]
        fn widest<K: Kernel>(kernel: K) -> K::Answer {
            kernel.run()
        }
        /// Processors of 2013 and later.
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
        fn wide<K: Kernel>(kernel: K) -> K::Answer {
            kernel.run()
        }
        match width() {
            // SAFETY: needs a processor with the instructions named. Holds because `width` says so
            // only where it has each. Test: `kernels_give_the_same_bits_everywhere`.
            Width::Widest => return unsafe { widest(kernel) },
            // SAFETY: as above.
            Width::Wide => return unsafe { wide(kernel) },
            Width::Plain => {}
        }
    }
    kernel.run()
}

#[cfg(test)]
#[expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]
mod tests {
    use super::*;
    use crate::signal::exp2::{ONE, growth_lanes};

    struct Growths<'a>(&'a [[u64; 16]]);

    impl Kernel for Growths<'_> {
        type Answer = Vec<[u64; 16]>;

        #[inline(always)]
        fn run(self) -> Self::Answer {
            let grown = |fractions: &[u64; 16]| {
                let weights = fractions.map(|fraction| (fraction >> 20) as f64 / 7.0);
                let exponents = fractions.map(|fraction| fraction % 900);
                let mut grown = [0.0; 16];
                growth_lanes(&weights, fractions, &exponents, &mut grown);
                let bits = fractions.map(|fraction| u64::from(fraction.count_ones()));
                std::array::from_fn(|lane| grown[lane].to_bits() ^ bits[lane])
            };
            self.0.iter().map(grown).collect()
        }
    }

    #[test]
    fn kernels_give_the_same_bits_everywhere() {
        let fraction = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % ONE;
        let fractions: Vec<[u64; 16]> =
            (0..500).map(|row| std::array::from_fn(|i| fraction(16 * row + i as u64))).collect();
        assert_eq!(run(Growths(&fractions)), Growths(&fractions).run());
    }
}
