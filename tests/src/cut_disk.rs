//! A disk that remembers the order of all writes and flushes, so that it can be had as any power
//! cut would have left it.
//!
//! ```text
//! ext4 ─▶ loop device ─▶ FUSE export ─▶ qemu-storage-daemon ─┬─▶ disk
//!                                                            └─▶ log of writes and flushes
//! ```
//!
//! Promises: an image of a cut holds everything up to the last flush before it, and of what was
//! written after that flush any choice of sectors, as a device with a cache would leave it; only
//! the superblock of ext4 is never torn.
//! Needs: root, mounts of its own (`alone`), and the programs it starts; [`CutDisk::start`] says
//! what is missing.
//! Source: the log's form is that of the kernel's dm-log-writes, which qemu's `blklogwrites` keeps.

use crate::stream::SplitMix;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SECTOR_BYTES: usize = 512;
/// The second sector of ext4's superblock. It is kept or lost with the first: one checksum is over
/// both, and ext4 mounts no disk that wrote half of them.
const SUPERBLOCK_END: u64 = 3;
const DISK_BYTES: u64 = 256 << 20;
const LOG_BYTES: u64 = 4 << 30;
const LOG_MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// A disk with a mounted file system.
#[derive(Debug)]
pub struct CutDisk {
    folder: PathBuf,
    daemon: Child,
    log: File,
}

/// One entry of the log.
#[derive(Clone, Copy)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its data begins.
    data_at: u64,
    /// Where the entry after it begins.
    end: u64,
}

