//! Blocks of one class, named by index.
//!
//! Promises: growing copies blocks as [`Blocks`] does. A removed block is the next one
//! given out.

use super::BucketedCounter;
use crate::blocks::Blocks;

const GIVEN_OUT: &str = "a reference names a block that was given out";

/// Storage for the blocks of one class.
#[derive(Debug)]
pub(super) struct Slab<T> {
    blocks: Blocks<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { blocks: Blocks::default(), free: Vec::new() }
    }
}

impl<T: BucketedCounter> Slab<T> {
    /// Keeps `block` and says where.
    pub(super) fn insert(&mut self, block: T) -> u32 {
        if let Some(index) = self.free.pop() {
            *self.get_mut(index) = block;
            return index;
        }
        let index = self.blocks.len();
        self.blocks.push(block);
        u32::try_from(index).expect("a reference to a block has 29 bits for its index")
    }

    /// Keeps an empty block that `fill` gets to fill where it stays, and says where. What is built
    /// elsewhere, a byte here and there, and then copied, is waited for.
    pub(super) fn insert_with(&mut self, fill: impl FnOnce(&mut T)) -> u32 {
        let index = self.insert(T::EMPTY);
        fill(self.get_mut(index));
        index
    }

    /// Lets the block at `index` go.
    pub(super) fn remove(&mut self, index: u32) {
        debug_assert!(!self.free.contains(&index), "removed once");
        self.free.push(index);
    }

    /// The block at `index`.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        self.blocks.get(index as usize).expect(GIVEN_OUT)
    }

    /// The block at `index`, to change.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        self.blocks.get_mut(index as usize).expect(GIVEN_OUT)
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        self.blocks.memory_bytes() + self.free.capacity() * size_of::<u32>()
    }
}
