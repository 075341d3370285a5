//! Traces: real events as CSV text, plain or zstd.
//!
//! ```text
//! timestamp,entity,signal,weight,id        header; `,id` may be absent
//! 2013-01-01T05:59:00Z,BOS,flight,1,       RFC 3339, or nanoseconds since the Unix epoch
//! # a comment                              skipped, as is an empty line
//! 1357019940000000000,"St. John's",delay,,7f3a
//! ```
//!
//! Promises:
//! * every line is either an event, in the order of the file, or a [`BadLine`] that names its
//!   file, line and [`Reason`]; a bad line costs none of the good ones around it;
//! * two texts never become one entity unseen: see [`EntityNames`] for what is checked;
//! * the memory taken does not depend on the size of the trace, only on its distinct entities.
//!
//! Fields follow RFC 4180: a field in quotes may hold commas and doubled quotes, but never a
//! line end. Fields are not trimmed: a space is part of its field. A byte order mark, CRLF and a
//! missing last line end are fine.
//!
//! Not here: what an event means (a schema gives signals their half-lives and windows), and
//! when to stop (the caller decides at each bad line).

mod content;
mod fault;
mod fields;
mod identity;
mod lines;
mod names;
mod number;
mod quarantine;
mod reader;
mod row;
mod source;
mod timestamp;

pub use content::TraceContent;
pub use fault::{BadLine, Reason, TraceError};
pub use identity::TraceHead;
pub(crate) use identity::short_digest;
pub use names::{EntityClash, EntityNames};
pub use quarantine::{Quarantine, SpelledEvent};
pub use reader::{BatchEnd, TraceReader};
pub(crate) use source::bundled_content;
pub use source::{BUNDLED_NAME, BUNDLED_SCHEMA};
pub use timestamp::{TimestampFault, parse_timestamp};

/// One event of a trace, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceEvent {
    /// When it happened: nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// To whom: the integer of the trace, or the hash of its text (see [`EntityNames`]).
    pub entity: u64,
    /// Which signal: the index of its name in the list the reader was opened with.
    pub signal: u8,
    /// How much; finite and not negative.
    pub weight: f64,
    /// By which an event sent twice is known, if the trace gives one.
    pub id: Option<u128>,
    /// Where it stands: its line in the file, from 1. Grows from event to event, so it can serve
    /// as the offset from which an interrupted replay goes on.
    pub line: u64,
}
