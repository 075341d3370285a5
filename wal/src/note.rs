//! What a checkpoint frame says: a checkpoint became durable, this is what it covers.
//!
//! ```text
//! offset 0              8        40
//!        covered (u64)  digest
//! ```
//!
//! Promises: the note is durable before any segment retires because of it, so a log that lacks
//! its beginning still says which checkpoint holds it.
//! Invariants: 40 bytes, no more.
//! Fails by: `None` from [`CheckpointNote::decode`], which the scan reports as a damaged frame.
//! Not here: the checkpoint. The log keeps its digest and never computes one.
//! Source: ARIES end-of-checkpoint records (Mohan et al., 1992).

use crate::frame::{put, take};
use crate::lsn::Lsn;

/// Bytes of a note.
pub(crate) const NOTE_BYTES: usize = 40;

/// A durable checkpoint, as the log remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointNote {
    /// Every record up to here is in the checkpoint.
    pub covered: Lsn,
    /// Digest of the checkpoint, whatever its owner takes for one.
    pub digest: [u8; 32],
}

impl CheckpointNote {
    /// Writes the note to the front of `payload`.
    pub fn encode(&self, payload: &mut [u8]) {
        put(payload, 0, &self.covered.get().to_le_bytes());
        put(payload, 8, &self.digest);
    }

    /// Reads a note back.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let whole = payload.len() == NOTE_BYTES;
        whole.then(|| Self {
            covered: Lsn::new(u64::from_le_bytes(take(payload, 0))),
            digest: take(payload, 8),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_another_length_is_not_a_note() {
        let note = CheckpointNote { covered: Lsn::new(9), digest: [3; 32] };
        let mut payload = [0; NOTE_BYTES];
        note.encode(&mut payload);
        assert_eq!(payload[0], 9);
        assert_eq!(CheckpointNote::decode(&payload), Some(note));
        assert_eq!(CheckpointNote::decode(&payload[1..]), None);
    }
}
