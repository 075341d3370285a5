//! A producer's lane: events there, how far they have come back.
//!
//! ```text
//! EventSender ─tag, then event─▶ two rings ─▶ EventInbox: event freed, then tag
//! ```
//!
//! Invariant of a tagged lane: the ring of tags holds at least what the ring of events holds. So an
//! event that is seen has its tag, and a tag that was taken finds room for its event.

use super::Departing;
use crate::limits::{EVENT_CHUNK, EVENT_RING_SLOTS};
use crate::port::ShardPort;
use crate::source::SourceName;
use crate::watermark::Watermark;
use crate::{EventId, RoutedEvent};
use ebbtide_wal::{Lsn, Watermarks};
use std::collections::VecDeque;
use std::iter::repeat;
use std::sync::Arc;

/// What the events of a lane carry beside themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneKind {
    /// The source they all come from; each then has its offset.
    pub source: Option<SourceName>,
    /// Whether they may have ids.
    pub ids: bool,
}

impl LaneKind {
    /// Whether the events carry anything at all.
    #[must_use]
    pub fn is_tagged(&self) -> bool {
        self.source.is_some() || self.ids
    }
}

/// What one event carries beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Where it stands in its source; 0 without one.
    pub offset: u64,
    id: [u8; 16],
    /// What kind of event this is.
    pub kind: TagKind,
}

const _: () = assert!(size_of::<Tag>() == 32, "two tags to a cache line");

/// What a slot of a tagged lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// An event.
    Event,
    /// An event with an id.
    Identified,
    /// No event: the source has come to the offset.
    Mark,
}

impl Tag {
    /// Of an event of a source, or of offset 0.
    #[must_use]
    #[inline]
    pub const fn new(offset: u64) -> Self {
        Self { offset, id: [0; 16], kind: TagKind::Event }
    }

    /// The same with an id.
    #[must_use]
    #[inline]
    pub fn with_id(self, id: EventId) -> Self {
        Self { id: id.0.to_le_bytes(), kind: TagKind::Identified, ..self }
    }

    /// Of no event.
    #[must_use]
    pub const fn mark(offset: u64) -> Self {
        Self { offset, id: [0; 16], kind: TagKind::Mark }
    }

    /// The event's id, if it has one.
    #[must_use]
    #[inline]
    pub fn id(&self) -> Option<EventId> {
        let id = EventId(u128::from_le_bytes(self.id));
        (self.kind == TagKind::Identified).then_some(id)
    }
}

/// How far an event can come on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Reads see it.
    Applied,
    /// It survives the end of the process. Without a log nothing comes so far.
    Written,
    /// It survives power loss. Without a log nothing comes so far.
    Durable,
}

/// The watermarks of a lane, one for each [`Level`].
type LaneMarks = [Arc<Watermark>; 3];

/// The producer's end of a lane.
#[derive(Debug)]
pub struct EventSender {
    ring: rtrb::Producer<RoutedEvent>,
    tags: Option<rtrb::Producer<Tag>>,
    /// A chunk that is filled on this side, and the tags of a tagged lane's.
    held: Vec<RoutedEvent>,
    held_tags: Vec<Tag>,
    /// Slots that are free at least, besides those for what is held back: the shard only makes
    /// more, so the rings are looked at again once these are taken.
    room_seen: usize,
    /// Those held back included.
    offered: u64,
    /// The offset of the last tag.
    told: u64,
    marks: LaneMarks,
    // After the rings: the shard must find them abandoned when the bell rings.
    port: Departing,
}

/// The shard's end of a producer's lane.
#[derive(Debug)]
pub struct EventInbox {
    ring: rtrb::Consumer<RoutedEvent>,
    tags: Option<rtrb::Consumer<Tag>>,
    kind: LaneKind,
    taken: u64,
    /// What was taken and is not durable yet: up to which event, and the number in the log that has
    /// to be durable for it. Both rise.
    notes: VecDeque<(u64, Lsn)>,
    // After the rings, so that whoever is woken finds them abandoned.
    marks: Abandoning,
}

