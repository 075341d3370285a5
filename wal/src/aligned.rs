//! Byte buffers that begin at a block boundary, as direct I/O wants them.
//!
//! Promises: the first byte lies at a multiple of `BLOCK_BYTES`, for the buffer's whole life.
//! Invariants: the memory is allocated once, one block larger than asked, and never moves; what
//! lies before `start` and behind `start + len` is never shown.
//! Fails by: aborting when memory is exhausted, as every allocation does.
//! Not here: `unsafe`. Alignment is found by looking at the address, not by an allocator call.
//! Source: open(2), "`O_DIRECT`".

use std::ops::{Deref, DerefMut};

use crate::limits::BLOCK_BYTES;

/// Zeroed bytes whose first one is block aligned.
pub struct AlignedBuf {
    memory: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0_u8; len + BLOCK_BYTES].into_boxed_slice();
        let start = memory.as_ptr().addr().next_multiple_of(BLOCK_BYTES) - memory.as_ptr().addr();
        debug_assert!(start <= BLOCK_BYTES, "the spare block covers any misalignment");
        Self { memory, start, len }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_begins_at_a_block_and_keeps_its_place_when_moved() {
        for len in [0, 1, 511, 4096, 70_000] {
            let buffer = AlignedBuf::zeroed(len);
            assert_eq!(buffer.len(), len);
            let before = buffer.as_ptr().addr();
            assert_eq!(before % BLOCK_BYTES, 0);
            let moved = Box::new(buffer);
            assert_eq!(moved.as_ptr().addr(), before);
        }
    }

    #[test]
    fn bytes_written_are_read_back() {
        let mut buffer = AlignedBuf::zeroed(8);
        buffer[7] = 9;
        assert_eq!(&buffer[..], [0, 0, 0, 0, 0, 0, 0, 9]);
    }
}
