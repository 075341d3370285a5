//! Frames: the bytes of one write in a segment.
//!
//! ```text
//! offset 0    8              12    13        16         24         28        32
//!        tag  payload bytes  kind  zero (3)  lsn first  lsn count  zero (4)  lsn durable
//! offset 40         56        64            96           128
//!        prev hash  zero (8)  payload hash  header hash  payload, then zeroes to the block end
//! ```
//!
//! Promises: a frame that verifies was written whole, for this segment, by a log that knew
//! everything up to `durable` to be durable. A header that verifies makes that last statement
//! even when its payload was torn.
//! Invariants: integers are little-endian; the payload hash covers payload and padding; the
//! header hash covers every byte before it, and so the payload too; `prev hash` is the first
//! half of the header hash of the frame before, or of the segment header's hash.
//! Fails by: [`FrameFault`], never by panic: bytes from disk are input, not state.
//! Not here: where frames go (`segment`), batches inside a payload (`entry`), what a bad frame
//! means (`tail`).
//! Source: hash-chained logs (Haber, Stornetta, 1991); a checksum that covers the header too.

use thiserror::Error;

use crate::key::{CHAIN_BYTES, ChainHash, FrameKey, HASH_BYTES};
use crate::limits::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, block_ceil};
use crate::lsn::Lsn;

const PAYLOAD_BYTES_AT: usize = 8;
const KIND_AT: usize = 12;
const LSN_FIRST_AT: usize = 16;
const LSN_COUNT_AT: usize = 24;
const DURABLE_AT: usize = 32;
const PREV_HASH_AT: usize = 40;
const PAYLOAD_HASH_AT: usize = 64;
const HEADER_HASH_AT: usize = 96;

const _: () = {
    assert!(PREV_HASH_AT + CHAIN_BYTES <= PAYLOAD_HASH_AT);
    assert!(PAYLOAD_HASH_AT + HASH_BYTES == HEADER_HASH_AT);
    assert!(HEADER_HASH_AT + HASH_BYTES == FRAME_HEADER_BYTES);
};

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Records, as batches (`entry`).
    Records = 1,
    /// Nothing but its `durable` field, written when the log rests.
    Watermark = 2,
    /// A checkpoint became durable (`note`).
    Checkpoint = 3,
    /// The log was closed in order; nothing follows but a seal.
    Shutdown = 4,
    /// The log continues in the next segment, which already exists.
    Seal = 5,
}

impl FrameKind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Records),
            2 => Some(Self::Watermark),
            3 => Some(Self::Checkpoint),
            4 => Some(Self::Shutdown),
            5 => Some(Self::Seal),
            _ => None,
        }
    }
}

/// What the writer of a frame decides; the rest follows from the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameFields {
    /// What it is for.
    pub kind: FrameKind,
    /// Bytes of payload, padding not included.
    pub payload_bytes: usize,
    /// Its first record; without records, the number the next record will have.
    pub lsn_first: Lsn,
    /// How many records it holds.
    pub lsn_count: u32,
    /// Everything up to here was durable when the frame was built.
    pub durable: Lsn,
    /// Link to what comes before it.
    pub prev: ChainHash,
}

impl FrameFields {
    /// Bytes of the whole frame: header, payload, padding.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        block_ceil(FRAME_HEADER_BYTES + self.payload_bytes)
    }
}

/// A frame header that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What its writer decided.
    pub fields: FrameFields,
    payload_hash: [u8; HASH_BYTES],
    /// Link that the next frame must carry.
    pub chain: ChainHash,
}

impl FrameHeader {
    /// The number of the record after this frame.
    #[must_use]
    pub const fn lsn_end(&self) -> Lsn {
        self.fields.lsn_first.after(self.fields.lsn_count as u64)
    }

    /// Checks payload and padding; `frame` is the whole frame, as long as the header says.
    ///
    /// # Errors
    ///
    /// [`FrameFault::Payload`] when they are not what was written.
    ///
    /// # Panics
    ///
    /// When `frame` has another length than the header says.
    pub fn verify_payload(&self, key: &FrameKey, frame: &[u8]) -> Result<(), FrameFault> {
        assert_eq!(frame.len(), self.fields.frame_bytes(), "the caller read the whole frame");
        let same = key.hash(&frame[FRAME_HEADER_BYTES..]) == self.payload_hash;
        if same { Ok(()) } else { Err(FrameFault::Payload) }
    }
}

/// Why bytes are not a frame of this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// The file ends before the frame does.
    #[error("the file ends inside the frame")]
    Short,
    /// Not of this segment's life: zeroes, a recycled file's old frames, or overwritten.
    #[error("no frame of this segment")]
    Foreign,
    /// Begins like a frame of this segment, but the header hash differs.
    #[error("the frame header does not match its hash")]
    Header,
    /// The header verified and the payload did not: torn, or damaged.
    #[error("the frame payload does not match its hash")]
    Payload,
    /// The header verified and names a kind this version does not know.
    #[error("frame kind {0} is unknown to this version")]
    Kind(u8),
    /// The header verified and names a length no writer of this version makes.
    #[error("a frame payload of {0} bytes is more than a log writes")]
    Length(u32),
    /// The header verified and contradicts itself.
    #[error("the frame header contradicts itself")]
    Fields,
    /// A whole frame, but not the one that belongs here.
    #[error("the frame does not continue the log: it begins at record {found}")]
    Chain {
        /// Its first record.
        found: Lsn,
    },
    /// Verified, but its batches do not add up.
    #[error("the batches inside the frame do not add up")]
    Entries,
}