/// Events at the head of a lane, in one or two runs, with their tags if they carry any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'l> {
    pub(crate) events: [&'l [RoutedEvent]; 2],
    pub(crate) tags: [&'l [Tag]; 2],
}

impl Waiting<'_> {
    /// Each event with its tag, or one that says nothing.
    pub(crate) fn tagged(&self) -> impl Iterator<Item = (&RoutedEvent, Tag)> {
        let tags = self.tags.iter().copied().flatten().copied().chain(repeat(Tag::new(0)));
        self.events.iter().copied().flatten().zip(tags)
    }
}

/// A lane for events of one kind into the shard behind `port`.
#[must_use]
pub fn event_lane(port: Arc<ShardPort>, kind: LaneKind) -> (EventSender, EventInbox) {
    let (ring, ring_out) = rtrb::RingBuffer::new(EVENT_RING_SLOTS);
    let tags = kind.is_tagged().then(|| rtrb::RingBuffer::new(EVENT_RING_SLOTS));
    let (tags, tags_out) = tags.unzip();
    let marks = LaneMarks::default();
    let abandoning = Abandoning(marks.clone());
    let inbox = EventInbox {
        ring: ring_out,
        tags: tags_out,
        kind,
        taken: 0,
        notes: VecDeque::new(),
        marks: abandoning,
    };
    let held = Vec::with_capacity(EVENT_CHUNK);
    let held_tags = Vec::with_capacity(if tags.is_some() { EVENT_CHUNK } else { 0 });
    let (room_seen, offered, told, port) = (0, 0, 0, Departing(port));
    (EventSender { ring, tags, held, held_tags, room_seen, offered, told, marks, port }, inbox)
}

impl EventSender {
    /// The shard this lane leads to.
    #[must_use]
    #[inline]
    pub fn port(&self) -> &Arc<ShardPort> {
        &self.port.0
    }

    /// Events that the rings have room for now, at least, what is held back among them.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        self.tags.as_ref().map_or_else(|| self.ring.slots(), rtrb::Producer::slots)
    }

    /// Puts one event in the ring, behind what is held back, and gives its number in this lane,
    /// counted from 1. The shard is
    /// not woken: ring its doorbell when the batch is in. A plain lane leaves the tag out.
    ///
    /// # Errors
    ///
    /// Gives the event back when the ring is full.
    ///
    /// # Panics
    ///
    /// Never: the shard frees an event before its tag.
    #[inline]
    pub fn push(&mut self, event: RoutedEvent, tag: Tag) -> Result<u64, RoutedEvent> {
        self.publish();
        if let Some(tags) = &mut self.tags {
            if tags.push(tag).is_err() {
                return Err(event);
            }
            self.told = tag.offset;
        }
        match self.ring.push(event) {
            Ok(()) => {
                self.room_seen = self.room_seen.saturating_sub(1);
                self.offered += 1;
                Ok(self.offered)
            }
            Err(rtrb::PushError::Full(event)) => {
                assert!(self.tags.is_none(), "the shard frees an event before its tag");
                Err(event)
            }
        }
    }

    /// Like [`EventSender::push`], but holds the event back until a chunk is full or
    /// [`EventSender::publish`] is called: the word that says how full a ring is crosses to the
    /// shard's core once for a chunk, not for each event.
    ///
    /// # Errors
    ///
    /// Gives the event back when the ring is full. What was held back before is in it then.
    #[inline]
    pub fn hold(&mut self, event: RoutedEvent, tag: Tag) -> Result<u64, RoutedEvent> {
        if self.held.len() == EVENT_CHUNK || self.room_seen == 0 {
            self.publish();
        }
        if self.room_seen == 0 {
            self.room_seen = self.room();
            if self.room_seen == 0 {
                return Err(event);
            }
        }
        self.room_seen -= 1;
        self.held.push(event);
        if self.tags.is_some() {
            self.held_tags.push(tag);
            self.told = tag.offset;
        }
        self.offered += 1;
        Ok(self.offered)
    }

    /// Puts what is held back in the ring.
    ///
    /// # Panics
    ///
    /// Never: there was room for each, and the shard only makes more.
    pub fn publish(&mut self) {
        if self.held.is_empty() {
            return;
        }
        if let Some(tags) = &mut self.tags {
            tags.push_entire_slice(&self.held_tags).expect("there was room for each");
            self.held_tags.clear();
        }
        self.ring.push_entire_slice(&self.held).expect("there was room for each");
        self.held.clear();
    }

    /// Tells the shard, behind all events pushed so far, that its source has come to `offset`. It
    /// takes a number like an event. Gives `None` when the ring is full.
    ///
    /// # Panics
    ///
    /// If the lane is a plain one.
    pub fn push_mark(&mut self, offset: u64) -> Option<u64> {
        assert!(self.tags.is_some(), "a plain lane has no place for a mark");
        self.push(RoutedEvent::NOTHING, Tag::mark(offset)).ok()
    }

    /// The offset of the last event or mark pushed.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Events ever put in the ring or held back.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// How many of this lane's events have come so far.
    #[must_use]
    pub fn reached(&self, level: Level) -> &Arc<Watermark> {
        &self.marks[level as usize]
    }

    /// How many of this lane's events the shard has applied.
    #[must_use]
    pub fn applied(&self) -> &Arc<Watermark> {
        self.reached(Level::Applied)
    }
}

