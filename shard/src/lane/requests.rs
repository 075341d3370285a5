//! A reader's lane: questions there, answers back.

use super::Departing;
use crate::doorbell::Doorbell;
use crate::limits::REQUEST_RING_SLOTS;
use crate::port::ShardPort;
use crate::request::{Reply, Request};
use std::sync::Arc;

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

/// Rings a waiting reader when the shard goes away.
#[derive(Debug)]
struct Ringing(Arc<Doorbell>);

impl Drop for Ringing {
    fn drop(&mut self) {
        self.0.ring();
    }
}
