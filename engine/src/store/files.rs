//! The store's directory: what lies where, and how its files are made.
//!
//! Promises: directories are private to their owner (0700), files too (0600); a file appears
//! under its name whole and durable, or not at all; no symbolic link inside is followed.
//! Fails by: [`StoreError`], with the path and what was being done.
//! Not here: what the files mean (`manifest`, `seal`, the log's own package).
//! Source: Pillai et al., OSDI 2014, for the order of the steps.

use super::StoreError;
use rustix::fs::{AtFlags, CWD, OFlags, RenameFlags, StatxFlags, renameat_with, statvfs, statx};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Owner only.
const DIRECTORY_MODE: u32 = 0o700;
/// Owner only.
const FILE_MODE: u32 = 0o600;
/// No file of the database becomes longer: its journal begins with 64 MiB and goes on in another
/// file when a table in memory has as much.
const DATABASE_FILE_BYTES: u64 = 128 << 20;
/// Bytes that are copied at once.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// Permission bits that let others change what is stored.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The places in a store's directory.
#[derive(Clone, Debug)]
pub(crate) struct StoreFiles {
    root: PathBuf,
}

impl StoreFiles {
    /// The places below `root`, which need not exist.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join("MANIFEST")
    }

    /// Where the manifest lies while the store is being made.
    pub(crate) fn next_manifest(&self) -> PathBuf {
        self.root.join("MANIFEST.new")
    }

    pub(crate) fn seal(&self) -> PathBuf {
        self.root.join("SEAL")
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// Where a checkpoint is written that is to take the other's place.
    pub(crate) fn next_checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint.new")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The folder of one log.
    pub(crate) fn log(&self, log: u32) -> PathBuf {
        self.logs().join(format!("{log:04}"))
    }

    /// Something in the directory that is not the lock, nor part of a store that has `begun`.
    pub(crate) fn first_stranger(&self, begun: bool) -> Result<Option<String>, StoreError> {
        self.first_but(if begun { &["LOCK", "MANIFEST.new", "checkpoint"] } else { &["LOCK"] })
    }

    /// Something in the directory.
    pub(crate) fn first_entry(&self) -> Result<Option<String>, StoreError> {
        self.first_but(&[])
    }

    /// How many entries of the directory no store makes.
    pub(crate) fn strangers(&self) -> Result<u64, StoreError> {
        let known = [
            self.lock(),
            self.manifest(),
            self.next_manifest(),
            self.seal(),
            self.seal().with_extension("new"),
            self.checkpoint(),
            self.next_checkpoint(),
            self.logs(),
        ];
        let mut strangers = 0;
        for entry in fs::read_dir(&self.root).map_err(failed("listing", &self.root))? {
            let path = entry.map_err(failed("listing", &self.root))?.path();
            strangers += u64::from(!known.contains(&path));
        }
        Ok(strangers)
    }

    fn first_but(&self, known: &[&str]) -> Result<Option<String>, StoreError> {
        let listed = fs::read_dir(&self.root).map_err(failed("listing", &self.root))?;
        for entry in listed {
            let name = entry.map_err(failed("listing", &self.root))?.file_name();
            if !known.iter().any(|&known| name == known) {
                return Ok(Some(name.to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }
}

/// Refuses where files may not become as long as those of the database and the log do.
pub(crate) fn check_limit(segment_bytes: u64) -> Result<(), StoreError> {
    let needed = DATABASE_FILE_BYTES.max(segment_bytes);
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < needed => Err(StoreError::FileLimit { limit, needed }),
        _ => Ok(()),
    }
}

/// Turns an error of the operating system into the store's, saying what was done to which path.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |cause| StoreError::Io {
        doing,
        path: path.to_owned(),
        kind: cause.kind(),
        raw_os_error: cause.raw_os_error(),
        cause: cause.to_string(),
    }
}

/// Makes a directory and its missing parents, private to their owner, durably.
pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(failed("making the directory", path)(error))
        }
        _ => sync_directory(parent_of(path)),
    }
}

/// Refuses a path that is a symbolic link, is of the wrong kind, or may be changed by others.
pub(crate) fn check_private(path: &Path, directory: bool) -> Result<(), StoreError> {
    let found = fs::symlink_metadata(path).map_err(failed("looking at", path))?;
    check_kind(&found, path, directory)?;
    let mode = found.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(StoreError::NotPrivate { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Refuses what was `found` at a path, if it is a symbolic link or of the wrong kind.
pub(crate) fn check_kind(
    found: &fs::Metadata,
    path: &Path,
    directory: bool,
) -> Result<(), StoreError> {
    if found.is_symlink() {
        return Err(StoreError::Symlink { path: path.to_owned() });
    }
    if found.is_dir() != directory || (!directory && !found.is_file()) {
        return Err(StoreError::WrongKind { path: path.to_owned(), directory });
    }
    Ok(())
}

/// The length of what is at a path; `None` if nothing is.
pub(crate) fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        // Neither is there anything below a file.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(failed("looking at", path)(error)),
    }
}

/// Opens a file of the store for reading, never through a symbolic link.
pub(crate) fn open_to_read(path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(failed("opening", path))
}

/// Makes a file that must not exist, or empties one that does.
pub(crate) fn create(path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE).custom_flags(flags);
    options.open(path).map_err(failed("making", path))
}

