//! The state of one (entity, signal): running decays and windowed counts, all atomics.
//!
//! Time only moves forward: `last_ns` is the latest event seen. Writers come in two kinds.
//!
//! * An event newer than `last_ns` **advances** the state. It claims the advance by exchanging
//!   `last_ns` for [`ADVANCING`], multiplies every score by its decay over the interval, clears
//!   the buckets that the rings turn to, and publishes its own time. Others wait for that.
//! * Any other event **adds**: its weight, decayed from its own time to `last_ns`, to each score.
//!
//! Why an add is right beside an advance: it loads the score *before* it loads `last_ns`, and
//! exchanges the score only if its bits are still those. Had an advance begun in between, it
//! would see [`ADVANCING`] and start over, or the score would have changed and the exchange would
//! fail. (If the decayed score plus the new weight has exactly the old bits, the exchange passes;
//! the added weight is then too large by its decay over that one advance.)
//!
//! Counts: the bucket of an event is chosen by its minute and hour alone, so an add and an
//! advance meet in one bucket only if the ring turns a full round, all the way to the event's
//! minute, between the add's look at `last_ns` and its increment a few instructions later. The
//! event is then counted in the newer minute. The all-time count is exact in any case.

use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::Rates;
use super::ring::Ring;
use crate::limits::{HALF_LIVES_MAX, HOURS, MINUTES};

/// Stands in `last_ns` while an advance is under way. No event has this time.
const ADVANCING: u64 = u64::MAX;
const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;

/// Scores and counts of one (entity, signal).
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct State {
    last_ns: AtomicU64,
    all_time: AtomicU64,
    /// Bits of the scores as of `last_ns`.
    scores: [AtomicU64; HALF_LIVES_MAX],
    minutes: Ring<MINUTES>,
    hours: Ring<HOURS>,
}

/// What the events of one (entity, signal) amount to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Decayed scores, one for each half-life of the signal; 0 beyond those.
    pub scores: [f64; HALF_LIVES_MAX],
    /// Events of the last 60 minute buckets.
    pub count_1h: u64,
    /// Events of the last 24 hour buckets.
    pub count_24h: u64,
    /// Events of the last 168 hour buckets.
    pub count_7d: u64,
    /// Events ever.
    pub all_time: u64,
    /// Time of the latest event.
    pub last_update_ns: u64,
}

impl State {
    /// A state whose first event, not yet recorded, has the given time.
    pub(super) fn new(time_ns: u64) -> Box<Self> {
        Box::new(Self {
            last_ns: AtomicU64::new(time_ns.min(ADVANCING - 1)),
            all_time: AtomicU64::new(0),
            scores: [const { AtomicU64::new(0) }; HALF_LIVES_MAX],
            minutes: Ring::new(),
            hours: Ring::new(),
        })
    }

    /// Counts an event and adds its weight.
    #[inline]
    pub(super) fn record(&self, rates: &Rates, time_ns: u64, weight: f64) {
        let time_ns = time_ns.min(ADVANCING - 1);
        let last_ns = self.advance_or_add(rates, time_ns, weight);
        self.minutes.count(time_ns / MINUTE_NS, last_ns / MINUTE_NS);
        self.hours.count(time_ns / HOUR_NS, last_ns / HOUR_NS);
        self.all_time.fetch_add(1, Relaxed);
    }

    /// Updates the scores; gives back the time of the latest event.
    #[inline]
    fn advance_or_add(&self, rates: &Rates, time_ns: u64, weight: f64) -> u64 {
        loop {
            let last_ns = self.settled_ns();
            if time_ns <= last_ns {
                self.add(rates, time_ns, weight);
                return last_ns;
            }
            let claim = self.last_ns.compare_exchange_weak(last_ns, ADVANCING, AcqRel, Relaxed);
            if claim.is_ok() {
                self.advance(rates, last_ns, time_ns, weight);
                return time_ns;
            }
        }
    }

