//! Rivals: other designs for the same signals, built as well as we can, and the machine itself with
//! nothing on top.
//!
//! A comparison is worth what its loser is worth. A rival is reviewed as if it were ours, gets
//! the data structures a careful engineer would choose for it, and is never tuned down.

mod group_commit;
mod plain_files;
mod raw_device;
mod redis;
mod shared_map;

pub use group_commit::{ENTRY_OVERHEAD_BYTES, GROUP_ENTRIES, GroupCommitLog};
pub use plain_files::{PlainCheckpoint, files_below, read_and_hash};
pub use raw_device::{RawDevice, Syncing, fill_random};
pub use redis::{
    Client, Keeping, RedisError, RedisEvent, RedisServer, RedisSignals, RedisState, Reply,
};
pub use shared_map::{Reading, SharedMap};
