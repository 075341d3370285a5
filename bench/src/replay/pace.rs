//! When each event is meant to be sent: an open loop, so that a stall shows in the latencies.
//!
//! Promises: the intended time of an event depends on the schedule alone, never on how the system
//! did; an event that is late is sent at once, none is skipped. Source: Gil Tene, *How NOT to
//! Measure Latency*; the schedule of wrk2.

use std::str::FromStr;
use std::time::Duration;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rate {
    /// As fast as the engine takes them: a closed loop, by back-pressure.
    Max,
    /// So many events per second, evenly.
    PerSecond(f64),
    /// At the speed of the trace's own times, so many times faster.
    Times(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "use max, a number of events per second, or xN for N times the trace's speed";
        if text == "max" {
            return Ok(Self::Max);
        }
        let (number, make): (&str, fn(f64) -> Self) = match text.strip_prefix('x') {
            Some(times) => (times, Self::Times),
            None => (text, Self::PerSecond),
        };
        match number.parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => Ok(make(number)),
            _ => Err(expected.into()),
        }
    }
}

/// Gives each event, in trace order, its intended time from the start of the run.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: Rate,
    events: u64,
    first_ns: Option<u64>,
    newest_ns: u64,
}

impl Schedule {
    /// The schedule of a run at `rate`.
    #[must_use]
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, events: 0, first_ns: None, newest_ns: 0 }
    }

    /// When the next event, stamped `time_ns`, is meant to be sent; `None` for as soon as possible.
    /// An event that goes back in time is meant for the moment of the newest before it: it was
    /// delivered then.
    pub(super) fn next(&mut self, time_ns: u64) -> Option<Duration> {
        let first_ns = *self.first_ns.get_or_insert(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        let index = self.events;
        self.events += 1;
        let seconds = match self.rate {
            Rate::Max => return None,
            Rate::PerSecond(rate) => index as f64 / rate,
            Rate::Times(times) => (self.newest_ns - first_ns) as f64 / 1e9 / times,
        };
        // A schedule of longer than a century is one of a century.
        Some(Duration::try_from_secs_f64(seconds.min(3e9)).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_spelled_three_ways() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("2.5e5".parse(), Ok(Rate::PerSecond(250_000.0)));
        assert_eq!("x60".parse(), Ok(Rate::Times(60.0)));
        for rubbish in ["", "0", "-1", "x", "x0", "fast", "inf", "nan", "60x"] {
            assert!(rubbish.parse::<Rate>().is_err(), "{rubbish}");
        }
    }

    #[test]
    fn a_schedule_depends_on_nothing_but_the_trace() {
        let mut even = Schedule::new(Rate::PerSecond(4.0));
        assert_eq!(even.next(7), Some(Duration::ZERO));
        assert_eq!(even.next(3), Some(Duration::from_millis(250)));
        let mut sped_up = Schedule::new(Rate::Times(2.0));
        let second = 1_000_000_000;
        assert_eq!(sped_up.next(10 * second), Some(Duration::ZERO));
        assert_eq!(sped_up.next(14 * second), Some(Duration::from_secs(2)));
        assert_eq!(sped_up.next(11 * second), Some(Duration::from_secs(2)), "late, sent at once");
        assert_eq!(Schedule::new(Rate::Max).next(5), None);
    }
}
