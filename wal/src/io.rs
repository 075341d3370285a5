//! What the log asks its driver to do, and what the driver answers.
//!
//! Promises: a request carries all it needs, buffers included; performing it twice is never
//! asked for, and never asked for again after it failed.
//! Invariants: two lanes. At most one request of each is out at a time; requests of different
//! lanes may run at once, because they never touch the same file.
//! Fails by: an answer that carries the `IoFault`; the log decides what follows.
//! Not here: performing (`lane`), deciding (`log`).
//! Source: sans-I/O design as in quiche and s2n-quic: the logic never waits.

use std::ops::Range;

use crate::aligned::AlignedBuf;
use crate::fault::IoFault;
use crate::storage::FileName;

/// A step towards durability; the latency of the log is the latency of these.
#[derive(Debug)]
pub enum CommitIo {
    /// Write `buffer[range]` at `offset` of the active segment.
    Write {
        /// The active segment.
        segment: u64,
        /// Where in its file.
        offset: u64,
        /// Given back in the answer, whatever became of the write.
        buffer: AlignedBuf,
        /// What of the buffer; its length is a multiple of the block.
        range: Range<usize>,
    },
    /// Make everything written to the active segment durable.
    Sync {
        /// The active segment.
        segment: u64,
    },
    /// Write zeroes to a part of the active segment that was never written to.
    Zero {
        /// The active segment.
        segment: u64,
        /// Where the part begins.
        offset: u64,
        /// How long it is: `limits::ZERO_CHUNK_BYTES_MIN` at most.
        bytes: usize,
    },
    /// Turn a file made ahead into the next active segment: header, sync, rename, directory
    /// sync.
    Activate {
        /// The file made ahead.
        from: FileName,
        /// Segment it becomes.
        segment: u64,
        /// Its header block.
        header: AlignedBuf,
    },
    /// Cut the active segment to length, sync, and let go of it: the log is closing.
    Trim {
        /// The active segment.
        segment: u64,
        /// Length to keep.
        bytes: u64,
    },
}

impl CommitIo {
    /// The answer of a device that did all of it.
    #[must_use]
    pub fn succeeded(self) -> CommitDone {
        match self {
            Self::Write { buffer, range, .. } => {
                CommitDone::Write { buffer, result: Ok(range.len()) }
            }
            Self::Sync { .. } => CommitDone::Sync(Ok(())),
            Self::Zero { .. } => CommitDone::Zero(Ok(())),
            Self::Activate { .. } => CommitDone::Activate(Ok(())),
            Self::Trim { .. } => CommitDone::Trim(Ok(())),
        }
    }
}

/// The answer to a [`CommitIo`] of the same name.
#[derive(Debug)]
pub enum CommitDone {
    /// How many bytes were written, from the front of the range.
    Write {
        /// The buffer of the request.
        buffer: AlignedBuf,
        /// Bytes written, perhaps fewer than asked for.
        result: Result<usize, IoFault>,
    },
    /// Whether the sync succeeded.
    Sync(Result<(), IoFault>),
    /// Whether all the zeroes were written.
    Zero(Result<(), IoFault>),
    /// Whether the next segment is active.
    Activate(Result<(), IoFault>),
    /// Whether the segment was cut.
    Trim(Result<(), IoFault>),
}

/// A step that nobody waits for.
#[derive(Debug)]
pub enum UpkeepIo {
    /// Write the last frame of a segment that is no longer active, and sync it.
    Seal {
        /// The segment.
        segment: u64,
        /// Where the frame goes.
        offset: u64,
        /// The frame; it reaches to the end of the file.
        frame: AlignedBuf,
    },
    /// Make a file of `bytes`, with its space reserved.
    Prepare {
        /// Number of the file.
        number: u64,
        /// Its length.
        bytes: u64,
    },
    /// Write zeroes to a part of a file made ahead.
    Zero {
        /// The file.
        name: FileName,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        bytes: usize,
    },
    /// Turn a segment nobody needs into a spare: rename, directory sync.
    Recycle {
        /// The oldest segment.
        segment: u64,
        /// Number of the spare it becomes.
        spare: u64,
    },
    /// Remove a file, and sync the directory.
    Delete {
        /// The oldest segment, or a spare.
        name: FileName,
    },
}

/// The answer to the [`UpkeepIo`] that is out.
pub type UpkeepDone = Result<(), IoFault>;
