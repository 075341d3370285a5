//! The open group: batches that will be written together, as one frame.
//!
//! Promises: taking a batch is one copy, and the hash of each piece that is full; sealing hashes
//! the rest.
//! Invariants: the buffer is as large as the largest frame and is never replaced by a larger
//! one; the count of records fits its field.
//! Fails by: nothing; the log asks [`Group::room`] first and asserts the answer.
//! Not here: when a group is written (`log`).
//! Source: adaptive group commit as in `InnoDB` and `TigerBeetle`: what arrives while one group
//! is written is the next group.

use crate::aligned::AlignedBuf;
use crate::entry::{entry_bytes, put_entry};
use crate::frame::{FrameFields, FrameKind, seal_frame_with};
use crate::key::{ChainHash, FrameKey, HASH_BYTES};
use crate::limits::{
    ENTRY_ALIGN_BYTES, ENTRY_HEADER_BYTES, FRAME_HEADER_BYTES, HASHED_AHEAD_BYTES,
};
use crate::lsn::Lsn;

/// Batches in memory, not yet a frame.
#[derive(Debug)]
pub(crate) struct Group {
    buffer: AlignedBuf,
    payload_bytes: usize,
    first: Lsn,
    count: u32,
    hashed: Hashed,
}

/// The beginning of a payload, hashed.
#[derive(Debug)]
struct Hashed {
    key: FrameKey,
    hasher: blake3::Hasher,
    bytes: usize,
}

impl Hashed {
    /// Hashes the whole pieces of what is known of the payload.
    fn hash_ahead(&mut self, known: &[u8]) {
        for piece in known[self.bytes..].chunks_exact(HASHED_AHEAD_BYTES) {
            self.hasher.update(piece);
            self.bytes += piece.len();
        }
    }

    /// The hash of a whole payload under `key`.
    fn finish(mut self, key: &FrameKey, whole: &[u8]) -> [u8; HASH_BYTES] {
        // A segment that was begun meanwhile has another one.
        if self.key != *key {
            return key.hash(whole);
        }
        *self.hasher.update(&whole[self.bytes..]).finalize().as_bytes()
    }
}

impl Group {
    /// An empty group in `buffer`, whose first record will be `first`; most likely it becomes a
    /// frame under `key`.
    pub(crate) fn new(buffer: AlignedBuf, first: Lsn, key: &FrameKey) -> Self {
        let hashed = Hashed { key: key.clone(), hasher: key.hasher(), bytes: 0 };
        Self { buffer, payload_bytes: 0, first, count: 0, hashed }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the largest batch that still fits.
    pub(crate) fn room(&self) -> usize {
        self.room_within(self.buffer.len())
    }

    /// The same if the frame must not be longer than `frame_bytes`.
    pub(crate) fn room_within(&self, frame_bytes: usize) -> usize {
        let most = frame_bytes.min(self.buffer.len());
        batch_bytes_max(most.saturating_sub(self.payload_bytes))
    }

    /// Whether a batch fits, by its bytes and by its count.
    pub(crate) fn fits(&self, records: &[u8], count: u32) -> bool {
        let bytes = FRAME_HEADER_BYTES + self.payload_bytes + entry_bytes(records.len());
        bytes <= self.buffer.len() && self.count.checked_add(count).is_some()
    }

    /// Takes a batch; gives the number of its first record.
    pub(crate) fn push(&mut self, records: &[u8], count: u32) -> Lsn {
        assert!(self.fits(records, count), "the log asked for room first");
        let first = self.first.after(u64::from(self.count));
        let payload = &mut self.buffer[FRAME_HEADER_BYTES..];
        self.payload_bytes = put_entry(payload, self.payload_bytes, records, count);
        self.hashed.hash_ahead(&payload[..self.payload_bytes]);
        self.count += count;
        first
    }

    /// Bytes of the frame this group becomes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.fields(ChainHash::START, Lsn::NONE).frame_bytes()
    }

    /// Number of its last record.
    pub(crate) const fn last(&self) -> Lsn {
        self.first.after(self.count as u64).previous()
    }

    /// Turns the group into a frame at the front of its buffer; gives the link for the next one.
    pub(crate) fn seal(
        self,
        key: &FrameKey,
        prev: ChainHash,
        durable: Lsn,
    ) -> (AlignedBuf, ChainHash) {
        let fields = self.fields(prev, durable);
        let Self { mut buffer, hashed, .. } = self;
        let frame = &mut buffer[..fields.frame_bytes()];
        let chain = seal_frame_with(key, &fields, frame, |payload| hashed.finish(key, payload));
        (buffer, chain)
    }

