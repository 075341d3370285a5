//! Synthetic traces: events made up from a short text and a seed.
//!
//! ```
//! use ebbtide_bench::synthetic::{Spec, Synthetic};
//!
//! let spec = Spec::parse("events=1e3,entities=100,zipf=1.1,late=0.02,dup=0.01,seed=7", 2)?;
//! assert_eq!(Synthetic::new(spec).count(), 1000);
//! # Ok::<(), ebbtide_bench::synthetic::SpecError>(())
//! ```
//!
//! Promises: one text gives the same events every time, on every machine with the same
//! mathematics library, whatever the version of the random number crates' defaults (the generator
//! is `ChaCha8` by name). What a key means does not depend on the other keys.
//!
//! A fresh event is drawn as follows: its entity from the Zipf distribution, its signal uniformly,
//! its weight among the multiples of 1/4 from 0 to 4 (sums of which are exact), its time after the
//! one before by an exponential step. Then chance makes some of them late, some part of a burst,
//! and repeats some of the last ones.

mod spec;

pub use spec::{Spec, SpecError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, Zipf};

use crate::limits::{BURST_STEP_NS_MAX, REPEATABLE_EVENTS};
use crate::trace::TraceEvent;

/// The events of a [`Spec`], in order of arrival.
///
/// The line of an event is its place in the order, from 1.
#[derive(Clone, Debug)]
pub struct Synthetic {
    spec: Spec,
    random: ChaCha8Rng,
    /// None if all entities are equally likely.
    ranks: Option<Zipf<f64>>,
    /// The latest time so far.
    clock_ns: u64,
    last_entity: u64,
    event_count: u64,
    /// The last fresh events, in a ring.
    repeatable: Vec<TraceEvent>,
    fresh_count: usize,
}

impl Synthetic {
    /// Starts the trace that `spec` describes.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let ranks = (spec.zipf > 0.0).then(|| Zipf::new(spec.entities as f64, spec.zipf));
        Self {
            random: ChaCha8Rng::seed_from_u64(spec.seed),
            ranks: ranks.and_then(Result::ok),
            clock_ns: spec.start_ns,
            last_entity: 0,
            event_count: 0,
            repeatable: Vec::new(),
            fresh_count: 0,
            spec,
        }
    }

    /// How many events it gives in all.
    #[must_use]
    pub fn events_asked(&self) -> u64 {
        self.spec.events
    }

    /// How many events it has given.
    #[must_use]
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// An event that was not there before.
    fn fresh(&mut self) -> TraceEvent {
        let is_burst = self.fresh_count > 0 && self.chance(self.spec.burst);
        if is_burst {
            let step_ns = self.below(BURST_STEP_NS_MAX);
            self.clock_ns = self.clock_ns.saturating_add(step_ns);
        } else {
            let steps: f64 = Exp1.sample(&mut self.random);
            let step_ns = whole(steps * self.spec.step_ns as f64);
            self.clock_ns = self.clock_ns.saturating_add(step_ns);
            self.last_entity = self.entity();
        }
        let is_late = self.chance(self.spec.late);
        let late_ns = if is_late { 1 + self.below(self.spec.late_max_ns) } else { 0 };
        let signal = self.below(u64::from(self.spec.signals));
        let event = TraceEvent {
            time_ns: self.clock_ns.saturating_sub(late_ns),
            entity: self.last_entity,
            signal: u8::try_from(signal).unwrap_or(u8::MAX),
            weight: self.below(17) as f64 / 4.0,
            id: self.id(),
            line: self.event_count,
        };
        self.keep(event);
        event
    }

    fn entity(&mut self) -> u64 {
        match self.ranks {
            None => self.below(self.spec.entities),
            Some(ranks) => whole(ranks.sample(&mut self.random) - 1.0),
        }
    }

    fn id(&self) -> Option<u128> {
        let id = u128::from(self.spec.seed) << u64::BITS | u128::from(self.event_count);
        self.spec.ids.then_some(id)
    }

    fn keep(&mut self, event: TraceEvent) {
        if self.repeatable.len() < REPEATABLE_EVENTS {
            self.repeatable.push(event);
        } else {
            self.repeatable[self.fresh_count & (REPEATABLE_EVENTS - 1)] = event;
        }
        self.fresh_count += 1;
    }

    /// One of the last fresh events.
    fn repeated(&mut self) -> Option<TraceEvent> {
        let choice = self.below(self.repeatable.len() as u64);
        let event = self.repeatable.get(usize::try_from(choice).ok()?)?;
        Some(TraceEvent { line: self.event_count, ..*event })
    }

    /// True with the given probability.
    fn chance(&mut self, probability: f64) -> bool {
        // 53 random bits are a number from 0 to below 1.
        const UNIT: f64 = 1.0 / (1_u64 << f64::MANTISSA_DIGITS) as f64;
        let bits = self.random.next_u64() >> (u64::BITS - f64::MANTISSA_DIGITS);
        (bits as f64) * UNIT < probability
    }

    /// A number from 0 to below `bound`, or 0.
    fn below(&mut self, bound: u64) -> u64 {
        let scaled = (u128::from(self.random.next_u64()) * u128::from(bound)) >> u64::BITS;
        u64::try_from(scaled).unwrap_or_default()
    }
}

impl Iterator for Synthetic {
    type Item = TraceEvent;

