//! A store's directory, for looking.
//!
//! Promises: while a [`StoreDir`] is held nobody can open the store, so its files stand still;
//! nothing in it is changed, and reading is all the permission it takes.
//! Invariants: of the directory's files only `LOCK` is opened here, and no symbolic link instead.
//! Fails by: [`Fault`]: input when there is no store, environment when it is open elsewhere.
//! Not here: what the files hold.

use crate::fault::Fault;
use crate::output::shown;
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "MANIFEST";
const LOCK: &str = "LOCK";
const LOG: &str = "log";

/// The directory of a store that nobody else has open.
#[derive(Debug)]
pub struct StoreDir {
    path: PathBuf,
    /// A copy of a store may come without the file.
    _lock: Option<File>,
}

impl StoreDir {
    /// The store in `path`.
    ///
    /// # Errors
    ///
    /// When there is none, when it is open in an engine, or when it cannot be looked at.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let name = shown(path);
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Fault::input(format!("{name} is not a directory"))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Fault::input(format!("{name} does not exist; check the path")));
            }
            Err(error) => return Err(unreadable(&name, &error)),
        }
        if !is_store(path).map_err(|error| unreadable(&name, &error))? {
            let parts = format!("{MANIFEST} and no folder `{LOG}`");
            return Err(Fault::input(format!("{name} holds no store: there is no {parts} in it")));
        }
        match try_hold(path) {
            Ok(Held::Free(lock)) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Ok(Held::InUse) => Err(Fault::environment(format!(
                "the store in {name} is in use: close the engine that has it open \
                 (`fuser {name}/{LOCK}` names its process)"
            ))),
            Err(error) => Err(unreadable(&format!("{name}/{LOCK}"), &error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds a folder for each log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }
}

fn unreadable(name: &str, error: &io::Error) -> Fault {
    Fault::environment(format!("{name} cannot be read: {error}; check its permissions"))
}

/// Whether a directory holds what makes a store.
///
/// # Errors
///
/// When it cannot be looked at.
pub fn is_store(directory: &Path) -> io::Result<bool> {
    Ok(directory.join(MANIFEST).try_exists()? || directory.join(LOG).try_exists()?)
}

/// Whether a store could be held.
#[derive(Debug)]
pub enum Held {
    /// Nobody had it; the file keeps writers out while it lives. `None` where there is no file.
    Free(Option<File>),
    /// An engine has it open.
    InUse,
}

/// Tries to keep engines out of the store in `directory`, without waiting.
///
/// # Errors
///
/// When its lock file cannot be opened or locked.
pub fn try_hold(directory: &Path) -> io::Result<Held> {
    // Without blocking, should something else than a file have the name.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    let lock = match options.open(directory.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Held::Free(None)),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(Held::Free(Some(lock))),
        Err(TryLockError::WouldBlock) => Ok(Held::InUse),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn a_store_that_is_looked_at_is_kept_from_writers_and_one_in_use_is_not_looked_at() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(LOG)).unwrap();
        assert!(StoreDir::open(home.path()).is_ok(), "a copy may lack the lock file");

        let engine = File::create(home.path().join(LOCK)).unwrap();
        let looking = StoreDir::open(home.path()).unwrap();
        let beside = StoreDir::open(home.path()).unwrap();
        assert!(engine.try_lock().is_err());
        drop((looking, beside));
        engine.try_lock().unwrap();
        let fault = StoreDir::open(home.path()).unwrap_err();
        assert_eq!(fault.kind, Kind::Environment);
        assert!(fault.message.contains("in use"), "{fault}");
    }

    #[test]
    fn what_is_no_store_is_a_matter_of_input() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, told) in [
            (home.path().to_owned(), "holds no store"),
            (home.path().join("none"), "does not exist"),
            (file, "is not a directory"),
        ] {
            let fault = StoreDir::open(&path).unwrap_err();
            assert_eq!(fault.kind, Kind::Input);
            assert!(fault.message.contains(told), "{fault}");
        }
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(LOG)).unwrap();
        std::os::unix::fs::symlink("/dev/null", home.path().join(LOCK)).unwrap();
        assert_eq!(StoreDir::open(home.path()).unwrap_err().kind, Kind::Environment);
    }
}
