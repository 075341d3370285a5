//! Plain files: what reading, or writing, the same bytes costs with an integrity hash and nothing
//! else. The floor under recovery and checkpoints.
//!
//! Promises: sequential, in large pieces, BLAKE3 over everything, one thread.

use super::raw_device::{RawDevice, Syncing};
use ebbtide_wal::aligned::AlignedBuf;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Bytes of one read or write.
const PIECE_BYTES: usize = 1024 * 1024;

/// All regular files below `folder`, with their lengths.
///
/// # Errors
///
/// Of the file system.
pub fn files_below(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let known = entry.metadata()?;
            if known.is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.path(), known.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads `files` one after the other and hashes what is in them.
///
/// # Errors
///
/// Of the file system.
pub fn read_and_hash<'f>(files: impl Iterator<Item = &'f Path>) -> io::Result<blake3::Hash> {
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; PIECE_BYTES]);
    for path in files {
        let mut file = File::open(path)?;
        loop {
            let bytes = file.read(&mut piece)?;
            if bytes == 0 {
                break;
            }
            hasher.update(&piece[..bytes]);
        }
    }
    Ok(hasher.finalize())
}

/// A file for checkpoints.
#[derive(Debug)]
pub struct PlainCheckpoint {
    path: PathBuf,
    device: RawDevice,
    pieces: usize,
    piece: AlignedBuf,
    saved: u8,
}

impl PlainCheckpoint {
    /// Makes the file, for `bytes` bytes in whole pieces.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn create(path: &Path, bytes: usize) -> io::Result<Self> {
        let pieces = bytes.div_ceil(PIECE_BYTES).max(1);
        let device = RawDevice::create(path, pieces * PIECE_BYTES, Syncing::Fdatasync)?;
        let piece = AlignedBuf::zeroed(PIECE_BYTES);
        Ok(Self { path: path.to_owned(), device, pieces, piece, saved: 0 })
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces * PIECE_BYTES
    }

    /// Fills the file with new bytes, hashing on the way, syncs once, and reads it back.
    ///
    /// # Errors
    ///
    /// Of the file system; also if it reads differently.
    pub fn save(&mut self) -> io::Result<()> {
        self.saved = self.saved.wrapping_add(1);
        self.piece.fill(self.saved);
        let mut hasher = blake3::Hasher::new();
        for _ in 0..self.pieces {
            hasher.update(&self.piece);
            self.device.put(&self.piece)?;
        }
        self.device.sync()?;
        let same = read_and_hash([&*self.path].into_iter())? == hasher.finalize();
        if same { Ok(()) } else { Err(io::Error::other("what was written reads differently")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_a_folder_is_read() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("sub")).unwrap();
        fs::write(home.path().join("b"), "two").unwrap();
        fs::write(home.path().join("sub/a"), "three").unwrap();
        let files = files_below(home.path()).unwrap();
        assert_eq!(files.iter().map(|file| file.1).collect::<Vec<_>>(), [3, 5]);
        let read = read_and_hash(files.iter().map(|file| &*file.0)).unwrap();
        assert_eq!(read, blake3::hash(b"twothree"));
    }

    #[test]
    fn a_checkpoint_is_read_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("checkpoint");
        let mut checkpoint = PlainCheckpoint::create(&path, PIECE_BYTES + 1).unwrap();
        assert_eq!(checkpoint.bytes(), 2 * PIECE_BYTES);
        checkpoint.save().unwrap();
        checkpoint.save().unwrap();
        let read = fs::read(&path).unwrap();
        assert!(read.len() == 2 * PIECE_BYTES && read.iter().all(|&byte| byte == 2));
    }
}