/// Lets two directories change their names, both at once, durably.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<(), StoreError> {
    let exchanged = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    exchanged.map_err(|errno| failed("exchanging", other)(errno.into()))?;
    sync_directory(parent_of(other))
}

/// Says whether the next checkpoint could take the other's place here: some file systems exchange
/// nothing, and none exchanges what is mounted.
pub(crate) fn try_exchange(files: &StoreFiles) -> Result<(), StoreError> {
    let (next, path) = (files.next_checkpoint(), files.checkpoint());
    let mount = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
        let found = found.map_err(|errno| failed("looking at", path)(errno.into()))?;
        Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
    };
    if mount(files.root())? != mount(&path)? {
        return Err(failed("exchanging", &path)(io::ErrorKind::CrossesDevices.into()));
    }
    let [one, other] = ["one", "other"].map(|name| next.join(name));
    make_directory(&one)?;
    make_directory(&other)?;
    exchange(&one, &other)?;
    remove_directory(&next)
}

/// Bytes that may be written where a path lies.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let found = statvfs(path).map_err(|errno| failed("looking at", path)(errno.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Opens the file that is locked; it is made if there is none.
pub(crate) fn open_lock(path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(FILE_MODE).custom_flags(flags).open(path).map_err(|error| {
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => StoreError::Symlink { path: path.to_owned() },
            _ => failed("opening", path)(error),
        }
    })
}

/// The first bytes of a file, at most `most` of them and one more; `None` if there is no file.
pub(crate) fn read_short(path: &Path, most: usize) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("looking at", path)(error)),
        Ok(_) => check_private(path, false)?,
    }
    let mut bytes = Vec::new();
    let mut file = open_to_read(path)?.take(most as u64 + 1);
    file.read_to_end(&mut bytes).map_err(failed("reading", path))?;
    Ok(Some(bytes))
}

/// Reads until `into` is full or the file ends.
pub(crate) fn fill(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Puts a file in place, whole and durable: written beside, synced, renamed, directory synced.
pub(crate) fn put_in_place(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let beside = path.with_extension("new");
    put(&beside, bytes)?;
    rename(&beside, path)
}

/// Writes a file, durably.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = create(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(failed("writing", path))?;
    sync_directory(parent_of(path))
}

/// Gives a file another name, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(failed("renaming to", to))?;
    sync_directory(parent_of(to))
}

/// Removes a file, durably; there need not be one.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removing", path)(error)),
    }
}

/// Removes a directory with all that is in it, durably; there need not be one.
pub(crate) fn remove_directory(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Ok(()) => sync_directory(parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removing", path)(error)),
    }
}

/// Makes a directory durable with all that is in it: names and contents.
pub(crate) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(failed("syncing", path))
}

/// The folder that holds what a path names.
pub(crate) fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_put_in_place_is_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        make_directory(&deep).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().mode() & 0o777, DIRECTORY_MODE);
        let path = deep.join("MANIFEST");
        assert_eq!(read_short(&path, 4).unwrap(), None);
        put_in_place(&path, b"first").unwrap();
        put_in_place(&path, b"second").unwrap();
        assert_eq!(read_short(&path, 100).unwrap().unwrap(), b"second");
        assert_eq!(read_short(&path, 3).unwrap().unwrap(), b"seco", "one more shows it is longer");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn links_and_files_others_may_write_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        put_in_place(&file, b"x").unwrap();
        symlink(&file, &link).unwrap();
        assert!(matches!(check_private(&link, false), Err(StoreError::Symlink { .. })));
        assert!(matches!(read_short(&link, 9), Err(StoreError::Symlink { .. })));
        assert!(matches!(open_lock(&link), Err(StoreError::Symlink { .. })));
        assert!(matches!(check_private(&file, true), Err(StoreError::WrongKind { .. })));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        let refused = check_private(&file, false).unwrap_err();
        assert!(matches!(refused, StoreError::NotPrivate { mode: 0o620, .. }), "{refused}");
        assert!(refused.to_string().contains("chmod"), "{refused}");
    }
}
