//! Memory for many blocks of one size, side by side, in huge pages where the kernel gives any.
//!
//! ```text
//! | huge page | … | huge page | the one made ahead | addresses of which none has memory yet |
//!  ◀──────── blocks ─────────▶
//! ```
//!
//! Promises: a block never moves once they take more than [`SMALL_BLOCKS_BYTES`], so growth copies
//! no more than that, and a block is found by its index alone. For that, addresses are reserved
//! for as many blocks as the machine could hold, up to 64 GiB; they take no memory. Where they
//! would count as memory, since the kernel promises no more than it has (`vm.overcommit_memory` 2)
//! or addresses are limited (`ulimit -v`, `ulimit -d`), or the process locks its memory, there is
//! room for twice as many as there are, and all move when it is taken.
//!
//! Why huge pages: with pages of 4 KiB, finding the page of a line costs as much as fetching the
//! line once a ledger has millions of pairs. Where the kernel gives none, all works as well, but
//! slower. Why ahead, on a thread that ends with it: the first touch of a huge page clears 2 MiB
//! at once, and on a virtual machine fetches them from the host too, 20 ms in the middle of a
//! batch. A page that is needed before it is ready is waited for: only what grows by millions of
//! blocks a second needs it so soon, and small pages would make every later look slower, for the
//! kernel joins them late.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::limits::{
    BLOCK_INDEX_BITS, HUGE_PAGE_BYTES, PAGE_BYTES, RESERVED_BYTES_MAX, SMALL_BLOCKS_BYTES,
};
use crate::prefetch::prefetch_at;
use aligned_vec::{AVec, RuntimeAlign};
use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::ffi::c_void;
use std::fs;
use std::thread::{self, JoinHandle};

/// Huge pages at the beginning whose memory comes as it is touched.
const TOUCHED_PAGES: usize = 2;

/// Blocks, named by index.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    memory: AVec<T, RuntimeAlign>,
    /// Huge pages that blocks have begun to fill.
    pages: usize,
    /// The thread that gets the memory of the next one. It never outlives that memory.
    ahead: Option<JoinHandle<()>>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { memory: AVec::new(align_of::<T>()), pages: 0, ahead: None }
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        let _it_ended = self.wait_for_ahead();
    }
}

impl<T> Blocks<T> {
    /// Waits until the page ahead has its memory. Says whether there is such a page.
    fn wait_for_ahead(&mut self) -> bool {
        self.ahead.take().is_some_and(|ahead| ahead.join().is_ok())
    }
}

