//! Direct I/O through `io_uring`, on a glommio executor. The only file here that names it.
//!
//! Promises: as `storage` says; a completed write is past the page cache, except on tmpfs, where
//! glommio silently does without direct I/O.
//! Invariants: used on one executor's thread only; a future that was polled is polled to its end,
//! because dropping it would leave open whether the write happens.
//! Fails by: the `io::Error` inside glommio's error, with the operating system's number kept.
//! Not here: starting executors, and whether `io_uring` is allowed at all: glommio panics where
//! it is not, so the engine asks the kernel first and takes `threads` then.
//! Source: glommio 0.9.0, `io/dma_file.rs`: writes may be short, and nothing orders a queued
//! write before a queued sync; the log never has both out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glommio::GlommioError;
use glommio::io::{Directory, DmaFile, OpenOptions, remove, rename};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::limits::BLOCK_BYTES;

use super::{FileName, Listed, Storage, directory};

/// A directory of log files, used through `io_uring`.
#[derive(Clone, Debug)]
pub struct Dma {
    directory: PathBuf,
}

impl Dma {
    /// The storage in `directory`, which is made if there is none. Call it on the executor, at
    /// start: a few calls block.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made, is a symbolic link, or its file system refuses direct
    /// I/O: take another storage then.
    pub async fn open(directory: &Path) -> io::Result<Self> {
        directory::ensure(directory)?;
        let storage = Self { directory: directory.to_owned() };
        // Glommio finds out whether a device can be polled by reading from the first file it is
        // given, and remembers the answer for the process. From an empty file, as a new one is,
        // nothing is read, so it would learn that polling works where it does not, and the first
        // real read would fail. So the first file it meets has a block.
        let probe = FileName::Temp(u64::MAX);
        let result = storage.meet(probe).await;
        match fs::remove_file(storage.path(probe)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => result.map(|()| storage),
        }
    }

    async fn meet(&self, probe: FileName) -> io::Result<()> {
        let mut options = directory::options(false);
        let mut file = options.write(true).create(true).open(self.path(probe))?;
        file.write_all(&[0; BLOCK_BYTES])?;
        file.sync_all()?;
        let met = self.open_with(probe, false).await?;
        met.close().await.map_err(plain)
    }

    fn path(&self, name: FileName) -> PathBuf {
        directory::path(&self.directory, name)
    }

    async fn open_with(&self, name: FileName, new: bool) -> io::Result<DmaFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(new).mode(directory::FILE_MODE);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options.dma_open(self.path(name)).await.map_err(plain)
    }
}

/// The operating system's error inside glommio's, which its own conversion would lose.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

impl Storage for Dma {
    type File = DmaFile;

    async fn list(&self) -> io::Result<(Vec<Listed>, usize)> {
        directory::list(&self.directory)
    }

    async fn create(&self, name: FileName) -> io::Result<DmaFile> {
        self.open_with(name, true).await
    }

    async fn open(&self, name: FileName) -> io::Result<DmaFile> {
        if !fs::symlink_metadata(self.path(name))?.is_file() {
            let text = format!("{name} is not a regular file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.open_with(name, false).await
    }

    async fn allocate(&self, file: &DmaFile, bytes: u64) -> io::Result<bool> {
        match file.pre_allocate(bytes, false).await.map_err(plain) {
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                _ => Err(error),
            },
            Ok(()) => Ok(true),
        }
    }

    async fn read_at(&self, file: &DmaFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let read = file.read_at_aligned(offset, into.len()).await.map_err(plain)?;
        let bytes = read.len().min(into.len());
        // Copied at once: the buffer goes back to the executor's pool with `read`.
        into[..bytes].copy_from_slice(&read[..bytes]);
        Ok(bytes)
    }

    async fn write_at(&self, file: &DmaFile, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = file.alloc_dma_buffer(bytes.len());
        buffer.trim_to_size(bytes.len());
        buffer.as_bytes_mut().copy_from_slice(bytes);
        file.write_at(buffer, offset).await.map_err(plain)
    }

    async fn sync(&self, file: &DmaFile) -> io::Result<()> {
        file.fdatasync().await.map_err(plain)
    }

    async fn set_len(&self, file: &DmaFile, bytes: u64) -> io::Result<()> {
        file.truncate(bytes).await.map_err(plain)
    }

    async fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        rename(self.path(from), self.path(to)).await.map_err(plain)
    }

    async fn remove(&self, name: FileName) -> io::Result<()> {
        remove(self.path(name)).await.map_err(plain)
    }

    async fn sync_dir(&self) -> io::Result<()> {
        let opened = Directory::open(&self.directory).await.map_err(plain)?;
        let synced = opened.sync().await.map_err(plain);
        // Closing tells nothing about what was synced.
        let _ = opened.close().await;
        synced
    }
}
