//! Every bound of the log and the relations between them; no other file spells a number.
//!
//! Promises: what is written can be read back: the reader's caps admit every frame the writer
//! may build, and nothing larger is ever allocated because a file says so.
//! Invariants: the `const` block below; the build fails when one is broken.
//! Fails by: `OptionsError`, when a caller asks for sizes outside these bounds.
//! Not here: offsets inside a frame (`frame`) or a segment header (`segment`).
//! Source: sector and cache behaviour as measured on ext4 over a virtio disk with 512-byte
//! logical and 4096-byte physical sectors.

use thiserror::Error;

/// Unit of every write and every offset: what direct I/O aligns to on the devices we know.
pub const BLOCK_BYTES: usize = 4096;
/// What a device may tear a block into; the simulated disk does.
pub const SECTOR_BYTES: usize = 512;
/// Size of the file header, a block of its own so that no frame shares a sector with it.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 128;
/// Bytes before each appended batch inside a frame: its length and its count of records.
pub const ENTRY_HEADER_BYTES: usize = 8;
/// Batches begin at multiples of this inside a frame, so that a reader may view them in place.
pub const ENTRY_ALIGN_BYTES: usize = 8;

/// Smallest group buffer a log may be given.
pub const GROUP_BYTES_MIN: usize = 2 * BLOCK_BYTES;
/// Largest group buffer: beyond it a write costs latency and gains no throughput.
pub const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Group buffer unless asked otherwise. Two exist per log: one fills while one is written.
pub const GROUP_BYTES_DEFAULT: usize = GROUP_BYTES_MAX;
/// Largest frame a reader believes in. The seal of a full segment is one block longer than the
/// group that no longer fitted.
pub const FRAME_BYTES_MAX: usize = GROUP_BYTES_MAX + BLOCK_BYTES;

/// Bytes of a group that are hashed at once while it fills: chunks go side by side, and when the
/// group is full, little is left to hash while the device waits.
pub const HASHED_AHEAD_BYTES: usize = 64 * 1024;

/// What records leave free in a segment for the note of a checkpoint: a log that lacks space can
/// still say what it need not keep, and so get some.
pub const NOTE_RESERVE_BYTES: usize = BLOCK_BYTES;

/// Largest segment file.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Segment file unless asked otherwise.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;
/// Largest segment that a log is opened with, if no file is ready: it is zeroed before the first
/// event may come, and all others beside events.
pub const FIRST_SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Segments a log must be allowed to have: one that retires while the next is filled.
pub const SEGMENTS_MIN: u64 = 3;
/// Zeroed or recycled files kept ready beyond the one in use. One is enough to rotate without
/// waiting; more saves zeroing, as many bytes as are logged, after a checkpoint lets several
/// segments retire at once. A segment that retires is kept only while all files together are within
/// what the log may take.
pub const SPARES_MAX: usize = 8;
/// Bytes zeroed per write while a file is prepared, at most.
pub const ZERO_CHUNK_BYTES: usize = 256 * 1024;
/// The same while the log is written to and zeroes are not late: a commit waits that long behind
/// them.
pub const ZERO_CHUNK_BYTES_MIN: usize = 64 * 1024;
/// The longest frame that goes behind zeroes where it would be the first to write: as many as share
/// them. Commits of 8 and 16 KiB then took 0.8 of the time, those of 32 KiB 1.1.
pub const ZEROED_BEFORE_BYTES_MAX: usize = ZERO_CHUNK_BYTES_MIN / 4;
/// Bytes read at once while a log is scanned; grows up to one frame.
pub const READ_WINDOW_BYTES: usize = 1024 * 1024;

/// Writes in a row that may come back short before the device counts as failed.
pub const SHORT_WRITES_MAX: u32 = 1;
/// How long a driver lets a log rest before it asks for a watermark frame, in microseconds.
pub const IDLE_WATERMARK_US: u64 = 2_000;
/// How long a driver waits before it tries again for space, in milliseconds.
pub const SPACE_RETRY_MS: u64 = 500;

