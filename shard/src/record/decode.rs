//! Bytes into batches. What they say is checked before any of it is given.

use super::{
    BatchForm, EVENT_BYTES, EVENTS, HAS_IDS, HAS_SOURCE, LoggedEvent, MARK, MARK_BYTES, OPENED,
    OPENED_BYTES, SIGNAL, SOURCE, SOURCE_BYTES, TIME, WEIGHT,
};
use crate::limits::{SHARDS_MAX, SOURCE_NAME_BYTES_MAX};
use crate::source::SourceId;
use crate::{EntityId, EventId, Timestamp, WeightError, checked_weight};

/// A batch of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Batch<'b> {
    /// The first of every opening: which shard of how many writes the log from here on.
    Opened {
        /// How many shards the engine has.
        shards: u32,
        /// Which of them this is.
        shard: u32,
    },
    /// A source may follow.
    Source {
        /// What stands for it.
        id: SourceId,
        /// Its name.
        name: &'b str,
    },
    /// A source has come to an offset, and nothing new of it was for this shard.
    Mark {
        /// Which.
        source: SourceId,
        /// How far.
        offset: u64,
    },
    /// Events.
    Events(LoggedEvents<'b>),
}

impl Batch<'_> {
    /// The source that has come further with this batch, and how far.
    #[must_use]
    pub fn progress(&self) -> Option<(SourceId, u64)> {
        match *self {
            Self::Mark { source, offset } => Some((source, offset)),
            Self::Events(events) => events.form.source.map(|source| (source, events.progress)),
            Self::Opened { .. } | Self::Source { .. } => None,
        }
    }
}

/// The events of a batch, checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedEvents<'b> {
    form: BatchForm,
    progress: u64,
    records: &'b [u8],
}

impl LoggedEvents<'_> {
    /// What the events carry beside themselves.
    #[must_use]
    pub fn form(&self) -> BatchForm {
        self.form
    }

    /// The events, in the order in which they were applied; the n-th has the n-th number of the
    /// batch in the log.
    ///
    /// # Panics
    ///
    /// Never: every event was checked.
    #[must_use]
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LoggedEvent> {
        let form = self.form;
        let records = self.records.chunks_exact(form.record_bytes());
        records.map(move |record| event(record, form).expect("every event was checked"))
    }
}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A kind of batch that this version does not know. Read the log with a later version.
    #[error("batches of kind {kind} are not known to this version")]
    Kind {
        /// Which.
        kind: u8,
    },
    /// A flag of an events batch that this version does not know.
    #[error("an events batch with flags {flags:#04x} is not known to this version")]
    Flags {
        /// All of them.
        flags: u8,
    },
    /// Shorter or longer than its kind and its number of records say.
    #[error("a batch of {records} records has {bytes} bytes, which it cannot have")]
    Length {
        /// How long it is.
        bytes: usize,
        /// The records it is said to hold.
        records: u32,
    },
    /// A shard outside its own number of shards, or a number that cannot be.
    #[error("shard {shard} of {shards} cannot be")]
    Layout {
        /// How many shards there are said to be.
        shards: u32,
        /// Which of them.
        shard: u32,
    },
    /// The name of a source that is none, or not the one its id stands for.
    #[error("the name of source {id:016x} is not one, or another's")]
    SourceName {
        /// The id.
        id: u64,
    },
    /// Offsets that do not rise from 1 to what the batch says its source has come to.
    #[error("offset {offset} of a source is not in its order")]
    Offset {
        /// Which.
        offset: u64,
    },
    /// An id that is neither there nor not there.
    #[error("an event's id is neither there nor not there")]
    Id,
    /// A weight that was never admitted.
    #[error("the event's weight was never admitted: {0}")]
    Weight(#[from] WeightError),
}

