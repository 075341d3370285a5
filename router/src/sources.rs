//! One source's way into every shard: the events of a stream that can be sent again.
//!
//! Promises: offsets only rise, so that every shard can tell a repeat by one number; lanes that get
//! no events are told now and then how far the source has come. Not here: what a shard does with
//! offsets ([`ebbtide_shard::source`]), where to resume (the engine).

use crate::events::Offered;
use crate::{Admission, EventRouter, OfferError, Placement, Ticket};
use ebbtide_shard::limits::{BATCH_EVENTS_MAX, MARK_OFFSETS_MAX};
use ebbtide_shard::{Event, EventId, PartitionKey, ShardDown, ShardPort, SourceName};
use std::sync::Arc;

/// An event of a source.
///
/// ```
/// use ebbtide_router::SourceEvent;
/// use ebbtide_shard::{EntityId, Event, EventId, SignalId, Timestamp};
/// let like = Event::new(EntityId(42), SignalId(0), Timestamp::from_seconds(1_700_000_000));
/// let third = SourceEvent::new(3, like).with_id(EventId(77));
/// assert_eq!((third.offset, third.id), (3, Some(EventId(77))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceEvent {
    /// Where it stands in its source, from 1 on; each event has a higher one than those before.
    pub offset: u64,
    /// What tells it from every other one of its entity and signal type, if anything.
    pub id: Option<EventId>,
    /// The event.
    pub event: Event,
}

impl SourceEvent {
    /// An event without an id.
    #[must_use]
    pub const fn new(offset: u64, event: Event) -> Self {
        Self { offset, id: None, event }
    }

    /// The same event with an id.
    #[must_use]
    pub const fn with_id(self, id: EventId) -> Self {
        Self { id: Some(id), ..self }
    }
}

impl From<SourceEvent> for Offered {
    #[inline]
    fn from(SourceEvent { offset, id, event }: SourceEvent) -> Self {
        Self { event, offset, id }
    }
}

/// Why an event of a source was not taken. Nothing is lost.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceOfferError {
    /// The source has come further. Give each event a higher offset than the one before; what was
    /// offered once need not be offered again.
    #[error("offset {offset} does not rise: the source has come to {last}")]
    Offset {
        /// Of the event.
        offset: u64,
        /// Of the last event that was taken; 0 before the first.
        last: u64,
    },
    /// As for an event without a source. Its offset may be offered again.
    #[error(transparent)]
    NotTaken(#[from] OfferError),
}

impl SourceOfferError {
    /// Whether the same event will be taken if it is offered again in a moment.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NotTaken(error) if error.is_retryable())
    }
}

/// One source's lanes.
#[derive(Debug)]
pub struct SourceRouter {
    events: EventRouter,
    /// The offset of the last event taken.
    last: u64,
    /// The offset at which every lane was last told.
    marked: u64,
}

impl SourceRouter {
    /// Opens a lane to every shard.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    ///
    /// # Panics
    ///
    /// If there is not one port for each shard.
    pub fn open(
        ports: &[Arc<ShardPort>],
        placement: Placement,
        key: PartitionKey,
        admission: Admission,
        source: SourceName,
    ) -> Result<Self, ShardDown> {
        let events = EventRouter::open_for(ports, placement, key, admission, Some(source))?;
        Ok(Self { events, last: 0, marked: 0 })
    }

    /// The lanes, to ask how far their events have come.
    #[must_use]
    pub fn lanes(&self) -> &EventRouter {
        &self.events
    }

    /// Offers one event; never blocks, except as [`EventRouter::offer`].
    ///
    /// # Errors
    ///
    /// [`SourceOfferError`], with the reason.
    #[inline]
    pub fn offer(&mut self, event: SourceEvent) -> Result<Ticket, SourceOfferError> {
        self.check_rise(event.offset)?;
        let ticket = self.events.offer_one(event.into())?;
        self.note(event.offset);
        Ok(ticket)
    }

    /// Offers events in order until one is not taken. Says how many were taken, and why the next
    /// was not.
    pub fn offer_batch(&mut self, events: &[SourceEvent]) -> (usize, Option<SourceOfferError>) {
        let mut taken = 0;
        for chunk in events.chunks(BATCH_EVENTS_MAX) {
            let mut last = self.last;
            let rises =
                |event: &&SourceEvent| std::mem::replace(&mut last, event.offset) < event.offset;
            let rising = chunk.iter().take_while(rises).count();
            let (more, stopped) = self.events.offer_all(&chunk[..rising]);
            taken += more;
            if let Some(last) = chunk[..more].last() {
                self.note(last.offset);
            }
            if let Some(error) = stopped {
                return (taken, Some(error.into()));
            }
            if let Some(event) = chunk.get(rising) {
                return (taken, self.check_rise(event.offset).err());
            }
        }
        (taken, None)
    }

    /// Tells every shard how far the source has come. Gives the first whose ring is full: wait for
    /// room there and call this again.
    ///
    /// # Errors
    ///
    /// The number of a shard whose ring is full.
    pub fn mark(&mut self) -> Result<(), usize> {
        self.marked = self.last;
        self.events.mark(self.last)
    }

    fn check_rise(&self, offset: u64) -> Result<(), SourceOfferError> {
        let last = self.last;
        if offset > last { Ok(()) } else { Err(SourceOfferError::Offset { offset, last }) }
    }

    fn note(&mut self, offset: u64) {
        self.last = offset;
        if offset - self.marked >= MARK_OFFSETS_MAX {
            // A full ring is told so much the sooner by its own events.
            let _full = self.mark();
        }
    }
}
