//! A fixed stream of events with everything unpleasant in it, made from a seed.
//!
//! Promises: the same seed gives the same events on every machine and in every version: integers
//! only, no library of random numbers. The golden digest of the acceptance run depends on it.
//! In it: timestamp 0, a gap of 43 years and one of five, events late by hours, by weeks and by the
//! whole of time, several events of one instant, the same event twice, bursts a microsecond long,
//! weights from nothing to the largest.

use ebbtide::{EntityId, Event, SignalId, Timestamp};

/// Entities a stream is about.
pub const ENTITIES: u64 = 50;
/// Signal types a stream uses, those of [`crate::setting::schema`].
pub const SIGNALS: u64 = 3;

/// The stream of the acceptance run.
pub mod acceptance {
    /// Its seed.
    pub const SEED: u64 = 42;
    /// How many events it has.
    pub const EVENTS: usize = 5_500;
}

const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_NS: u64 = 60 * MINUTE_NS;
const DAY_NS: u64 = 24 * HOUR_NS;
/// 2013-01-01T00:00:00Z.
const YEAR_2013_NS: u64 = 1_356_998_400_000_000_000;

/// Steele, Lea and Flood's `SplitMix64`: the whole generator is these lines.
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next number, any of 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

/// The events of one seed, without end.
#[derive(Clone, Debug)]
pub struct Stream {
    random: SplitMix,
    index: u64,
    now_ns: u64,
    last: Event,
}

impl Stream {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let last = Event::new(entity(0), SignalId(0), Timestamp(0));
        Self { random: SplitMix(seed), index: 0, now_ns: 0, last }
    }

    /// The first `count` events of `seed`.
    #[must_use]
    pub fn of(seed: u64, count: usize) -> Vec<Event> {
        Self::new(seed).take(count).collect()
    }

    fn pass_time(&mut self) {
        match self.index {
            500 => self.now_ns = YEAR_2013_NS,
            3_000 => self.now_ns += 5 * 365 * DAY_NS,
            4_200 => self.now_ns += 8 * DAY_NS,
            _ => self.now_ns += self.random.below(4 * MINUTE_NS),
        }
        self.index += 1;
    }

    fn fresh(&mut self, time_ns: u64) -> Event {
        let few = self.random.below(2) == 0;
        let entity = entity(self.random.below(if few { 5 } else { ENTITIES }));
        let signal = SignalId(u8::try_from(self.random.below(SIGNALS)).unwrap_or(0));
        Event::new(entity, signal, Timestamp(time_ns)).with_weight(self.weight())
    }

    fn weight(&mut self) -> f64 {
        match self.random.below(20) {
            0 => 0.0,
            1 => 1e-9,
            2 => 1e15,
            3..10 => self.random.below(10_000) as f64 / 1024.0,
            _ => 1.0,
        }
    }
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let now_ns = self.now_ns;
        self.last = match self.random.below(100) {
            0 => self.fresh(0),
            1..6 => {
                let late_ns = self.random.below(3 * HOUR_NS);
                self.fresh(now_ns.saturating_sub(late_ns))
            }
            6..9 => {
                let late_ns = self.random.below(40 * DAY_NS);
                self.fresh(now_ns.saturating_sub(late_ns))
            }
            9..15 => self.fresh(self.last.time.as_nanos()),
            15..18 => self.last,
            18..35 => {
                let step_ns = self.random.below(1_000);
                let weight = self.weight();
                Event { time: Timestamp(self.last.time.as_nanos() + step_ns), weight, ..self.last }
            }
            _ => {
                self.pass_time();
                self.fresh(self.now_ns)
            }
        };
        Some(self.last)
    }
}

/// The `n`th entity: the smallest id, the largest, and many between.
#[must_use]
pub fn entity(n: u64) -> EntityId {
    match n {
        0 => EntityId(0),
        1 => EntityId(u64::MAX),
        n => EntityId(n.wrapping_mul(0x2545_F491_4F6C_DD1D)),
    }
}

/// Every entity that a stream may be about.
#[must_use]
pub fn entities() -> Vec<EntityId> {
    (0..ENTITIES).map(entity).collect()
}

/// The latest time among `events`.
#[must_use]
pub fn newest(events: &[Event]) -> Timestamp {
    events.iter().map(|event| event.time).max().unwrap_or(Timestamp(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix(1_234_567);
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([random.draw(), random.draw()], published);
    }

    #[test]
    fn the_stream_has_everything_it_promises() {
        let events = Stream::of(1, 5_500);
        let pairs: BTreeSet<_> = events.iter().map(|e| (e.entity, e.signal)).collect();
        assert_eq!(pairs.len() as u64, ENTITIES * SIGNALS, "every pair has an event");
        let times: Vec<u64> = events.iter().map(|event| event.time.as_nanos()).collect();
        let count = |is: &dyn Fn(u64, u64) -> bool| {
            times.windows(2).filter(|two| is(two[0], two[1])).count()
        };
        assert!(times.iter().filter(|&&ns| ns == 0).count() > 20);
        assert!(count(&|a, b| b > a + 43 * 365 * DAY_NS) >= 1, "a gap of decades");
        assert!(count(&|a, b| b < a && a - b < 3 * HOUR_NS) > 100, "late by hours");
        assert!(count(&|a, b| b < a && a - b > DAY_NS) > 100, "late by more");
        assert!(count(&|a, b| a == b) > 400, "of one instant");
        assert!(count(&|a, b| b > a && b - a < 1_000) > 500, "bursts");
        assert!(events.windows(2).any(|two| two[0] == two[1]), "the same event twice");
        for weight in [0.0, 1e-9, 1e15] {
            assert!(events.iter().any(|e| e.weight.to_bits() == f64::to_bits(weight)));
        }
    }
}
