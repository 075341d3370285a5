//! Whole engines for a row: one shard on the last core, so that the first is the caller's.

use super::tables::history;
use crate::cores;
use crate::fault::Fault;
use ebbtide::{Ack, Engine, Event, Idle, ManualClock, OfferError, Producer, Schema, Timestamp};
use ebbtide_shard::RoutedEvent;
use ebbtide_shard::limits::BATCH_EVENTS_MAX;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last events may take to be applied, and an engine to close.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// How long a shard may take nothing.
const FULL_MAX: Duration = Duration::from_secs(30);
/// How long to wait for room before looking again. A ring lasts a shard much longer, and a thread
/// that looks all the time takes its memory traffic.
const ROOM_WAIT: Duration = Duration::from_micros(50);

/// Since when a shard has taken nothing.
#[derive(Debug, Default)]
pub(super) struct Room {
    full_since: Option<Instant>,
}

impl Room {
    /// Notes that events were taken.
    pub(super) fn taken(&mut self) {
        self.full_since = None;
    }

    /// Notes that a ring was full.
    ///
    /// # Errors
    ///
    /// If that has been so for too long.
    pub(super) fn full(&mut self) -> Result<(), Fault> {
        self.full_within(FULL_MAX)
    }

    fn full_within(&mut self, most: Duration) -> Result<(), Fault> {
        let since = self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() <= most {
            return Ok(());
        }
        Err(Fault::environment(format!(
            "the engine has taken nothing for {most:?}, so its log does not move on: free space \
             on its disk, or name another folder with --data-dir"
        )))
    }
}

/// An engine of one shard over `schema`, whose clock is past every event.
///
/// # Errors
///
/// If it does not start here.
pub(super) fn open(schema: Arc<Schema>, idle: Idle) -> Result<Engine, Fault> {
    let clock = Arc::new(ManualClock::at(Timestamp::MAX));
    let builder = Engine::in_memory().schema(schema).shards(1).cores(cores::all().last().copied());
    Ok(builder.idle(idle).clock(clock).open()?)
}

/// The same, with the history of `entities` entities in it, which ends at `end_ns`.
///
/// # Errors
///
/// If it does not start here, or stops.
pub(super) fn with_history(
    (schema, idle): (Arc<Schema>, Idle),
    entities: u64,
    end_ns: u64,
) -> Result<Engine, Fault> {
    let engine = open(schema, idle)?;
    let mut producer = engine.producer()?;
    for batch in history(entities, end_ns) {
        offer(&mut producer, &unrouted(&batch))?;
    }
    producer.flush(Ack::Applied, PATIENCE).map_err(Fault::environment)?;
    Ok(engine)
}

/// Offers events in batches, waits where a ring is full, and waits until all are applied.
///
/// # Errors
///
/// If the engine takes no more.
pub(super) fn record(producer: &mut Producer, events: &[Event]) -> Result<(), Fault> {
    offer(producer, events)?;
    producer.flush(Ack::Applied, PATIENCE).map_err(Fault::environment)
}

/// Offers events in batches, and waits where a ring is full.
///
/// # Errors
///
/// If the engine takes no more.
pub(super) fn offer(producer: &mut Producer, events: &[Event]) -> Result<(), Fault> {
    let mut room = Room::default();
    for mut left in events.chunks(BATCH_EVENTS_MAX) {
        while !left.is_empty() {
            let offered = producer.offer_batch(left);
            left = &left[offered.taken..];
            if offered.taken > 0 {
                room.taken();
            }
            match offered.stopped {
                None => {}
                Some(OfferError::Full { .. }) => {
                    room.full()?;
                    std::thread::sleep(ROOM_WAIT);
                }
                Some(other) => return Err(Fault::environment(other)),
            }
        }
    }
    Ok(())
}

/// Events as a host has them.
pub(super) fn unrouted(events: &[RoutedEvent]) -> Vec<Event> {
    let unrouted = |event: &RoutedEvent| {
        Event::new(event.entity, event.signal, event.time).with_weight(event.weight)
    };
    events.iter().map(unrouted).collect()
}

/// Ends an engine.
///
/// # Errors
///
/// If it had failed, or does not end.
pub(super) fn close(engine: &Engine) -> Result<(), Fault> {
    engine.close(PATIENCE).map_err(Fault::environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It went on for ever where the disk was full.
    #[test]
    fn an_engine_that_takes_nothing_is_given_up() {
        let mut room = Room::default();
        room.full().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        let given_up = room.full_within(Duration::from_millis(1)).unwrap_err();
        assert!(given_up.message.contains("free space"), "{given_up}");
        room.taken();
        room.full_within(Duration::from_millis(1)).unwrap();
    }
}
