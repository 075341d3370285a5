//! The boundary between whoever makes records and the log that keeps them.
//!
//! Promises: [`WalWriter::append`] numbers the records, copies them and does no I/O; a number
//! at or below a watermark has reached that level together with every number before it.
//! Invariants: `durable <= written <= appended`; watermarks never go back.
//! Fails by: [`AppendError`]: back-pressure is a value, and nothing was taken; poison stays.
//! Not here: I/O (`log` decides it, `lane` performs it), tickets and waiting (the caller's).
//! Source: group commit as in `DeWitt` et al., "Implementation Techniques for Main Memory
//! Database Systems", SIGMOD 1984.

use thiserror::Error;

use crate::fault::IoFault;
use crate::log::NoteError;
use crate::lsn::Lsn;
use crate::note::CheckpointNote;

/// How far a log has come, by level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Last record taken into memory.
    pub appended: Lsn,
    /// Last record that survives the process; `None` from a writer that never writes.
    pub written: Option<Lsn>,
    /// Last record that survives power loss; `None` from a writer that never writes.
    pub durable: Option<Lsn>,
}

/// Takes records in order.
pub trait WalWriter {
    /// Takes a batch of `count` records, opaque `records` bytes, and gives the number of its
    /// first one; the others follow it. The batch comes back from recovery as one piece.
    ///
    /// # Errors
    ///
    /// Nothing was taken, see [`AppendError`] for what to do.
    ///
    /// # Panics
    ///
    /// When `count` is zero.
    fn append(&mut self, records: &[u8], count: u32) -> Result<Lsn, AppendError>;

    /// How far the log has come.
    fn watermarks(&self) -> Watermarks;

    /// Length of the largest batch that [`append`](Self::append) would take now; zero under
    /// back-pressure. A caller that asks first never has to hold a batch back.
    fn room(&self) -> usize;

    /// Notes that a durable checkpoint covers every record up to `note.covered`: the log need keep
    /// them no longer.
    ///
    /// # Errors
    ///
    /// When the log itself does not hold all of them durably, or can write no more.
    fn note_checkpoint(&mut self, note: CheckpointNote) -> Result<(), NoteError>;

    /// Bytes of the files the log takes on disk.
    fn file_bytes(&self) -> u64;

    /// Bytes written since the log was opened: frames, with their headers and padding.
    fn written_bytes(&self) -> u64;
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Try again after the log has moved on; nothing is wrong yet.
    #[error("the log takes no more for now: {0}")]
    BackPressure(Pressure),
    /// Never fits: split the batch.
    #[error("a batch of {asked} bytes is more than a log group holds: append at most {most}")]
    TooLarge {
        /// Bytes of the batch.
        asked: usize,
        /// Bytes a batch may have.
        most: usize,
    },
    /// The log was told to close: reopen it to append.
    #[error("the log is closing and takes no more records")]
    Closing,
    /// A write or sync failed and what reached the disk is unknown: reopen the store, recovery
    /// finds out. Until then nothing is taken, and nothing unacknowledged will be.
    #[error("the log is poisoned, reopen the store to recover: {0}")]
    Poisoned(#[source] IoFault),
}

/// What back-pressure waits for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Pressure {
    /// The device: the next group is full while one is being written.
    #[error("the group in memory is full until the device has taken the one before")]
    Device,
    /// Space: the segment is full and no other could be made. It resumes by itself when space
    /// returns or a segment retires.
    #[error("the log is out of space; free some, or take a checkpoint")]
    Space,
    /// A checkpoint: the log takes as much as it may. It resumes by itself when a segment retires.
    #[error("the log is as large as it may be; take a checkpoint")]
    Limit,
}

/// A writer that keeps nothing: it numbers records and forgets them.
///
/// For tests and for hosts that chose to lose everything in a crash.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWal {
    appended: Lsn,
}

impl NoWal {
    /// A writer whose first record is number 1.
    #[must_use]
    pub const fn new() -> Self {
        Self { appended: Lsn::NONE }
    }
}

impl WalWriter for NoWal {
    fn append(&mut self, _records: &[u8], count: u32) -> Result<Lsn, AppendError> {
        assert!(count > 0, "a batch holds at least one record");
        let first = self.appended.next();
        self.appended = self.appended.after(u64::from(count));
        Ok(first)
    }

    fn watermarks(&self) -> Watermarks {
        Watermarks { appended: self.appended, written: None, durable: None }
    }

    fn room(&self) -> usize {
        usize::MAX
    }

    fn note_checkpoint(&mut self, _: CheckpointNote) -> Result<(), NoteError> {
        Ok(())
    }

    fn file_bytes(&self) -> u64 {
        0
    }

    fn written_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_keeps_nothing_numbers_records_and_promises_no_level() {
        let mut wal = NoWal::new();
        assert_eq!(wal.append(b"abc", 3), Ok(Lsn::FIRST));
        assert_eq!(wal.append(b"", 1), Ok(Lsn::new(4)));
        let seen = wal.watermarks();
        assert_eq!(seen, Watermarks { appended: Lsn::new(4), written: None, durable: None });
    }

    #[test]
    #[should_panic(expected = "at least one record")]
    fn an_empty_batch_is_the_callers_mistake() {
        let _ = NoWal::new().append(b"abc", 0);
    }
}
