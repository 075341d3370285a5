//! The machine's own stalls, recorded beside whatever reports latencies: a row, or a replay.
//!
//! Promises: a thread on the first core and one on the last, those of producers and shards, sleep
//! for ten milliseconds at a time while the work runs, and note how much later than that they were
//! awake: the way of jHiccup. A longer stall counts as the sleeps that it kept from happening would
//! have seen it, so a part of all sleeps is a part of the time. What the timer always takes, the
//! least that was seen on that core, is left out. Both sides of a row have them beside themselves,
//! and they wake too seldom to move either; a thread of the work that spins on such a core is one
//! of the things they wait for.

use crate::cores;
use hdrhistogram::Histogram;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a probe sleeps: so long that it does not move what is measured. One that woke every
/// millisecond on the core of a producer that spins made an acknowledgement take 110 us for 70.
const SLEEP: Duration = Duration::from_nanos(SLEEP_NS);
const SLEEP_NS: u64 = 10_000_000;
/// Longest stall told apart; a longer one counts as this.
const STALL_NS_MAX: u64 = 60 * 1_000_000_000;

/// What was recorded, in nanoseconds; however long the work takes, it stays as small.
#[derive(Debug)]
pub(crate) struct Stalls(Histogram<u64>);

impl Default for Stalls {
    fn default() -> Self {
        Self(histogram())
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, STALL_NS_MAX, 3).expect("the bounds are valid")
}

impl Stalls {
    /// Does `work` and records meanwhile.
    pub(crate) fn beside<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let mut used = vec![cores::all().first().copied(), cores::all().last().copied()];
        used.dedup();
        thread::scope(|scope| {
            let probe = |core| {
                let (working, ended) = sync_channel::<()>(0);
                let watching = move || {
                    cores::pin(core);
                    late(&ended)
                };
                (working, scope.spawn(watching))
            };
            let probes: Vec<_> = used.into_iter().map(probe).collect();
            let done = work();
            for (working, watching) in probes {
                drop(working);
                if let Ok(late) = watching.join() {
                    self.add(&late);
                }
            }
            done
        })
    }

    /// Adds what one probe saw, without what its timer always takes.
    fn add(&mut self, late: &Histogram<u64>) {
        let timer = late.min();
        for one in late.iter_recorded() {
            let stall = one.value_iterated_to().saturating_sub(timer);
            let recorded = self.0.record_n_correct(stall, one.count_at_value(), SLEEP_NS);
            recorded.expect("both histograms have the same bounds");
        }
    }

    /// The stall in microseconds that this part of all sleeps did not exceed, if any was long
    /// enough to be one.
    pub(crate) fn at_us(&self, part: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part) as f64 / 1e3)
    }

    /// All of them, in nanoseconds.
    pub(crate) fn histogram_ns(&self) -> &Histogram<u64> {
        &self.0
    }
}

/// By how many nanoseconds each sleep was too long, until the other end of the channel is gone.
fn late(ended: &Receiver<()>) -> Histogram<u64> {
    let mut late = histogram();
    loop {
        let begun = Instant::now();
        if ended.recv_timeout(SLEEP) == Err(RecvTimeoutError::Disconnected) {
            return late;
        }
        let ns = begun.elapsed().saturating_sub(SLEEP).as_nanos();
        late.saturating_record(u64::try_from(ns).unwrap_or(STALL_NS_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_counted_beside_the_work_on_each_of_its_cores() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.at_us(0.5), None);
        let begun = Instant::now();
        let done = stalls.beside(|| {
            thread::sleep(Duration::from_millis(100));
            "done"
        });
        assert_eq!(done, "done");
        let (most, probes) = (begun.elapsed(), cores::all().len().min(2));
        let slept = stalls.histogram_ns().len();
        assert!(slept > 0 && slept <= (probes * (1 + most.as_millis() as usize / 10)) as u64);
        // The least of each core is the timer's own, told to three digits.
        assert!(stalls.at_us(0.0).unwrap() < 1.0, "{stalls:?}");
        let longest = stalls.at_us(1.0).unwrap();
        assert!(longest <= most.as_secs_f64() * 1e6, "{longest}");
    }

    #[test]
    fn a_part_of_all_sleeps_is_a_part_of_the_time() {
        let (mut late, mut stalls) = (histogram(), Stalls::default());
        // Ten seconds in which the machine stands still for 100 ms of every second.
        late.record_n(0, 900).unwrap();
        late.record_n(10 * SLEEP_NS, 10).unwrap();
        stalls.add(&late);
        assert_eq!(stalls.histogram_ns().len(), 1_000);
        assert!(stalls.at_us(0.90).unwrap() < 1.0, "{stalls:?}");
        assert!((79_000.0..81_000.0).contains(&stalls.at_us(0.98).unwrap()), "{stalls:?}");
        assert!((99_000.0..101_000.0).contains(&stalls.at_us(0.995).unwrap()), "{stalls:?}");
    }

    #[test]
    fn work_that_panics_ends_its_probes() {
        let panics = || Stalls::default().beside(|| panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
