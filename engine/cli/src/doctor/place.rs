//! Facts of the directory: what it is, what holds it, what came of writing to it.
//!
//! Promises: a directory that is missing is not made; what is written is a file without a name,
//! gone when it is closed, whatever happens.

use super::facts::{Directory, Mount, Place, Store, Trial};
use super::host::Kernel;
use super::mounts;
use crate::limits::TRIAL_WRITES;
use crate::output::{printable, shown};
use ebbtide::StoreError;
use ebbtide::offline::HeldStore;
use ebbtide_wal::aligned::AlignedBuf;
use ebbtide_wal::limits::BLOCK_BYTES;
use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, statvfs, statx};
use rustix::process::geteuid;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Looks at `asked`, or at the closest directory above it that exists.
pub(super) fn gather(asked: &Path) -> Place {
    let directory = look(asked);
    let base = existing(asked);
    let space = statvfs(&base).ok();
    Place {
        mount: mount_of(&Kernel::running(), &base),
        trial: write_to(&base).map_err(|error| printable(&error.to_string())),
        free_bytes: space.map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        store: store_in(asked, &directory),
        base: shown(&base),
        directory,
    }
}

fn look(asked: &Path) -> Directory {
    match fs::metadata(asked) {
        Ok(found) if found.is_dir() => {
            let own = found.uid() == geteuid().as_raw();
            Directory::There { mode: found.mode() & 0o7777, own }
        }
        Ok(_) => Directory::Not("there is a file of that name".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::symlink_metadata(asked) {
            Ok(_) => Directory::Not("it is a link to what does not exist".into()),
            Err(_) => Directory::Missing,
        },
        Err(error) => Directory::Not(error.to_string()),
    }
}

fn existing(asked: &Path) -> PathBuf {
    let absolute = std::path::absolute(asked).unwrap_or_else(|_| asked.to_owned());
    let base = absolute.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    base.canonicalize().unwrap_or_else(|_| base.to_owned())
}

fn mount_of(kernel: &Kernel, base: &Path) -> Option<Mount> {
    let line = mounts::holding(&kernel.read("proc/self/mountinfo")?, base)?;
    let device = format!("/sys/dev/block/{}", line.device);
    // A partition has the cache of the disk it is a part of.
    let caches = [format!("{device}/queue/write_cache"), format!("{device}/../queue/write_cache")];
    Some(Mount {
        read_only: line.is_read_only(),
        write_cache: caches.iter().find_map(|path| kernel.read(path)).map(|text| printable(&text)),
        kind: printable(&line.kind),
        source: printable(&line.source),
    })
}

/// Writes a block and syncs it, again and again, as a log would.
fn write_to(base: &Path) -> io::Result<Trial> {
    let file = tempfile::tempfile_in(base)?;
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
    block.fill(0xeb);
    let plain = fcntl_getfl(&file)?;
    let direct =
        fcntl_setfl(&file, plain | OFlags::DIRECT).is_ok() && file.write_all_at(&block, 0).is_ok();
    if !direct {
        fcntl_setfl(&file, plain)?;
        file.write_all_at(&block, 0)?;
    }
    let mut times = Vec::with_capacity(TRIAL_WRITES);
    file.sync_data()?;
    for _ in 0..TRIAL_WRITES {
        let start = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let sync = times.get(TRIAL_WRITES / 2).copied().unwrap_or(Duration::ZERO);
    Ok(Trial { direct, align_bytes: alignment(&file), sync })
}

/// What the file system says of direct I/O on this file.
fn alignment(file: &File) -> Option<(u32, u32)> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let align = (told.stx_dio_mem_align, told.stx_dio_offset_align);
    let is_told = told.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    (is_told && align != (0, 0)).then_some(align)
}

fn store_in(asked: &Path, directory: &Directory) -> Store {
    if !matches!(directory, Directory::There { .. }) {
        return Store::None;
    }
    match HeldStore::look(asked, |_| Ok::<_, StoreError>(())) {
        Ok(()) => Store::Free,
        Err(StoreError::NoStore { .. }) => Store::None,
        Err(StoreError::AlreadyOpen { .. }) => Store::InUse,
        Err(error) => Store::Unknown(printable(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_directory_is_judged_by_the_closest_one_above_and_not_made() {
        let home = tempfile::tempdir().unwrap();
        let asked = home.path().join("a/b");
        let place = gather(&asked);
        assert_eq!(place.directory, Directory::Missing);
        assert_eq!(place.base, shown(&home.path().canonicalize().unwrap()));
        assert!(place.trial.is_ok() && place.free_bytes > Some(0), "{place:?}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_directory_is_told_with_its_permissions_and_a_file_is_none() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(look(home.path()), Directory::There { mode: 0o750, own: true });
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(look(&file), Directory::Not(_)));
        assert!(matches!(look(&file.join("below")), Directory::Not(_)));
        let link = home.path().join("link");
        std::os::unix::fs::symlink(home.path().join("none"), &link).unwrap();
        assert!(matches!(look(&link), Directory::Not(_)));
    }

    #[test]
    fn a_store_is_told_from_none_and_from_one_in_use() {
        let home = tempfile::tempdir().unwrap();
        let told = || store_in(home.path(), &look(home.path()));
        assert_eq!(told(), Store::None);
        fs::write(home.path().join("MANIFEST"), "").unwrap();
        assert_eq!(told(), Store::Free);
        let lock = File::create(home.path().join("LOCK")).unwrap();
        lock.try_lock().unwrap();
        assert_eq!(told(), Store::InUse);
    }
}
