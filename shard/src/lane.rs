//! Lanes: the rings between one producer or one reader and one shard. The one crossing between
//! threads.
//!
//! ```text
//! EventSender ──events──▶ EventInbox        EventSender ◀──applied watermark── EventInbox
//! RequestSender ─requests─▶ RequestInbox    RequestSender ◀────replies──────── RequestInbox
//! ```
//!
//! Promises: each ring has one end on either side, by ownership: no end is `Clone`, none is `Sync`,
//! so two threads cannot push to, or pop from, one ring. A full ring gives the event back. When one
//! side goes away, for whatever reason, the other is woken and told.
//!
//! ```compile_fail,E0599
//! fn twice(sender: ebbtide_shard::lane::EventSender) {
//!     let _second = sender.clone();
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn shared<T: Sync>() {}
//! shared::<ebbtide_shard::lane::EventSender>();
//! ```

use crate::RoutedEvent;
use crate::doorbell::Doorbell;
use crate::limits::{EVENT_RING_SLOTS, REQUEST_RING_SLOTS};
use crate::port::ShardPort;
use crate::request::{Reply, Request};
use crate::watermark::Watermark;
use std::sync::Arc;

/// The producer's end of a lane.
#[derive(Debug)]
pub struct EventSender {
    ring: rtrb::Producer<RoutedEvent>,
    offered: u64,
    applied: Arc<Watermark>,
    // After the ring: the shard must find it abandoned when the bell rings.
    port: Departing,
}

/// The shard's end of a producer's lane.
#[derive(Debug)]
pub struct EventInbox {
    ring: rtrb::Consumer<RoutedEvent>,
    taken: u64,
    // After the ring, so that whoever is woken finds it abandoned.
    applied: Abandoning,
}

/// A lane for events into the shard behind `port`.
#[must_use]
pub fn event_lane(port: Arc<ShardPort>) -> (EventSender, EventInbox) {
    let (producer, consumer) = rtrb::RingBuffer::new(EVENT_RING_SLOTS);
    let applied = Arc::new(Watermark::default());
    let inbox = EventInbox { ring: consumer, taken: 0, applied: Abandoning(Arc::clone(&applied)) };
    (EventSender { ring: producer, offered: 0, applied, port: Departing(port) }, inbox)
}

impl EventSender {
    /// The shard this lane leads to.
    #[must_use]
    #[inline]
    pub fn port(&self) -> &Arc<ShardPort> {
        &self.port.0
    }

    /// Events that can be pushed now, at least.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.ring.slots()
    }

    /// Puts one event in the ring and gives its number in this lane, counted from 1. The shard is
    /// not woken: ring its doorbell when the batch is in.
    ///
    /// # Errors
    ///
    /// Gives the event back when the ring is full.
    #[inline]
    pub fn push(&mut self, event: RoutedEvent) -> Result<u64, RoutedEvent> {
        match self.ring.push(event) {
            Ok(()) => {
                self.offered += 1;
                Ok(self.offered)
            }
            Err(rtrb::PushError::Full(event)) => Err(event),
        }
    }

    /// Events ever put in the ring.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// How many of this lane's events the shard has applied.
    #[must_use]
    pub fn applied(&self) -> &Arc<Watermark> {
        &self.applied
    }
}

impl EventInbox {
    /// Events waiting.
    #[must_use]
    #[inline]
    pub fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// Whether the producer is gone and nothing is left to take.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // Abandoned first: what was pushed before is then seen by the second look.
        self.ring.is_abandoned() && self.ring.is_empty()
    }

    /// Hands up to `most` events, in order, to `take`, as one or two runs; then they count as
    /// applied. If `take` fails, none of them leaves the ring.
    ///
    /// # Errors
    ///
    /// The error of `take`.
    pub(crate) fn take<E>(
        &mut self,
        most: usize,
        take: impl FnOnce([&[RoutedEvent]; 2]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let count = self.waiting().min(most);
        let Ok(chunk) = self.ring.read_chunk(count) else { return Ok(0) };
        let (first, second) = chunk.as_slices();
        take([first, second])?;
        chunk.commit_all();
        self.taken += count as u64;
        self.applied.0.advance(self.taken);
        Ok(count)
    }
}

/// The reader's end of a lane.
#[derive(Debug)]
pub struct RequestSender {
    requests: rtrb::Producer<Request>,
    replies: rtrb::Consumer<Reply>,
    port: Departing,
}

/// The shard's end of a reader's lane.
#[derive(Debug)]
pub struct RequestInbox {
    requests: rtrb::Consumer<Request>,
    replies: rtrb::Producer<Reply>,
    bell: Ringing,
}

/// A lane for requests to the shard behind `port`; replies ring `bell`.
#[must_use]
pub fn request_lane(port: Arc<ShardPort>, bell: Arc<Doorbell>) -> (RequestSender, RequestInbox) {
    let (requests, requests_out) = rtrb::RingBuffer::new(REQUEST_RING_SLOTS);
    let (replies_in, replies) = rtrb::RingBuffer::new(REQUEST_RING_SLOTS);
    let inbox = RequestInbox { requests: requests_out, replies: replies_in, bell: Ringing(bell) };
    (RequestSender { requests, replies, port: Departing(port) }, inbox)
}

impl RequestSender {
    /// The shard this lane leads to.
    #[must_use]
    pub fn port(&self) -> &Arc<ShardPort> {
        &self.port.0
    }

    /// Sends a request and wakes the shard. One at a time: take the reply before the next.
    ///
    /// # Panics
    ///
    /// If as many requests as the ring holds are open.
    pub fn ask(&mut self, request: Request) {
        assert!(self.requests.push(request).is_ok(), "the reply is taken before the next request");
        self.port.0.doorbell().ring();
    }

    /// The reply, if it is there.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.replies.pop().ok()
    }

    /// Whether [`RequestSender::take_reply`] has something to say: a reply, or that none will come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_abandoned() || !self.replies.is_empty()
    }

    /// Whether the shard is gone. A reply it left before is still there.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.replies.is_abandoned()
    }
}

impl RequestInbox {
    /// Whether a request waits.
    #[must_use]
    #[inline]
    pub fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether the reader is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.requests.is_abandoned() && self.requests.is_empty()
    }

    /// Answers one waiting request, if any.
    pub(crate) fn answer(&mut self, answer: impl FnOnce(Request) -> Reply) -> bool {
        let Ok(request) = self.requests.pop() else { return false };
        let reply = answer(request);
        assert!(self.replies.push(reply).is_ok(), "there is room for the reply to every request");
        self.bell.0.ring();
        true
    }
}

/// Rings the shard when a producer or reader goes away.
#[derive(Debug)]
struct Departing(Arc<ShardPort>);

impl Drop for Departing {
    fn drop(&mut self) {
        self.0.doorbell().ring();
    }
}

/// Tells waiting producers when the shard goes away.
#[derive(Debug)]
struct Abandoning(Arc<Watermark>);

impl Drop for Abandoning {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Rings a waiting reader when the shard goes away.
#[derive(Debug)]
struct Ringing(Arc<Doorbell>);

impl Drop for Ringing {
    fn drop(&mut self) {
        self.0.ring();
    }
}
