//! The seal: digests of every file of a checkpoint's storage, taken when a store was closed in
//! order.
//!
//! ```text
//! ebbtide seal 1
//! <BLAKE3 of the file, hex> <bytes> <path below checkpoint/>
//! …
//! <BLAKE3 of everything above, hex>
//! ```
//!
//! Promises: in a store that was closed in order, a changed bit in any file of the storage is found
//! before the storage is opened, whatever the storage itself would make of it.
//! Invariants: it is removed, durably, before the storage may change a file; so it never speaks of
//! files that have changed since.
//! Fails by: [`StoreError`] naming the first file that differs.
//! Not here: the records' own digests, which hold with or without a seal. Source: none.

use super::StoreError;
use super::files::{self, StoreFiles};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const HEAD: &str = "ebbtide seal 1\n";
const CONTEXT: &str = "ebbtide seal v1";
/// Far above what a storage's files take to name.
const SEAL_BYTES_MAX: usize = 64 << 20;

/// Digest and length of each file, by its path below the storage's directory.
type Digests = BTreeMap<String, (String, u64)>;

/// Writes the seal of a store whose storage is closed.
pub(crate) fn write(files: &StoreFiles) -> Result<(), StoreError> {
    let mut text = HEAD.to_owned();
    for (path, (digest, bytes)) in &digests(&files.checkpoint())? {
        let _infallible = writeln!(text, "{digest} {bytes} {path}");
    }
    let whole = whole(&text);
    let _infallible = writeln!(text, "{whole}");
    files::put_in_place(&files.seal(), text.as_bytes())
}

/// Compares a store's storage with its seal. Says whether there was one.
pub(crate) fn check(files: &StoreFiles) -> Result<bool, StoreError> {
    match differences(files)? {
        None => Ok(false),
        Some(mut broken) if !broken.is_empty() => {
            Err(StoreError::SealBroken { path: broken.swap_remove(0) })
        }
        Some(_) => Ok(true),
    }
}

/// The files that are not as the seal says, those it names first; `None` if there is no seal.
pub(crate) fn differences(files: &StoreFiles) -> Result<Option<Vec<PathBuf>>, StoreError> {
    let path = files.seal();
    let Some(bytes) = files::read_short(&path, SEAL_BYTES_MAX)? else { return Ok(None) };
    let Some(sealed) = std::str::from_utf8(&bytes).ok().and_then(parse) else {
        return Err(StoreError::SealDamaged { path });
    };
    let found = digests(&files.checkpoint())?;
    let altered = sealed.iter().filter(|(name, seal)| found.get(*name) != Some(*seal));
    let strangers = found.keys().filter(|name| !sealed.contains_key(*name));
    let names = altered.map(|(name, _)| name).chain(strangers);
    Ok(Some(names.map(|name| files.checkpoint().join(name)).collect()))
}

/// Removes the seal: from now on the storage's files may change.
pub(crate) fn remove(files: &StoreFiles) -> Result<(), StoreError> {
    files::remove_file(&files.seal())
}

fn parse(text: &str) -> Option<Digests> {
    let above = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (lines, last) = text.split_at(above);
    if last.strip_suffix('\n')? != whole(lines) {
        return None;
    }
    let entry = |line: &str| {
        let mut fields = line.splitn(3, ' ');
        let (digest, bytes, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((path.to_owned(), (digest.to_owned(), bytes.parse().ok()?)))
    };
    lines.strip_prefix(HEAD)?.lines().map(entry).collect()
}

fn whole(text: &str) -> String {
    blake3::Hasher::new_derive_key(CONTEXT).update(text.as_bytes()).finalize().to_string()
}

/// Hashes every file below a directory, on as many threads as there are cores.
fn digests(directory: &Path) -> Result<Digests, StoreError> {
    let files = files_below(directory)?;
    let next = AtomicUsize::new(0);
    let hash_some = || {
        let mut digests = Digests::new();
        while let Some((path, bytes)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut hasher = blake3::Hasher::new();
            let read = hasher.update_reader(files::open_to_read(path)?);
            read.map_err(files::failed("reading", path))?;
            let name = path.strip_prefix(directory).unwrap_or(path).to_string_lossy();
            digests.insert(name.into_owned(), (hasher.finalize().to_string(), *bytes));
        }
        Ok(digests)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(files.len());
    thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(hash_some)).collect();
        let mut digests = hash_some()?;
        for helper in helpers {
            digests.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(digests)
    })
}

/// Every file below a directory, with its length.
fn files_below(directory: &Path) -> Result<Vec<(PathBuf, u64)>, StoreError> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let listed = fs::read_dir(&folder).map_err(files::failed("listing", &folder))?;
        for entry in listed {
            let path = entry.map_err(files::failed("listing", &folder))?.path();
            let found = fs::symlink_metadata(&path).map_err(files::failed("looking at", &path))?;
            if found.is_dir() {
                folders.push(path);
                continue;
            }
            if !found.is_file() {
                return Err(StoreError::WrongKind { path, directory: false });
            }
            files.push((path, found.len()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> (tempfile::TempDir, StoreFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = StoreFiles::new(folder.path());
        fs::create_dir_all(files.checkpoint().join("deep er")).unwrap();
        fs::write(files.checkpoint().join("one"), b"first").unwrap();
        fs::write(files.checkpoint().join("deep er/two"), b"").unwrap();
        assert!(!check(&files).unwrap());
        write(&files).unwrap();
        assert!(check(&files).unwrap());
        (folder, files)
    }

    #[test]
    fn a_changed_a_missing_and_a_new_file_break_the_seal() {
        let (_folder, files) = sealed();
        let broken = |name: &str| match check(&files) {
            Err(StoreError::SealBroken { path }) => path.ends_with(name),
            other => panic!("{other:?}"),
        };
        let one = files.checkpoint().join("one");
        fs::write(&one, b"fIrst").unwrap();
        assert!(broken("one"));
        fs::remove_file(&one).unwrap();
        assert!(broken("one"));
        fs::write(&one, b"first").unwrap();
        assert!(check(&files).unwrap());
        fs::write(files.checkpoint().join("three"), b"").unwrap();
        assert!(broken("three"));
    }

    #[test]
    fn every_flipped_bit_of_the_seal_is_found() {
        let (_folder, files) = sealed();
        let good = fs::read(files.seal()).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(files.seal(), &bad).unwrap();
            let found = check(&files);
            assert!(matches!(found, Err(StoreError::SealDamaged { .. })), "bit {bit}: {found:?}");
        }
        for cut in 0..good.len() {
            fs::write(files.seal(), &good[..cut]).unwrap();
            assert!(matches!(check(&files), Err(StoreError::SealDamaged { .. })), "{cut}");
        }
        remove(&files).unwrap();
        assert!(!check(&files).unwrap());
    }
}
