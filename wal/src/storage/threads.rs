//! Plain system calls: pwrite on a direct descriptor, fdatasync. Works where `io_uring` is
//! forbidden, as it is in most containers.
//!
//! Promises: a completed write is past the page cache where [`Threads::direct`] says so; else it
//! is in the page cache, which survives the process as well, but not the kernel.
//! Invariants: every call blocks until it is done, so every future is ready when first polled;
//! nothing is kept open between calls but the files given out.
//! Fails by: the operating system's `io::Error`.
//! Not here: threads. Whoever must not block runs a lane on one (`io_threads`).
//! Source: open(2) on `O_DIRECT`; measured: a 4 KiB direct write and fdatasync on a zeroed file
//! take no longer than an `O_DSYNC` write, and keep the two levels apart.

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{FileName, Listed, Storage, directory};
use crate::limits::BLOCK_BYTES;

/// A directory of log files, used through blocking system calls.
#[derive(Clone, Debug)]
pub struct Threads {
    directory: PathBuf,
    direct: bool,
    writable: bool,
    /// Which segments are listed.
    segments: RangeInclusive<u64>,
}

impl Threads {
    /// The storage in `directory`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or is a symbolic link. A file system that refuses
    /// direct I/O is no error, see [`direct`](Self::direct).
    pub fn open(directory: &Path) -> io::Result<Self> {
        directory::ensure(directory)?;
        let direct = takes_direct(directory)?;
        let segments = 0..=u64::MAX;
        Ok(Self { directory: directory.to_owned(), direct, writable: true, segments })
    }

    /// The storage in a directory that must exist, for looking only: nothing is written, and
    /// reading is all the permission it takes.
    ///
    /// # Errors
    ///
    /// When there is no such directory, or it is a symbolic link.
    pub fn open_existing(directory: &Path) -> io::Result<Self> {
        if !fs::symlink_metadata(directory)?.is_dir() {
            let text = format!("{} is not a directory of its own", directory.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
        }
        let segments = 0..=u64::MAX;
        Ok(Self { directory: directory.to_owned(), direct: false, writable: false, segments })
    }

    /// The same storage with these segments only, for looking behind damage.
    #[must_use]
    pub fn only(self, segments: RangeInclusive<u64>) -> Self {
        Self { segments, ..self }
    }

    /// Whether writes go past the page cache. Where they do not (tmpfs, some network and overlay
    /// file systems), a durable record is as durable as that file system makes it.
    #[must_use]
    pub const fn direct(&self) -> bool {
        self.direct
    }

    fn path(&self, name: FileName) -> PathBuf {
        directory::path(&self.directory, name)
    }
}

/// Whether files of this directory can be opened for direct I/O.
fn takes_direct(directory: &Path) -> io::Result<bool> {
    // A temporary name: should the process die here, recovery removes it.
    let probe = directory::path(directory, FileName::Temp(u64::MAX));
    let mut options = directory::options(true);
    let opened = options.write(true).create(true).truncate(true).open(&probe);
    match opened {
        Ok(_) => fs::remove_file(&probe).map(|()| true),
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            // Some kernels make the file before they refuse the flag.
            match fs::remove_file(&probe) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(false),
            }
        }
        Err(error) => Err(error),
    }
}

impl Storage for Threads {
    type File = File;

    async fn list(&self) -> io::Result<(Vec<Listed>, usize)> {
        let (mut listed, strangers) = directory::list(&self.directory)?;
        let is_wanted = |file: &Listed| match file.name {
            FileName::Segment(seq) => self.segments.contains(&seq),
            FileName::Spare(_) | FileName::Temp(_) => true,
        };
        listed.retain(is_wanted);
        Ok((listed, strangers))
    }

    async fn create(&self, name: FileName) -> io::Result<File> {
        let mut options = directory::options(self.direct);
        options.write(self.writable).create_new(true).open(self.path(name))
    }

