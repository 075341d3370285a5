//! What can be wrong with a trace: with one line ([`BadLine`]), or with the whole
//! ([`TraceError`]).
//!
//! A bad line leaves the reader usable and the caller decides whether to go on. An error ends
//! the reading. Both say what, where, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::{EntityClash, TimestampFault};
use crate::limits::LINE_BYTES_MAX;

/// Why a line is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The line holds bytes that are not UTF-8. Convert the file.
    #[error("not UTF-8; convert the file, for instance from Latin-1")]
    NotUtf8,
    /// The line is longer than [`LINE_BYTES_MAX`]; only its beginning is kept.
    #[error("longer than {LINE_BYTES_MAX} bytes; is a line end missing?")]
    Overlong,
    /// Quotes do not enclose a whole field, or do not close on the line.
    #[error("misplaced quote; quote the whole field and double the quotes inside it")]
    Quote,
    /// The line has another number of fields than the header.
    #[error("{found} fields where the header has {expected}; quote a field that holds a comma")]
    FieldCount {
        /// Fields on this line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// The timestamp is none, or out of range.
    #[error("timestamp {0}")]
    Timestamp(#[from] TimestampFault),
    /// The entity field is empty.
    #[error("entity is empty; name one, or remove the line")]
    EntityEmpty,
    /// The entity has the same 64-bit identity as another one.
    #[error(transparent)]
    EntityClash(#[from] EntityClash),
    /// The schema has no such signal.
    #[error("unknown signal {name:?}; add it to the schema, or correct the line")]
    UnknownSignal {
        /// The text of the field, shortened if long.
        name: String,
    },
    /// The weight is not a number.
    #[error("weight is not a number; give a decimal number, or leave it empty for 1")]
    WeightUnreadable,
    /// The weight is below zero.
    #[error("weight is negative; a signal only decays, it is never taken away from")]
    WeightNegative,
    /// The weight is infinite, not a number by name, or too large for an `f64`.
    #[error("weight is not finite; give a decimal number, or leave it empty for 1")]
    WeightNotFinite,
}

/// A line that is not an event: which one, why, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The trace, as it was named when it was opened.
    pub file: Arc<str>,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: Reason,
    /// The bytes of the line without its end, exactly as they stand in the file; only the
    /// beginning of a line that is [`Reason::Overlong`].
    pub raw: Box<[u8]>,
}

impl BadLine {
    /// The text of the line, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn raw_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw)
    }
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl std::error::Error for BadLine {}

/// Why a trace cannot be read any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened: the environment, or a wrong path.
    #[error("cannot open trace {file}: {source}; check the path and its permissions")]
    Open {
        /// The trace, as it was named.
        file: Arc<str>,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read on: the environment failed.
    #[error("cannot read trace {file} after line {line}: {source}")]
    Read {
        /// The trace, as it was named.
        file: Arc<str>,
        /// The last line read.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The zstd data is damaged or cut off: bad input.
    #[error(
        "trace {file} is not whole: its zstd data fails after line {line} ({source}); \
         copy it again, or check it with `zstd -t`"
    )]
    Damaged {
        /// The trace, as it was named.
        file: Arc<str>,
        /// The last line read.
        line: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// There is no line but empty ones and comments: bad input.
    #[error("trace {file} is empty; its first line must be the header {HEADER}")]
    Empty {
        /// The trace, as it was named.
        file: Arc<str>,
    },
    /// The first line is not the header: bad input.
    #[error("{file}:{line}: expected the header {HEADER}, found {found:?}")]
    Header {
        /// The trace, as it was named.
        file: Arc<str>,
        /// The line taken for the header.
        line: u64,
        /// Its text, shortened if long.
        found: String,
    },
}

/// The header, as error messages spell it.
const HEADER: &str = "`timestamp,entity,signal,weight`, optionally followed by `,id`";

impl TraceError {
    /// Whether the trace itself is at fault, rather than the system it is read on.
    ///
    /// A path that does not exist, or is a directory, counts as bad input.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Open { source, .. } => {
                use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
                matches!(source.kind(), NotFound | IsADirectory | NotADirectory)
            }
            Self::Read { .. } => false,
            Self::Damaged { .. } | Self::Empty { .. } | Self::Header { .. } => true,
        }
    }
}
