//! Producers: one thread's way to record events and to learn how far they have come.

use crate::block_on::block_on_for;
use crate::{OfferError, ShardDown, Ticket, WaitError};
use ebbtide_router::EventRouter;
use ebbtide_shard::watermark::Watermark;
use ebbtide_shard::{Event, ShardPort};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How far an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ack {
    /// It is in the shard's ring. Having a ticket means it is.
    Accepted,
    /// It is applied: every read that begins now sees it.
    Applied,
}

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
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a batch may be taken in part"]
pub struct BatchOffer {
    /// How many events were taken: the first so many.
    pub taken: usize,
    /// Why the next one was not.
    pub stopped: Option<OfferError>,
}

impl Producer {
    pub(crate) fn new(events: EventRouter) -> Self {
        Self { events }
    }

    /// Offers one event; never blocks.
    ///
    /// # Errors
    ///
    /// [`OfferError`] with the event in it: its ring is full, it was rejected, or its shard is
    /// down.
    #[inline]
    pub fn offer(&mut self, event: Event) -> Result<Ticket, OfferError> {
        self.events.offer(event)
    }

    /// Offers events in order until one is not taken; never blocks. Cheaper per event than one by
    /// one.
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
        let begun = Instant::now();
        loop {
            let full = match self.events.offer(event) {
                Err(OfferError::Full { event, shard }) => OfferError::Full { event, shard },
                outcome => return outcome,
            };
            let OfferError::Full { shard, .. } = full else { return Err(full) };
            let room = self.acked(self.events.next_room(shard), Ack::Applied);
            if block_on_for(room, patience.saturating_sub(begun.elapsed())).is_none() {
                return Err(full);
            }
        }
    }

    /// Waits until the event of `ticket`, from this producer, has come as far as `ack`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if that takes longer than `patience`, or will never be.
    pub fn wait(&self, ticket: Ticket, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        match block_on_for(self.acked(ticket, ack), patience) {
            Some(outcome) => outcome.map_err(WaitError::Down),
            None => Err(WaitError::Timeout { patience }),
        }
    }

    /// Waits until every event offered so far has come as far as `ack`.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if that takes longer than `patience`, or will never be.
    pub fn flush(&self, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        let begun = Instant::now();
        self.events.last_tickets().try_for_each(|ticket| {
            self.wait(ticket, ack, patience.saturating_sub(begun.elapsed())).map_err(|error| {
                match error {
                    WaitError::Timeout { .. } => WaitError::Timeout { patience },
                    down @ WaitError::Down(_) => down,
                }
            })
        })
    }

    /// A future of the event of `ticket`, from this producer, having come as far as `ack`. It needs
    /// no particular executor, outlives the producer, and may be dropped at any time.
    pub fn acked(&self, ticket: Ticket, ack: Ack) -> Acked {
        let (port, watermark, number) = self.events.applied(ticket);
        let number = if ack == Ack::Accepted { 0 } else { number };
        Acked { port: Arc::clone(port), watermark: Arc::clone(watermark), number }
    }

    /// Whether the event of `ticket`, from this producer, has come as far as `ack` by now.
    #[must_use]
    pub fn is_acked(&self, ticket: Ticket, ack: Ack) -> bool {
        let (_, watermark, number) = self.events.applied(ticket);
        ack == Ack::Accepted || watermark.reached() >= number
    }
}

/// A future of an event having come as far as was asked; see [`Producer::acked`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Acked {
    port: Arc<ShardPort>,
    watermark: Arc<Watermark>,
    number: u64,
}

impl Future for Acked {
    type Output = Result<(), ShardDown>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reached = self.watermark.poll_reached(self.number, cx);
        reached.map(|outcome| outcome.map_err(|_abandoned| self.port.why_down()))
    }
}
