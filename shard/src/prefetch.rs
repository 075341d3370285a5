//! Asking for memory before it is needed: the one hint the language has no safe word for.
//!
//! Promises: a hint changes no value and no answer, only when a cache line arrives; on processors
//! other than x86-64 it is nothing at all. Why: a ledger larger than the caches spends most of its
//! time waiting for two lines an event, one after the other. With hints for the events ahead those
//! waits overlap.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use crate::limits::CACHE_LINE_BYTES;

/// Begins to fetch the first cache line of `place`.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_line(std::ptr::from_ref(place).cast());
}

/// Begins to fetch every cache line of `place`, which is aligned to one.
#[inline(always)]
pub(crate) fn prefetch_all<T>(place: &T) {
    prefetch_at(place);
}

/// The same at an address, whatever is there.
#[inline(always)]
pub(crate) fn prefetch_at<T>(place: *const T) {
    const { assert!(align_of::<T>() >= CACHE_LINE_BYTES) };
    for line in 0..size_of::<T>() / CACHE_LINE_BYTES {
        prefetch_line(place.cast::<i8>().wrapping_add(line * CACHE_LINE_BYTES));
    }
}

#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the intrinsic takes a pointer, and so is not safe by its type")
)]
fn prefetch_line(line: *const i8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: needs SSE, and nothing of the pointer: the instruction accesses no memory that
        // the program can see and cannot fault. Holds because SSE is part of x86-64. Test:
        // `a_batch_gives_the_same_bits_as_its_events` in `ledger/tests.rs`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
