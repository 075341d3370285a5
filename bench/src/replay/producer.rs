//! One recording thread of a replay: sends its events at their time and learns when each is there.
//!
//! Promises: latency is counted from the intended time, or from the offer when there is no
//! schedule; while it waits, for time or for room, it looks at what has been acknowledged. No event
//! is skipped.

use super::latency::Latencies;
use crate::trace::TraceEvent;
use ebbtide::{
    Ack, BatchOffer, EntityId, Event, OfferError, Producer, SignalId, Ticket, Timestamp, WaitError,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Acknowledgements are looked at once in so many events, however busy the schedule is.
const LOOK_EVERY_EVENTS: usize = 64;
/// Longer waits for the next event are slept through; shorter ones are watched.
const SLEEP_MIN: Duration = Duration::from_micros(200);
/// How often the last acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// An event and when it is meant to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// The event.
    pub(super) event: TraceEvent,
    /// From the start of the run; `None` for as soon as possible.
    pub(super) at: Option<Duration>,
}

/// A recording thread's work.
pub(super) struct Recorder {
    producer: Producer,
    start: Instant,
    ack: Ack,
    /// Events sent and not yet acknowledged, by shard, with the time their latency counts from.
    open: Vec<VecDeque<(Ticket, Duration)>>,
    latencies: Latencies,
    sent: u64,
    /// The events of one offer.
    events: Vec<Event>,
}

/// An event that the engine refused, and why.
pub(super) type Refused = (TraceEvent, OfferError);

impl Recorder {
    /// A recorder into an engine of `shards` shards; the run began at `start`.
    #[must_use]
    pub(super) fn new(producer: Producer, shards: usize, start: Instant, ack: Ack) -> Self {
        let open = vec![VecDeque::new(); shards];
        let (latencies, events) = (Latencies::new(), Vec::with_capacity(LOOK_EVERY_EVENTS));
        Self { producer, start, ack, open, latencies, sent: 0, events }
    }

    /// Sends one batch, each event at its time, or all at once if they have none. Events the engine
    /// rejects are handed to `refused`.
    ///
    /// # Errors
    ///
    /// If a shard does not take events any more.
    pub(super) fn send(
        &mut self,
        batch: &[Planned],
        mut refused: impl FnMut(Refused),
    ) -> Result<(), OfferError> {
        for chunk in batch.chunks(LOOK_EVERY_EVENTS) {
            if chunk[0].at.is_none() {
                // One event of each chunk is timed: timing all would be most of the work.
                self.offer_timed(&chunk[0], &mut refused)?;
                self.offer_at_once(&chunk[1..], &mut refused)?;
            } else {
                for planned in chunk {
                    self.wait_for(planned.at);
                    self.offer_timed(planned, &mut refused)?;
                }
            }
            self.note_acknowledged();
        }
        Ok(())
    }

    /// Waits until everything sent is acknowledged and gives back the latencies.
    ///
    /// # Errors
    ///
    /// If a shard goes down before, or it takes longer than `patience`.
    pub(super) fn finish(mut self, patience: Duration) -> Result<Latencies, WaitError> {
        let begun = Instant::now();
        loop {
            let flushed = self.producer.flush(self.ack, LOOK_EVERY);
            self.note_acknowledged();
            match flushed {
                Ok(()) => break,
                Err(WaitError::Timeout { .. }) if begun.elapsed() < patience => {}
                Err(error) => return Err(error),
            }
        }
        self.latencies.sent = self.sent;
        Ok(self.latencies)
    }

    fn wait_for(&mut self, at: Option<Duration>) {
        let Some(at) = at else { return };
        loop {
            let left = at.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return;
            }
            self.note_acknowledged();
            if left > SLEEP_MIN && self.open.iter().all(VecDeque::is_empty) {
                std::thread::sleep(left.saturating_sub(SLEEP_MIN));
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn offer_timed(
        &mut self,
        planned: &Planned,
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), OfferError> {
        let from = planned.at.unwrap_or_else(|| self.start.elapsed());
        let event = event(&planned.event);
        loop {
            match self.producer.offer(event) {
                Ok(ticket) => {
                    self.sent += 1;
                    self.latencies.newest = self.latencies.newest.max(event.time);
                    self.open[ticket.shard()].push_back((ticket, from));
                    return Ok(());
                }
                Err(OfferError::Full { .. }) => self.wait_for_room(),
                Err(reason @ OfferError::Rejected { .. }) => {
                    refused((planned.event, reason));
                    return Ok(());
                }
                Err(down) => return Err(down),
            }
        }
    }

    fn offer_at_once(
        &mut self,
        planned: &[Planned],
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), OfferError> {
        self.events.clear();
        self.events.extend(planned.iter().map(|planned| event(&planned.event)));
        let mut done = 0;
        while done < planned.len() {
            let BatchOffer { taken, stopped } = self.producer.offer_batch(&self.events[done..]);
            let newest = self.events[done..done + taken].iter().map(|event| event.time).max();
            self.latencies.newest = self.latencies.newest.max(newest.unwrap_or(Timestamp(0)));
            done += taken;
            self.sent += taken as u64;
            match stopped {
                None => {}
                Some(OfferError::Full { .. }) => self.wait_for_room(),
                Some(reason @ OfferError::Rejected { .. }) => {
                    refused((planned[done].event, reason));
                    done += 1;
                }
                Some(down) => return Err(down),
            }
        }
        Ok(())
    }

    fn wait_for_room(&mut self) {
        self.latencies.full += 1;
        self.note_acknowledged();
        std::thread::yield_now();
    }

    fn note_acknowledged(&mut self) {
        for open in &mut self.open {
            let Some(&(ticket, _)) = open.front() else { continue };
            if !self.producer.is_acked(ticket, self.ack) {
                continue;
            }
            let now = self.start.elapsed();
            while let Some(&(ticket, from)) = open.front()
                && self.producer.is_acked(ticket, self.ack)
            {
                self.latencies.record(now.saturating_sub(from));
                open.pop_front();
            }
        }
    }
}

fn event(event: &TraceEvent) -> Event {
    let (entity, signal) = (EntityId(event.entity), SignalId(event.signal));
    Event::new(entity, signal, Timestamp(event.time_ns)).with_weight(event.weight)
}
