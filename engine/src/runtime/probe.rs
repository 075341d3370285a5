//! Whether io_uring can be used here, found out by trying, before anything is built on it.
//!
//! Promises: asking changes nothing; a refusal says what to raise or allow. An engine on
//! [`Backend::Auto`](crate::Backend::Auto) asks the same questions and falls back to plain threads
//! where one is answered with no. Not here: what the disk can do.

use rustix::process::{Resource, getrlimit};
use std::fs;

/// What an executor's rings need of lockable memory, checked by the executor itself.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// File descriptors an executor may take, with room to spare, and what a host has open beside.
const DESCRIPTORS_PER_SHARD: u64 = 24;
const DESCRIPTORS_BESIDE: u64 = 32;

/// File descriptors that io_uring may take for so many shards.
#[must_use]
pub const fn descriptors_needed(shards: usize) -> u64 {
    DESCRIPTORS_BESIDE + DESCRIPTORS_PER_SHARD * shards as u64
}

/// How many file descriptors this process may open; `None` for no limit.
#[must_use]
pub fn descriptors_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How much memory this process may lock; `None` for no limit.
#[must_use]
pub fn memlock_bytes_max() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Asks the kernel for a ring and gives it back.
///
/// # Errors
///
/// Why there is none to be had.
pub fn ring() -> Result<(), String> {
    match io_uring::IoUring::new(4) {
        Ok(_ring) => Ok(()),
        Err(error) => Err(format!("io_uring is not to be had: {error}{}", sysctl())),
    }
}

/// Says why io_uring can be used for so many shards (`Ok`) or why not (`Err`).
pub(super) fn io_uring(shards: usize) -> Result<String, String> {
    // An executor that runs out of descriptors panics instead of saying so.
    let needed = descriptors_needed(shards);
    if let Some(limit) = descriptors_max()
        && limit < needed
    {
        return Err(format!(
            "io_uring may take {needed} file descriptors for {shards} shards and the limit is \
             {limit}; raise `ulimit -n`"
        ));
    }
    if let Some(limit) = memlock_bytes_max()
        && limit < MEMLOCK_BYTES_MIN
    {
        return Err(format!(
            "io_uring needs {} KiB of lockable memory and the limit is {} KiB; raise `ulimit -l`",
            MEMLOCK_BYTES_MIN / 1024,
            limit / 1024
        ));
    }
    ring().map(|()| "the kernel gave a ring".into())
}

/// The switch that most often explains a refusal.
fn sysctl() -> String {
    let path = "/proc/sys/kernel/io_uring_disabled";
    match fs::read_to_string(path).as_deref().map(str::trim_end) {
        Ok(value @ ("1" | "2")) => format!(" (kernel.io_uring_disabled = {value})"),
        _ => String::new(),
    }
}
