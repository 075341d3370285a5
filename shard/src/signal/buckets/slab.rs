//! Blocks of one class, named by index.
//!
//! Promises: growing allocates one chunk; only within the first, while the store is small, does it
//! copy blocks. A removed block is the next one given out. Why chunks of this size: the list of
//! chunks of a large store stays in the first-level cache.

use super::BucketedCounter;

/// Bytes of a whole chunk, or a little less.
const CHUNK_BYTES: usize = 256 * 1024;

/// Storage for the blocks of one class.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// All are full but the last; all have the size of a whole chunk but the first.
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T: BucketedCounter> Slab<T> {
    const CHUNK_BITS: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const CHUNK_BLOCKS: usize = 1 << Self::CHUNK_BITS;

    /// Keeps `block` and says where.
    pub(super) fn insert(&mut self, block: T) -> u32 {
        if let Some(index) = self.free.pop() {
            *self.get_mut(index) = block;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == Self::CHUNK_BLOCKS) {
            let room = if self.chunks.is_empty() { 0 } else { Self::CHUNK_BLOCKS };
            self.chunks.push(Vec::with_capacity(room));
        }
        let whole = self.chunks.len() - 1;
        let chunk = &mut self.chunks[whole];
        chunk.push(block);
        u32::try_from(whole * Self::CHUNK_BLOCKS + chunk.len() - 1)
            .expect("a reference to a block has 29 bits for its index")
    }

    /// Lets the block at `index` go.
    pub(super) fn remove(&mut self, index: u32) {
        debug_assert!(!self.free.contains(&index), "removed once");
        self.free.push(index);
    }

    /// The block at `index`.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        &self.chunks[(index >> Self::CHUNK_BITS) as usize][index as usize % Self::CHUNK_BLOCKS]
    }

    /// The block at `index`, to change.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> Self::CHUNK_BITS) as usize][index as usize % Self::CHUNK_BLOCKS]
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum::<usize>()
            + self.chunks.capacity() * size_of::<Vec<T>>()
            + self.free.capacity() * size_of::<u32>()
    }
}
