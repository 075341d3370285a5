//! Entries: the appended batches inside the payload of a records frame.
//!
//! ```text
//! offset 0            4              8
//!        bytes (u32)  records (u32)  the batch's bytes, then zeroes to a multiple of 8
//! ```
//!
//! Promises: a batch comes back with the bounds it was appended with, in the same order, and
//! its bytes begin at a multiple of 8 of the frame, so that they may be viewed in place.
//! Invariants: entries fill the payload exactly; their counts sum up to the frame's.
//! Fails by: [`FrameFault::Entries`] when they do not; never by panic.
//! Not here: what the bytes mean. Here they are opaque.
//! Source: none.

use crate::frame::{FrameFault, put, take};
use crate::limits::{ENTRY_ALIGN_BYTES, ENTRY_HEADER_BYTES};
use crate::lsn::Lsn;

/// One appended batch, as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Number of its first record.
    pub first: Lsn,
    /// How many records it holds.
    pub count: u32,
    /// The bytes that were appended.
    pub records: &'a [u8],
}

impl Batch<'_> {
    /// Number of its last record.
    #[must_use]
    pub const fn last(&self) -> Lsn {
        self.first.after(self.count as u64).previous()
    }
}

/// Bytes that a batch of `records` bytes takes in a payload.
#[must_use]
pub(crate) const fn entry_bytes(records: usize) -> usize {
    (ENTRY_HEADER_BYTES + records).next_multiple_of(ENTRY_ALIGN_BYTES)
}

/// Writes a batch to `payload` at `at`; gives the offset behind it.
pub(crate) fn put_entry(payload: &mut [u8], at: usize, records: &[u8], count: u32) -> usize {
    let bytes = u32::try_from(records.len()).expect("a batch fits a group, a group fits u32");
    put(payload, at, &bytes.to_le_bytes());
    put(payload, at + 4, &count.to_le_bytes());
    put(payload, at + ENTRY_HEADER_BYTES, records);
    let end = at + entry_bytes(records.len());
    payload[at + ENTRY_HEADER_BYTES + records.len()..end].fill(0);
    end
}

/// The batches of a payload whose records are numbered from `first`. All of it is checked
/// before the first one is given.
///
/// # Errors
///
/// [`FrameFault::Entries`] when the batches do not fill the payload exactly, one is empty, or
/// their counts do not sum up to `count`.
pub(crate) fn entries(payload: &[u8], first: Lsn, count: u32) -> Result<Entries<'_>, FrameFault> {
    let (mut at, mut records) = (0, 0_u32);
    while at < payload.len() {
        let (batch_count, bytes) = entry_at(payload, at).ok_or(FrameFault::Entries)?;
        records = records.checked_add(batch_count).ok_or(FrameFault::Entries)?;
        if batch_count == 0 {
            return Err(FrameFault::Entries);
        }
        at += entry_bytes(bytes.len());
    }
    let filled = at == payload.len() && records == count;
    if filled { Ok(Entries { payload, at: 0, next: first }) } else { Err(FrameFault::Entries) }
}

/// Count and bytes of the entry at `at`, if it lies inside the payload.
fn entry_at(payload: &[u8], at: usize) -> Option<(u32, &[u8])> {
    let header = payload.get(at..at + ENTRY_HEADER_BYTES)?;
    let bytes = u32::from_le_bytes(take(header, 0)) as usize;
    let begin = at + ENTRY_HEADER_BYTES;
    Some((u32::from_le_bytes(take(header, 4)), payload.get(begin..begin + bytes)?))
}

/// Batches of one frame, in order; made by [`entries`].
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    payload: &'a [u8],
    at: usize,
    next: Lsn,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Batch<'a>;

    fn next(&mut self) -> Option<Batch<'a>> {
        let (count, records) = entry_at(self.payload, self.at)?;
        let batch = Batch { first: self.next, count, records };
        self.at += entry_bytes(records.len());
        self.next = self.next.after(u64::from(count));
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn batches_come_back_with_their_bounds_and_numbers() {
        let mut payload = vec![0xff; 200];
        let at = put_entry(&mut payload, 0, b"abc", 2);
        let at = put_entry(&mut payload, at, b"", 1);
        let at = put_entry(&mut payload, at, b"12345678", 4);
        let read: Vec<_> = entries(&payload[..at], Lsn::new(10), 7).unwrap().collect();
        assert_eq!(
            read,
            [
                Batch { first: Lsn::new(10), count: 2, records: b"abc" },
                Batch { first: Lsn::new(12), count: 1, records: b"" },
                Batch { first: Lsn::new(13), count: 4, records: b"12345678" },
            ]
        );
        assert_eq!(read[2].last(), Lsn::new(16));
        assert!(read.iter().all(|batch| {
            (batch.records.as_ptr().addr() - payload.as_ptr().addr())
                .is_multiple_of(ENTRY_ALIGN_BYTES)
        }));
    }

    #[test]
    fn a_payload_that_does_not_add_up_gives_nothing() {
        let mut payload = vec![0; 64];
        let end = put_entry(&mut payload, 0, b"abc", 2);
        assert!(entries(&payload[..end], Lsn::FIRST, 2).is_ok());
        assert!(entries(&payload[..end], Lsn::FIRST, 3).is_err(), "count differs");
        assert!(entries(&payload[..end - 1], Lsn::FIRST, 2).is_err(), "cut");
        assert!(entries(&payload[..end + 8], Lsn::FIRST, 2).is_err(), "an empty batch follows");
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_panic(payload in prop::collection::vec(0_u8..4, 0..80)) {
            let sum = u32::try_from(payload.len()).unwrap();
            if let Ok(read) = entries(&payload, Lsn::FIRST, sum) {
                prop_assert_eq!(read.map(|batch| batch.count).sum::<u32>(), sum);
            }
        }
    }
}
