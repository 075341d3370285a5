//! Events at a steady rate, and how long each takes until it is acknowledged.
//!
//! Promises: latency counts from the intended time; an event that is late is sent, not skipped, and
//! its lateness is part of its latency. One thread sends, and looks at acknowledgements while it
//! waits for the next event, without sleeping. It gives its core away only where events are to be
//! durable: what stands back beside the engine would have it for a whole tick each time.

use super::engines::{PATIENCE, Room};
use crate::fault::Fault;
use ebbtide::{Ack, Event, OfferError, Producer, Ticket};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When the events of a steady rate are meant to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    step: Duration,
}

impl Schedule {
    /// So many events a second.
    pub(super) fn per_second(rate: u32) -> Self {
        Self { step: Duration::from_secs(1) / rate }
    }

    /// Of the event with this number, from the start.
    pub(super) fn intended(self, event: usize) -> Duration {
        self.step * u32::try_from(event).unwrap_or(u32::MAX)
    }
}

/// Latencies of a run, in microseconds, sorted.
#[derive(Clone, Debug)]
pub(super) struct LatenciesUs(Vec<f64>);

impl LatenciesUs {
    /// Of these latencies, in any order.
    pub(super) fn of(latencies: &[Duration]) -> Self {
        let mut us: Vec<f64> = latencies.iter().map(|one| one.as_secs_f64() * 1e6).collect();
        us.sort_by(f64::total_cmp);
        Self(us)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least latency that this part of all events did not exceed. Zero of none.
    pub(super) fn at(&self, part: f64) -> f64 {
        let place = (self.0.len() as f64 * part).ceil();
        // As a count of events it is exact: there are far fewer than 2^53.
        let place = (1..=self.0.len()).rev().find(|&rank| rank as f64 <= place);
        place.map_or_else(|| self.0.first().copied().unwrap_or(0.0), |rank| self.0[rank - 1])
    }
}

/// Offers `events` on schedule and waits for each to come as far as `ack`. Ends early, between two
/// events, when `enough` says so.
///
/// # Errors
///
/// If the engine takes no more, or does not acknowledge.
pub(super) fn offer_on_schedule(
    producer: &mut Producer,
    events: &[Event],
    (schedule, ack): (Schedule, Ack),
    enough: impl Fn() -> bool,
) -> Result<LatenciesUs, Fault> {
    let start = Instant::now();
    let mut open: VecDeque<(Ticket, Duration)> = VecDeque::new();
    let mut latencies = Vec::with_capacity(events.len());
    for (number, event) in events.iter().enumerate() {
        if enough() {
            break;
        }
        let intended = schedule.intended(number);
        while start.elapsed() < intended {
            note(producer, ack, start, (&mut open, &mut latencies));
        }
        let mut room = Room::default();
        let ticket = loop {
            match producer.offer(*event) {
                Ok(ticket) => break ticket,
                Err(OfferError::Full { .. }) => {
                    room.full()?;
                    note(producer, ack, start, (&mut open, &mut latencies));
                }
                Err(other) => return Err(Fault::environment(other)),
            }
        };
        open.push_back((ticket, intended));
    }
    while !open.is_empty() {
        if start.elapsed() > schedule.intended(events.len()) + PATIENCE {
            return Err(Fault::environment("the engine acknowledges no more events"));
        }
        note(producer, ack, start, (&mut open, &mut latencies));
    }
    Ok(LatenciesUs::of(&latencies))
}

/// Takes what has been acknowledged by now.
fn note(
    producer: &Producer,
    ack: Ack,
    start: Instant,
    (open, latencies): (&mut VecDeque<(Ticket, Duration)>, &mut Vec<Duration>),
) {
    let Some(&(first, _)) = open.front() else { return };
    if !producer.is_acked(first, ack) {
        if ack == Ack::Durable {
            // What writes for the shard may need this core.
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
        return;
    }
    let now = start.elapsed();
    while let Some(&(ticket, intended)) = open.front()
        && producer.is_acked(ticket, ack)
    {
        latencies.push(now.saturating_sub(intended));
        open.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::super::engines;
    use super::super::tables::{Decays, schema};
    use super::super::workload::{START_NS, Stream};
    use super::*;
    use ebbtide::Idle;

    #[test]
    fn a_schedule_is_steady() {
        let schedule = Schedule::per_second(10_000);
        assert_eq!(schedule.intended(0), Duration::ZERO);
        assert_eq!(schedule.intended(25_000), Duration::from_millis(2_500));
    }

    #[test]
    fn a_late_event_counts_from_its_intended_time() {
        let engine = engines::open(schema(Decays::One).unwrap(), Idle::Park).unwrap();
        let mut producer = engine.producer().unwrap();
        let events = engines::unrouted(&Stream::new((10, 0.0), START_NS, 1).take(500));
        // Nobody can send 500 events within half a microsecond.
        let at_once = Schedule { step: Duration::from_nanos(1) };
        let begun = Instant::now();
        let all =
            offer_on_schedule(&mut producer, &events, (at_once, Ack::Applied), || false).unwrap();
        let most = begun.elapsed().as_secs_f64() * 1e6;
        assert_eq!(all.len(), 500);
        assert!(all.at(0.0) > 0.0 && all.at(1.0) <= most, "{all:?}");
        let steady = Schedule::per_second(20_000);
        let begun = Instant::now();
        offer_on_schedule(&mut producer, &events, (steady, Ack::Applied), || false).unwrap();
        assert!(begun.elapsed() >= steady.intended(499), "nothing is sent before its time");
        engines::close(&engine).unwrap();
    }

    #[test]
    fn a_part_of_all_latencies_is_told_to_the_event() {
        let of = |count: u64| {
            let latencies: Vec<_> = (1..=count).rev().map(Duration::from_micros).collect();
            LatenciesUs::of(&latencies)
        };
        let thousand = of(1000);
        assert_eq!(
            [0.5, 0.99, 0.999, 1.0].map(|part| thousand.at(part).round()),
            [500.0, 990.0, 999.0, 1000.0]
        );
        assert_eq!((of(1).at(0.999).round(), of(3).at(0.5).round()), (1.0, 2.0));
        assert_eq!((of(5).at(0.0).round(), of(0).at(0.5)), (1.0, 0.0));
    }
}
