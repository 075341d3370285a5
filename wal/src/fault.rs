//! A failed step on the log's files, kept so that it can be told again and again.
//!
//! Promises: the operating system's own error survives: its kind, its number, its text.
//! Invariants: a fault is plain data; it may be copied to every waiter of a poisoned log.
//! Fails by: nothing here fails.
//! Not here: what a fault leads to. That is decided where it is taken (`log`, `recover`).
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020: a failed
//! sync must not be retried, so its cause must be kept.

use std::fmt;
use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::storage::FileName;

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Listing the directory.
    List,
    /// Creating a file.
    Create,
    /// Opening a file.
    Open,
    /// Reserving and zeroing a new file's space.
    Allocate,
    /// Reading.
    Read,
    /// Writing a segment's header block.
    WriteHeader,
    /// Writing a frame.
    WriteFrame,
    /// Making written bytes durable.
    Sync,
    /// Giving a file its next name.
    Rename,
    /// Cutting a file to length.
    Truncate,
    /// Removing a file.
    Remove,
    /// Making names durable.
    SyncDirectory,
    /// Performing anything: whoever did so is gone.
    Drive,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "listing",
            Self::Create => "creating",
            Self::Open => "opening",
            Self::Allocate => "reserving space for",
            Self::Read => "reading",
            Self::WriteHeader => "writing the header of",
            Self::WriteFrame => "writing a frame to",
            Self::Sync => "syncing",
            Self::Rename => "renaming",
            Self::Truncate => "cutting",
            Self::Remove => "removing",
            Self::SyncDirectory => "syncing the directory after a change of",
            Self::Drive => "performing I/O on",
        })
    }
}

/// One failed step: what, on which file, and the cause.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{step} {file} failed: {cause}")]
pub struct IoFault {
    /// What was being done.
    pub step: Step,
    /// To which file, by its name in the log's directory.
    pub file: String,
    /// The cause's kind.
    pub kind: io::ErrorKind,
    /// The operating system's number for the cause, where it came from there.
    pub raw_os_error: Option<i32>,
    /// The cause in words.
    pub cause: String,
}

impl IoFault {
    /// The fault of `step` on `file`.
    #[must_use]
    pub fn new(step: Step, file: FileName, cause: &io::Error) -> Self {
        Self::about(step, &file.to_string(), cause)
    }

    /// The fault of `step` on the directory itself.
    #[must_use]
    pub fn directory(step: Step, cause: &io::Error) -> Self {
        Self::about(step, "the log directory", cause)
    }

    fn about(step: Step, file: &str, cause: &io::Error) -> Self {
        Self {
            step,
            file: file.to_owned(),
            kind: cause.kind(),
            raw_os_error: cause.raw_os_error(),
            cause: cause.to_string(),
        }
    }

    /// Whether the device, or the file system on it, does not have the bytes any more: no
    /// permission and no room would help.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.raw_os_error.is_some_and(is_unreadable)
    }

    /// Whether freeing space is what would help.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Whether an error with this number says that the device, or the file system on it, does not have
/// the bytes any more.
#[must_use]
pub fn is_unreadable(raw_os_error: i32) -> bool {
    let lost = [Errno::IO, Errno::NODATA, Errno::BADMSG, Errno::UCLEAN];
    lost.iter().any(|errno| errno.raw_os_error() == raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_where_and_why() {
        let cause = io::Error::from_raw_os_error(28);
        let fault = IoFault::new(Step::Allocate, FileName::Spare(3), &cause);
        assert!(fault.is_out_of_space());
        assert_eq!(fault.raw_os_error, Some(28));
        let text = fault.to_string();
        assert!(text.starts_with("reserving space for spare-0000000000000003.wal failed: "));
        assert!(text.contains("No space left"));
    }
}
