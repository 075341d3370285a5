//! Memory for many blocks of one size, in chunks that ask the kernel for huge pages.
//!
//! ```text
//! index ─high bits─▶ chunk ─low bits─▶ block
//! ```
//!
//! Promises: a block never moves once they take more than [`SMALL_CHUNK_BYTES`], so growth never
//! copies much; runs of blocks that begin at a multiple of their length lie side by side. Why huge
//! pages: with pages of 4 KiB, finding the page of a line costs as much as fetching the line once
//! a ledger has millions of pairs. Where the kernel gives none, all works as well, slower. Why
//! ahead, on a thread that ends with it: the first touch of a huge page clears 2 MiB at once, and
//! on a virtual machine fetches them from the host too, 20 ms in the middle of a batch. A chunk
//! that is needed before it is ready is waited for: only what grows by millions of blocks a second
//! needs it so soon, and small pages would make every later look slower, for the kernel joins them
//! late.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::limits::{
    CHUNK_BYTES, HUGE_PAGE_BYTES, PAGE_BYTES, SMALL_CHUNK_BYTES, TINY_CHUNK_BYTES,
};
use crate::prefetch::prefetch_at;
use aligned_vec::{AVec, RuntimeAlign};
use rustix::mm::{Advice, madvise};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::thread::{self, JoinHandle};

/// Blocks, named by index.
#[derive(Debug)]
pub struct Blocks<T> {
    /// All are full but the last; all have room for a whole chunk but the first, while it is small.
    chunks: Vec<AVec<T, RuntimeAlign>>,
    /// The next one, or the thread that gets its memory.
    next: Option<JoinHandle<AVec<T, RuntimeAlign>>>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), next: None }
    }
}

