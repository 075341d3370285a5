//! What the log of a shard holds: batches of events, and what has to be known to read them.
//!
//! ```text
//! event   | entity 8 | time 8 | weight 8 | signal 1 |   25 bytes, little-endian
//! batch   | kind 1 | … |                                Opened, Source, Mark or Events
//! ```
//!
//! Promises: [`decode_batch`] gives back what was encoded, bit for bit; any other bytes are a typed
//! error or another batch, never a panic. Signal types stand by their stored numbers, which outlive
//! a schema. The routing hash is left out: it belongs to the store's key and is computed again.
//! The bytes are described in `docs/FORMAT.md`.

mod decode;
mod encode;

pub use decode::{Batch, LoggedEvents, RecordError, decode_batch};
pub use encode::{EventsEncoder, encode_mark, encode_opened, encode_source};

use crate::source::SourceId;
use crate::{EntityId, EventId, Timestamp};

/// Bytes of one event.
pub const EVENT_BYTES: usize = 25;
/// Bytes of a batch that opens a log.
pub const OPENED_BYTES: usize = 9;
/// Bytes of a batch that names a source, without the name.
pub const SOURCE_BYTES: usize = 9;
/// Bytes of a batch that tells a source's progress.
pub const MARK_BYTES: usize = 17;

const TIME: usize = 8;
const WEIGHT: usize = 16;
const SIGNAL: usize = 24;

const OPENED: u8 = 1;
const SOURCE: u8 = 2;
const MARK: u8 = 3;
const EVENTS: u8 = 4;

const HAS_SOURCE: u8 = 1;
const HAS_IDS: u8 = 2;

/// One event, as a log keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedEvent {
    /// To whom it happened.
    pub entity: EntityId,
    /// The stored number of the signal type.
    pub number: u8,
    /// When it happened.
    pub time: Timestamp,
    /// How much it counts.
    pub weight: f64,
    /// Where it stands in its source, if it has one.
    pub offset: Option<u64>,
    /// Its id, if it was given one that matters.
    pub id: Option<EventId>,
}

/// What the events of one batch carry beside themselves, alike for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchForm {
    /// The source they come from; each then has its offset.
    pub source: Option<SourceId>,
    /// Whether each says if it has an id, and which.
    pub ids: bool,
}

impl BatchForm {
    /// Bytes before the first event.
    #[must_use]
    pub const fn header_bytes(self) -> usize {
        if self.source.is_some() { 18 } else { 2 }
    }

    /// Bytes of each event with what it carries.
    #[must_use]
    pub const fn record_bytes(self) -> usize {
        EVENT_BYTES + if self.source.is_some() { 8 } else { 0 } + if self.ids { 17 } else { 0 }
    }

    /// How many events a batch of at most `bytes` holds.
    #[must_use]
    pub const fn events_within(self, bytes: usize) -> usize {
        bytes.saturating_sub(self.header_bytes()) / self.record_bytes()
    }
}

#[cfg(test)]
mod tests;
