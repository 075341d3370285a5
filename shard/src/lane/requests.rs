//! A reader's lane: questions there, answers back.

use super::Departing;
use super::exchange::{Answerer, Asker, QUESTION_WORDS, exchange};
use crate::doorbell::Doorbell;
use crate::limits::REQUEST_RING_SLOTS;
use crate::port::{ShardDown, ShardPort};
use crate::reading::READING_WORDS_MAX;
use crate::request::{Question, Reply, Request};
use crate::{EntityHash, EntityId, SignalId, SignalReading, Timestamp};
use std::sync::Arc;

/// The reader's end of a lane.
#[derive(Debug)]
pub struct RequestSender {
    requests: rtrb::Producer<Request>,
    replies: rtrb::Consumer<Reply>,
    pairs: Asker<READING_WORDS_MAX>,
    awaited: Awaited,
    port: Departing,
}

/// What a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Reply,
    /// As of when.
    Reading(Timestamp),
}

/// The shard's end of a reader's lane.
#[derive(Debug)]
pub struct RequestInbox {
    requests: rtrb::Consumer<Request>,
    replies: rtrb::Producer<Reply>,
    pairs: Answerer<READING_WORDS_MAX>,
    bell: Ringing,
}

/// A lane for requests to the shard behind `port`; replies ring `bell`.
#[must_use]
pub fn request_lane(port: Arc<ShardPort>, bell: Arc<Doorbell>) -> (RequestSender, RequestInbox) {
    let (requests, requests_out) = rtrb::RingBuffer::new(REQUEST_RING_SLOTS);
    let (replies_in, replies) = rtrb::RingBuffer::new(REQUEST_RING_SLOTS);
    let (asker, answerer) = exchange();
    let port = Departing(port);
    let inbox = RequestInbox {
        requests: requests_out,
        replies: replies_in,
        pairs: answerer,
        bell: Ringing(bell),
    };
    (RequestSender { requests, replies, pairs: asker, awaited: Awaited::Nothing, port }, inbox)
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
    /// If a question is open.
    pub fn ask(&mut self, request: Request) {
        assert!(!self.is_open(), "the reply is taken before the next request");
        assert!(self.requests.push(request).is_ok(), "there is room for one request");
        self.awaited = Awaited::Reply;
        self.port.0.doorbell().ring();
    }

    /// Asks for one pair and wakes the shard. Take the reading before the next question.
    ///
    /// # Panics
    ///
    /// If a question is open.
    pub fn ask_pair(&mut self, question: Question) {
        assert!(!self.is_open(), "the reading is taken before the next question");
        self.pairs.ask(question.to_words());
        self.awaited = Awaited::Reading(question.now);
        self.port.0.doorbell().ring();
    }

    /// Whether a question was asked whose answer was not taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.awaited != Awaited::Nothing
    }

    /// Takes the reply to a request, if it is there.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.awaited = Awaited::Nothing;
        self.replies.pop().ok()
    }

    /// Takes the answer to the question about a pair: none if the pair never had an event. Call it
    /// once [`RequestSender::is_settled`].
    ///
    /// # Errors
    ///
    /// If the shard is gone and has not answered.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a reading that is handed on is copied each time")]
    pub fn take_reading(&mut self) -> Result<Option<SignalReading>, ShardDown> {
        let awaited = std::mem::replace(&mut self.awaited, Awaited::Nothing);
        match (awaited, self.pairs.answer()) {
            (Awaited::Reading(now), Some(words)) => Ok(SignalReading::from_words(words, now)),
            _ => Err(self.port.0.why_down()),
        }
    }

    /// Whether the answer to what was asked is there, or none will come.
    #[must_use]
    #[inline]
    pub fn is_settled(&self) -> bool {
        let answered = match self.awaited {
            Awaited::Nothing => true,
            Awaited::Reply => !self.replies.is_empty(),
            Awaited::Reading(_) => self.pairs.is_answered(),
        };
        answered || self.is_abandoned()
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
        self.pairs.has_question() || !self.requests.is_empty()
    }

    /// Whether the reader is gone.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.requests.is_abandoned() && self.requests.is_empty()
    }

    /// Answers a waiting question about a pair, if any: `read` gives the answer.
    #[inline]
    pub(crate) fn answer_pair(
        &mut self,
        read: impl FnOnce(Question, Answering<'_>) -> Answered,
    ) -> bool {
        let Some(words) = self.pairs.question() else { return false };
        let Answered(()) = read(Question::from_words(words), Answering(&mut self.pairs));
        self.bell.0.ring();
        true
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

impl Question {
    fn to_words(self) -> [u64; QUESTION_WORDS] {
        let Self { entity, hash, signal, now } = self;
        [entity.0, now.0, hash.0.into(), signal.0.into(), 0, 0, 0]
    }

    fn from_words([entity, now, hash, signal, ..]: [u64; QUESTION_WORDS]) -> Self {
        let hash = u32::try_from(hash).expect("a hash has 32 bits");
        let signal = u8::try_from(signal).expect("a signal type has 8 bits");
        let (entity, now) = (EntityId(entity), Timestamp(now));
        Self { entity, hash: EntityHash(hash), signal: SignalId(signal), now }
    }
}

/// A question about a pair that waits for its answer.
#[derive(Debug)]
pub(crate) struct Answering<'l>(&'l mut Answerer<READING_WORDS_MAX>);

/// That a question was answered: only its answer makes one.
#[derive(Debug)]
pub(crate) struct Answered(());

impl Answering<'_> {
    /// Answers it: with no reading for a pair that never had an event.
    #[inline]
    pub(crate) fn give(self, reading: Option<&SignalReading>) -> Answered {
        match reading {
            Some(reading) => self.0.answer(reading.words()),
            None => self.0.answer(std::iter::once(0)),
        }
        Answered(())
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
