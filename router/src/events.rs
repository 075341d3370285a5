//! One producer's way into every shard: admit, hash, place, push.
//!
//! Promises: an event that is not taken comes back with the reason; events of one producer for one
//! entity arrive in the order they were offered; a batch stops at the first event that is not
//! taken, and all before it are. An event that races the closing of its shard is taken or comes
//! back, never neither.

use crate::{Admission, Placement, Rejection};
use ebbtide_shard::lane::{EventSender, LaneKind, Level, Tag, event_lane};
use ebbtide_shard::limits::EVENT_CHUNK;
use ebbtide_shard::port::Mail;
use ebbtide_shard::watermark::Watermark;
use ebbtide_shard::{
    EntityHash, EntityId, Event, EventId, Gate, PartitionKey, RoutedEvent, ShardDown, ShardPort,
    SourceName,
};
use std::sync::Arc;

/// Where an offered event went: which lane, and which number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) shard: usize,
    pub(crate) number: u64,
}

impl Ticket {
    /// The shard the event went to. Tickets of one producer and one shard come true in their order.
    #[must_use]
    pub const fn shard(self) -> usize {
        self.shard
    }
}

/// Why an event was not taken. It is given back: nothing is lost.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The ring to the event's shard is full. Offer it again in a moment, or shed it.
    #[error("the ring to shard {shard} is full; offer the event again in a moment")]
    Full {
        /// The event.
        event: Event,
        /// Whose ring.
        shard: usize,
    },
    /// The event itself is at fault. Do not offer it again as it is.
    #[error("the event was rejected: {reason}")]
    Rejected {
        /// The event.
        event: Event,
        /// What is wrong with it.
        reason: Rejection,
    },
    /// The shard holds as much as the engine's memory limit allows it. Nothing is evicted, so it
    /// stays so: shed the event, or open an engine with a higher limit.
    #[error("shard {shard} is at its memory limit; raise it or use more shards")]
    MemoryLimit {
        /// The event.
        event: Event,
        /// Which shard.
        shard: usize,
    },
    /// The event's shard answers no more.
    #[error("the event was not taken: {down}")]
    Down {
        /// The event.
        event: Event,
        /// Why.
        #[source]
        down: ShardDown,
    },
}

impl OfferError {
    /// The event that was not taken.
    #[must_use]
    pub fn event(&self) -> Event {
        match self {
            Self::Full { event, .. }
            | Self::Rejected { event, .. }
            | Self::MemoryLimit { event, .. }
            | Self::Down { event, .. } => *event,
        }
    }

    /// Whether the same event will be taken if it is offered again in a moment. Nothing is evicted,
    /// so a memory limit, once reached, stays.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// One producer's lanes.
#[derive(Debug)]
pub struct EventRouter {
    placement: Placement,
    key: PartitionKey,
    admission: Admission,
    lanes: Box<[EventSender]>,
    /// Which lanes the present batch has put events in.
    touched: Box<[bool]>,
}

/// What is offered: an event and what goes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    pub(crate) event: Event,
    /// In its source; 0 without one.
    pub(crate) offset: u64,
    pub(crate) id: Option<EventId>,
}

impl From<Event> for Offered {
    #[inline]
    fn from(event: Event) -> Self {
        Self { event, offset: 0, id: None }
    }
}

