//! Durable, ordered bytes: one shard's write-ahead log.
//!
//! Promises: records are numbered in the order of append. One at or below the *written*
//! watermark survives the end of the process, one at or below *durable* survives power loss,
//! each together with every record before it. After any crash a replay gives a prefix of what
//! was appended, at least as long as was promised. Damage to durable records is refused with its
//! place, never served and never dropped in silence.
//! Invariants: bytes, numbers and segments; what the bytes mean is not known here. All logic is
//! sans-I/O: a driver performs what the log asks for, on a real disk or on a simulated one.
//! Fails by: one error type per operation: `AppendError`, `NoteError`, `RecoverError`,
//! `StartError`.
//! Not here: tickets, threads of the engine, checkpoints.
//! Source: the byte format is in `docs/FORMAT.md`; the ideas are cited where they are used.
//!
//! The one known gap: damage to the *last* synced group looks like a torn tail until a later
//! frame vouches for it. A log that rests writes such a frame (`Log::rest`), and so does an
//! orderly end.
//!
//! ```
//! use ebbtide_wal::{
//!     LogIdentity, LogOptions, Lsn, ReplayOptions, StartOptions, StoreId, WalWriter, ready,
//!     replay, storage::sim::SimDisk,
//! };
//!
//! let disk = SimDisk::new(1);
//! let identity = LogIdentity { store: StoreId([7; 16]), shard: 0 };
//! let fresh = ReplayOptions::default(); // nothing restored, nothing expected
//! let start = StartOptions {
//!     log: LogOptions::default(),
//!     seed: [1; 32], // fresh random bytes, in earnest
//!     lsn_first_min: Lsn::NONE,
//! };
//! let found = ready(replay(&disk, identity, fresh, |_| Ok(())))?;
//! let mut started = ready(found.start(&disk, start))?;
//!
//! let first = started.log.append(b"three records", 3)?;
//! assert_eq!(first, Lsn::FIRST);
//! while let Some(request) = started.log.next_commit() {
//!     let done = ready(started.commit.perform(request));
//!     started.log.commit_done(done);
//! }
//! assert_eq!(started.log.watermarks().durable, Some(Lsn::new(3)));
//!
//! // The power goes; the log is read back.
//! let disk = disk.power_loss(2);
//! let mut seen = Vec::new();
//! let existing = ReplayOptions { must_exist: true, ..fresh };
//! ready(replay(&disk, identity, existing, |batch| {
//!     seen.push((batch.first, batch.records.to_vec()));
//!     Ok(())
//! }))?;
//! assert_eq!(seen, [(Lsn::FIRST, b"three records".to_vec())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod aligned;
mod blocking;
mod entry;
mod fault;
pub mod frame;
mod group;
mod io;
mod io_tasks;
mod io_threads;
mod key;
mod lane;
pub mod limits;
mod log;
mod lsn;
mod note;
mod recover;
mod retire;
mod salvage;
mod scan;
pub mod segment;
mod start;
pub mod storage;
mod tail;
mod writer;

pub use blocking::ready;
pub use entry::Batch;
pub use fault::{IoFault, Step, is_unreadable};
pub use io::{CommitDone, CommitIo, UpkeepDone, UpkeepIo};
pub use io_tasks::{IoTasks, LaneTask};
pub use io_threads::IoThreads;
pub use key::{ChainHash, Epoch, FrameKey, LogIdentity, SegmentId, StoreId};
pub use lane::{CommitLane, UpkeepLane};
pub use limits::{LogOptions, OptionsError};
pub use log::{Log, LogStats, NoteError};
pub use lsn::Lsn;
pub use note::CheckpointNote;
pub use recover::{
    FrameSeen, RecoverError, RecoveryReport, ReplayOptions, ReplaySink, Replayed, SinkError,
    UnsealedSeen, replay, replay_with,
};
pub use retire::SegmentSpan;
pub use salvage::{Gap, SalvageReport, Salvaged, salvage};
pub use start::{StartError, StartOptions, Started};
pub use tail::{TailEvidence, TailVerdict, tail_verdict};
pub use writer::{AppendError, NoWal, Pressure, WalWriter, Watermarks};