    /// Moves the state, claimed by this thread, to the time of a new event.
    #[inline]
    fn advance(&self, rates: &Rates, last_ns: u64, time_ns: u64, weight: f64) {
        let interval_ns = (time_ns - last_ns) as f64;
        for (score, per_ns) in self.scores.iter().zip(rates.per_ns).take(rates.count) {
            let factor = (-per_ns * interval_ns).exp();
            // Adds that saw the old time may still be on their way, hence the exchange.
            let mut bits = score.load(Relaxed);
            loop {
                let moved = f64::from_bits(bits) * factor + weight;
                match score.compare_exchange_weak(bits, moved.to_bits(), AcqRel, Relaxed) {
                    Ok(_) => break,
                    Err(seen) => bits = seen,
                }
            }
        }
        self.minutes.turn(last_ns / MINUTE_NS, time_ns / MINUTE_NS);
        self.hours.turn(last_ns / HOUR_NS, time_ns / HOUR_NS);
        self.last_ns.store(time_ns, Release);
    }

    /// Adds the weight of an event that is not newer than the state.
    #[inline]
    fn add(&self, rates: &Rates, time_ns: u64, weight: f64) {
        for (score, per_ns) in self.scores.iter().zip(rates.per_ns).take(rates.count) {
            loop {
                let bits = score.load(Acquire);
                let late_ns = self.settled_ns() - time_ns;
                let factor = if late_ns == 0 { 1.0 } else { (-per_ns * late_ns as f64).exp() };
                let sum = f64::from_bits(bits) + weight * factor;
                if score.compare_exchange_weak(bits, sum.to_bits(), AcqRel, Relaxed).is_ok() {
                    break;
                }
            }
        }
    }

    /// The time of the latest event, when no advance is under way.
    #[inline]
    fn settled_ns(&self) -> u64 {
        match self.last_ns.load(Acquire) {
            ADVANCING => self.await_settled(),
            last_ns => last_ns,
        }
    }

    #[cold]
    fn await_settled(&self) -> u64 {
        /// Looks before the processor is given away: an advance takes less than that many.
        const SPINS: u32 = 128;
        let mut spins = 0;
        loop {
            match self.last_ns.load(Acquire) {
                ADVANCING if spins < SPINS => spin_loop(),
                // Its thread was interrupted in the middle.
                ADVANCING => std::thread::yield_now(),
                last_ns => return last_ns,
            }
            spins += 1;
        }
    }

    /// What the state amounts to as of `now_ns`, or of its latest event if that is later.
    #[inline]
    pub(super) fn read(&self, rates: &Rates, now_ns: u64) -> Reading {
        loop {
            let last_ns = self.settled_ns();
            let reading = self.read_as_of(rates, last_ns, now_ns.max(last_ns));
            // An advance in the middle would mix two times; adds do no harm.
            if self.last_ns.load(Acquire) == last_ns {
                return reading;
            }
        }
    }

    #[inline]
    fn read_as_of(&self, rates: &Rates, last_ns: u64, now_ns: u64) -> Reading {
        let mut scores = [0.0; HALF_LIVES_MAX];
        let age_ns = (now_ns - last_ns) as f64;
        for (index, per_ns) in rates.per_ns.iter().enumerate().take(rates.count) {
            let score = f64::from_bits(self.scores[index].load(Acquire));
            scores[index] = score * (-per_ns * age_ns).exp();
        }
        let (last_hour, now_hour) = (last_ns / HOUR_NS, now_ns / HOUR_NS);
        Reading {
            scores,
            count_1h: self.minutes.sum(60, last_ns / MINUTE_NS, now_ns / MINUTE_NS),
            count_24h: self.hours.sum(24, last_hour, now_hour),
            count_7d: self.hours.sum(168, last_hour, now_hour),
            all_time: self.all_time.load(Acquire),
            last_update_ns: last_ns,
        }
    }
}