impl EventInbox {
    /// What the events carry beside themselves.
    #[must_use]
    pub fn kind(&self) -> &LaneKind {
        &self.kind
    }

    /// Events waiting.
    #[must_use]
    #[inline]
    pub fn waiting(&self) -> usize {
        self.ring.slots()
    }

    /// Whether the producer is gone, nothing is left to take, and what was taken is durable as far
    /// as it ever will be.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // Abandoned first: what was pushed before is then seen by the second look.
        self.ring.is_abandoned() && self.ring.is_empty() && self.notes.is_empty()
    }

    /// Hands up to `most` events, in order, to `take`, then they count as applied. They count as
    /// written and durable once the number in the log is that `take` gives; without one, never. If
    /// `take` fails, none of them leaves the ring.
    ///
    /// # Errors
    ///
    /// The error of `take`.
    pub(crate) fn take<E>(
        &mut self,
        most: usize,
        take: impl FnOnce(Waiting<'_>) -> Result<Option<Lsn>, E>,
    ) -> Result<usize, E> {
        let count = self.waiting().min(most);
        let Ok(chunk) = self.ring.read_chunk(count) else { return Ok(0) };
        // A tag is pushed before its event.
        let tags =
            self.tags.as_mut().map(|tags| tags.read_chunk(count).expect("an event has its tag"));
        let (first, second) = chunk.as_slices();
        let (first_tags, second_tags) =
            tags.as_ref().map_or((&[][..], &[][..]), rtrb::chunks::ReadChunk::as_slices);
        let waiting = Waiting { events: [first, second], tags: [first_tags, second_tags] };
        let needed = take(waiting)?;
        chunk.commit_all();
        if let Some(tags) = tags {
            tags.commit_all();
        }
        self.taken += count as u64;
        self.marks.get(Level::Applied).advance(self.taken);
        if let Some(lsn) = needed {
            self.note(lsn);
        }
        Ok(count)
    }

    /// Everything taken so far is durable once `lsn` is.
    fn note(&mut self, lsn: Lsn) {
        match self.notes.back_mut() {
            Some((taken, last)) if *last == lsn => *taken = self.taken,
            _ => self.notes.push_back((self.taken, lsn)),
        }
    }

    /// Publishes how far the log has come.
    pub(crate) fn acknowledge(&mut self, log: &Watermarks) {
        let Some((_, next)) = self.notes.front() else { return };
        if log.written.is_none_or(|written| written < *next) {
            return;
        }
        for (level, reached) in [(Level::Written, log.written), (Level::Durable, log.durable)] {
            let reached = reached.unwrap_or(Lsn::NONE);
            let passed = self.notes.partition_point(|&(_, lsn)| lsn <= reached);
            let last = passed.checked_sub(1).and_then(|last| self.notes.get(last));
            if let Some(&(taken, _)) =
                last.filter(|(taken, _)| self.marks.get(level).reached() < *taken)
            {
                self.marks.get(level).advance(taken);
            }
            if level == Level::Durable {
                self.notes.drain(..passed);
            }
        }
    }
}

