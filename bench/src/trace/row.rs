//! Rows: the bytes of one line made an event.
//!
//! Promises: the first fault from left to right is the one reported, except that text which is
//! not UTF-8 is always reported as that. A row that parses is UTF-8 throughout: digits, names of
//! the schema, texts already checked.

use super::fields::{self, Fields};
use super::lines::Line;
use super::timestamp::Calendar;
use super::{EntityNames, Reason, TraceEvent, number};
use crate::limits::{COLUMNS_MAX, QUOTED_BYTES_MAX, SIGNALS_MAX};

/// The columns of a trace, the last one optional.
const COLUMNS: [&str; COLUMNS_MAX] = ["timestamp", "entity", "signal", "weight", "id"];

/// Reads the rows of one trace.
pub(crate) struct Rows {
    column_count: usize,
    signals: Box<[Box<str>]>,
    calendar: Calendar,
    names: EntityNames,
    unquoted: Vec<u8>,
}

impl Rows {
    /// Rows with the columns of `header`, or none if that is no header.
    pub(crate) fn with_header<S: AsRef<str>>(header: &[u8], signals: &[S]) -> Option<Self> {
        assert!(signals.len() <= SIGNALS_MAX, "a schema has at most {SIGNALS_MAX} signals");
        let mut unquoted = Vec::new();
        let Fields { columns, count } = fields::split(header, &mut unquoted).ok()?;
        let expected = COLUMNS.get(..count).filter(|_| count + 1 >= COLUMNS_MAX)?;
        let is_header = columns.iter().zip(expected).all(|(name, &text)| *name == text.as_bytes());
        is_header.then(|| Self {
            column_count: count,
            signals: signals.iter().map(|name| name.as_ref().into()).collect(),
            calendar: Calendar::default(),
            names: EntityNames::default(),
            unquoted: Vec::new(),
        })
    }

    /// Whether the trace has a column of ids.
    pub(crate) fn has_ids(&self) -> bool {
        self.column_count == COLUMNS_MAX
    }

    /// The texts of the entities seen so far.
    pub(crate) fn names(&self) -> &EntityNames {
        &self.names
    }

    /// The texts of the entities seen, when no more rows are read.
    pub(crate) fn into_names(self) -> EntityNames {
        self.names
    }

    /// The event of `line`.
    #[inline]
    pub(crate) fn parse(&mut self, line: Line<'_>) -> Result<TraceEvent, Reason> {
        if !line.is_whole {
            return Err(Reason::Overlong);
        }
        let Fields { columns, count } = fields::split(line.bytes, &mut self.unquoted)?;
        if count != self.column_count {
            return Err(Reason::FieldCount { found: count, expected: self.column_count });
        }
        let [timestamp, entity, signal, weight, id] = columns;
        Ok(TraceEvent {
            time_ns: self.calendar.parse(timestamp)?,
            entity: entity_of(entity, &mut self.names)?,
            signal: signal_of(signal, &self.signals)?,
            weight: number::weight(weight)?,
            id: number::id(id)?,
            line: line.number,
        })
    }
}

#[inline]
fn entity_of(text: &[u8], names: &mut EntityNames) -> Result<u64, Reason> {
    if let Ok(integer) = number::unsigned(text) {
        return Ok(names.integer(integer)?);
    }
    if text.is_empty() {
        return Err(Reason::EntityEmpty);
    }
    let text = str::from_utf8(text).map_err(|_| Reason::NotUtf8)?;
    Ok(names.text(text)?)
}

#[inline]
fn signal_of(text: &[u8], signals: &[Box<str>]) -> Result<u8, Reason> {
    for (index, name) in (0..).zip(signals) {
        if name.as_bytes() == text {
            return Ok(index);
        }
    }
    Err(Reason::UnknownSignal { name: shorten(text) })
}

/// A field as an error message repeats it.
#[cold]
pub(crate) fn shorten(text: &[u8]) -> String {
    match text.get(..QUOTED_BYTES_MAX) {
        Some(head) if text.len() > QUOTED_BYTES_MAX => {
            format!("{}…", String::from_utf8_lossy(head))
        }
        _ => String::from_utf8_lossy(text).into_owned(),
    }
}
