//! The mathematics of decaying signals: pure functions of integers and `f64`, no clock, no I/O.
//!
//! # Scores
//!
//! A score with half-life `T` is `S(t) = Σ wᵢ·2^(−(t−tᵢ)/T)` over all events at or before `t`. It
//! is stored *forward*: `A = Σ wᵢ·2^((tᵢ−L)/T)` against a landmark `L`, and read as `S(t) =
//! A·2^(−(t−L)/T)`. So a write ages nothing, arrival order matters only to rounding, and two
//! entities of equal `T` keep their order for ever. Source: Cormode, Shkapenyuk, Srivastava, Xu,
//! *Forward Decay*, ICDE 2009.
//!
//! # Windows
//!
//! A window of N minutes (hours) as of `now` is the sum of the N per-minute (per-hour) buckets of
//! Unix time that end with the one holding `now`.
//!
//! # Promises
//!
//! * Only IEEE 754 additions, multiplications and integer arithmetic decide stored state: the same
//!   events in the same order give the same bits on every host.
//! * A score is within 1e-12 (relative) of the exact sum, in any order of arrival; the factor
//!   itself is within 4e-15.
//! * Without events a score never rises, for any two instants (see [`exp2`]).
//! * Counts are exact up to `u32::MAX` per bucket, then stay there and say so.

pub(crate) mod buckets;
pub mod exp2;
mod exp2_table;
pub mod half_life;
pub mod hot;
pub(crate) mod pair;
pub mod window;
