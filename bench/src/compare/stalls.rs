//! The machine's own stalls, recorded beside a row that reports latencies.
//!
//! Promises: a thread on the first core and one on the last, those of the row, sleep for a
//! millisecond at a time while the row's work runs, and note how much later than that they were
//! awake: the way of jHiccup. What the timer always takes, the least that was seen on that core, is
//! left out. Both sides of a row have them beside themselves, so a ratio is not moved by them; a
//! thread of the row that spins on such a core is one of the things they wait for.

use super::cores;
use super::open_loop::LatenciesUs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a probe sleeps: far longer than it takes to note that it woke.
const SLEEP: Duration = Duration::from_millis(1);

/// What was recorded in one turn of a row.
#[derive(Debug, Default)]
pub(super) struct Stalls(Vec<Duration>);

impl Stalls {
    /// Does `work` and records meanwhile.
    pub(super) fn beside<R>(&mut self, work: impl FnOnce() -> R) -> R {
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
                self.0.extend(watching.join().unwrap_or_default());
            }
            done
        })
    }

    /// The stall in microseconds that this part of all sleeps did not exceed, if any was long
    /// enough to be one.
    pub(super) fn at_us(&self, part: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| LatenciesUs::of(&self.0).at(part))
    }
}

/// By how much each sleep was too long, until the other end of the channel is gone.
fn late(ended: &Receiver<()>) -> Vec<Duration> {
    let mut late = Vec::new();
    loop {
        let begun = Instant::now();
        if ended.recv_timeout(SLEEP) == Err(RecvTimeoutError::Disconnected) {
            break;
        }
        late.push(begun.elapsed().saturating_sub(SLEEP));
    }
    let timer = late.iter().min().copied().unwrap_or_default();
    late.iter().map(|one| one.saturating_sub(timer)).collect()
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
            thread::sleep(Duration::from_millis(50));
            "done"
        });
        assert_eq!(done, "done");
        let (most, probes) = (begun.elapsed(), cores::all().len().min(2));
        let slept = stalls.0.len();
        assert!(slept > 0 && slept <= probes * (1 + most.as_millis() as usize), "{slept}");
        // The least of each core is the timer's own.
        assert_eq!(stalls.at_us(0.0), Some(0.0));
        let longest = stalls.at_us(1.0).unwrap();
        assert!(longest <= most.as_secs_f64() * 1e6, "{longest}");
    }

    #[test]
    fn work_that_panics_ends_its_probes() {
        let panics = || Stalls::default().beside(|| panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