/// Reads a batch that the log keeps as `records` records.
///
/// # Errors
///
/// [`RecordError`] if the bytes cannot have been written by an encoder.
pub fn decode_batch(bytes: &[u8], records: u32) -> Result<Batch<'_>, RecordError> {
    let length = RecordError::Length { bytes: bytes.len(), records };
    let Some(&kind) = bytes.first() else { return Err(length) };
    let fits = match kind {
        OPENED => bytes.len() == OPENED_BYTES && records == 1,
        SOURCE => bytes.len() > SOURCE_BYTES && records == 1,
        MARK => bytes.len() == MARK_BYTES && records == 1,
        EVENTS => bytes.len() >= 2,
        kind => return Err(RecordError::Kind { kind }),
    };
    match kind {
        _ if !fits => Err(length),
        OPENED => opened(bytes),
        SOURCE => source(bytes),
        MARK => mark(bytes),
        _ => events(bytes, records),
    }
}

fn opened(bytes: &[u8]) -> Result<Batch<'_>, RecordError> {
    let (shards, shard) = (u32::from_le_bytes(take(bytes, 1)), u32::from_le_bytes(take(bytes, 5)));
    let possible = shard < shards && usize::try_from(shards).is_ok_and(|n| n <= SHARDS_MAX);
    if possible {
        Ok(Batch::Opened { shards, shard })
    } else {
        Err(RecordError::Layout { shards, shard })
    }
}

fn source(bytes: &[u8]) -> Result<Batch<'_>, RecordError> {
    let (id, name) = (word(bytes, 1), &bytes[SOURCE_BYTES..]);
    let fits = |name: &&str| name.len() <= SOURCE_NAME_BYTES_MAX && SourceId::of(name).0 == id;
    let name = std::str::from_utf8(name).ok().filter(fits);
    name.map(|name| Batch::Source { id: SourceId(id), name }).ok_or(RecordError::SourceName { id })
}

fn mark(bytes: &[u8]) -> Result<Batch<'_>, RecordError> {
    let (source, offset) = (SourceId(word(bytes, 1)), word(bytes, 9));
    if offset == 0 {
        Err(RecordError::Offset { offset })
    } else {
        Ok(Batch::Mark { source, offset })
    }
}

fn events(bytes: &[u8], count: u32) -> Result<Batch<'_>, RecordError> {
    let flags = bytes[1];
    if flags & !(HAS_SOURCE | HAS_IDS) != 0 {
        return Err(RecordError::Flags { flags });
    }
    let source = flags & HAS_SOURCE != 0;
    let (ids, no_source) = (flags & HAS_IDS != 0, SourceId(0));
    let mut form = BatchForm { source: source.then_some(no_source), ids };
    let records = bytes.get(form.header_bytes()..).unwrap_or_default();
    let wanted = usize::try_from(count).ok().and_then(|n| n.checked_mul(form.record_bytes()));
    if records.is_empty() || wanted != Some(records.len()) {
        return Err(RecordError::Length { bytes: bytes.len(), records: count });
    }
    form.source = source.then(|| SourceId(word(bytes, 2)));
    let progress = if source { word(bytes, 10) } else { 0 };
    let mut last = 0;
    for record in records.chunks_exact(form.record_bytes()) {
        if let Some(offset) = event(record, form)?.offset {
            if offset <= last || offset > progress {
                return Err(RecordError::Offset { offset });
            }
            last = offset;
        }
    }
    Ok(Batch::Events(LoggedEvents { form, progress, records }))
}

#[inline]
fn event(record: &[u8], form: BatchForm) -> Result<LoggedEvent, RecordError> {
    let offset = form.source.map(|_| word(record, EVENT_BYTES));
    let id = if form.ids { id(&record[record.len() - 17..])? } else { None };
    let weight = checked_weight(f64::from_bits(word(record, WEIGHT)))?;
    let (entity, time) = (EntityId(word(record, 0)), Timestamp(word(record, TIME)));
    Ok(LoggedEvent { entity, number: record[SIGNAL], time, weight, offset, id })
}

fn id(bytes: &[u8]) -> Result<Option<EventId>, RecordError> {
    match (bytes[0], u128::from_le_bytes(take(bytes, 1))) {
        (0, 0) => Ok(None),
        (1, id) => Ok(Some(EventId(id))),
        _ => Err(RecordError::Id),
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

/// The `N` bytes at `at`, which the caller knows to be there.
#[inline]
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the length was checked")
}