impl<T: Copy + Send + 'static> Blocks<T> {
    const CHUNK_BITS: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const CHUNK_BLOCKS: usize = 1 << Self::CHUNK_BITS;

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let full = self.chunks.len().saturating_sub(1) * Self::CHUNK_BLOCKS;
        full + self.chunks.last().map_or(0, AVec::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds `count` blocks, all of them `block`.
    ///
    /// # Panics
    ///
    /// If the last chunk would hold a part of them only. It does not where all additions are of
    /// one count that is a power of two, and no more than a chunk holds.
    pub fn extend(&mut self, count: usize, block: T) {
        if self.chunks.last().is_none_or(|last| last.len() == Self::CHUNK_BLOCKS) {
            let first = self.chunks.is_empty() && count * size_of::<T>() <= SMALL_CHUNK_BYTES;
            let chunk = if first { AVec::new(align_of::<T>()) } else { self.take_next() };
            self.chunks.reserve_exact(1);
            self.chunks.push(chunk);
        }
        let only = self.chunks.len() == 1;
        if let Some(last) = self.chunks.last_mut() {
            let len = last.len() + count;
            assert!(len <= Self::CHUNK_BLOCKS, "a run of blocks lies within one chunk");
            if only && len > last.capacity() {
                *last = Self::moved(last, len);
            }
            let before = last.len() * size_of::<T>() / HUGE_PAGE_BYTES;
            last.resize(len, block);
            if len * size_of::<T>() / HUGE_PAGE_BYTES > before
                && last.alignment() == HUGE_PAGE_BYTES
            {
                ask_for_huge_pages(last, len);
            }
            if self.next.is_none() && len >= Self::CHUNK_BLOCKS / 2 {
                self.next = thread::Builder::new().spawn(Self::chunk_in_memory).ok();
            }
        }
    }

    /// The chunk that is made ahead, once it is ready. If there is none, for want of a thread, one
    /// whose pages come as they are touched.
    fn take_next(&mut self) -> AVec<T, RuntimeAlign> {
        self.next.take().and_then(|next| next.join().ok()).unwrap_or_else(Self::whole_chunk)
    }

    /// An empty chunk that has its memory already, in huge pages where there are any.
    fn chunk_in_memory() -> AVec<T, RuntimeAlign> {
        // Not on the core of the shard whose thread began this one. A refusal costs it some time.
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
        let _refused = sched_setaffinity(None, &all);
        let mut chunk = Self::whole_chunk();
        ask_for_huge_pages(&mut chunk, Self::CHUNK_BLOCKS);
        ask_for_memory(&mut chunk);
        chunk
    }

    /// The only chunk, with room for `len` blocks.
    fn moved(chunk: &AVec<T, RuntimeAlign>, len: usize) -> AVec<T, RuntimeAlign> {
        let bytes = len * size_of::<T>();
        let mut moved = if bytes > SMALL_CHUNK_BYTES {
            Self::whole_chunk()
        } else if bytes > TINY_CHUNK_BYTES {
            AVec::with_capacity(PAGE_BYTES, SMALL_CHUNK_BYTES / size_of::<T>())
        } else {
            AVec::with_capacity(align_of::<T>(), len.max(chunk.len() + chunk.len() / 16))
        };
        moved.extend_from_slice(chunk);
        moved
    }

    /// An empty chunk that is never moved.
    fn whole_chunk() -> AVec<T, RuntimeAlign> {
        AVec::with_capacity(HUGE_PAGE_BYTES, Self::CHUNK_BLOCKS)
    }

    /// Asks for the first cache line of the block at `index`, whether there is one or not.
    #[inline(always)]
    pub fn fetch(&self, index: usize) {
        if let Some(chunk) = self.chunks.get(index >> Self::CHUNK_BITS) {
            // In the last chunk it may hold no block yet, or lie behind it: asking does no harm.
            prefetch_at(chunk.as_ptr().wrapping_add(index % Self::CHUNK_BLOCKS));
        }
    }

    /// The block at `index`, if there are as many.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index >> Self::CHUNK_BITS)?.get(index % Self::CHUNK_BLOCKS)
    }

    /// The block at `index`, to change.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index >> Self::CHUNK_BITS)?.get_mut(index % Self::CHUNK_BLOCKS)
    }

    /// The `count` blocks from `first` on, a multiple of `count`, which is a power of two.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    #[inline]
    #[must_use]
    pub fn run(&self, first: usize, count: usize) -> &[T] {
        let place = first % Self::CHUNK_BLOCKS;
        &self.chunks[first >> Self::CHUNK_BITS][place..place + count]
    }

    /// The same, to change.
    #[inline]
    pub fn run_mut(&mut self, first: usize, count: usize) -> &mut [T] {
        let place = first % Self::CHUNK_BLOCKS;
        &mut self.chunks[first >> Self::CHUNK_BITS][place..place + count]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Bytes taken, with those of a chunk made ahead. Of the first chunk, those ever written to,
    /// which holds where huge pages are given by advice: a kernel that always gives them may take
    /// up to a chunk more.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let Some(last) = self.chunks.last() else { return 0 };
        let whole = Self::CHUNK_BLOCKS * size_of::<T>();
        let room = last.capacity() * size_of::<T>();
        let of_last = if self.chunks.len() == 1 && last.alignment() >= PAGE_BYTES {
            (last.len() * size_of::<T>()).next_multiple_of(PAGE_BYTES).min(room)
        } else {
            room
        };
        let ahead = if self.next.is_some() { whole } else { 0 };
        let names = self.chunks.capacity() * size_of::<AVec<T, RuntimeAlign>>();
        (self.chunks.len() - 1) * whole + of_last + ahead + names
    }
}

/// Asks that the whole huge pages of the first `len` blocks of a chunk be huge. A kernel that knows
/// no huge pages, or was told not to give any, says no.
#[expect(unsafe_code, reason = "the system call takes a pointer, and so is not safe by its type")]
fn ask_for_huge_pages<T>(chunk: &mut AVec<T, RuntimeAlign>, len: usize) {
    let bytes = len.min(chunk.capacity()) * size_of::<T>() / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: needs a range that is mapped and whose contents the advice leaves alone. Holds
    // because the vector owns its capacity from its pointer on, and this advice changes how memory
    // is backed, never what it reads as. Test: `chunks_are_aligned_and_keep_what_they_hold`.
    let _refused = unsafe { madvise(chunk.as_mut_ptr().cast(), bytes, Advice::LinuxHugepage) };
}

