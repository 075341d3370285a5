//! Measuring two sides in turn, so that whatever the machine does meanwhile happens to both.

use crate::fault::Fault;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// One turn of a row: ours, the reference, and the best that the reference did within the turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides {
    /// Our number.
    pub(super) ours: f64,
    /// The reference's.
    pub(super) reference: f64,
    /// The best the reference came to in any part of the turn; the whole if it has no parts.
    pub(super) reference_best: f64,
    /// The machine's own stalls meanwhile, at the row's percentile; only of rows with latencies.
    pub(super) stall_us: Option<f64>,
}

impl From<(f64, f64)> for Sides {
    fn from((ours, reference): (f64, f64)) -> Self {
        Self { ours, reference, reference_best: reference, stall_us: None }
    }
}

/// What the turns of one row came to.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// The median of our numbers.
    pub(super) ours: f64,
    /// The median of the reference's.
    pub(super) reference: f64,
    /// The median of their ratios, turn by turn.
    pub(super) ratio: f64,
    /// The least and the greatest of those.
    pub(super) spread: [f64; 2],
    /// The least and the greatest that the reference came to, in any turn or part of one.
    pub(super) reference_range: [f64; 2],
    /// The median of the machine's own stalls, if the row has them recorded.
    pub(super) stall_us: Option<f64>,
}

impl Measured {
    /// Does one turn that is not counted, then `turns` that are. A turn measures ours, then the
    /// reference, and gives both numbers, for each of some rows.
    ///
    /// # Errors
    ///
    /// Of the first turn that fails.
    pub(super) fn interleaved<S: Into<Sides>, const ROWS: usize>(
        turns: usize,
        mut turn: impl FnMut() -> Result<[S; ROWS], Fault>,
    ) -> Result<[Self; ROWS], Fault> {
        let mut turn = || turn().map(|rows| rows.map(Into::into));
        turn()?;
        let turns = (0..turns.max(1)).map(|_| turn()).collect::<Result<Vec<_>, _>>()?;
        Ok(std::array::from_fn(|row| Self::of(turns.iter().map(|turn| turn[row]))))
    }

    fn of(turns: impl Iterator<Item = Sides> + Clone) -> Self {
        let ratios = sorted(turns.clone().map(|turn| turn.ours / turn.reference));
        let stalls = sorted(turns.clone().filter_map(|turn| turn.stall_us));
        Self {
            ours: median(&sorted(turns.clone().map(|turn| turn.ours))),
            reference: median(&sorted(turns.clone().map(|turn| turn.reference))),
            reference_range: [
                turns.clone().map(|turn| turn.reference_best).fold(f64::INFINITY, f64::min),
                turns.map(|turn| turn.reference_best).fold(0.0, f64::max),
            ],
            stall_us: (!stalls.is_empty()).then(|| median(&stalls)),
            ratio: median(&ratios),
            spread: [ratios[0], ratios[ratios.len() - 1]],
        }
    }
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The middle of sorted numbers; of two, their mean.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// Seconds of a core that `work` takes on this thread. Time in which the machine runs somebody else
/// is not in it; what they do to its caches is.
pub(super) fn core_seconds(work: impl FnOnce()) -> f64 {
    let begun = used_by(ClockId::ThreadCPUTime);
    work();
    used_by(ClockId::ThreadCPUTime).saturating_sub(begun).as_secs_f64()
}

/// Seconds of all cores that this process has used.
pub(super) fn process_seconds() -> f64 {
    used_by(ClockId::ProcessCPUTime).as_secs_f64()
}

fn used_by(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// Seconds by the wall until `work` is done.
///
/// # Errors
///
/// Of the work.
pub(super) fn wall_seconds(work: impl FnOnce() -> Result<(), Fault>) -> Result<f64, Fault> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Millions per second.
pub(super) fn millions(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_turns_ratios_and_the_first_turn_is_dropped() {
        let mut turns = [(100.0, 1.0), (4.0, 2.0), (9.0, 3.0), (5.0, 5.0)].into_iter();
        let [measured, turned] = Measured::interleaved(3, || {
            let (ours, reference) = turns.next().unwrap();
            Ok([(ours, reference), (reference, ours)])
        })
        .unwrap();
        assert_eq!((measured.ours, measured.reference), (5.0, 3.0));
        assert_eq!((measured.ratio, measured.spread), (2.0, [1.0, 3.0]));
        assert_eq!((turned.ratio, turned.ours), (0.5, 3.0));
    }

    #[test]
    fn an_even_number_of_turns_has_its_median_in_between() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), 3.0);
    }

    #[test]
    fn a_turn_that_fails_ends_the_row() {
        let failing = || Err::<[(f64, f64); 1], _>(Fault::environment("no core"));
        assert!(Measured::interleaved(2, failing).is_err());
    }
}