impl<T: Copy> Blocks<T> {
    /// How many there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty()
    }

    /// Adds `count` blocks, all of them `block`.
    pub(crate) fn extend(&mut self, count: usize, block: T) {
        let len = self.len() + count;
        self.make_room_for(len);
        self.memory.resize(len, block);
    }

    /// Adds a block.
    #[inline]
    pub(crate) fn push(&mut self, block: T) {
        self.make_room_for(self.len() + 1);
        self.memory.push(block);
    }

    /// Sees to the memory of `len` blocks.
    #[inline]
    fn make_room_for(&mut self, len: usize) {
        if len > self.memory.capacity() {
            self.move_to_room_for(len);
        }
        while self.pages * HUGE_PAGE_BYTES < len * size_of::<T>() && self.is_large() {
            self.enter_page();
        }
    }

    /// Whether blocks lie where they can grow without a move.
    fn is_large(&self) -> bool {
        self.memory.alignment() == HUGE_PAGE_BYTES
    }

    /// Moves all blocks to where there is room for `len`.
    #[cold]
    fn move_to_room_for(&mut self, len: usize) {
        let _it_ended = self.wait_for_ahead();
        let mut moved = if len * size_of::<T>() > SMALL_BLOCKS_BYTES {
            Self::large(len, bytes_reserved_max())
        } else {
            AVec::with_capacity(align_of::<T>(), len.max(self.len() + self.len() / 16))
        };
        let bytes = self.len() * size_of::<T>();
        let full_pages = bytes / HUGE_PAGE_BYTES;
        let pages =
            if full_pages < TOUCHED_PAGES { full_pages } else { bytes.div_ceil(HUGE_PAGE_BYTES) };
        (0..pages).filter_map(|page| HugePage::of(&moved, page)).for_each(ask_for_huge_page);
        moved.extend_from_slice(&self.memory);
        (self.memory, self.pages) = (moved, pages);
    }

    /// Empty memory with room for as many blocks as may ever be named or as `bytes_max` hold; if
    /// that is too little, or the kernel refuses it, for twice `len`, or a little more than `len`.
    fn large(len: usize, bytes_max: usize) -> AVec<T, RuntimeAlign> {
        let mut memory = AVec::new(HUGE_PAGE_BYTES);
        let most = (1 << BLOCK_INDEX_BITS).min(bytes_max / size_of::<T>());
        let mut rooms = [most, 2 * len].into_iter().filter(|&room| room >= 2 * len);
        if !rooms.any(|room| memory.try_reserve_exact(room).is_ok()) {
            memory.reserve_exact(len + len / 16);
        }
        memory
    }

    /// Sees to the memory of the next huge page that blocks are about to fill.
    #[cold]
    fn enter_page(&mut self) {
        let (page, is_ready) = (self.pages, self.wait_for_ahead());
        let touched = (1..=TOUCHED_PAGES).contains(&page).then(|| page - 1);
        let unready = (page >= TOUCHED_PAGES && !is_ready).then_some(page);
        let pages = touched.into_iter().chain(unready);
        pages.filter_map(|page| HugePage::of(&self.memory, page)).for_each(ask_for_huge_page);
        self.pages += 1;
        if self.pages >= TOUCHED_PAGES
            && let Some(next) = HugePage::of(&self.memory, self.pages)
        {
            self.ahead = thread::Builder::new().spawn(move || get_memory(next)).ok();
        }
    }

    /// Asks for all cache lines of the block at `index`, whether there is one or not.
    #[inline(always)]
    pub(crate) fn fetch(&self, index: usize) {
        // Behind the last there may be no memory: asking does no harm.
        prefetch_at(self.memory.as_ptr().wrapping_add(index));
    }

    /// The block at `index`, if there are as many.
    #[inline]
    #[must_use]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.memory.get(index)
    }

    /// The block at `index`, to change.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.memory.get_mut(index)
    }

    /// All of them.
    #[inline]
    #[must_use]
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.memory
    }

    /// The same, to change.
    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory
    }

    /// Bytes taken, with those of a page made ahead. Of memory that comes as it is touched, the
    /// bytes ever written to, which holds where huge pages are given by advice: a kernel that
    /// always gives them may take up to a huge page more.
    #[must_use]
    pub(crate) fn memory_bytes(&self) -> usize {
        let room = self.memory.capacity() * size_of::<T>();
        if !self.is_large() {
            return room;
        }
        let touched = (self.len() * size_of::<T>()).next_multiple_of(PAGE_BYTES).min(room);
        let ready = if self.pages > TOUCHED_PAGES { self.pages * HUGE_PAGE_BYTES } else { 0 };
        let ahead = if self.ahead.is_some() { HUGE_PAGE_BYTES } else { 0 };
        (touched.max(ready) + ahead).min(room)
    }
}