impl EventRouter {
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
    ) -> Result<Self, ShardDown> {
        Self::open_for(ports, placement, key, admission, None)
    }

    /// The same for a source, whose events all have offsets.
    pub(crate) fn open_for(
        ports: &[Arc<ShardPort>],
        placement: Placement,
        key: PartitionKey,
        admission: Admission,
        source: Option<SourceName>,
    ) -> Result<Self, ShardDown> {
        assert_eq!(ports.len(), placement.shards(), "a port for every shard");
        let kind = LaneKind { source, ids: admission.compares_ids() };
        let mut lanes = Vec::with_capacity(ports.len());
        for port in ports {
            let (sender, inbox) = event_lane(Arc::clone(port), kind.clone());
            port.post(Mail::Events(inbox))?;
            lanes.push(sender);
        }
        let touched = vec![false; ports.len()].into();
        Ok(Self { placement, key, admission, lanes: lanes.into(), touched })
    }

    /// Offers one event; never blocks, except while its shard is closing: then it waits for what
    /// the shard still takes.
    ///
    /// # Errors
    ///
    /// [`OfferError`], with the event and the reason.
    #[inline]
    pub fn offer(&mut self, event: Event) -> Result<Ticket, OfferError> {
        self.offer_one(event.into())
    }

    /// Offers one event with its id, which matters where the schema compares ids.
    ///
    /// # Errors
    ///
    /// As [`EventRouter::offer`].
    #[inline]
    pub fn offer_with_id(&mut self, event: Event, id: EventId) -> Result<Ticket, OfferError> {
        self.offer_one(Offered { id: Some(id), ..event.into() })
    }

    #[inline]
    pub(crate) fn offer_one(&mut self, offered: Offered) -> Result<Ticket, OfferError> {
        let hash = self.key.hash(offered.event.entity);
        let ticket = self.place(offered, hash, EventSender::push)?;
        let port = self.lanes[ticket.shard].port();
        port.doorbell().ring();
        if port.gate() == Gate::Closed && self.settled(ticket.shard) < ticket.number {
            return Err(OfferError::Down { event: offered.event, down: self.down(ticket.shard) });
        }
        Ok(ticket)
    }

    /// Offers events in order until one is not taken, and wakes each shard once. Says how many were
    /// taken, and why the next was not.
    pub fn offer_batch(&mut self, events: &[Event]) -> (usize, Option<OfferError>) {
        self.offer_all(events)
    }

    #[inline]
    pub(crate) fn offer_all<T: Copy + Into<Offered>>(
        &mut self,
        batch: &[T],
    ) -> (usize, Option<OfferError>) {
        let mut taken = 0;
        let mut stopped = None;
        let mut hashes = [EntityHash(0); EVENT_CHUNK];
        'batch: for chunk in batch.chunks(EVENT_CHUNK) {
            self.hash_all(chunk, &mut hashes);
            for (&offered, &hash) in chunk.iter().zip(&hashes) {
                match self.place(offered.into(), hash, EventSender::hold) {
                    Ok(ticket) => self.touched[ticket.shard] = true,
                    Err(error) => {
                        stopped = Some(error);
                        break 'batch;
                    }
                }
                taken += 1;
            }
        }
        let mut closed = false;
        for (lane, touched) in self.lanes.iter_mut().zip(&mut self.touched) {
            if std::mem::take(touched) {
                lane.publish();
                lane.port().doorbell().ring();
                closed |= lane.port().gate() == Gate::Closed;
            }
        }
        match if closed { self.first_lost(&batch[..taken]) } else { None } {
            Some((lost, shard)) => {
                let Offered { event, .. } = batch[lost].into();
                (lost, Some(OfferError::Down { event, down: self.down(shard) }))
            }
            None => (taken, stopped),
        }
    }

    /// Tells every shard that was not told that the source has come to `offset`. Gives the first
    /// whose ring is full.
    pub(crate) fn mark(&mut self, offset: u64) -> Result<(), usize> {
        let mut full = Ok(());
        for lane in self.lanes.iter_mut().filter(|lane| lane.told() < offset) {
            if lane.push_mark(offset).is_some() {
                lane.port().doorbell().ring();
            } else {
                full = full.and(Err(lane.port().shard()));
            }
        }
        full
    }

    /// The ticket of the last event offered to each shard that was offered any.
    pub fn last_tickets(&self) -> impl Iterator<Item = Ticket> {
        self.lanes
            .iter()
            .enumerate()
            .filter(|(_, lane)| lane.offered() > 0)
            .map(|(shard, lane)| Ticket { shard, number: lane.offered() })
    }

    /// The shard a ticket's event went to, how many of this producer's events have come so far
    /// there, and the number that stands for this one.
    #[must_use]
    pub fn reached(&self, ticket: Ticket, level: Level) -> (&Arc<ShardPort>, &Arc<Watermark>, u64) {
        let lane = &self.lanes[ticket.shard];
        (lane.port(), lane.reached(level), ticket.number)
    }

    /// The ticket of the event after which `shard`'s ring has room again, if it is full now.
    #[must_use]
    pub fn next_room(&self, shard: usize) -> Ticket {
        Ticket { shard, number: self.lanes[shard].applied().reached() + 1 }
    }

    /// Of events just placed, the first that a closing shard did not take any more, and which
    /// shard.
    #[cold]
    fn first_lost<T: Copy + Into<Offered>>(&self, placed: &[T]) -> Option<(usize, usize)> {
        let shard_of = |&placed: &T| {
            let Offered { event, .. } = placed.into();
            self.placement.shard(self.key.hash(event.entity))
        };
        let mut next: Vec<u64> = self.lanes.iter().map(|lane| lane.offered() + 1).collect();
        for one in placed {
            next[shard_of(one)] -= 1;
        }
        for (index, shard) in placed.iter().map(shard_of).enumerate() {
            let number = next[shard];
            next[shard] += 1;
            let closed = self.lanes[shard].port().gate() == Gate::Closed;
            if closed && self.settled(shard) < number {
                return Some((index, shard));
            }
        }
        None
    }

    /// How many of its lane's events a shard that closes has applied, once it has taken all it
    /// will. It is about to: its last batches are what this waits for.
    #[cold]
    fn settled(&self, shard: usize) -> u64 {
        let lane = &self.lanes[shard];
        while !lane.applied().is_abandoned() && lane.applied().reached() < lane.offered() {
            std::thread::yield_now();
        }
        lane.applied().reached()
    }

    fn down(&self, shard: usize) -> ShardDown {
        self.lanes[shard].port().why_down()
    }

    /// Hashes the entities of a chunk, side by side.
    #[inline]
    fn hash_all<T: Copy + Into<Offered>>(
        &self,
        chunk: &[T],
        hashes: &mut [EntityHash; EVENT_CHUNK],
    ) {
        let mut entities = [EntityId(0); EVENT_CHUNK];
        for (&offered, entity) in chunk.iter().zip(&mut entities) {
            let Offered { event, .. } = offered.into();
            *entity = event.entity;
        }
        self.key.hash_all(&entities[..chunk.len()], &mut hashes[..chunk.len()]);
    }

    /// Admits an event and gives it to its lane by `push`.
    #[inline]
    fn place(
        &mut self,
        offered: Offered,
        hash: EntityHash,
        push: impl FnOnce(&mut EventSender, RoutedEvent, Tag) -> Result<u64, RoutedEvent>,
    ) -> Result<Ticket, OfferError> {
        let Offered { event, offset, id } = offered;
        let weight = match self.admission.admit(&event) {
            Ok(weight) => weight,
            Err(reason) => return Err(OfferError::Rejected { event, reason }),
        };
        let shard = self.placement.shard(hash);
        let lane = &mut self.lanes[shard];
        match lane.port().gate() {
            Gate::Open => {}
            Gate::MemoryFull => {
                self.admission.refuse_for_memory();
                return Err(OfferError::MemoryLimit { event, shard });
            }
            Gate::Closed => {
                return Err(OfferError::Down { event, down: self.down(shard) });
            }
        }
        let Event { entity, signal, time, .. } = event;
        let tag = match id.filter(|_| self.admission.compares_ids_of(signal)) {
            Some(id) => Tag::new(offset).with_id(id),
            None => Tag::new(offset),
        };
        match push(lane, RoutedEvent { entity, time, weight, hash, signal }, tag) {
            Ok(number) => Ok(Ticket { shard, number }),
            Err(_) => Err(OfferError::Full { event, shard }),
        }
    }
}
