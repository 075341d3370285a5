//! What a run's events had to wait for each acknowledgement, collected by each recording thread.
//!
//! Promises: an event's latency is recorded once for each level, when its level is seen to be
//! reached; looking costs the producer a few loads and never a wait.

use ebbtide::{Ack, SourceProducer, Ticket, Timestamp};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Longest latency told apart; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 3_600 * 1_000_000_000;

/// The levels that are measured, in the order events reach them, with their names.
const LEVELS: [(Ack, &str); 3] =
    [(Ack::Applied, "applied"), (Ack::Written, "written"), (Ack::Durable, "durable")];

/// The levels up to `ack`.
fn levels(ack: Ack) -> &'static [(Ack, &'static str)] {
    let count = LEVELS.iter().take_while(|level| level.0 <= ack).count();
    &LEVELS[..count]
}

/// The name of a level.
#[must_use]
pub(super) fn name(ack: Ack) -> &'static str {
    levels(ack).last().map_or("accepted", |level| level.1)
}

/// Latencies of one recording thread, or of all.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    /// By level, as far as events are waited for.
    histograms: Vec<Histogram<u64>>,
    /// Events sent.
    pub(super) sent: u64,
    /// The newest time of an event sent.
    pub(super) newest: Timestamp,
    /// Times a ring was found full.
    pub(super) full: u64,
    /// How long after its intended time an event was sent at most.
    pub(super) lag_max: Duration,
}

impl Latencies {
    /// Without any latency yet, for the levels up to `ack`.
    ///
    /// # Panics
    ///
    /// Never: the bounds of the histogram are constants it accepts.
    #[must_use]
    pub(super) fn new(ack: Ack) -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        let histogram = histogram.expect("the bounds are valid");
        Self {
            histograms: vec![histogram; levels(ack).len()],
            sent: 0,
            newest: Timestamp(0),
            full: 0,
            lag_max: Duration::ZERO,
        }
    }

    /// Counts one latency up to the level at `place`.
    fn record(&mut self, place: usize, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
        self.histograms[place].saturating_record(ns);
    }

    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        for (own, more) in self.histograms.iter_mut().zip(&other.histograms) {
            own.add(more).expect("all histograms have the same bounds");
        }
        self.sent += other.sent;
        self.newest = self.newest.max(other.newest);
        self.full += other.full;
        self.lag_max = self.lag_max.max(other.lag_max);
    }

    /// The usual percentiles of each level, in the order events reach them.
    #[must_use]
    pub(super) fn percentiles(&self) -> Vec<(&'static str, Percentiles)> {
        let names = LEVELS.iter().map(|level| level.1);
        names.zip(self.histograms.iter().map(Percentiles::of)).collect()
    }
}

/// Percentiles of latency, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// Events measured.
    pub(super) samples: u64,
    /// Half of the events waited no longer.
    pub(super) p50_us: f64,
    /// Nine in ten.
    pub(super) p90_us: f64,
    /// 99 in a hundred.
    pub(super) p99_us: f64,
    /// 999 in a thousand.
    pub(super) p999_us: f64,
    /// The longest.
    pub(super) max_us: f64,
}

impl Percentiles {
    /// Of a histogram of nanoseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            samples: histogram.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// Events that were sent and have not come as far as they are waited for.
#[derive(Debug)]
pub(super) struct OpenEvents {
    levels: &'static [(Ack, &'static str)],
    shards: Vec<OpenLane>,
}

/// Those on their way to one shard, oldest first.
#[derive(Clone, Debug, Default)]
struct OpenLane {
    /// With the time the latency counts from.
    events: VecDeque<(Ticket, Duration)>,
    /// By level, how many of them, from the front, have reached it.
    reached: [usize; LEVELS.len()],
}

impl OpenEvents {
    /// None yet, on the way to `shards` shards and as far as `ack`.
    #[must_use]
    pub(super) fn new(shards: usize, ack: Ack) -> Self {
        Self { levels: levels(ack), shards: vec![OpenLane::default(); shards] }
    }

    /// Adds one whose latency counts from `from`.
    pub(super) fn push(&mut self, ticket: Ticket, from: Duration) {
        self.shards[ticket.shard()].events.push_back((ticket, from));
    }

    /// The oldest one of some shard.
    #[must_use]
    pub(super) fn first(&self) -> Option<Ticket> {
        self.shards.iter().find_map(|lane| lane.events.front()).map(|&(ticket, _)| ticket)
    }

    /// Records in `latencies` what has come further, as `producer` knows, up to `now`.
    pub(super) fn note(
        &mut self,
        producer: &SourceProducer,
        now: impl Fn() -> Duration,
        latencies: &mut Latencies,
    ) {
        for lane in &mut self.shards {
            let reached = lane.look(self.levels, producer);
            if reached == lane.reached {
                continue;
            }
            let now = now();
            for (place, &to) in reached.iter().enumerate() {
                for &(_, from) in lane.events.range(lane.reached[place]..to) {
                    latencies.record(place, now.saturating_sub(from));
                }
            }
            lane.reached = reached;
            lane.forget(self.levels.len());
        }
    }
}

impl OpenLane {
    /// How many have reached each of `levels` by now. The last level is looked at first: what has
    /// come so far has come past the others, also if those move on between two looks.
    fn look(
        &self,
        levels: &[(Ack, &'static str)],
        producer: &SourceProducer,
    ) -> [usize; LEVELS.len()] {
        let mut reached = self.reached;
        let mut further = 0;
        for (place, &(ack, _)) in levels.iter().enumerate().rev() {
            let known = further.max(reached[place]);
            let more = self.events.range(known..);
            let more = more.take_while(|&&(ticket, _)| producer.is_acked(ticket, ack)).count();
            further = known + more;
            reached[place] = further;
        }
        reached
    }

    /// Lets go of those that have come as far as the last of `levels`.
    fn forget(&mut self, levels: usize) {
        let done = self.reached[levels - 1];
        if done > 0 {
            self.events.drain(..done);
            self.reached[..levels].iter_mut().for_each(|reached| *reached -= done);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (Latencies::new(Ack::Applied), Latencies::new(Ack::Applied));
        for us in 1..=50 {
            one.record(0, Duration::from_micros(us));
            other.record(0, Duration::from_micros(us + 50));
        }
        one.add(&other);
        let percentiles = one.percentiles()[0].1;
        assert_eq!(percentiles.samples, 100);
        assert!(
            (percentiles.p50_us - 50.0).abs() < 0.1 && (percentiles.max_us - 100.0).abs() < 0.1
        );
        one.record(0, Duration::MAX);
        assert!(one.percentiles()[0].1.max_us > 3.59e9);
    }

    #[test]
    fn levels_are_measured_as_far_as_they_are_waited_for() {
        let names = |ack| {
            Latencies::new(ack).percentiles().into_iter().map(|level| level.0).collect::<Vec<_>>()
        };
        assert_eq!(names(Ack::Applied), ["applied"]);
        assert_eq!(names(Ack::Written), ["applied", "written"]);
        assert_eq!(names(Ack::Durable), ["applied", "written", "durable"]);
        assert_eq!([Ack::Applied, Ack::Durable].map(name), ["applied", "durable"]);
    }
}