    async fn open(&self, name: FileName) -> io::Result<File> {
        let file = directory::options(self.direct).write(self.writable).open(self.path(name))?;
        if !file.metadata()?.is_file() {
            let text = format!("{name} is not a regular file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(file)
    }

    async fn allocate(&self, file: &File, bytes: u64) -> io::Result<bool> {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    async fn read_at(&self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        debug_assert!(into.as_ptr().addr().is_multiple_of(BLOCK_BYTES), "aligned for direct I/O");
        uninterrupted(|| file.read_at(into, offset))
    }

    async fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        debug_assert!(bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES), "aligned for direct I/O");
        uninterrupted(|| file.write_at(bytes, offset))
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    async fn set_len(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    async fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    async fn remove(&self, name: FileName) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    async fn sync_dir(&self) -> io::Result<()> {
        directory::sync(&self.directory)
    }
}

/// Repeats a call that was interrupted before it did anything.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::aligned::AlignedBuf;
    use crate::blocking::ready;

    #[test]
    fn a_file_is_private_and_keeps_what_is_written() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("log");
        let storage = Threads::open(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);

        let name = FileName::Temp(1);
        let file = ready(storage.create(name)).unwrap();
        assert_eq!(mode(&storage.path(name)), 0o600);
        assert!(ready(storage.allocate(&file, 2 * BLOCK_BYTES as u64)).unwrap());
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        block.fill(7);
        assert_eq!(ready(storage.write_at(&file, BLOCK_BYTES as u64, &block)).unwrap(), 4096);
        ready(storage.sync(&file)).unwrap();
        ready(storage.rename(name, FileName::Segment(1))).unwrap();
        ready(storage.sync_dir()).unwrap();

        let file = ready(storage.open(FileName::Segment(1))).unwrap();
        let mut read = AlignedBuf::zeroed(4 * BLOCK_BYTES);
        assert_eq!(ready(storage.read_at(&file, 0, &mut read)).unwrap(), 2 * BLOCK_BYTES);
        assert!(read[..BLOCK_BYTES].iter().all(|&byte| byte == 0));
        assert_eq!(read[BLOCK_BYTES..2 * BLOCK_BYTES], block[..]);
        let listed = ready(storage.list()).unwrap();
        let expected = Listed { name: FileName::Segment(1), bytes: 8192, regular: true };
        assert_eq!(listed, (vec![expected], 0));
    }

    #[test]
    fn a_file_is_not_created_twice() {
        let home = tempfile::tempdir().unwrap();
        let storage = Threads::open(home.path()).unwrap();
        ready(storage.create(FileName::Temp(1))).unwrap();
        let error = ready(storage.create(FileName::Temp(1))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_storage_for_looking_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let name = FileName::Segment(1);
        let storage = Threads::open(home.path()).unwrap();
        let file = ready(storage.create(name)).unwrap();
        ready(storage.write_at(&file, 0, &AlignedBuf::zeroed(BLOCK_BYTES))).unwrap();

        let looking = Threads::open_existing(home.path()).unwrap();
        assert_eq!(ready(looking.clone().only(2..=9).list()).unwrap(), (vec![], 0));
        let file = ready(looking.open(name)).unwrap();
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        assert_eq!(ready(looking.read_at(&file, 0, &mut block)).unwrap(), BLOCK_BYTES);
        assert!(ready(looking.write_at(&file, 0, &block)).is_err());
        assert!(ready(looking.create(FileName::Segment(2))).is_err());
        assert!(Threads::open_existing(&home.path().join("none")).is_err());
    }

    #[test]
    fn a_symbolic_link_is_followed_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real"), home.path().join("link"));
        Threads::open(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(Threads::open(&link).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(Threads::open_existing(&link).is_err());

        let storage = Threads::open(&real).unwrap();
        let name = FileName::Segment(1);
        symlink("/dev/null", storage.path(name)).unwrap();
        assert!(ready(storage.open(name)).is_err());
        let (listed, strangers) = ready(storage.list()).unwrap();
        assert!(!listed[0].regular);
        assert_eq!(strangers, 0);
    }

    #[test]
    fn a_memory_file_system_works_and_says_whether_it_is_direct() {
        let shm = Path::new("/dev/shm");
        let Ok(home) = tempfile::tempdir_in(shm) else {
            println!("skipped: no {} to write to", shm.display());
            return;
        };
        let storage = Threads::open(home.path()).unwrap();
        assert_eq!(storage.direct(), takes_direct(home.path()).unwrap());
        assert_eq!(ready(storage.list()).unwrap(), (vec![], 0), "the probe leaves nothing");
        ready(storage.create(FileName::Temp(1))).unwrap();
    }
}
