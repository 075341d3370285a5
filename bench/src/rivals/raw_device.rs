//! The bare device: one file, written in order, each write durable before the next.
//!
//! Promises: nothing a careful program could leave out is left in. The file has its space and was
//! written to before, so that a write changes no metadata; writes are direct where the file system
//! has that; they go round in the file, so that it never grows. What is written first looks random,
//! and so should what follows ([`fill_random`]): a device may write zeroes, or what it can shrink,
//! for nothing.

use ebbtide_wal::aligned::AlignedBuf;
use ebbtide_wal::limits::BLOCK_BYTES;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Bytes of one write while the file is made.
const MAKE_BYTES: usize = 1024 * 1024;

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// By itself: the file is open with `O_DSYNC`.
    Dsync,
    /// By an `fdatasync` behind it.
    Fdatasync,
}

/// A file for durable writes in a row.
#[derive(Debug)]
pub struct RawDevice {
    file: File,
    bytes: u64,
    /// Where the next write goes.
    at: u64,
    syncing: Syncing,
    direct: bool,
}

impl RawDevice {
    /// Makes the file `path` of at least `bytes` and writes all of it once.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn create(path: &Path, bytes: usize, syncing: Syncing) -> io::Result<Self> {
        let dsync = if syncing == Syncing::Dsync { OFlags::DSYNC } else { OFlags::empty() };
        let (file, direct) = match open(path, OFlags::DIRECT | dsync) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                (open(path, dsync)?, false)
            }
            Err(error) => return Err(error),
        };
        let bytes = bytes.next_multiple_of(MAKE_BYTES) as u64;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        let mut device = Self { file, bytes, at: 0, syncing: Syncing::Fdatasync, direct };
        let mut piece = AlignedBuf::zeroed(MAKE_BYTES);
        fill_random(&mut piece);
        for _ in 0..bytes / MAKE_BYTES as u64 {
            device.put(&piece)?;
        }
        device.file.sync_all()?;
        Ok(Self { syncing, ..device })
    }

    /// Whether writes go past the page cache.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    /// Writes whole blocks behind what was written last; they are durable then.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        self.put(blocks)?;
        if self.syncing == Syncing::Fdatasync { self.sync() } else { Ok(()) }
    }

    /// Makes everything durable that was put.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes whole blocks behind what was written last.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn put(&mut self, blocks: &[u8]) -> io::Result<()> {
        debug_assert!(
            blocks.len().is_multiple_of(BLOCK_BYTES),
            "direct writes are of whole blocks"
        );
        if self.at + blocks.len() as u64 > self.bytes {
            self.at = 0;
        }
        self.file.write_all_at(blocks, self.at)?;
        self.at += blocks.len() as u64;
        Ok(())
    }
}

/// Fills `bytes` with what no device can shrink, the same each time.
pub fn fill_random(bytes: &mut [u8]) {
    ChaCha8Rng::seed_from_u64(1).fill_bytes(bytes);
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(flags.bits().cast_signed());
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference wrote zeroes, which some devices do not store at all.
    #[test]
    fn a_device_is_made_of_what_cannot_be_shrunk() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device");
        let device = RawDevice::create(&path, MAKE_BYTES, Syncing::Fdatasync).unwrap();
        drop(device);
        let bytes = std::fs::read(path).unwrap();
        assert!(zstd::bulk::compress(&bytes, 1).unwrap().len() >= bytes.len());
    }

    #[test]
    fn writes_go_round_in_a_file_that_keeps_its_length() {
        for syncing in [Syncing::Dsync, Syncing::Fdatasync] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("device");
            let mut device = RawDevice::create(&path, 1, syncing).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), MAKE_BYTES as u64);
            let mut block = AlignedBuf::zeroed(MAKE_BYTES / 2);
            for round in 1..=3_u8 {
                block.fill(round);
                device.write(&block).unwrap();
            }
            let read = std::fs::read(&path).unwrap();
            assert_eq!(read.len(), MAKE_BYTES);
            assert_eq!((read[0], read[MAKE_BYTES - 1]), (3, 2));
        }
    }
}
