//! A look at a database's files before the database itself looks at them.
//!
//! Why: lsm-tree 3.1 reserves memory for as many items as a file says it has, before it checks the
//! file. A damaged number may ask for more than there is, and then the process ends; nothing can
//! catch that. So two things are seen to first: that the version file of each keyspace has the
//! checksum written beside it, and that no table says it has more parts than fit in it. Everything
//! else the database reads with its own checks. A table that a crash tore is not refused here: no
//! version names it, and the database removes it.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read as _, Result, Seek as _, SeekFrom};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// Number of the version (8), its checksum (16), kind of checksum (1), as lsm-tree 3 writes it.
const CURRENT_BYTES: usize = 25;
/// Magic (4), version (1), kind of checksum (1), checksum (16), place (8) and length (8) of the
/// table of contents, as sfa 1 writes it at the end of a file.
const TRAILER_BYTES: usize = 38;
const TRAILER_MAGIC: &[u8] = b"SFA!";
const PLACE: usize = 22;
/// What a table of contents begins with, before the number of its parts (4).
const CONTENTS_MAGIC: &[u8] = b"TOC!";
/// Bytes of a part of least size.
const PART_BYTES_MIN: u64 = 18;
/// The kind of checksum.
const XXH3: u8 = 0;
/// Checks the files of each keyspace below `path`, if there are any.
pub(super) fn check(path: &Path) -> Result<()> {
    for keyspace in files(&path.join("keyspaces"))? {
        let keyspace = keyspace?.path();
        check_version(&keyspace)?;
        for table in files(&keyspace.join("tables"))? {
            check_contents(&table?.path())?;
        }
    }
    Ok(())
}

/// What is in a folder, if it is there.
fn files(folder: &Path) -> Result<impl Iterator<Item = Result<fs::DirEntry>>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    Ok(entries.into_iter().flatten())
}

fn check_version(keyspace: &Path) -> Result<()> {
    let current = match fs::read(keyspace.join("current")) {
        // A keyspace that was not finished; the database removes it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        current => current?,
    };
    let current: [u8; CURRENT_BYTES] =
        current.try_into().map_err(|_| damaged(&keyspace.join("current")))?;
    let number = u64::from_le_bytes(std::array::from_fn(|i| current[i]));
    let checksum = u128::from_le_bytes(std::array::from_fn(|i| current[8 + i]));
    let version = keyspace.join(format!("v{number}"));
    let bytes = fs::read(&version).map_err(|_| damaged(&version))?;
    let holds = current[CURRENT_BYTES - 1] == XXH3 && xxh3_128(&bytes) == checksum;
    if holds { Ok(()) } else { Err(damaged(&version)) }
}

/// Leaves alone what is no whole table: the database finds that by itself.
fn check_contents(table: &Path) -> Result<()> {
    let mut file = File::open(table)?;
    let Some(end) = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64) else { return Ok(()) };
    let trailer: [u8; TRAILER_BYTES] = read_at(&mut file, end)?;
    let place = u64::from_le_bytes(std::array::from_fn(|i| trailer[PLACE + i]));
    if !trailer.starts_with(TRAILER_MAGIC) || place >= end {
        return Ok(());
    }
    let head: [u8; 8] = read_at(&mut file, place)?;
    let parts = u64::from(u32::from_le_bytes(std::array::from_fn(|i| head[4 + i])));
    let fits = parts * PART_BYTES_MIN <= end - place;
    if fits || !head.starts_with(CONTENTS_MAGIC) { Ok(()) } else { Err(damaged(table)) }
}

fn read_at<const BYTES: usize>(file: &mut File, place: u64) -> Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(file: &Path) -> Error {
    Error::new(ErrorKind::InvalidData, format!("`{}` is damaged", file.display()))
}
