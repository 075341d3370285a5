//! Producers: one thread's way to record events and to learn how far they have come.

use crate::acked::{self, Ack, Acked, Progress};
use crate::{OfferError, Ticket, WaitError};
use ebbtide_router::EventRouter;
use ebbtide_shard::{Event, EventId};
use std::time::Duration;

/// Records events from one thread. It can be moved to another thread, but not shared or cloned:
/// open one for each recording thread.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<ebbtide::Producer>();
/// ```
///
/// ```compile_fail,E0599
/// fn twice(producer: ebbtide::Producer) {
///     let _second = producer.clone();
/// }
/// ```
#[derive(Debug)]
pub struct Producer {
    events: EventRouter,
    has_log: bool,
}

/// What became of a batch.
///
/// If a shard goes down in the middle of it, `taken` stops at the first event that is lost, and
/// events behind it may be in other shards already. A host that offers the rest again then wants a
/// source or ids, by which repeats are known.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a batch may be taken in part"]
pub struct BatchOffer<E = OfferError> {
    /// How many events were taken: the first so many.
    pub taken: usize,
    /// Why the next one was not.
    pub stopped: Option<E>,
}

impl Producer {
    pub(crate) fn new(events: EventRouter, has_log: bool) -> Self {
        Self { events, has_log }
    }

    fn progress(&self) -> Progress<'_> {
        Progress { lanes: &self.events, has_log: self.has_log }
    }

    /// Offers one event; never blocks. One push into the ring to the event's shard, which holds
    /// 8192 events.
    ///
    /// # Errors
    ///
    /// [`OfferError`] with the event in it: its ring is full, it was rejected, its shard is at its
    /// memory limit, or its shard is down.
    ///
    /// ```
    /// use ebbtide::{Engine, EntityId, Event, OfferError, Rejection, Schema};
    /// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
    /// # let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// # let view = engine.schema().signal("view").unwrap();
    /// let mut producer = engine.producer()?;
    /// let bad = Event::new(EntityId(1), view, engine.now()).with_weight(f64::NAN);
    /// match producer.offer(bad) {
    ///     Ok(ticket) => println!("accepted by shard {}", ticket.shard()),
    ///     Err(OfferError::Full { event, .. }) => println!("shed, or offer again: {event:?}"),
    ///     Err(error) => assert!(matches!(
    ///         error,
    ///         OfferError::Rejected { reason: Rejection::Weight(_), .. }
    ///     )),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn offer(&mut self, event: Event) -> Result<Ticket, OfferError> {
        self.events.offer(event)
    }

    /// Offers one event with its id; never blocks. Where the signal type says `dedup = "id"`, an
    /// event whose id was recorded for its entity before is acknowledged, counted as a duplicate,
    /// and otherwise left out. Elsewhere the id says nothing.
    ///
    /// # Errors
    ///
    /// As [`Producer::offer`].
    #[inline]
    pub fn offer_with_id(&mut self, event: Event, id: EventId) -> Result<Ticket, OfferError> {
        self.events.offer_with_id(event, id)
    }

    /// Offers events in order until one is not taken; never blocks. Cheaper per event than one by
    /// one: each shard is woken once. Tickets are not given; [`Producer::flush`] waits for all.
    ///
    /// ```
    /// use ebbtide::{Ack, Engine, EntityId, Event, Schema};
    /// use std::time::Duration;
    /// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
    /// # let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// # let view = engine.schema().signal("view").unwrap();
    /// let mut producer = engine.producer()?;
    /// let events = [1, 2, 3].map(|id| Event::new(EntityId(id), view, engine.now()));
    /// let offer = producer.offer_batch(&events);
    /// assert_eq!((offer.taken, offer.stopped), (3, None));
    /// producer.flush(Ack::Applied, Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offer_batch(&mut self, events: &[Event]) -> BatchOffer {
        let (taken, stopped) = self.events.offer_batch(events);
        BatchOffer { taken, stopped }
    }

    /// Offers one event and waits for room if its ring is full, up to `patience`.
    ///
    /// # Errors
    ///
    /// As [`Producer::offer`]; [`OfferError::Full`] when the patience has run out.
    pub fn offer_within(&mut self, event: Event, patience: Duration) -> Result<Ticket, OfferError> {
        let full = |producer: &Self, error: &OfferError| match error {
            OfferError::Full { shard, .. } => Some(producer.progress().room(*shard)),
            _ => None,
        };
        acked::offer_within(self, patience, |producer| producer.offer(event), full)
    }

    /// Waits until the event of `ticket`, from this producer, has come as far as `ack`. Blocks the
    /// thread; in async code await [`Producer::acked`].
    ///
    /// A ticket of another producer stands for another event here.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if that takes longer than `patience`, or will never be.
    ///
    /// # Panics
    ///
    /// If the ticket is of an engine with more shards.
    pub fn wait(&self, ticket: Ticket, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        self.progress().wait(ticket, ack, patience)
    }

    /// Waits until every event that this producer has offered, and that was taken, has come as far
    /// as `ack`; `patience` is for all of them together.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if that takes longer than `patience`, or will never be.
    pub fn flush(&self, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        self.progress().flush(ack, patience)
    }

    /// A future of the event of `ticket`, from this producer, having come as far as `ack`. It needs
    /// no particular executor, outlives the producer, and may be dropped at any time. It gives
    /// [`AckError`](crate::AckError) if the shard goes away first, or if the engine keeps no log.
    ///
    /// # Panics
    ///
    /// If the ticket is of an engine with more shards.
    ///
    /// ```
    /// use ebbtide::{Ack, Engine, EntityId, Event, Schema};
    /// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
    /// # let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// # let view = engine.schema().signal("view").unwrap();
    /// # futures_lite::future::block_on(async {
    /// let mut producer = engine.producer()?;
    /// let ticket = producer.offer(Event::new(EntityId(1), view, engine.now()))?;
    /// producer.acked(ticket, Ack::Applied).await?;
    /// assert!(producer.is_acked(ticket, Ack::Applied));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acked(&self, ticket: Ticket, ack: Ack) -> Acked {
        self.progress().acked(ticket, ack)
    }

    /// Whether the event of `ticket`, from this producer, has come as far as `ack` by now. Asks
    /// nobody and never waits.
    ///
    /// # Panics
    ///
    /// If the ticket is of an engine with more shards.
    #[must_use]
    pub fn is_acked(&self, ticket: Ticket, ack: Ack) -> bool {
        self.progress().is_acked(ticket, ack)
    }
}
