//! What is known of the machine and of the directory, without judgement.
//!
//! Promises: text that came from files is printable. `None` is what the kernel does not tell,
//! except where a field says that it means no limit.

use std::time::Duration;

/// Everything that is judged.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) host: Host,
    pub(super) place: Place,
    pub(super) shards: usize,
}

/// The machine, as far as this process may use it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Its release, such as `6.18.44-generic`.
    pub(super) kernel: Option<String>,
    /// Whether the kernel gave a ring, or why not.
    pub(super) ring: Result<(), String>,
    /// Lockable memory; `None` for no limit.
    pub(super) memlock_bytes: Option<u64>,
    /// File descriptors; `None` for no limit.
    pub(super) descriptors: Option<u64>,
    /// The cores this process may run on.
    pub(super) cores: Option<Vec<usize>>,
    /// Cores of the machine.
    pub(super) cores_online: Option<usize>,
    /// Cores' worth of time that control groups grant; `None` for no limit.
    pub(super) quota_cores: Option<f64>,
    /// Physical cores among `cores`.
    pub(super) cores_physical: Option<usize>,
    pub(super) clock_source: Option<String>,
    /// When the kernel uses huge pages, and when it compacts memory to get one.
    pub(super) huge_pages: Option<HugePages>,
    pub(super) swap_bytes: Option<u64>,
}

/// The kernel's two choices for transparent huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HugePages {
    pub(super) enabled: String,
    pub(super) defrag: String,
}

/// The directory, or the closest one above that exists.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: Directory,
    /// What of it exists, for people.
    pub(super) base: String,
    pub(super) mount: Option<Mount>,
    /// What came of writing there.
    pub(super) trial: Result<Trial, String>,
    pub(super) free_bytes: Option<u64>,
    pub(super) store: Store,
}

/// What the asked path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    /// Nothing is there yet.
    Missing,
    /// A directory, with its permission bits and whether it is this user's own.
    There { mode: u32, own: bool },
    /// Something else, or something that cannot be looked at.
    Not(String),
}

/// The file system that holds a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) read_only: bool,
    /// `write back`, `write through`, where the device says.
    pub(super) write_cache: Option<String>,
}

/// What came of writing blocks to a file without a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    /// Whether direct I/O took them.
    pub(super) direct: bool,
    /// What direct I/O must be aligned to: memory and offset, in bytes.
    pub(super) align_bytes: Option<(u32, u32)>,
    /// How long a block and its sync take.
    pub(super) sync: Duration,
}

/// Whether a store is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    None,
    Free,
    InUse,
    /// It cannot be told.
    Unknown(String),
}
