//! Batches into bytes.

use super::{
    BatchForm, EVENT_BYTES, EVENTS, HAS_IDS, HAS_SOURCE, MARK, OPENED, SIGNAL, SOURCE, TIME, WEIGHT,
};
use crate::source::{SourceId, SourceName};
use crate::{EventId, RoutedEvent};

/// Puts a batch in `bytes` that says which shard of how many writes the log from here on.
pub fn encode_opened(shards: u32, shard: u32, bytes: &mut Vec<u8>) {
    begin(bytes, OPENED);
    bytes.extend_from_slice(&shards.to_le_bytes());
    bytes.extend_from_slice(&shard.to_le_bytes());
}

/// Puts a batch in `bytes` that gives the name of a source.
pub fn encode_source(name: &SourceName, bytes: &mut Vec<u8>) {
    begin(bytes, SOURCE);
    bytes.extend_from_slice(&name.id().0.to_le_bytes());
    bytes.extend_from_slice(name.as_str().as_bytes());
}

/// Puts a batch in `bytes` that says how far a source has come.
pub fn encode_mark(source: SourceId, offset: u64, bytes: &mut Vec<u8>) {
    begin(bytes, MARK);
    bytes.extend_from_slice(&source.0.to_le_bytes());
    bytes.extend_from_slice(&offset.to_le_bytes());
}

fn begin(bytes: &mut Vec<u8>, kind: u8) {
    bytes.clear();
    bytes.push(kind);
}

/// Puts events in a batch, one by one.
#[derive(Debug)]
pub struct EventsEncoder<'b> {
    bytes: &'b mut Vec<u8>,
    form: BatchForm,
}

impl<'b> EventsEncoder<'b> {
    /// Begins a batch of this form in `bytes`.
    #[inline]
    pub fn begin(form: BatchForm, bytes: &'b mut Vec<u8>) -> Self {
        begin(bytes, EVENTS);
        let flags = [(form.source.is_some(), HAS_SOURCE), (form.ids, HAS_IDS)];
        bytes.push(flags.iter().map(|&(is, flag)| if is { flag } else { 0 }).sum());
        if let Some(source) = form.source {
            bytes.extend_from_slice(&source.0.to_le_bytes());
            bytes.extend_from_slice(&0_u64.to_le_bytes());
        }
        debug_assert_eq!(bytes.len(), form.header_bytes());
        Self { bytes, form }
    }

    /// Adds an event whose signal type has this stored number. Offset and id are left out where the
    /// form has no place for them.
    #[inline]
    pub fn push(&mut self, event: &RoutedEvent, number: u8, offset: u64, id: Option<EventId>) {
        let mut record = [0; EVENT_BYTES];
        record[..TIME].copy_from_slice(&event.entity.0.to_le_bytes());
        record[TIME..WEIGHT].copy_from_slice(&event.time.0.to_le_bytes());
        record[WEIGHT..SIGNAL].copy_from_slice(&event.weight.to_bits().to_le_bytes());
        record[SIGNAL] = number;
        self.bytes.extend_from_slice(&record);
        if self.form.source.is_some() {
            self.bytes.extend_from_slice(&offset.to_le_bytes());
        }
        if self.form.ids {
            self.bytes.push(u8::from(id.is_some()));
            self.bytes.extend_from_slice(&id.map_or(0, |id| id.0).to_le_bytes());
        }
    }

    /// Ends the batch: `progress` is the offset that its source has come to with it. Gives the
    /// number of events.
    ///
    /// # Panics
    ///
    /// With more than 2^32 events; a turn takes far fewer.
    #[inline]
    #[must_use]
    pub fn finish(self, progress: u64) -> u32 {
        let header = self.form.header_bytes();
        if self.form.source.is_some() {
            self.bytes[header - 8..header].copy_from_slice(&progress.to_le_bytes());
        }
        let events = (self.bytes.len() - header) / self.form.record_bytes();
        u32::try_from(events).expect("a turn takes far fewer events")
    }
}