    fn fields(&self, prev: ChainHash, durable: Lsn) -> FrameFields {
        FrameFields {
            kind: FrameKind::Records,
            payload_bytes: self.payload_bytes,
            lsn_first: self.first,
            lsn_count: self.count,
            durable,
            prev,
        }
    }
}

/// Bytes of the largest batch in `frame_bytes` that hold nothing yet but the frame header.
pub(crate) const fn batch_bytes_max(frame_bytes: usize) -> usize {
    let whole = frame_bytes - frame_bytes % ENTRY_ALIGN_BYTES;
    whole.saturating_sub(FRAME_HEADER_BYTES + ENTRY_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::entries;
    use crate::frame::read_header;
    use crate::key::{Epoch, LogIdentity, SegmentId, StoreId};
    use crate::limits::BLOCK_BYTES;

    fn key(seq: u64) -> FrameKey {
        let log = LogIdentity { store: StoreId([1; 16]), shard: 0 };
        FrameKey::derive(&SegmentId { log, seq, epoch: Epoch([2; 16]) })
    }

    #[test]
    fn a_group_becomes_a_frame_with_its_batches() {
        let mut group = Group::new(AlignedBuf::zeroed(2 * BLOCK_BYTES), Lsn::new(5), &key(1));
        assert!(group.is_empty());
        assert_eq!(group.push(b"one", 1), Lsn::new(5));
        assert_eq!(group.push(b"two three", 2), Lsn::new(6));
        assert_eq!(group.last(), Lsn::new(7));
        assert_eq!(group.frame_bytes(), BLOCK_BYTES);

        let (buffer, chain) = group.seal(&key(1), ChainHash([3; 16]), Lsn::new(4));
        let header = read_header(&key(1), &buffer).unwrap();
        assert_eq!(header.chain, chain);
        header.verify_payload(&key(1), &buffer[..BLOCK_BYTES]).unwrap();
        let payload = &buffer[FRAME_HEADER_BYTES..][..header.fields.payload_bytes];
        let batches: Vec<_> = entries(payload, Lsn::new(5), 3).unwrap().collect();
        assert_eq!(batches[0].records, b"one");
        assert_eq!((batches[1].first, batches[1].records), (Lsn::new(6), &b"two three"[..]));
    }

    /// Whatever was hashed while it filled, and under which key.
    #[test]
    fn a_group_of_any_length_becomes_a_frame_that_verifies() {
        for (key_then, key_now) in [(key(1), key(1)), (key(1), key(2))] {
            for batches in [0, 1, 5, 6, 7, 20, 30] {
                let bytes = 8 * HASHED_AHEAD_BYTES;
                let mut group = Group::new(AlignedBuf::zeroed(bytes), Lsn::FIRST, &key_then);
                // The first ends where a piece does.
                group.push(&vec![7; HASHED_AHEAD_BYTES - ENTRY_HEADER_BYTES], 1);
                for batch in 0..batches {
                    group.push(&vec![batch; 10_000 + usize::from(batch)], 1);
                }
                let frame_bytes = group.frame_bytes();
                let (buffer, chain) = group.seal(&key_now, ChainHash([3; 16]), Lsn::NONE);
                let header = read_header(&key_now, &buffer).unwrap();
                assert_eq!(header.chain, chain);
                header.verify_payload(&key_now, &buffer[..frame_bytes]).unwrap();
            }
        }
    }

    #[test]
    fn room_is_exactly_what_fits() {
        let mut group = Group::new(AlignedBuf::zeroed(2 * BLOCK_BYTES), Lsn::FIRST, &key(1));
        group.push(&[0; 13], 1);
        let room = group.room();
        assert!(group.fits(&vec![0; room], 1));
        assert!(!group.fits(&vec![0; room + 1], 1));
        group.push(&vec![0; room], 1);
        assert_eq!(group.room(), 0);
        assert_eq!(group.frame_bytes(), 2 * BLOCK_BYTES);
    }

    #[test]
    fn a_count_beyond_its_field_does_not_fit() {
        let mut group = Group::new(AlignedBuf::zeroed(2 * BLOCK_BYTES), Lsn::FIRST, &key(1));
        group.push(b"x", u32::MAX);
        assert!(!group.fits(b"x", 1));
    }
}
