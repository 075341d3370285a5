//! One event as the log keeps it: 25 bytes, little-endian.
//!
//! ```text
//! offset  0        8      16       24
//!         | entity | time | weight | signal |
//! ```
//!
//! Promises: [`decode`] gives back what [`encode`] wrote, bit for bit; any other bytes are a typed
//! error or a different event, never a panic. The routing hash is left out: it belongs to the
//! store's key and is computed again.

use crate::{EntityId, Event, RoutedEvent, SignalId, Timestamp, checked_weight};

/// Bytes of one record.
pub const RECORD_BYTES: usize = 25;

const TIME: usize = 8;
const WEIGHT: usize = 16;
const SIGNAL: usize = 24;

/// Appends the record of `event` to `records`.
#[inline]
pub fn encode(event: &RoutedEvent, records: &mut Vec<u8>) {
    let mut record = [0; RECORD_BYTES];
    record[..TIME].copy_from_slice(&event.entity.0.to_le_bytes());
    record[TIME..WEIGHT].copy_from_slice(&event.time.0.to_le_bytes());
    record[WEIGHT..SIGNAL].copy_from_slice(&event.weight.to_bits().to_le_bytes());
    record[SIGNAL] = event.signal.0;
    records.extend_from_slice(&record);
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not [`RECORD_BYTES`] long.
    #[error("a record has {RECORD_BYTES} bytes, not {bytes}")]
    Length {
        /// How long they are.
        bytes: usize,
    },
    /// A weight that was never admitted.
    #[error("the record's weight was never admitted: {0}")]
    Weight(#[from] crate::WeightError),
}

/// The event of a record.
///
/// # Errors
///
/// [`RecordError`] if the bytes cannot have been written by [`encode`].
pub fn decode(record: &[u8]) -> Result<Event, RecordError> {
    let record: &[u8; RECORD_BYTES] =
        record.try_into().map_err(|_| RecordError::Length { bytes: record.len() })?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| record[at + i]));
    let weight = checked_weight(f64::from_bits(word(WEIGHT)))?;
    let (entity, signal) = (EntityId(word(0)), SignalId(record[SIGNAL]));
    Ok(Event { entity, signal, time: Timestamp(word(TIME)), weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EntityHash;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            entity: u64, time: u64, weight in 0.0..1e15f64, signal: u8, hash: u32,
        ) {
            let (entity, signal, time) = (EntityId(entity), SignalId(signal), Timestamp(time));
            let mut records = Vec::new();
            let hash = EntityHash(hash);
            encode(&RoutedEvent { entity, time, weight, hash, signal }, &mut records);
            prop_assert_eq!(decode(&records), Ok(Event { entity, signal, time, weight }));
        }

        #[test]
        fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let decoded = decode(&bytes);
            prop_assert_eq!(decoded.is_err(), bytes.len() != RECORD_BYTES
                || checked_weight(f64::from_le_bytes(bytes[16..24].try_into().unwrap())).is_err());
        }
    }

    #[test]
    fn the_bytes_are_frozen() {
        let mut records = Vec::new();
        let (entity, time) = (EntityId(0x0102), Timestamp(0x0304));
        let (hash, signal) = (EntityHash(9), SignalId(7));
        encode(&RoutedEvent { entity, time, weight: 1.0, hash, signal }, &mut records);
        let mut want = [0; RECORD_BYTES];
        want[..2].copy_from_slice(&[2, 1]);
        want[8..10].copy_from_slice(&[4, 3]);
        want[22..24].copy_from_slice(&[0xF0, 0x3F]);
        want[24] = 7;
        assert_eq!(records, want);
    }
}
