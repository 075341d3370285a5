//! One file of the log: its header block.
//!
//! ```text
//! offset 0      8               12     16        32   40     56         64
//!        magic  format version  shard  store id  seq  epoch  lsn first  segment bytes
//! offset 72         80         96                4064     4096
//!        prev last  prev hash  zero (3968 bytes)  BLAKE3   first frame
//! ```
//!
//! Promises: a file under a segment's name holds a verified header of that segment, or it was
//! damaged: the header is durable before the file gets its name.
//! Invariants: a header exists only after everything before `lsn first` was durable in the
//! segments before it; `prev hash` is the link of the last frame before, so it says where the
//! segment before ends; segments count up by one.
//! Fails by: [`HeaderFault`], never by panic.
//! Not here: the shard count. Any number of shards may open a store.
//! Source: torn-tail reasoning as in Alagappan et al., "Protocol-Aware Recovery", FAST 2018.

use thiserror::Error;

use crate::frame::{put, take};
use crate::key::{
    CHAIN_BYTES, ChainHash, Epoch, FrameKey, HASH_BYTES, LogIdentity, SegmentId, StoreId,
};
use crate::limits::{BLOCK_BYTES, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES};
use crate::lsn::Lsn;

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"EBBTWAL\0";
/// Version of header, frames and entries together.
pub const FORMAT_VERSION: u32 = 1;
/// Context of the header's hash; a part of the format.
const HEADER_CONTEXT: &str = "ebbtide wal v1 segment header";

const VERSION_AT: usize = 8;
const SHARD_AT: usize = 12;
const STORE_AT: usize = 16;
const SEQ_AT: usize = 32;
const EPOCH_AT: usize = 40;
const LSN_FIRST_AT: usize = 56;
const BYTES_AT: usize = 64;
const PREV_LAST_AT: usize = 72;
const PREV_HASH_AT: usize = 80;
const HASH_AT: usize = SEGMENT_HEADER_BYTES - HASH_BYTES;

const _: () = {
    assert!(STORE_AT + 16 == SEQ_AT);
    assert!(EPOCH_AT + 16 == LSN_FIRST_AT);
    assert!(PREV_HASH_AT + CHAIN_BYTES == 96);
    assert!(HASH_AT == 4064);
};

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Store, shard, place and life.
    pub id: SegmentId,
    /// Number of the first record in it or after it.
    pub lsn_first: Lsn,
    /// Size of the whole file while it is written to.
    pub bytes: u64,
    /// Last record of the segments before. `lsn_first` follows it at once, or later when an
    /// opening chose to skip numbers.
    pub prev_last: Lsn,
    /// Link to the last frame before this segment, or to the header before when that segment
    /// has no frame.
    pub prev: ChainHash,
}

impl SegmentHeader {
    /// Writes the header to `block`; gives the link for the first frame.
    ///
    /// # Panics
    ///
    /// When `block` is not one block long, or the header contradicts itself.
    pub fn encode(&self, block: &mut [u8]) -> ChainHash {
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES, "a header is one block");
        assert!(self.is_consistent(), "{self:?} contradicts itself");
        block.fill(0);
        put(block, 0, &MAGIC);
        put(block, VERSION_AT, &FORMAT_VERSION.to_le_bytes());
        put(block, SHARD_AT, &self.id.log.shard.to_le_bytes());
        put(block, STORE_AT, &self.id.log.store.0);
        put(block, SEQ_AT, &self.id.seq.to_le_bytes());
        put(block, EPOCH_AT, &self.id.epoch.0);
        put(block, LSN_FIRST_AT, &self.lsn_first.get().to_le_bytes());
        put(block, BYTES_AT, &self.bytes.to_le_bytes());
        put(block, PREV_LAST_AT, &self.prev_last.get().to_le_bytes());
        put(block, PREV_HASH_AT, &self.prev.0);
        let hash = header_hash(block);
        put(block, HASH_AT, &hash);
        ChainHash::of(&hash)
    }

    /// Reads a header and the link for the first frame; total over any bytes.
    ///
    /// # Errors
    ///
    /// Says why these bytes are not a header this version understands.
    pub fn decode(bytes: &[u8]) -> Result<(Self, ChainHash), HeaderFault> {
        let block = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(HeaderFault::Short)?;
        if take::<8>(block, 0) != MAGIC {
            return Err(HeaderFault::Magic);
        }
        // The hash before the version: a flipped version bit is damage, not a newer program.
        let hash = take::<HASH_BYTES>(block, HASH_AT);
        if header_hash(block) != hash {
            return Err(HeaderFault::Hash);
        }
        let version = u32::from_le_bytes(take(block, VERSION_AT));
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version { found: version });
        }
        let number = |at| u64::from_le_bytes(take(block, at));
        let store = StoreId(take(block, STORE_AT));
        let log = LogIdentity { store, shard: u32::from_le_bytes(take(block, SHARD_AT)) };
        let header = Self {
            id: SegmentId { log, seq: number(SEQ_AT), epoch: Epoch(take(block, EPOCH_AT)) },
            lsn_first: Lsn::new(number(LSN_FIRST_AT)),
            bytes: number(BYTES_AT),
            prev_last: Lsn::new(number(PREV_LAST_AT)),
            prev: ChainHash(take(block, PREV_HASH_AT)),
        };
        if header.is_consistent() {
            Ok((header, ChainHash::of(&hash)))
        } else {
            Err(HeaderFault::Fields)
        }
    }

    /// The key of the frames behind this header.
    #[must_use]
    pub fn key(&self) -> FrameKey {
        FrameKey::derive(&self.id)
    }

    fn is_consistent(&self) -> bool {
        let whole = self.bytes.is_multiple_of(BLOCK_BYTES as u64);
        let sized = (1..=SEGMENT_BYTES_MAX).contains(&self.bytes);
        whole
            && sized
            && self.id.seq > 0
            && self.id.seq < u64::MAX
            && self.prev_last < self.lsn_first
    }
}