/// Asks for the memory of a chunk now instead of at the first touch. A kernel before 5.14 says no.
#[expect(unsafe_code, reason = "the system call takes a pointer, and so is not safe by its type")]
fn ask_for_memory<T>(chunk: &mut AVec<T, RuntimeAlign>) {
    let bytes = chunk.capacity() * size_of::<T>();
    // SAFETY: needs a range that is mapped and whose contents the advice leaves alone. Holds
    // because the vector owns its capacity from its pointer on, and this advice touches pages as
    // a write would that changes nothing. Test: `the_next_chunk_has_its_memory_before_it_is_used`.
    let _refused = unsafe { madvise(chunk.as_mut_ptr().cast(), bytes, Advice::LinuxPopulateWrite) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_what_they_are_through_every_growth() {
        let mut blocks = Blocks::<[u64; 8]>::default();
        assert!(blocks.is_empty());
        let count = 3 * Blocks::<[u64; 8]>::CHUNK_BLOCKS / 2;
        for i in 0..count {
            blocks.extend(1, [i as u64; 8]);
            assert_eq!(blocks.len(), i + 1);
        }
        assert!(blocks.iter().enumerate().all(|(i, block)| *block == [i as u64; 8]));
        assert_eq!(blocks.get(count - 1), Some(&[count as u64 - 1; 8]));
        assert_eq!(blocks.get(count), None);
        let held = blocks.memory_bytes();
        assert!((count * 64..=3 * CHUNK_BYTES + PAGE_BYTES).contains(&held), "{held}");
    }

    /// Bytes in memory of the mapping that a pointer is into.
    fn resident_bytes(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        for line in maps.lines() {
            let (first, rest) = line.split_once(' ').unwrap();
            if let Some((from, to)) = first.split_once('-') {
                let [from, to] = [from, to].map(|end| usize::from_str_radix(end, 16).unwrap());
                within = (from..to).contains(&address);
            } else if within && first == "Rss:" {
                return 1024 * rest.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
            }
        }
        panic!("no mapping holds {address:x}");
    }

    #[test]
    fn the_next_chunk_has_its_memory_before_it_is_used() {
        let mut blocks = Blocks::<[u64; 8]>::default();
        let chunk = Blocks::<[u64; 8]>::CHUNK_BLOCKS;
        // At once, so that it cannot be ready.
        blocks.extend(chunk, [1; 8]);
        blocks.extend(1, [3; 8]);
        assert!(blocks.next.is_none() && blocks.chunks.len() == 2);
        let next = blocks.run(chunk, 1);
        assert_eq!(next, [[3; 8]]);
        let resident = resident_bytes(next.as_ptr().addr());
        assert!(resident >= CHUNK_BYTES, "{resident}");
    }

    #[test]
    fn chunks_are_aligned_and_keep_what_they_hold() {
        let mut blocks = Blocks::<u64>::default();
        let chunk = Blocks::<u64>::CHUNK_BLOCKS;
        (0..4).for_each(|i| blocks.extend(chunk / 2, i));
        for first in [0, chunk] {
            let run = blocks.run(first, chunk);
            assert!(run.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
            let value = 2 * (first / chunk) as u64;
            assert!(run[..chunk / 2].iter().all(|&block| block == value));
            assert!(run[chunk / 2..].iter().all(|&block| block == value + 1));
        }
        blocks.run_mut(chunk, 4).fill(9);
        assert_eq!((blocks.get(chunk + 3), blocks.get(chunk + 4)), (Some(&9), Some(&2)));
        *blocks.get_mut(5).unwrap() = 8;
        assert_eq!(blocks.run(4, 4), [0, 8, 0, 0]);
    }

    #[test]
    fn a_small_store_takes_what_it_needs() {
        let mut blocks = Blocks::<[u64; 8]>::default();
        (0..200).for_each(|_| blocks.extend(1, [0; 8]));
        assert!(blocks.memory_bytes() <= 200 * 64 * 17 / 16 + 256);
        (0..2000).for_each(|_| blocks.extend(1, [0; 8]));
        let place = blocks.run(0, 1).as_ptr();
        assert!(blocks.memory_bytes() <= 2200 * 64 + PAGE_BYTES + 256);
        (0..10_000).for_each(|_| blocks.extend(1, [0; 8]));
        assert!(blocks.memory_bytes() <= 12_200 * 64 + PAGE_BYTES + 256);
        assert_eq!(blocks.run(0, 1).as_ptr(), place, "it has room for them without a move");
    }
}