/// Tells waiting producers when the shard goes away.
#[derive(Debug)]
struct Abandoning(LaneMarks);

impl Abandoning {
    fn get(&self, level: Level) -> &Watermark {
        &self.0[level as usize]
    }
}

impl Drop for Abandoning {
    fn drop(&mut self) {
        self.0.iter().for_each(|mark| mark.abandon());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{EntityId, Timestamp};

    #[test]
    fn a_tag_keeps_all_bits_of_an_id() {
        for id in [0, 1, u128::MAX, 1 << 127, 0x0123_4567_89AB_CDEF_0011_2233_4455_6677] {
            let tag = Tag::new(7).with_id(EventId(id));
            assert_eq!((tag.id(), tag.offset), (Some(EventId(id)), 7));
        }
        assert_eq!((Tag::new(7).id(), Tag::mark(7).id()), (None, None));
    }

    #[test]
    fn what_is_held_back_is_seen_chunk_by_chunk_and_all_of_it_where_the_ring_is_full() {
        let (mut sender, mut inbox) = event_lane(Arc::new(ShardPort::new(0)), LaneKind::default());
        let hold = |sender: &mut EventSender| sender.hold(RoutedEvent::NOTHING, Tag::new(0));
        for number in 1..=EVENT_CHUNK as u64 {
            assert_eq!(hold(&mut sender), Ok(number));
            assert_eq!(inbox.waiting(), 0);
        }
        assert_eq!(hold(&mut sender), Ok(EVENT_CHUNK as u64 + 1));
        assert_eq!(inbox.waiting(), EVENT_CHUNK, "the first chunk");
        sender.publish();
        assert_eq!(inbox.waiting(), EVENT_CHUNK + 1);
        while hold(&mut sender).is_ok() {}
        assert_eq!(inbox.waiting(), EVENT_RING_SLOTS);
        assert_eq!(sender.offered(), EVENT_RING_SLOTS as u64);
        assert_eq!(inbox.take(1, |_| Ok::<_, ()>(None)), Ok(1));
        assert!(hold(&mut sender).is_ok() && hold(&mut sender).is_err());
    }

    #[test]
    fn every_event_arrives_with_its_own_tag_while_the_ring_runs_full_and_empty() {
        const EVENTS: u64 = 200_000;
        let source = Some(SourceName::new("trace").unwrap());
        let kind = LaneKind { source, ids: true };
        let (mut sender, mut inbox) = event_lane(Arc::new(ShardPort::new(0)), kind);
        let producer = std::thread::spawn(move || {
            for offset in 1..=EVENTS {
                let (entity, time) = (EntityId(offset), Timestamp(offset));
                let event = RoutedEvent { entity, time, ..RoutedEvent::NOTHING };
                // One by one for a while, then in batches of any length.
                let is_alone = offset % 1000 < 300;
                let push = if is_alone { EventSender::push } else { EventSender::hold };
                while push(&mut sender, event, Tag::new(offset)).is_err() {
                    std::thread::yield_now();
                }
                if !is_alone && (offset.is_multiple_of(73) || offset % 1000 == 999) {
                    sender.publish();
                }
            }
            sender.publish();
            assert_eq!((sender.offered(), sender.told()), (EVENTS, EVENTS));
        });
        let mut next = 1;
        while next <= EVENTS {
            let taken = inbox.take(1000, |waiting| {
                for (event, tag) in waiting.tagged() {
                    assert_eq!((event.entity.0, tag.offset), (next, next));
                    next += 1;
                }
                Ok::<_, ()>(None)
            });
            if taken == Ok(0) {
                std::thread::yield_now();
            }
        }
        producer.join().unwrap();
        assert!(inbox.is_finished());
    }
}