/// Completes a frame in place: `frame` holds the payload behind [`FRAME_HEADER_BYTES`] and is
/// exactly as long as `fields` says. Padding is zeroed here. Gives the link for the next frame.
///
/// # Panics
///
/// When `frame` has another length, or one that no reader would admit.
pub fn seal_frame(key: &FrameKey, fields: &FrameFields, frame: &mut [u8]) -> ChainHash {
    seal_frame_with(key, fields, frame, |payload| key.hash(payload))
}

/// The same, where something else hashes payload and padding.
pub(crate) fn seal_frame_with(
    key: &FrameKey,
    fields: &FrameFields,
    frame: &mut [u8],
    hash: impl FnOnce(&[u8]) -> [u8; HASH_BYTES],
) -> ChainHash {
    assert_eq!(frame.len(), fields.frame_bytes(), "a frame fills its blocks");
    assert!(frame.len() <= FRAME_BYTES_MAX, "the reader's cap admits what is written");
    assert!(fields.durable < fields.lsn_first, "a frame cannot vouch for itself");
    let numbered = (fields.kind == FrameKind::Records) == (fields.lsn_count > 0);
    assert!(numbered, "records, and nothing else, are numbered");
    let payload_bytes = u32::try_from(fields.payload_bytes).expect("capped above");
    frame[FRAME_HEADER_BYTES + fields.payload_bytes..].fill(0);

    let payload_hash = hash(&frame[FRAME_HEADER_BYTES..]);
    let header = &mut frame[..FRAME_HEADER_BYTES];
    header.fill(0);
    put(header, 0, key.tag());
    put(header, PAYLOAD_BYTES_AT, &payload_bytes.to_le_bytes());
    header[KIND_AT] = fields.kind as u8;
    put(header, LSN_FIRST_AT, &fields.lsn_first.get().to_le_bytes());
    put(header, LSN_COUNT_AT, &fields.lsn_count.to_le_bytes());
    put(header, DURABLE_AT, &fields.durable.get().to_le_bytes());
    put(header, PREV_HASH_AT, &fields.prev.0);
    put(header, PAYLOAD_HASH_AT, &payload_hash);
    let header_hash = key.hash(&header[..HEADER_HASH_AT]);
    put(header, HEADER_HASH_AT, &header_hash);
    ChainHash::of(&header_hash)
}

/// Reads and verifies a frame header at the start of `bytes`; total over any bytes.
///
/// # Errors
///
/// Says why there is none; [`FrameFault::Foreign`] costs no hashing.
pub fn read_header(key: &FrameKey, bytes: &[u8]) -> Result<FrameHeader, FrameFault> {
    let header = bytes.get(..FRAME_HEADER_BYTES).ok_or(FrameFault::Short)?;
    if take::<8>(header, 0) != *key.tag() {
        return Err(FrameFault::Foreign);
    }
    let header_hash = take::<HASH_BYTES>(header, HEADER_HASH_AT);
    if key.hash(&header[..HEADER_HASH_AT]) != header_hash {
        return Err(FrameFault::Header);
    }
    let kind = FrameKind::from_byte(header[KIND_AT]).ok_or(FrameFault::Kind(header[KIND_AT]))?;
    let payload_bytes = u32::from_le_bytes(take(header, PAYLOAD_BYTES_AT));
    let fields = FrameFields {
        kind,
        payload_bytes: payload_bytes as usize,
        lsn_first: Lsn::new(u64::from_le_bytes(take(header, LSN_FIRST_AT))),
        lsn_count: u32::from_le_bytes(take(header, LSN_COUNT_AT)),
        durable: Lsn::new(u64::from_le_bytes(take(header, DURABLE_AT))),
        prev: ChainHash(take(header, PREV_HASH_AT)),
    };
    // Compared before it is rounded up, so that no length can overflow.
    let admitted = fields.payload_bytes <= FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
    if !admitted {
        return Err(FrameFault::Length(payload_bytes));
    }
    let counted = fields.lsn_first.get().checked_add(u64::from(fields.lsn_count)).is_some();
    let numbered = (fields.kind == FrameKind::Records) == (fields.lsn_count > 0);
    if !counted || !numbered || fields.durable >= fields.lsn_first {
        return Err(FrameFault::Fields);
    }
    let payload_hash = take(header, PAYLOAD_HASH_AT);
    Ok(FrameHeader { fields, payload_hash, chain: ChainHash::of(&header_hash) })
}

/// Copies `field` to its offset.
pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// The `N` bytes at an offset that the caller knows to lie inside.
pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests;
