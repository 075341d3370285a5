//! One recording thread of a replay: sends its events at their time and learns how far each is.
//!
//! Promises: latency is counted from the intended time, or from the offer when there is no
//! schedule; while it waits, for time or for room, it looks at what has been acknowledged. No event
//! is skipped, unless the run is interrupted. Fails by: a shard that is down, or takes nothing for
//! as long as it may.

use super::latency::{Latencies, OpenEvents};
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::trace::TraceEvent;
use ebbtide::{
    Ack, BatchOffer, EntityId, Event, EventId, OfferError, Rejection, SignalId, SourceEvent,
    SourceOfferError, SourceProducer, Timestamp, WaitError,
};
use std::time::{Duration, Instant};

/// Acknowledgements are looked at once in so many events, however busy the schedule is.
const LOOK_EVERY_EVENTS: usize = 64;
/// Longer waits for the next event are slept through; shorter ones are watched.
const SLEEP_MIN: Duration = Duration::from_micros(200);
/// The longest sleep, after which an interruption is seen.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How long to wait for room before looking around. A ring lasts a shard much longer.
const ROOM_WAIT: Duration = Duration::from_micros(50);
/// How often the last acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// How long a shard may take no event, or not acknowledge the last ones.
const PATIENCE: Duration = Duration::from_secs(30);

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
    producer: SourceProducer,
    start: Instant,
    ack: Ack,
    interrupt: Interrupt,
    /// Events sent and not yet acknowledged.
    open: OpenEvents,
    latencies: Latencies,
    /// The events of one offer.
    events: Vec<SourceEvent>,
    /// Since when rings were found full and nothing was taken.
    stuck: Option<Instant>,
}

/// An event that the engine refused, and why.
pub(super) type Refused = (TraceEvent, Rejection);

impl Recorder {
    /// A recorder into an engine of `shards` shards; the run began at `start`.
    #[must_use]
    pub(super) fn new(
        producer: SourceProducer,
        shards: usize,
        (start, ack): (Instant, Ack),
        interrupt: &Interrupt,
    ) -> Self {
        let (open, latencies) = (OpenEvents::new(shards, ack), Latencies::new(ack));
        let events = Vec::with_capacity(LOOK_EVERY_EVENTS);
        let interrupt = interrupt.clone();
        Self { producer, start, ack, interrupt, open, latencies, events, stuck: None }
    }

    /// Sends one batch, each event at its time, or all at once if they have none. Events the engine
    /// rejects are handed to `refused`. Stops where an interruption finds it.
    ///
    /// # Errors
    ///
    /// If a shard does not take events any more.
    pub(super) fn send(
        &mut self,
        batch: &[Planned],
        mut refused: impl FnMut(Refused),
    ) -> Result<(), Fault> {
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
    /// If a shard goes down before, or it takes too long.
    pub(super) fn finish(mut self) -> Result<Latencies, Fault> {
        let begun = Instant::now();
        while let Some(first) = self.open.first() {
            let waited = self.producer.wait(first, self.ack, LOOK_EVERY);
            self.note_acknowledged();
            match waited {
                Err(WaitError::Timeout { .. }) if begun.elapsed() < PATIENCE => {}
                other => other.map_err(Fault::environment)?,
            }
        }
        let left = PATIENCE.saturating_sub(begun.elapsed());
        self.producer.flush(self.ack, left).map_err(Fault::environment)?;
        Ok(self.latencies)
    }

    fn wait_for(&mut self, at: Option<Duration>) {
        let Some(at) = at else { return };
        // The start itself may lie ahead.
        let due = self.start + at;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupt.has_come() {
                return;
            }
            self.note_acknowledged();
            if left > SLEEP_MIN && self.open.first().is_none() {
                std::thread::sleep(left.saturating_sub(SLEEP_MIN).min(SLEEP_MAX));
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn offer_timed(
        &mut self,
        planned: &Planned,
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), Fault> {
        let from = planned.at.unwrap_or_else(|| self.start.elapsed());
        let event = source_event(&planned.event);
        while !self.interrupt.has_come() {
            match self.producer.offer(event) {
                Ok(ticket) => {
                    self.note_taken(&[event]);
                    if let Some(at) = planned.at {
                        let late = self.start.elapsed().saturating_sub(at);
                        self.latencies.lag_max = self.latencies.lag_max.max(late);
                    }
                    self.open.push(ticket, from);
                    return Ok(());
                }
                Err(error) => match self.stopped(error)? {
                    None => {}
                    Some(reason) => {
                        refused((planned.event, reason));
                        return Ok(());
                    }
                },
            }
        }
        Ok(())
    }

    fn offer_at_once(
        &mut self,
        planned: &[Planned],
        refused: &mut impl FnMut(Refused),
    ) -> Result<(), Fault> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        events.extend(planned.iter().map(|planned| source_event(&planned.event)));
        let mut done = 0;
        while done < planned.len() && !self.interrupt.has_come() {
            let BatchOffer { taken, stopped } = self.producer.offer_batch(&events[done..]);
            self.note_taken(&events[done..done + taken]);
            done += taken;
            if let Some(error) = stopped
                && let Some(reason) = self.stopped(error)?
            {
                refused((planned[done].event, reason));
                done += 1;
            }
        }
        self.events = events;
        Ok(())
    }

    fn note_taken(&mut self, events: &[SourceEvent]) {
        let newest = events.iter().map(|taken| taken.event.time).max();
        self.latencies.newest = self.latencies.newest.max(newest.unwrap_or(Timestamp(0)));
        self.latencies.sent += events.len() as u64;
        if !events.is_empty() {
            self.stuck = None;
        }
    }

    /// Why an event was rejected; `None` after waiting for room.
    fn stopped(&mut self, error: SourceOfferError) -> Result<Option<Rejection>, Fault> {
        match error {
            SourceOfferError::NotTaken(OfferError::Full { shard, .. }) => {
                self.wait_for_room(shard)?;
                Ok(None)
            }
            SourceOfferError::NotTaken(OfferError::Rejected { reason, .. }) => Ok(Some(reason)),
            down => Err(Fault::environment(down)),
        }
    }

    fn wait_for_room(&mut self, shard: usize) -> Result<(), Fault> {
        self.latencies.full += 1;
        self.note_acknowledged();
        let since = *self.stuck.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(Fault::environment(format!(
                "shard {shard} has taken nothing for {PATIENCE:?}, so its log does not move on: \
                 free space on its disk, then run again with the same --data-dir to go on"
            )));
        }
        std::thread::sleep(ROOM_WAIT);
        Ok(())
    }

    fn note_acknowledged(&mut self) {
        let start = self.start;
        self.open.note(&self.producer, || start.elapsed(), &mut self.latencies);
    }
}

fn source_event(event: &TraceEvent) -> SourceEvent {
    let (entity, signal) = (EntityId(event.entity), SignalId(event.signal));
    let recorded = Event::new(entity, signal, Timestamp(event.time_ns)).with_weight(event.weight);
    let offered = SourceEvent::new(event.line, recorded);
    event.id.map_or(offered, |id| offered.with_id(EventId(id)))
}
