//! What a store's logs lie on, and what an acknowledgement is worth there.
//!
//! Promises: says no more than holds for sure: what a file system hands on to another one or to
//! another host counts as surviving the end of the process only.
//! Not here: the device. Whether it honours a flush cannot be asked.
//! Source: `statfs(2)` and the kernel's `magic.h`; what each level needs is in `DURABILITY.md`.

use super::StoreError;
use super::files::failed;
use rustix::fs::statfs;
use std::fmt;
use std::path::Path;

/// What keeps a store's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Medium {
    /// Memory, as on tmpfs: a sync changes nothing.
    Memory,
    /// A device of this host: a sync asks it to flush.
    Device,
    /// Another file system or another host, to which this one hands on what it is asked, as
    /// overlay, FUSE and network file systems do; or nobody knows.
    Elsewhere,
}

/// The worst that does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Survives {
    /// The end of the process, whichever way: `kill -9`, a panic, the OOM killer.
    ProcessEnd,
    /// The end of the kernel, while the device keeps its power.
    KernelPanic,
    /// A power cut, if the device honours a flush.
    PowerCut,
}

impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessEnd => "the end of the process",
            Self::KernelPanic => "a kernel panic",
            Self::PowerCut => "a power cut, if the device honours a flush",
        })
    }
}

/// What an acknowledgement is worth where a store lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// The file system's type, such as `ext4` (ext2 and ext3 go by that name too), or its number.
    pub file_system: String,
    /// What keeps the files.
    pub medium: Medium,
    /// Whether the logs are written past the page cache. On tmpfs there is nothing behind it.
    pub direct_io: bool,
}

impl Durability {
    /// Of files in `directory`, which are written past the page cache or not.
    pub(crate) fn of(directory: &Path, direct_io: bool) -> Result<Self, StoreError> {
        let found =
            statfs(directory).map_err(|errno| failed("asking about", directory)(errno.into()));
        // The type's number has 32 bits, in a field whose width depends on the architecture.
        let magic = i128::from(found?.f_type) & 0xffff_ffff;
        let (file_system, medium) = known(magic);
        Ok(Self { file_system, medium, direct_io: direct_io && medium != Medium::Memory })
    }

    /// What an event survives for sure that is acknowledged as [`Ack::Written`](crate::Ack).
    #[must_use]
    pub fn written(&self) -> Survives {
        match self.medium {
            Medium::Device if self.direct_io => Survives::KernelPanic,
            _ => Survives::ProcessEnd,
        }
    }

    /// What an event survives for sure that is acknowledged as [`Ack::Durable`](crate::Ack).
    #[must_use]
    pub fn durable(&self) -> Survives {
        match self.medium {
            Medium::Device => Survives::PowerCut,
            Medium::Memory | Medium::Elsewhere => Survives::ProcessEnd,
        }
    }
}

/// In one line, for people.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file_system, medium, direct_io } = self;
        let (written, durable) = (self.written(), self.durable());
        let how = if *direct_io { "direct I/O" } else { "through the page cache" };
        match medium {
            Medium::Memory => {
                write!(f, "{file_system}, files in memory: durable survives {durable}, not more")
            }
            Medium::Device => {
                write!(f, "{file_system}, {how}: written survives {written}, durable {durable}")
            }
            Medium::Elsewhere => write!(
                f,
                "{file_system}, {how}: durable survives {durable}, and more if what is below \
                 {file_system} keeps what it is told to sync"
            ),
        }
    }
}

/// Name and medium of a file system's type, by its number in `magic.h`.
fn known(magic: i128) -> (String, Medium) {
    let (name, medium) = match magic {
        0x0000_ef53 => ("ext4", Medium::Device),
        0x5846_5342 => ("xfs", Medium::Device),
        0x9123_683e => ("btrfs", Medium::Device),
        0xf2f5_2010 => ("f2fs", Medium::Device),
        0x2fc1_2fc1 => ("zfs", Medium::Device),
        0xca45_1a4e => ("bcachefs", Medium::Device),
        0x0102_1994 => ("tmpfs", Medium::Memory),
        0x8584_58f6 => ("ramfs", Medium::Memory),
        0x794c_7630 => ("overlay", Medium::Elsewhere),
        0x6573_5546 => ("fuse", Medium::Elsewhere),
        0x0000_6969 => ("nfs", Medium::Elsewhere),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", Medium::Elsewhere),
        0x0102_1997 => ("9p", Medium::Elsewhere),
        0x00c3_6400 => ("ceph", Medium::Elsewhere),
        unknown => return (format!("file system {unknown:#x}"), Medium::Elsewhere),
    };
    (name.to_owned(), medium)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(magic: i128, direct_io: bool) -> Durability {
        let (file_system, medium) = known(magic);
        Durability { file_system, medium, direct_io }
    }

    #[test]
    fn a_level_is_worth_what_keeps_the_files() {
        let worth = |there: &Durability| (there.written(), there.durable());
        let (ext4, cached) = (on(0xef53, true), on(0xef53, false));
        assert_eq!(worth(&ext4), (Survives::KernelPanic, Survives::PowerCut));
        assert_eq!(worth(&cached), (Survives::ProcessEnd, Survives::PowerCut));
        for poor in [on(0x0102_1994, false), on(0x794c_7630, true), on(0x4711, true)] {
            assert_eq!(worth(&poor), (Survives::ProcessEnd, Survives::ProcessEnd), "{poor}");
        }
    }

    #[test]
    fn it_is_said_in_one_line() {
        let lines = [on(0xef53, true), on(0x0102_1994, false), on(0x4711, false)];
        assert_eq!(
            lines.map(|there| there.to_string()),
            [
                "ext4, direct I/O: written survives a kernel panic, durable a power cut, if the \
                 device honours a flush",
                "tmpfs, files in memory: durable survives the end of the process, not more",
                "file system 0x4711, through the page cache: durable survives the end of the \
                 process, and more if what is below file system 0x4711 keeps what it is told to \
                 sync",
            ]
        );
    }

    #[test]
    fn proc_is_no_place_for_a_store_and_is_told_by_its_number() {
        let proc = Durability::of(Path::new("/proc"), false).unwrap();
        assert_eq!(proc.file_system, "file system 0x9fa0");
        assert_eq!(proc.medium, Medium::Elsewhere);
        assert!(Durability::of(Path::new("/none/such"), false).is_err());
    }
}