impl CutDisk {
    /// A new disk, its files in `folder`, with an empty ext4 file system.
    ///
    /// # Errors
    ///
    /// What is not to be had here.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let path = |name: &str| folder.join(name).display().to_string();
        for (name, bytes) in [("disk", DISK_BYTES), ("log", LOG_BYTES), ("export", 0)] {
            let made = File::create(path(name)).and_then(|file| file.set_len(bytes));
            made.map_err(missing("making an image"))?;
        }
        let whole = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        call("mkfs.ext4", &["-q", "-F", "-E", whole, &path("disk")])?;
        copy_sparse(&path("disk"), &path("base"))?;
        let node = |name: &str| format!("file,node-name={name},filename={}", path(name));
        let logged = "blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1";
        let export =
            format!("fuse,id=e,node-name=logged,writable=on,mountpoint={}", path("export"));
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &node("disk"), "--blockdev", &node("log")])
            .args(["--blockdev", logged, "--export", &export])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(missing("qemu-storage-daemon"))?;
        let log = File::open(path("log")).map_err(missing("the log"))?;
        let mut disk = Self { folder: folder.to_owned(), daemon, log };
        disk.wait_for_export()?;
        fs::create_dir(disk.mounted()).map_err(missing("making a folder"))?;
        mount(&disk.folder.join("export"), &disk.mounted())?;
        Ok(disk)
    }

    /// The file system's folder.
    #[must_use]
    pub fn mounted(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    fn wait_for_export(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        let export = self.folder.join("export");
        while begun.elapsed() < PATIENCE && self.daemon.try_wait().is_ok_and(|end| end.is_none()) {
            if fs::metadata(&export).is_ok_and(|found| found.len() == DISK_BYTES) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err("qemu-storage-daemon exports nothing".into())
    }

    /// Writes and flushes so far. What was acknowledged as durable before this call is in them.
    ///
    /// # Panics
    ///
    /// If the log cannot be read.
    #[must_use]
    pub fn writes(&self) -> u64 {
        let head = words(&self.log, 0);
        assert!(head[0] == LOG_MAGIC || head[0] == 0, "the log's form is known");
        head[2]
    }

    /// Unmounts the file system: its writes come to an end.
    ///
    /// # Panics
    ///
    /// If it is in use.
    pub fn unmount(&self) {
        unmount(&self.mounted());
    }

    /// Takes the disk away from under its file system: from now on it fails whatever it is asked.
    ///
    /// # Panics
    ///
    /// If it is gone already.
    pub fn take_away(&mut self) {
        self.daemon.kill().expect("it runs");
        self.daemon.wait().expect("it was killed");
    }

    /// Mounts what a disk that was taken away had been given by then.
    ///
    /// # Panics
    ///
    /// If it cannot be mounted.
    #[must_use]
    pub fn bring_back(&self) -> PathBuf {
        let folder = self.folder.join("back");
        fs::create_dir(&folder).expect("a new folder");
        let gone = self.mounted().display().to_string();
        call("umount", &["-l", &gone]).expect("it was mounted");
        mount(&self.folder.join("disk"), &folder).expect("ext4 stands it");
        folder
    }

    /// Images of power cuts after so many writes each, in rising order, one after the other, each
    /// mounted when `look` is given its folder.
    ///
    /// # Panics
    ///
    /// If an image cannot be made or mounted.
    pub fn cut(
        &self,
        after: &[u64],
        random: &mut SplitMix,
        look: &mut dyn FnMut(u64, &Path, &mut SplitMix),
    ) {
        let place = |name: &str| self.folder.join(name);
        let (flushed, image, folder) = (place("base"), place("image"), place("look"));
        fs::create_dir_all(&folder).expect("a new folder");
        let target = File::options().write(true).open(&flushed).expect("the image is there");
        let (mut at, mut done, mut pending) = (sector_bytes(&self.log), 0, Vec::new());
        for &cut in after {
            while done < cut {
                let entry = self.entry(at);
                (at, done) = (entry.end, done + 1);
                if entry.flags & FLUSH != 0 {
                    let sectors = pending.drain(..).flat_map(sectors);
                    sectors.for_each(|sector| self.put(sector, &target));
                }
                if entry.flags & DISCARD == 0 && entry.sectors > 0 {
                    pending.push(entry);
                }
            }
            let copied = copy_sparse(&flushed.display().to_string(), &image.display().to_string());
            copied.expect("an image is copied");
            let cached = File::options().write(true).open(&image).expect("it was just made");
            // Of the device's cache nothing, everything, or some sectors.
            let share = [0, 1, 4, 7, 8][usize::try_from(random.below(5)).unwrap_or(0)];
            let mut kept = false;
            for (from, sector) in pending.iter().copied().flat_map(sectors) {
                if sector != SUPERBLOCK_END {
                    kept = random.below(8) < share;
                }
                if kept {
                    self.put((from, sector), &cached);
                }
            }
            drop(cached);
            mount(&image, &folder).expect("ext4 stands every cut");
            look(cut, &folder, random);
            unmount(&folder);
        }
    }

    fn entry(&self, at: u64) -> Entry {
        let [sector, sectors, flags, _] = words(&self.log, at);
        let data_at = at + sector_bytes(&self.log);
        let data_bytes = if flags & DISCARD == 0 { sectors * sector_bytes(&self.log) } else { 0 };
        Entry { sector, sectors, flags, data_at, end: data_at + data_bytes }
    }

    /// Writes one sector of an entry to an image.
    fn put(&self, (from, sector): (u64, u64), image: &File) {
        let mut bytes = [0; SECTOR_BYTES];
        let read = self.log.read_exact_at(&mut bytes, from);
        read.and_then(|()| image.write_all_at(&bytes, sector * SECTOR_BYTES as u64))
            .expect("it is copied");
    }
}

/// Of each sector of an entry: where its data is in the log, and its number on the disk.
fn sectors(entry: Entry) -> impl Iterator<Item = (u64, u64)> {
    (0..entry.sectors).map(move |n| (entry.data_at + n * SECTOR_BYTES as u64, entry.sector + n))
}

impl Drop for CutDisk {
    fn drop(&mut self) {
        // After `unmount` nothing of the disk is in use.
        let _gone = self.daemon.kill();
        let _ended = self.daemon.wait();
    }
}

fn missing(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Four words of the log.
fn words(log: &File, at: u64) -> [u64; 4] {
    let mut bytes = [0; 32];
    log.read_exact_at(&mut bytes, at).expect("the log can be read");
    std::array::from_fn(|n| {
        u64::from_le_bytes(bytes[8 * n..8 * n + 8].try_into().expect("eight bytes"))
    })
}

/// How the log is divided: the lower half of the fourth word of its head.
fn sector_bytes(log: &File) -> u64 {
    let bytes = words(log, 0)[3] & u64::from(u32::MAX);
    assert_eq!(bytes, SECTOR_BYTES as u64, "the log has the sectors of the disk");
    bytes
}

fn mount(image: &Path, folder: &Path) -> Result<(), String> {
    let [image, folder] = [image, folder].map(|path| path.display().to_string());
    call("mount", &["-o", "loop", &image, &folder])
}

fn unmount(folder: &Path) {
    call("umount", &[&folder.display().to_string()]).expect("nobody uses it");
}

fn copy_sparse(from: &str, to: &str) -> Result<(), String> {
    call("cp", &["--sparse=always", from, to])
}

/// Runs a program to its end.
fn call(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| format!("{program}: {error}"))?;
    let told = String::from_utf8_lossy(&ended.stderr);
    if ended.status.success() {
        Ok(())
    } else {
        Err(format!("{program} {}: {}: {told}", arguments.join(" "), ended.status))
    }
}
