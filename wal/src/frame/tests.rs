//! Frames: round trip, golden bytes, every flipped bit, any bytes.
//!
//! Promises: what `frame` promises, shown on bytes.
//! Invariants: the golden hash below changes only with the format's version.
//! Fails by: a failing test.
//! Not here: frames in files; see `scan` and `tests/` beside this crate.
//! Source: none.

use proptest::prelude::*;

use super::*;
use crate::key::{Epoch, LogIdentity, SegmentId, StoreId};
use crate::limits::BLOCK_BYTES;

fn key() -> FrameKey {
    let log = LogIdentity { store: StoreId([7; 16]), shard: 3 };
    FrameKey::derive(&SegmentId { log, seq: 5, epoch: Epoch([9; 16]) })
}

fn fields(payload_bytes: usize) -> FrameFields {
    FrameFields {
        kind: FrameKind::Records,
        payload_bytes,
        lsn_first: Lsn::new(11),
        lsn_count: 2,
        durable: Lsn::new(10),
        prev: ChainHash([4; CHAIN_BYTES]),
    }
}

fn frame(payload: &[u8]) -> (Vec<u8>, ChainHash) {
    let fields = fields(payload.len());
    let mut bytes = vec![0xee; fields.frame_bytes()];
    put(&mut bytes, FRAME_HEADER_BYTES, payload);
    let chain = seal_frame(&key(), &fields, &mut bytes);
    (bytes, chain)
}

fn read(bytes: &[u8]) -> Result<FrameHeader, FrameFault> {
    let header = read_header(&key(), bytes)?;
    let whole = bytes.get(..header.fields.frame_bytes()).ok_or(FrameFault::Short)?;
    header.verify_payload(&key(), whole)?;
    Ok(header)
}

#[test]
fn what_is_sealed_is_read_back() {
    for payload_bytes in [0, 1, 100, BLOCK_BYTES - FRAME_HEADER_BYTES, BLOCK_BYTES, 70_000] {
        let (bytes, chain) = frame(&vec![5; payload_bytes]);
        assert_eq!(bytes.len() % BLOCK_BYTES, 0);
        let header = read(&bytes).unwrap();
        assert_eq!(header.fields, fields(payload_bytes));
        assert_eq!(header.chain, chain);
        assert_eq!(header.lsn_end(), Lsn::new(13));
    }
}

#[test]
fn the_bytes_of_version_one_never_change() {
    let (bytes, _) = frame(b"version one");
    assert_eq!(
        &bytes[8..40],
        [
            11, 0, 0, 0, 1, 0, 0, 0, // payload bytes, kind
            11, 0, 0, 0, 0, 0, 0, 0, // lsn first
            2, 0, 0, 0, 0, 0, 0, 0, // lsn count
            10, 0, 0, 0, 0, 0, 0, 0, // lsn durable
        ]
    );
    assert_eq!(&bytes[40..56], [4; 16], "prev hash");
    assert_eq!(&bytes[56..64], [0; 8]);
    assert_eq!(&bytes[128..139], b"version one");
    assert!(bytes[139..].iter().all(|&byte| byte == 0));
    let digest = blake3::hash(&bytes).to_hex();
    assert_eq!(digest.as_str(), GOLDEN);
}

const GOLDEN: &str = "c86405ac42e8c83088590f4b303a2688bab576a73dade7144b9406ed7dac3e85";

#[test]
fn every_flipped_bit_of_a_frame_is_seen() {
    let (mut bytes, _) = frame(&[0xa5; 300]);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit} passed");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn a_torn_payload_leaves_the_header_as_a_witness() {
    let (mut bytes, _) = frame(&[1; 5000]);
    bytes[BLOCK_BYTES..].fill(0);
    assert_eq!(read_header(&key(), &bytes).unwrap().fields.durable, Lsn::new(10));
    assert_eq!(read(&bytes), Err(FrameFault::Payload));
}

#[test]
fn another_segments_frame_is_foreign() {
    let (bytes, _) = frame(b"x");
    let log = LogIdentity { store: StoreId([7; 16]), shard: 3 };
    let other = FrameKey::derive(&SegmentId { log, seq: 5, epoch: Epoch([8; 16]) });
    assert_eq!(read_header(&other, &bytes), Err(FrameFault::Foreign));
}

#[test]
fn a_length_beyond_the_cap_is_refused_although_its_hash_is_right() {
    let (mut bytes, _) = frame(b"x");
    put(&mut bytes, PAYLOAD_BYTES_AT, &u32::MAX.to_le_bytes());
    let hash = key().hash(&bytes[..HEADER_HASH_AT]);
    put(&mut bytes, HEADER_HASH_AT, &hash);
    assert_eq!(read(&bytes), Err(FrameFault::Length(u32::MAX)));
}

#[test]
fn an_unknown_kind_is_named() {
    let (mut bytes, _) = frame(b"x");
    bytes[KIND_AT] = 9;
    let hash = key().hash(&bytes[..HEADER_HASH_AT]);
    put(&mut bytes, HEADER_HASH_AT, &hash);
    assert_eq!(read(&bytes), Err(FrameFault::Kind(9)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600),
                                        tagged: bool) {
        if tagged && bytes.len() >= 8 {
            put(&mut bytes, 0, key().tag());
        }
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn any_frame_cut_short_or_extended_is_told(
        payload in prop::collection::vec(any::<u8>(), 0..9000),
        cut in 0usize..9000,
    ) {
        let (bytes, _) = frame(&payload);
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(read(&bytes[..cut]).is_err());
        let mut longer = bytes.clone();
        longer.push(1);
        prop_assert!(read(&longer).is_ok());
    }
}
