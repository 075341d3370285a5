//! The log's directory through the standard library, for the storages that share it.
//!
//! Promises: the directory is private to its owner (0700), a file is too (0600), and only
//! regular files in it are ever opened.
//! Invariants: a symbolic link is never followed, neither for the directory nor inside it.
//! Fails by: `io::Error`.
//! Not here: file contents.
//! Source: open(2) on `O_NOFOLLOW`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{FileName, Listed};

/// Owner only.
pub(super) const DIRECTORY_MODE: u32 = 0o700;
/// Owner only.
pub(super) const FILE_MODE: u32 = 0o600;

/// Makes the directory if there is none, durably; refuses a symbolic link or anything else.
pub(super) fn ensure(directory: &Path) -> io::Result<()> {
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a directory of its own", directory.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(DIRECTORY_MODE).create(directory)?;
            let parent = match directory.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            File::open(parent)?.sync_all()
        }
        Err(error) => Err(error),
    }
}

/// Every file with a log's name, and how many others there are.
pub(super) fn list(directory: &Path) -> io::Result<(Vec<Listed>, usize)> {
    let (mut listed, mut strangers) = (Vec::new(), 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_name().to_str().and_then(FileName::parse) {
            Some(name) => {
                let found = fs::symlink_metadata(entry.path())?;
                listed.push(Listed { name, bytes: found.len(), regular: found.is_file() });
            }
            None => strangers += 1,
        }
    }
    Ok((listed, strangers))
}

/// Where a file lies.
pub(super) fn path(directory: &Path, name: FileName) -> PathBuf {
    directory.join(name.to_string())
}

/// Options with which every file is opened for reading, `direct` adding `O_DIRECT`.
pub(super) fn options(direct: bool) -> OpenOptions {
    // The standard library adds `O_CLOEXEC` itself.
    let flags = if direct { OFlags::NOFOLLOW | OFlags::DIRECT } else { OFlags::NOFOLLOW };
    let mut options = OpenOptions::new();
    options.read(true).mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    options
}

/// Makes names durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
