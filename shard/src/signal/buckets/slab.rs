//! Blocks of one class, named by index.
//!
//! Promises: a block never moves; growing allocates one chunk and copies none; a removed block is
//! the next one given out.

use super::BucketedCounter;

const CHUNK_BLOCKS_BITS: u32 = 6;
const CHUNK_BLOCKS: usize = 1 << CHUNK_BLOCKS_BITS;

/// Storage for the blocks of one class.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    free: Vec<u32>,
    /// Blocks ever given out; those from here on are untouched.
    used: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), used: 0 }
    }
}

impl<T: BucketedCounter> Slab<T> {
    /// Keeps `block` and says where.
    pub(super) fn insert(&mut self, block: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            if self.used as usize == self.chunks.len() * CHUNK_BLOCKS {
                self.chunks.push(vec![T::EMPTY; CHUNK_BLOCKS].into_boxed_slice());
            }
            self.used += 1;
            self.used - 1
        });
        *self.get_mut(index) = block;
        index
    }

    /// Lets the block at `index` go.
    pub(super) fn remove(&mut self, index: u32) {
        debug_assert!(index < self.used && !self.free.contains(&index), "removed once");
        self.free.push(index);
    }

    /// The block at `index`.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BLOCKS_BITS) as usize][index as usize % CHUNK_BLOCKS]
    }

    /// The block at `index`, to change.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BLOCKS_BITS) as usize][index as usize % CHUNK_BLOCKS]
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.len() * (CHUNK_BLOCKS * size_of::<T>() + size_of::<Box<[T]>>())
            + self.free.capacity() * size_of::<u32>()
    }
}
