//! The lock: one process, and in it one engine, at a time.
//!
//! Promises: held from before anything is read until the last file is closed, by every thread that
//! may still write; the kernel lets go
//! of it when the process ends, whatever way. The file stays empty, so it cannot be damaged.
//! Fails by: [`StoreError::AlreadyOpen`], with the process that holds it where the kernel tells,
//! when it is not let go of within [`HOLDER_PATIENCE`].
//! Not here: network file systems, whose locks may be local to one host.

use super::StoreError;
use super::files::{self, StoreFiles};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

/// How long a lock that is held may take to become free. A process that was killed keeps it until
/// the kernel has taken its memory apart, and whoever restarts it is mostly faster.
const HOLDER_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct StoreLock {
    file: File,
}

impl Drop for StoreLock {
    /// Not by closing the file alone: a process that the host is just starting has it too, until it
    /// runs its own program.
    fn drop(&mut self) {
        let _it_ends_with_the_process = self.file.unlock();
    }
}

impl StoreLock {
    /// Takes the lock of the store at `files`.
    pub(crate) fn take(files: &StoreFiles) -> Result<Self, StoreError> {
        let path = files.lock();
        let file = files::open_lock(&path)?;
        files::check_private(&path, false)?;
        Self::held(file, files, File::try_lock)
    }

    /// Keeps engines from the store at `files` while it is looked at, beside others who look. The
    /// file is neither made nor written to; a copy of a store may come without it.
    pub(crate) fn share(files: &StoreFiles) -> Result<Option<Self>, StoreError> {
        let path = files.lock();
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(files::failed("looking at", &path)(error)),
            Ok(_) => files::check_private(&path, false)?,
        }
        let file = files::open_to_read(&path)?;
        Self::held(file, files, File::try_lock_shared).map(Some)
    }

    /// Tries until the lock is free, or patience is at its end.
    fn held(
        file: File,
        files: &StoreFiles,
        attempt: impl Fn(&File) -> Result<(), TryLockError>,
    ) -> Result<Self, StoreError> {
        let begun = Instant::now();
        loop {
            match attempt(&file) {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < HOLDER_PATIENCE => {
                    thread::sleep(LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => {
                    let pid = holder(&file);
                    return Err(StoreError::AlreadyOpen { path: files.root().to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(files::failed("locking", &files.lock())(error));
                }
            }
        }
    }
}

/// The process that holds the lock, as the kernel's list of locks has it.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF
    let of_line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let place = fields.get(5)?.rsplit(':').next()?;
        (*fields.get(1)? == "FLOCK" && place == inode).then(|| fields.get(4)?.parse().ok())?
    };
    locks.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_and_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let held = StoreLock::take(&files).unwrap();
        let refused = StoreLock::take(&files).unwrap_err();
        let StoreError::AlreadyOpen { pid, .. } = refused else { panic!("{refused}") };
        // Some containers hide the list of locks.
        assert!(pid.is_none() || pid == Some(std::process::id()));
        assert_eq!(fs::metadata(files.lock()).unwrap().len(), 0);
        drop(held);
        StoreLock::take(&files).unwrap();
    }

    #[test]
    fn a_lock_that_is_let_go_of_is_free_although_another_process_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let held = StoreLock::take(&files).unwrap();
        // As a child has it between its start and its own program.
        let inherited = held.file.try_clone().unwrap();
        drop(held);
        StoreLock::take(&files).unwrap();
        drop(inherited);
    }

    #[test]
    fn a_lock_whose_holder_is_on_its_way_out_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        let ending = || {
            let held = StoreLock::take(&files).unwrap();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(60));
                drop(held);
            })
        };
        let (first, taken) = (ending(), StoreLock::take(&files));
        drop(taken.unwrap());
        let (second, shared) = (ending(), StoreLock::share(&files));
        assert!(shared.unwrap().is_some());
        assert!([first, second].into_iter().all(|ended| ended.join().is_ok()));
    }

    #[test]
    fn lookers_share_a_store_and_keep_engines_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        assert!(StoreLock::share(&files).unwrap().is_none());
        assert!(!files.lock().exists(), "looking makes no file");
        let engine = StoreLock::take(&files).unwrap();
        let refused = StoreLock::share(&files).unwrap_err();
        assert_eq!(refused.code(), "store-already-open");
        drop(engine);
        let lookers = [StoreLock::share(&files), StoreLock::share(&files)];
        assert_eq!(StoreLock::take(&files).unwrap_err().code(), "store-already-open");
        drop(lookers);
        StoreLock::take(&files).unwrap();
    }
}
