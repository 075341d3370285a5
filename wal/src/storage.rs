//! The few things a log asks of a directory of files.
//!
//! Promises of an implementation: a name given is a regular file in one directory, never a path
//! and never through a symbolic link; `write_at` may be short but never lies; what `sync` and
//! `sync_dir` confirmed survives power loss as far as the device honours a flush.
//! Invariants of a caller: offsets, lengths and memory of reads and writes are block aligned;
//! no sync is issued for a write that has not completed; a failed sync is never repeated.
//! Fails by: `io::Error`, which the caller wraps into an `IoFault` with step and file.
//! Not here: what the files mean. One trait serves `io_uring`, plain system calls and simulation.
//! Source: `StorageBackend` of redb, `FileSystem` of raft-engine.

use std::fmt;
use std::future::Future;
use std::io;

mod directory;
#[cfg(feature = "uring")]
pub mod dma;
pub mod sim;
pub mod threads;

/// Name of a file in a log's directory. No path ever comes from a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A segment, by its place in the log.
    Segment(u64),
    /// A retired segment, ready to become another one; it survives a crash.
    Spare(u64),
    /// A new file, ready or nearly ready to become a segment; worthless after a crash.
    Temp(u64),
}

impl FileName {
    /// The file of this name, `None` when the name is not one of a log's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once('-')?;
        let (digits, kind): (_, fn(u64) -> Self) = match kind {
            "seg" => (number.strip_suffix(".wal")?, Self::Segment),
            "spare" => (number.strip_suffix(".wal")?, Self::Spare),
            "new" => (number.strip_suffix(".tmp")?, Self::Temp),
            _ => return None,
        };
        let name = kind(u64::from_str_radix(digits, 16).ok()?);
        // One spelling per file: no upper case, no missing zeroes.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(seq) => write!(f, "seg-{seq:016x}.wal"),
            Self::Spare(id) => write!(f, "spare-{id:016x}.wal"),
            Self::Temp(id) => write!(f, "new-{id:016x}.tmp"),
        }
    }
}

/// One file as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: FileName,
    /// Its length.
    pub bytes: u64,
    /// Whether it is a regular file; a log touches nothing else.
    pub regular: bool,
}

/// A directory of log files. Futures of blocking implementations are ready when first polled.
pub trait Storage: Clone {
    /// An open file.
    type File: fmt::Debug;

    /// Every file with a log's name, in any order, and how many others there are.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> impl Future<Output = io::Result<(Vec<Listed>, usize)>>;

    /// Creates a file that must not exist, for reading and writing.
    ///
    /// # Errors
    ///
    /// When it exists or cannot be created.
    fn create(&self, name: FileName) -> impl Future<Output = io::Result<Self::File>>;

    /// Opens an existing regular file for reading and writing.
    ///
    /// # Errors
    ///
    /// When it does not exist, is no regular file, or cannot be opened.
    fn open(&self, name: FileName) -> impl Future<Output = io::Result<Self::File>>;

    /// Makes a new file `bytes` long and reserves its space, so that later writes inside do not
    /// run out of it; false where the file system cannot, and nothing was done.
    ///
    /// # Errors
    ///
    /// When there is no room.
    fn allocate(&self, file: &Self::File, bytes: u64) -> impl Future<Output = io::Result<bool>>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    ///
    /// When the device cannot give the bytes.
    fn read_at(
        &self,
        file: &Self::File,
        offset: u64,
        into: &mut [u8],
    ) -> impl Future<Output = io::Result<usize>>;

    /// Writes at `offset`; gives how many bytes of `bytes`, from the front, were written.
    ///
    /// # Errors
    ///
    /// When the write failed; what reached the device is then unknown.
    fn write_at(
        &self,
        file: &Self::File,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = io::Result<usize>>;

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    ///
    /// When the device could not; which bytes are durable is then unknown for ever.
    fn sync(&self, file: &Self::File) -> impl Future<Output = io::Result<()>>;

    /// Sets the file's length.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    fn set_len(&self, file: &Self::File, bytes: u64) -> impl Future<Output = io::Result<()>>;

    /// Gives a file another name; a file that had it is replaced.
    ///
    /// # Errors
    ///
    /// When the file system refuses; both names are then as before.
    fn rename(&self, from: FileName, to: FileName) -> impl Future<Output = io::Result<()>>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    fn remove(&self, name: FileName) -> impl Future<Output = io::Result<()>>;

    /// Makes creations, renames and removals so far durable.
    ///
    /// # Errors
    ///
    /// When the device could not.
    fn sync_dir(&self) -> impl Future<Output = io::Result<()>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_the_file_it_names() {
        for name in [FileName::Segment(1), FileName::Spare(u64::MAX), FileName::Temp(0xab)] {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        assert_eq!(FileName::Segment(0x1f).to_string(), "seg-000000000000001f.wal");
    }

    #[test]
    fn other_spellings_are_not_a_logs_files() {
        for text in [
            "seg-1.wal",
            "seg-000000000000001F.wal",
            "seg-0000000000000001.wal.bak",
            "../seg-0000000000000001.wal",
            "seg--000000000000001.wal",
            "seg-+000000000000001.wal",
            "LOCK",
            "",
        ] {
            assert_eq!(FileName::parse(text), None, "{text}");
        }
    }
}