fn header_hash(block: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(HEADER_CONTEXT);
    hasher.update(&block[..HASH_AT]);
    *hasher.finalize().as_bytes()
}

/// Why bytes are not a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The file is shorter than a header.
    #[error("the file is shorter than a segment header")]
    Short,
    /// It does not begin like a segment.
    #[error("the file does not begin like a log segment")]
    Magic,
    /// It begins like one and its hash differs.
    #[error("the segment header does not match its hash")]
    Hash,
    /// Verified, and written by a newer version of the program.
    #[error("log format {found} is newer than {FORMAT_VERSION}, the newest this version reads")]
    Version {
        /// The version the file names.
        found: u32,
    },
    /// Verified, and yet its fields contradict each other.
    #[error("the segment header contradicts itself")]
    Fields,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> SegmentHeader {
        let log = LogIdentity { store: StoreId([7; 16]), shard: 3 };
        SegmentHeader {
            id: SegmentId { log, seq: 5, epoch: Epoch([9; 16]) },
            lsn_first: Lsn::new(42),
            bytes: 1 << 20,
            prev_last: Lsn::new(41),
            prev: ChainHash([4; 16]),
        }
    }

    fn encoded() -> Vec<u8> {
        let mut block = vec![0xee; SEGMENT_HEADER_BYTES];
        header().encode(&mut block);
        block
    }

    #[test]
    fn a_header_is_read_back_as_written() {
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        let chain = header().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok((header(), chain)));
    }

    #[test]
    fn the_bytes_of_version_one_never_change() {
        let block = encoded();
        assert_eq!(&block[..16], b"EBBTWAL\0\x01\0\0\0\x03\0\0\0");
        assert_eq!(&block[16..32], [7; 16]);
        assert_eq!(block[32..40], 5_u64.to_le_bytes());
        assert_eq!(&block[40..56], [9; 16]);
        assert_eq!(block[56..64], 42_u64.to_le_bytes());
        assert_eq!(block[64..72], (1_u64 << 20).to_le_bytes());
        assert_eq!(block[72..80], 41_u64.to_le_bytes());
        assert_eq!(&block[80..96], [4; 16]);
        assert!(block[96..4064].iter().all(|&byte| byte == 0));
        assert_eq!(blake3::hash(&block).to_hex().as_str(), GOLDEN);
    }

    const GOLDEN: &str = "560a47396d422da83918f47e1e2fbc329e06826e241490b1d551efabc7c4d5b6";

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut block = encoded();
        for bit in 0..block.len() * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            let fault = SegmentHeader::decode(&block).unwrap_err();
            let expected = if bit < 64 { HeaderFault::Magic } else { HeaderFault::Hash };
            assert_eq!(fault, expected, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut block = encoded();
        block[VERSION_AT] = 2;
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Hash));
        let hash = header_hash(&block);
        put(&mut block, HASH_AT, &hash);
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Version { found: 2 }));
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let mut block = encoded();
        put(&mut block, PREV_LAST_AT, &42_u64.to_le_bytes());
        let hash = header_hash(&block);
        put(&mut block, HASH_AT, &hash);
        assert_eq!(SegmentHeader::decode(&block), Err(HeaderFault::Fields));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            prop_assert!(SegmentHeader::decode(&bytes).is_err());
        }
    }
}
