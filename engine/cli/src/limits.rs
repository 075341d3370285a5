//! Every bound of the command line and the relations between them.

use ebbtide_wal::limits::{SEGMENT_BYTES_DEFAULT, SPARES_MAX};

/// Oldest kernel whose io_uring has all that is used, as major and minor version.
pub const KERNEL_MIN: (u32, u32) = (5, 8);

/// Columns of everything printed for people, so that it fits the narrowest usual terminal.
pub const COLUMNS_MAX: usize = 80;

/// Blocks that `doctor` writes and syncs to learn how long that takes; it tells the median.
pub const TRIAL_WRITES: usize = 9;

/// Free space below which a shard's log cannot even begin its next segment.
pub const FREE_BYTES_PER_SHARD_MIN: u64 = SEGMENT_BYTES_DEFAULT;

/// Free space a shard should find: its segments in use and ready, twice over, so that a
/// checkpoint may be late and may grow.
pub const FREE_BYTES_PER_SHARD: u64 = 2 * (1 + SPARES_MAX as u64) * SEGMENT_BYTES_DEFAULT;

const _: () = {
    // The median of a few is one of them.
    assert!(!TRIAL_WRITES.is_multiple_of(2));
    assert!(FREE_BYTES_PER_SHARD_MIN < FREE_BYTES_PER_SHARD);
};
