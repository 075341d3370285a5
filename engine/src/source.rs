//! Producers of named sources: exactly once, from streams that can be sent again.

use crate::acked::{self, Ack, Acked, Progress};
use crate::block_on::block_on_for;
use crate::sources::Claim;
use crate::{BatchOffer, OfferError, Ticket, WaitError};
use ebbtide_router::{SourceEvent, SourceOfferError, SourceRouter};
use std::time::{Duration, Instant};

/// Records the events of one source from one thread. It can be moved to another thread, but not
/// shared or cloned, and a source has one at a time.
///
/// A source is a stream that can be read again, such as a file or a topic: each event has an
/// *offset* that rises. The engine keeps how far every source has come with the events themselves.
/// So after a restart, or a crash, begin again behind [`SourceProducer::resume_offset`], or
/// anywhere before it: what was recorded is a repeat then, acknowledged, counted and otherwise left
/// out.
///
/// ```
/// use ebbtide::{Ack, Engine, EntityId, Event, Schema, SourceEvent};
/// use std::time::Duration;
/// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
/// # let engine = Engine::in_memory().schema(schema).shards(2).open()?;
/// # let view = engine.schema().signal("view").unwrap();
/// # let now = engine.now();
/// let line = |n| SourceEvent::new(n, Event::new(EntityId(n), view, now));
/// let mut producer = engine.producer_for("views.csv")?;
/// assert_eq!(producer.resume_offset(), 0, "nothing was recorded yet");
/// assert_eq!(producer.offer_batch(&[line(1), line(2), line(3)]).taken, 3);
/// producer.flush(Ack::Applied, Duration::from_secs(1))?;
/// drop(producer);
///
/// let mut again = engine.producer_for("views.csv")?;
/// assert_eq!(again.resume_offset(), 3);
/// again.offer(line(3))?;
/// again.offer(line(4))?;
/// again.flush(Ack::Applied, Duration::from_secs(1))?;
/// let third = engine.reader()?.read(EntityId(3), view, now)?.unwrap();
/// assert_eq!(third.all_time, 1, "line 3 was a repeat");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<ebbtide::SourceProducer>();
/// ```
///
/// ```compile_fail,E0599
/// fn twice(producer: ebbtide::SourceProducer) {
///     let _second = producer.clone();
/// }
/// ```
#[derive(Debug)]
pub struct SourceProducer {
    events: SourceRouter,
    resume_offset: u64,
    has_log: bool,
    claim: Claim,
}

const _: fn() = || {
    fn is_movable<T: Send>() {}
    is_movable::<SourceProducer>();
};

impl SourceProducer {
    pub(crate) fn new(
        events: SourceRouter,
        resume_offset: u64,
        has_log: bool,
        claim: Claim,
    ) -> Self {
        Self { events, resume_offset, has_log, claim }
    }

    fn progress(&self) -> Progress<'_> {
        Progress { lanes: self.events.lanes(), has_log: self.has_log }
    }

    /// The name of the source.
    #[must_use]
    pub fn source(&self) -> &str {
        self.claim.name().as_str()
    }

    /// How far the source had come when this producer was opened: every event up to this offset is
    /// recorded, or was never offered. 0 if it is new.
    #[must_use]
    pub fn resume_offset(&self) -> u64 {
        self.resume_offset
    }

    /// Offers one event; never blocks.
    ///
    /// # Errors
    ///
    /// [`SourceOfferError`]: its offset does not rise, or as [`crate::Producer::offer`]. An event
    /// that was not taken may be offered again, as long as none behind it was taken.
    #[inline]
    pub fn offer(&mut self, event: SourceEvent) -> Result<Ticket, SourceOfferError> {
        self.events.offer(event)
    }

    /// Offers events in order until one is not taken; never blocks. Cheaper for each event than one
    /// by one.
    pub fn offer_batch(&mut self, events: &[SourceEvent]) -> BatchOffer<SourceOfferError> {
        let (taken, stopped) = self.events.offer_batch(events);
        BatchOffer { taken, stopped }
    }

    /// Offers one event and waits for room if its ring is full, up to `patience`.
    ///
    /// # Errors
    ///
    /// As [`SourceProducer::offer`]; [`OfferError::Full`] when the patience has run out.
    pub fn offer_within(
        &mut self,
        event: SourceEvent,
        patience: Duration,
    ) -> Result<Ticket, SourceOfferError> {
        let full = |producer: &Self, error: &SourceOfferError| match error {
            SourceOfferError::NotTaken(OfferError::Full { shard, .. }) => {
                Some(producer.progress().room(*shard))
            }
            _ => None,
        };
        acked::offer_within(self, patience, |producer| producer.offer(event), full)
    }

    /// Waits until the event of `ticket`, from this producer, has come as far as `ack`.
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

    /// Tells every shard how far the source has come, then waits until that, and every event that
    /// was taken, has come as far as `ack`. Behind it the source resumes after the last event.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if that takes longer than `patience`, or will never be.
    pub fn flush(&mut self, ack: Ack, patience: Duration) -> Result<(), WaitError> {
        let begun = Instant::now();
        while let Err(full) = self.events.mark() {
            let room = self.progress().room(full);
            match block_on_for(room, patience.saturating_sub(begun.elapsed())) {
                Some(outcome) => outcome?,
                None => return Err(WaitError::Timeout { patience }),
            }
        }
        let left = patience.saturating_sub(begun.elapsed());
        self.progress().flush(ack, left).map_err(|error| match error {
            WaitError::Timeout { .. } => WaitError::Timeout { patience },
            other => other,
        })
    }

    /// A future of the event of `ticket`, from this producer, having come as far as `ack`; as
    /// [`crate::Producer::acked`].
    ///
    /// # Panics
    ///
    /// If the ticket is of an engine with more shards.
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

impl Drop for SourceProducer {
    fn drop(&mut self) {
        let progress = self.progress();
        let left = progress.lanes.last_tickets();
        let left = left.map(|ticket| progress.acked(ticket, Ack::Applied)).collect();
        self.claim.leave(left);
    }
}