    fn next(&mut self) -> Option<TraceEvent> {
        if self.event_count == self.spec.events {
            return None;
        }
        self.event_count += 1;
        let is_repeated = self.chance(self.spec.dup);
        let repeated = if is_repeated { self.repeated() } else { None };
        Some(repeated.unwrap_or_else(|| self.fresh()))
    }
}

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the whole part is what is wanted, and the conversion saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn events(spec: &str) -> Vec<TraceEvent> {
        Synthetic::new(Spec::parse(spec, 2).unwrap()).collect()
    }

    fn share(events: &[TraceEvent], is_counted: impl Fn(&TraceEvent) -> bool) -> f64 {
        events.iter().filter(|event| is_counted(event)).count() as f64 / events.len() as f64
    }

    #[test]
    fn the_events_of_a_seed_are_frozen() {
        let mut hash = blake3::Hasher::new();
        for event in events("events=1e3,entities=1e5,zipf=1.1,late=0.02,dup=0.01,burst=0.1,seed=7")
        {
            hash.update(&event.time_ns.to_le_bytes());
            hash.update(&event.entity.to_le_bytes());
            hash.update(&[event.signal]);
            hash.update(&event.weight.to_le_bytes());
            hash.update(&event.id.unwrap().to_le_bytes());
            hash.update(&event.line.to_le_bytes());
        }
        let expected = "51fc4b26663b5c2db308613daa8c6384";
        assert_eq!(&hash.finalize().to_hex()[..32], expected);
    }

    #[test]
    fn more_events_continue_the_same_trace() {
        let rest = "zipf=1.1,late=0.1,dup=0.1,burst=0.1,seed=7";
        let (short, long) =
            (events(&format!("events=5000,{rest}")), events(&format!("events=20000,{rest}")));
        assert_eq!(short[..], long[..5000]);
        assert!(long.iter().zip(1..).all(|(event, place)| event.line == place));
    }

    #[test]
    fn another_seed_gives_other_events() {
        assert_ne!(events("events=10,seed=1"), events("events=10,seed=2"));
    }

    #[test]
    fn late_events_go_back_in_time_by_at_most_the_bound() {
        let events = events("events=1e5,late=0.05,late_max=10s,step=1s,seed=3");
        let mut latest_ns = 0;
        let mut late_ns = Vec::new();
        for event in &events {
            if event.time_ns < latest_ns {
                late_ns.push(latest_ns - event.time_ns);
            }
            latest_ns = latest_ns.max(event.time_ns);
        }
        // An event less late than the step before it is not seen to be late.
        let share = late_ns.len() as f64 / events.len() as f64;
        assert!((0.04..0.055).contains(&share), "{share}");
        assert!(late_ns.iter().all(|&late_ns| late_ns <= 10_000_000_000));
        assert!(late_ns.iter().any(|&late_ns| late_ns > 9_000_000_000));
    }

    #[test]
    fn without_late_events_time_does_not_go_back() {
        let events = events("events=1e5,burst=0.3,step=1us,seed=4");
        assert!(events.is_sorted_by_key(|event| event.time_ns));
        let (first, last) = (events[0].time_ns, events[events.len() - 1].time_ns);
        let mean_ns = (last - first) as f64 / (events.len() as f64 * 0.7);
        assert!((1_000.0..1_300.0).contains(&mean_ns), "{mean_ns}");
    }

    #[test]
    fn duplicates_repeat_an_earlier_event_with_its_id() {
        let events = events("events=1e5,dup=0.03,late=0.1,seed=5");
        let mut seen = HashMap::new();
        let mut duplicate_count = 0;
        for event in &events {
            let content = TraceEvent { line: 0, ..*event };
            match seen.insert(event.id.unwrap(), content) {
                None => {}
                Some(earlier) => {
                    assert_eq!(earlier, content);
                    duplicate_count += 1;
                }
            }
        }
        assert!((2_800..3_200).contains(&duplicate_count), "{duplicate_count}");
        let lines: Vec<u64> = events.iter().map(|event| event.line).collect();
        assert_eq!(lines, (1..=100_000).collect::<Vec<u64>>());
    }

    #[test]
    fn zipf_makes_few_entities_hot_and_zero_makes_all_alike() {
        let skewed = events("events=1e5,entities=1000,zipf=1.1,seed=6");
        // The hottest has 1 / sum of 1/k^1.1 for k to 1000, which is 0.179.
        let hottest = share(&skewed, |event| event.entity == 0);
        assert!((0.17..0.19).contains(&hottest), "{hottest}");
        let uniform = events("events=1e5,entities=1000,zipf=0,seed=6");
        let low_half = share(&uniform, |event| event.entity < 500);
        assert!((0.49..0.51).contains(&low_half), "{low_half}");
        let distinct: HashSet<u64> = uniform.iter().map(|event| event.entity).collect();
        assert_eq!((distinct.len(), distinct.iter().max()), (1000, Some(&999)));
    }

    #[test]
    fn bursts_are_one_entity_at_nearly_one_time() {
        let events = events("events=1e5,entities=1e9,zipf=0,burst=0.4,step=1s,seed=8");
        let in_burst = events.windows(2).filter(|pair| pair[0].entity == pair[1].entity);
        let mut burst_count = 0;
        for pair in in_burst {
            assert!(pair[1].time_ns - pair[0].time_ns < BURST_STEP_NS_MAX);
            burst_count += 1;
        }
        assert!((39_000..41_000).contains(&burst_count), "{burst_count}");
    }

    #[test]
    fn signals_and_weights_take_all_their_values() {
        let events = events("events=1e4,seed=9");
        let signals: HashSet<u8> = events.iter().map(|event| event.signal).collect();
        assert_eq!(signals, HashSet::from([0, 1]));
        let weights: HashSet<u64> = events.iter().map(|event| whole(event.weight * 4.0)).collect();
        assert_eq!(weights, (0..=16).collect::<HashSet<u64>>());
        assert!(events.iter().all(|event| event.id.is_none()), "no duplicates, no ids");
    }
}