/// Bytes that may be reserved for blocks of one kind: nearly as many as the machine has, which is
/// the most that a kernel grants at once. None where what is reserved counts as taken: others
/// would lack it.
fn bytes_reserved_max() -> usize {
    let is_limited = |what| getrlimit(what).current.is_some();
    let mode = fs::read("/proc/sys/vm/overcommit_memory");
    let counts_promises = mode.is_ok_and(|mode| mode.starts_with(b"2"));
    // A process that locks its memory would be given all that is reserved.
    let locks = fs::read_to_string("/proc/self/status").is_ok_and(|status| is_locked(&status));
    if is_limited(Resource::As) || is_limited(Resource::Data) || counts_promises || locks {
        return 0;
    }
    let system = sysinfo();
    let bytes = u64::from(system.mem_unit).saturating_mul(system.totalram / 16 * 15);
    usize::try_from(bytes).unwrap_or(usize::MAX).min(RESERVED_BYTES_MAX)
}

/// Whether a process has locked memory, by what `/proc` says of it.
fn is_locked(status: &str) -> bool {
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    locked.is_some_and(|size| !size.trim().starts_with("0 "))
}

/// The address of a huge page that lies within some memory, whether blocks have come as far or not.
#[derive(Clone, Copy, Debug)]
struct HugePage(usize);

impl HugePage {
    /// That of a number; `None` if there is no room for all of it.
    fn of<T>(memory: &AVec<T, RuntimeAlign>, number: usize) -> Option<Self> {
        let is_within = (number + 1) * HUGE_PAGE_BYTES <= memory.capacity() * size_of::<T>();
        is_within.then(|| Self(memory.as_ptr().addr() + number * HUGE_PAGE_BYTES))
    }
}

/// Gets the memory of a page, on a thread of its own.
fn get_memory(page: HugePage) {
    // Not on the core of the shard whose thread began this one. A refusal costs it some time.
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _refused = sched_setaffinity(None, &all);
    ask_for_huge_page(page);
    advise(page, Advice::LinuxPopulateWrite);
}

/// Asks that the memory of a page be huge. A kernel that knows no huge pages, or was told not to
/// give any, says no.
fn ask_for_huge_page(page: HugePage) {
    advise(page, Advice::LinuxHugepage);
}

