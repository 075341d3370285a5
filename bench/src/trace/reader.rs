//! The reader: a trace turned into events, a batch at a time.
//!
//! Promises: [`TraceReader::read_batch`] stops *after* the good rows before a bad line and goes on
//! behind it when called again, so the caller chooses between ending the run and skipping the
//! line, and loses nothing either way.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::lines::{BYTE_ORDER_MARK, Line, Lines, is_skipped};
use super::row::{Rows, shorten};
use super::source::{self, BUNDLED_NAME, Source};
use super::{BadLine, EntityNames, Reason, TraceError, TraceEvent, TraceHead};

/// Reads a trace.
///
/// ```
/// use ebbtide_bench::trace::{BatchEnd, TraceReader};
///
/// let csv = "timestamp,entity,signal,weight\n\
///            1970-01-01T00:00:01Z,BOS,flight,\n\
///            soon,BOS,flight,1\n\
///            2000000000,42,flight,0.5\n";
/// let mut reader = TraceReader::from_bytes("day.csv", csv.as_bytes(), &["flight"])?;
/// let mut events = Vec::new();
/// let mut bad_lines = Vec::new();
/// loop {
///     match reader.read_batch(512, &mut events)? {
///         BatchEnd::Full => {} // use the events and clear them here
///         BatchEnd::BadLine(bad) => bad_lines.push(bad), // or stop here
///         BatchEnd::EndOfTrace => break,
///     }
/// }
/// assert_eq!(events.len(), 2);
/// assert_eq!(reader.names().spelling(events[0].entity), "BOS");
/// assert!(bad_lines[0].to_string().starts_with("day.csv:3: timestamp is neither"));
/// # Ok::<(), ebbtide_bench::trace::TraceError>(())
/// ```
pub struct TraceReader {
    file: Arc<str>,
    is_compressed: bool,
    lines: Lines<Source>,
    rows: Rows,
    head: TraceHead,
}

/// Why a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchEnd {
    /// It has all the events that were asked for; there may be more.
    Full,
    /// The next line is not an event. Call again to go on behind it.
    BadLine(BadLine),
    /// There are no more lines.
    EndOfTrace,
}

impl TraceReader {
    /// Opens the trace at `path`, plain or zstd, and reads its header.
    ///
    /// An event's signal is the index of its name in `signals`.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or does not begin with the header of a trace.
    ///
    /// # Panics
    ///
    /// When there are more than [`crate::limits::SIGNALS_MAX`] signals.
    pub fn open<S: AsRef<str>>(path: &Path, signals: &[S]) -> Result<Self, TraceError> {
        Self::open_until(path, signals, || false)
    }

    /// The same, for a trace that may make its reader wait, as a pipe does: reading fails soon
    /// after `is_stopped` says so.
    ///
    /// # Errors
    ///
    /// As [`TraceReader::open`].
    ///
    /// # Panics
    ///
    /// As [`TraceReader::open`].
    pub fn open_until<S: AsRef<str>>(
        path: &Path,
        signals: &[S],
        is_stopped: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, TraceError> {
        Self::start(&path.to_string_lossy(), source::open(path, is_stopped), signals)
    }

    /// Opens the trace that is part of the program; its schema is
    /// [`BUNDLED_SCHEMA`](super::BUNDLED_SCHEMA).
    ///
    /// # Errors
    ///
    /// When the program itself is damaged.
    ///
    /// # Panics
    ///
    /// When there are more than [`crate::limits::SIGNALS_MAX`] signals.
    pub fn bundled<S: AsRef<str>>(signals: &[S]) -> Result<Self, TraceError> {
        Self::start(BUNDLED_NAME, source::bundled(), signals)
    }

    /// Reads the trace that `bytes` hold, plain or zstd, under the name `file`.
    ///
    /// # Errors
    ///
    /// When the bytes cannot be read or do not begin with the header of a trace.
    ///
    /// # Panics
    ///
    /// When there are more than [`crate::limits::SIGNALS_MAX`] signals.
    pub fn from_bytes<S: AsRef<str>>(
        file: &str,
        bytes: impl Read + Send + 'static,
        signals: &[S],
    ) -> Result<Self, TraceError> {
        Self::start(file, source::decompressed(bytes, false), signals)
    }

    fn start<S: AsRef<str>>(
        file: &str,
        opened: io::Result<(Source, bool)>,
        signals: &[S],
    ) -> Result<Self, TraceError> {
        let file: Arc<str> = file.into();
        let (source, is_compressed) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(TraceError::Open { file, source }),
        };
        let mut lines = Lines::new(source);
        let head = match lines.peek() {
            Ok((block, is_whole)) => TraceHead::of(block, is_whole),
            Err(source) => return Err(unreadable(file, 0, is_compressed, source)),
        };
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Err(TraceError::Empty { file }),
                Err(source) => return Err(unreadable(file, lines.count(), is_compressed, source)),
            };
            let header = line.bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line.bytes);
            if is_skipped(header) {
                continue;
            }
            let Some(rows) = Rows::with_header(header, signals) else {
                let found = shorten(header);
                return Err(TraceError::Header { file, line: line.number, found });
            };
            return Ok(Self { file, is_compressed, lines, rows, head });
        }
    }

    /// Appends up to `max` events to `events` and says why it stopped.
    ///
    /// # Errors
    ///
    /// When the trace cannot be read any further; the events before that have been appended.
    pub fn read_batch(
        &mut self,
        max: usize,
        events: &mut Vec<TraceEvent>,
    ) -> Result<BatchEnd, TraceError> {
        let full = events.len().saturating_add(max);
        while events.len() < full {
            let line = match self.lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(BatchEnd::EndOfTrace),
                Err(source) => {
                    let file = Arc::clone(&self.file);
                    return Err(unreadable(file, self.lines.count(), self.is_compressed, source));
                }
            };
            if is_skipped(line.bytes) {
                continue;
            }
            match self.rows.parse(line) {
                Ok(event) => events.push(event),
                Err(reason) => return Ok(BatchEnd::BadLine(bad_line(&self.file, line, reason))),
            }
        }
        Ok(BatchEnd::Full)
    }

    /// The beginning of the trace, by which it is known again.
    #[must_use]
    pub fn head(&self) -> &TraceHead {
        &self.head
    }

    /// The texts of the entities read so far.
    #[must_use]
    pub fn names(&self) -> &EntityNames {
        self.rows.names()
    }

    /// The texts of the entities, when the trace has been read.
    #[must_use]
    pub fn into_names(self) -> EntityNames {
        self.rows.into_names()
    }

    /// Whether the trace has a column of ids.
    #[must_use]
    pub fn has_ids(&self) -> bool {
        self.rows.has_ids()
    }

    /// The last line read, from 1: an event, a bad line or neither.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.lines.count()
    }

    /// The name of the trace, as messages give it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }
}

#[cold]
fn bad_line(file: &Arc<str>, line: Line<'_>, reason: Reason) -> BadLine {
    let is_text = !line.is_whole || str::from_utf8(line.bytes).is_ok();
    let reason = if is_text { reason } else { Reason::NotUtf8 };
    BadLine { file: Arc::clone(file), line: line.number, reason, raw: line.bytes.into() }
}

#[cold]
fn unreadable(file: Arc<str>, line: u64, is_compressed: bool, source: io::Error) -> TraceError {
    // An error of the system has its code; one of the decoder is a judgement on the data.
    if is_compressed && source.raw_os_error().is_none() {
        TraceError::Damaged { file, line, source }
    } else {
        TraceError::Read { file, line, source }
    }
}
