//! Whether io_uring can be used here, found out by trying, before anything is built on it.

use rustix::process::{Resource, getrlimit};
use std::fs;

/// What an executor's rings need of lockable memory, checked by the executor itself.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// File descriptors an executor may take, with room to spare, and what a host has open beside.
const DESCRIPTORS_PER_SHARD: u64 = 24;
const DESCRIPTORS_BESIDE: u64 = 32;

/// Says why io_uring can be used for so many shards (`Ok`) or why not (`Err`).
pub(super) fn io_uring(shards: usize) -> Result<String, String> {
    // An executor that runs out of descriptors panics instead of saying so.
    let needed = DESCRIPTORS_BESIDE + DESCRIPTORS_PER_SHARD * shards as u64;
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && limit < needed
    {
        return Err(format!(
            "io_uring may take {needed} file descriptors for {shards} shards and the limit is \
             {limit}; raise `ulimit -n`"
        ));
    }
    if let Some(limit) = getrlimit(Resource::Memlock).current
        && limit < MEMLOCK_BYTES_MIN
    {
        return Err(format!(
            "io_uring needs {} KiB of lockable memory and the limit is {} KiB; raise `ulimit -l`",
            MEMLOCK_BYTES_MIN / 1024,
            limit / 1024
        ));
    }
    match io_uring::IoUring::new(4) {
        Ok(_ring) => Ok("the kernel gave a ring".into()),
        Err(error) => Err(format!("io_uring is not to be had: {error}{}", sysctl())),
    }
}

/// The switch that most often explains a refusal.
fn sysctl() -> String {
    let path = "/proc/sys/kernel/io_uring_disabled";
    match fs::read_to_string(path).as_deref().map(str::trim_end) {
        Ok(value @ ("1" | "2")) => format!(" (kernel.io_uring_disabled = {value})"),
        _ => String::new(),
    }
}