#[expect(unsafe_code, reason = "the system call takes a pointer, and so is not safe by its type")]
fn advise(HugePage(address): HugePage, advice: Advice) {
    debug_assert!(matches!(advice, Advice::LinuxHugepage | Advice::LinuxPopulateWrite));
    let start: *mut c_void = std::ptr::without_provenance_mut(address);
    // SAFETY: needs a range that is mapped and whose contents the advice leaves alone. Holds
    // because `Blocks` makes pages of ranges within its vector's capacity only, and waits for the
    // thread that has one before the vector moves or goes; and because these two change how memory
    // is backed, never what it reads as: the kernel touches it as a write would that changes
    // nothing. A kernel that does not know an advice says no, as those before 5.14 do. Tests:
    // `blocks_stay_what_they_are_through_every_growth`,
    // `blocks_move_while_the_page_ahead_gets_its_memory`.
    let _refused = unsafe { madvise(start, HUGE_PAGE_BYTES, advice) };
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = [u64; 8];
    /// Lines of a huge page.
    const PAGE: usize = HUGE_PAGE_BYTES / 64;

    #[test]
    fn blocks_stay_what_they_are_through_every_growth() {
        let mut blocks = Blocks::<Line>::default();
        assert!(blocks.is_empty());
        let count = 5 * PAGE + PAGE / 2;
        for i in 0..count {
            blocks.push([i as u64; 8]);
            assert_eq!(blocks.len(), i + 1);
        }
        let is_its_own = |(i, block): (usize, &Line)| *block == [i as u64; 8];
        assert!(blocks.as_slice().iter().enumerate().all(is_its_own));
        assert_eq!(blocks.get(count - 1), Some(&[count as u64 - 1; 8]));
        assert_eq!(blocks.get(count), None);
        assert!(blocks.as_slice().as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
        let held = blocks.memory_bytes();
        assert!((count * 64..=7 * HUGE_PAGE_BYTES).contains(&held), "{held}");
    }

    /// No blocks, with room for so many.
    fn with_room(count: usize) -> Blocks<Line> {
        let mut memory = AVec::new(HUGE_PAGE_BYTES);
        memory.reserve_exact(count);
        Blocks { memory, pages: 0, ahead: None }
    }

    #[test]
    fn blocks_move_where_no_more_is_reserved() {
        let mut blocks = with_room(7 * PAGE / 2);
        let room = blocks.memory.capacity();
        for i in 0..room {
            blocks.push([i as u64; 8]);
        }
        assert!(blocks.memory_bytes() <= room * 64);
        let place = blocks.as_slice().as_ptr();
        blocks.extend(room, [7; 8]);
        assert_ne!(blocks.as_slice().as_ptr(), place);
        let (before, after) = blocks.as_slice().split_at(room);
        assert!(before.iter().enumerate().all(|(i, block)| *block == [i as u64; 8]));
        assert!(after.iter().all(|block| *block == [7; 8]));
    }

    #[test]
    fn blocks_move_while_the_page_ahead_gets_its_memory() {
        for _ in 0..50 {
            let mut blocks = with_room(3 * PAGE);
            blocks.extend(3 * PAGE / 2, [1; 8]);
            assert!(blocks.ahead.is_some());
            blocks.extend(2 * PAGE, [2; 8]);
            let (before, after) = blocks.as_slice().split_at(3 * PAGE / 2);
            assert!(before.iter().all(|block| *block == [1; 8]));
            assert!(after.iter().all(|block| *block == [2; 8]));
        }
    }

    #[test]
    fn there_is_room_for_as_many_as_may_be_and_never_less_than_is_needed() {
        let room = |len, bytes_max| Blocks::<Line>::large(len, bytes_max).capacity();
        assert_eq!(room(10, 64 * 1000), 1000);
        assert_eq!(room(600, 64 * 1000), 1200);
        assert_eq!(room(600, 0), 1200);
        // 2^52 bytes are more than there are addresses.
        assert_eq!(Blocks::<[u64; 1 << 20]>::large(1, usize::MAX).capacity(), 2);
    }

    #[test]
    fn a_process_that_locks_its_memory_is_known() {
        let status = |size: &str| format!("Name:\tx\nVmLck:\t{size:>8} kB\nVmPin:\t      64 kB\n");
        assert!(!is_locked(&status("0")) && !is_locked(""));
        assert!(is_locked(&status("64")) && is_locked(&status("1048576")));
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(own.contains("\nVmLck:") && !is_locked(&own));
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
    fn the_next_page_has_its_memory_before_it_is_used() {
        let mut blocks = Blocks::<Line>::default();
        blocks.extend(2 * PAGE, [1; 8]);
        assert!(blocks.wait_for_ahead());
        let resident = resident_bytes(blocks.as_slice().as_ptr().addr() + 2 * HUGE_PAGE_BYTES);
        assert!(resident >= HUGE_PAGE_BYTES, "{resident}");
        blocks.push([3; 8]);
        assert_eq!(blocks.get(2 * PAGE), Some(&[3; 8]));
    }

    #[test]
    fn a_small_store_takes_what_it_needs() {
        let mut blocks = Blocks::<Line>::default();
        (0..200).for_each(|_| blocks.push([0; 8]));
        assert!(blocks.memory_bytes() <= 200 * 64 * 17 / 16 + 256);
        (0..2000).for_each(|_| blocks.push([0; 8]));
        let place = blocks.as_slice().as_ptr();
        assert!(blocks.memory_bytes() <= 2200 * 64 + PAGE_BYTES);
        (0..10_000).for_each(|_| blocks.push([0; 8]));
        assert!(blocks.memory_bytes() <= 12_200 * 64 + PAGE_BYTES);
        assert_eq!(blocks.as_slice().as_ptr(), place, "it has room for them without a move");
        (0..8_000).for_each(|_| blocks.push([0; 8]));
        assert!(blocks.memory_bytes() <= 20_200 * 64 + PAGE_BYTES);
    }
}