const _: () = {
    assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
    // A frame header never straddles two blocks, nor two sectors.
    assert!(SECTOR_BYTES.is_multiple_of(FRAME_HEADER_BYTES));
    // The first batch of a frame is as aligned as every later one.
    assert!(FRAME_HEADER_BYTES.is_multiple_of(ENTRY_ALIGN_BYTES));
    assert!(ENTRY_HEADER_BYTES.is_multiple_of(ENTRY_ALIGN_BYTES));
    assert!(GROUP_BYTES_MIN.is_multiple_of(BLOCK_BYTES));
    assert!(GROUP_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!(GROUP_BYTES_MIN <= GROUP_BYTES_DEFAULT && GROUP_BYTES_DEFAULT <= GROUP_BYTES_MAX);
    // What the writer builds, the reader admits; lengths fit their u32 field.
    assert!(FRAME_BYTES_MAX > GROUP_BYTES_MAX);
    assert!(FRAME_BYTES_MAX < u32::MAX as usize);
    assert!(segment_bytes_min(GROUP_BYTES_DEFAULT) <= SEGMENT_BYTES_DEFAULT);
    assert!(segment_bytes_min(GROUP_BYTES_MAX) <= SEGMENT_BYTES_MAX);
    assert!(SEGMENT_BYTES_DEFAULT.is_multiple_of(BLOCK_BYTES as u64));
    // Whatever the groups, the first segment takes one.
    assert!(segment_bytes_min(GROUP_BYTES_MAX) <= FIRST_SEGMENT_BYTES_MAX);
    assert!(FIRST_SEGMENT_BYTES_MAX.is_multiple_of(BLOCK_BYTES as u64));
    assert!(ZERO_CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
    assert!(ZERO_CHUNK_BYTES_MIN.is_multiple_of(BLOCK_BYTES));
    assert!(ZERO_CHUNK_BYTES_MIN <= ZERO_CHUNK_BYTES);
    // The zeroes before a frame reach to its end, and on.
    assert!(BLOCK_BYTES <= ZEROED_BEFORE_BYTES_MAX);
    assert!(ZEROED_BEFORE_BYTES_MAX < ZERO_CHUNK_BYTES_MIN);
    // What is due of one is worked out from twice the product of two.
    assert!(SEGMENT_BYTES_MAX < 1 << 31);
    assert!(READ_WINDOW_BYTES.is_multiple_of(BLOCK_BYTES));
    // Pieces are whole trees of chunks, which are hashed side by side.
    assert!(HASHED_AHEAD_BYTES.is_power_of_two());
    assert!(SPARES_MAX >= 1, "without a spare no rotation");
    assert!(usize::BITS >= 64, "offsets are computed in usize");
};

/// Smallest segment for groups of `group_bytes`: header, one full group, the block that stays free
/// for the note of a checkpoint, and the one that stays free for the seal.
#[must_use]
pub const fn segment_bytes_min(group_bytes: usize) -> u64 {
    (SEGMENT_HEADER_BYTES + group_bytes + NOTE_RESERVE_BYTES + BLOCK_BYTES) as u64
}

/// `bytes` rounded up to whole blocks.
#[must_use]
pub const fn block_ceil(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// A file offset or length as an index in memory; the `const` block above holds it lossless.
pub(crate) fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("usize has 64 bits")
}

/// Sizes a log is built with. They are not part of the format: a store may be reopened with
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of each of the two group buffers, header of the frame included; bounds one write.
    pub group_bytes: usize,
    /// Size of each new segment file, but for the first of an opening, which has
    /// [`FIRST_SEGMENT_BYTES_MAX`] at most.
    pub segment_bytes: u64,
    /// What the segment files may take together. At this limit the log pushes back until a
    /// checkpoint lets some of it go, so take checkpoints well below it.
    pub log_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        let (group_bytes, segment_bytes) = (GROUP_BYTES_DEFAULT, SEGMENT_BYTES_DEFAULT);
        Self { group_bytes, segment_bytes, log_bytes_max: u64::MAX }
    }
}

impl LogOptions {
    /// Checks the sizes against the bounds of this page.
    ///
    /// # Errors
    ///
    /// Names the size that is out of bounds and what it may be.
    pub fn check(&self) -> Result<(), OptionsError> {
        let group = self.group_bytes;
        let whole = group.is_multiple_of(BLOCK_BYTES);
        if !whole || !(GROUP_BYTES_MIN..=GROUP_BYTES_MAX).contains(&group) {
            return Err(OptionsError::GroupBytes { asked: group });
        }
        let (least, segment) = (segment_bytes_min(group), self.segment_bytes);
        let whole = segment.is_multiple_of(BLOCK_BYTES as u64);
        if !whole || !(least..=SEGMENT_BYTES_MAX).contains(&segment) {
            return Err(OptionsError::SegmentBytes { asked: segment, least });
        }
        let (asked, least) = (self.log_bytes_max, SEGMENTS_MIN * segment);
        if asked < least {
            return Err(OptionsError::LogBytes { asked, least });
        }
        Ok(())
    }
}

/// Why a log cannot have these sizes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Ask for a multiple of 4096 within the bounds.
    #[error(
        "a log group of {asked} bytes is not possible: \
         ask for a multiple of {BLOCK_BYTES} from {GROUP_BYTES_MIN} to {GROUP_BYTES_MAX}"
    )]
    GroupBytes {
        /// What was asked for.
        asked: usize,
    },
    /// Ask for a multiple of 4096 within the bounds; the least depends on the group.
    #[error(
        "a log segment of {asked} bytes is not possible: \
         ask for a multiple of {BLOCK_BYTES} from {least} to {SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes {
        /// What was asked for.
        asked: u64,
        /// The least that holds one group.
        least: u64,
    },
    /// Ask for more, or for smaller segments.
    #[error("a log of at most {asked} bytes is not possible: ask for {least} at least")]
    LogBytes {
        /// What was asked for.
        asked: u64,
        /// The least that lets a log move on.
        least: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_sizes_are_within_bounds() {
        assert_eq!(LogOptions::default().check(), Ok(()));
    }

    #[test]
    fn sizes_out_of_bounds_are_refused_by_name() {
        let odd = LogOptions { group_bytes: GROUP_BYTES_MIN + 1, ..LogOptions::default() };
        let asked = GROUP_BYTES_MIN + 1;
        assert_eq!(odd.check(), Err(OptionsError::GroupBytes { asked }));

        let least = segment_bytes_min(GROUP_BYTES_MIN);
        let smallest = LogOptions {
            group_bytes: GROUP_BYTES_MIN,
            segment_bytes: least,
            ..LogOptions::default()
        };
        assert_eq!(smallest.check(), Ok(()));
        let asked = least - BLOCK_BYTES as u64;
        let smaller = LogOptions { segment_bytes: asked, ..smallest };
        assert_eq!(smaller.check(), Err(OptionsError::SegmentBytes { asked, least }));
        let asked = 3 * least - 1;
        let short = LogOptions { log_bytes_max: asked, ..smallest };
        assert_eq!(short.check(), Err(OptionsError::LogBytes { asked, least: 3 * least }));
    }
}
