//! The store: everything an engine keeps in its directory, and the ways in and out of it.
//!
//! ```text
//! DIR/LOCK        one engine at a time              (lock)
//! DIR/MANIFEST    who the store is, never changed   (manifest)
//! DIR/checkpoint/ records of all pairs, in fjall    (fjall, keeper)
//! DIR/log/0000/   the log of one shard each         (ebbtide_wal)
//! DIR/SEAL        digests of checkpoint/, while the store is closed (seal)
//!
//! open ─▶ lock ─▶ manifest ─▶ seal ─▶ checkpoint ─records─▶ shards ◀─events─ logs (recover)
//! ```
//!
//! Promises: what was acknowledged as durable is there again after any crash, once and unaltered,
//! or the store is refused with the reason and the place; any number of shards opens any store.
//! Fails by: [`StoreError`].
//! Not here: how a shard applies what it is given (`ebbtide_shard::recovery`).

mod background;
pub(crate) mod backup;
mod checkpointer;
mod error;
pub(crate) mod files;
mod fjall;
pub(crate) mod intake;
mod keeper;
mod lock;
pub(crate) mod manifest;
mod medium;
pub(crate) mod open;
mod part_lane;
pub(crate) mod recover;
mod retune;
mod savers;
pub(crate) mod seal;
pub(crate) mod sources;
pub(crate) mod whole;

pub use checkpointer::{CheckpointError, CheckpointMetrics};
pub use error::StoreError;
pub use medium::{Durability, Medium, Survives};
pub use open::{RecoveryProgress, RecoveryReport};

pub(crate) use checkpointer::Pace;
pub(crate) use files::{StoreFiles, check_limit};
pub(crate) use fjall::FjallStorage;
pub(crate) use lock::StoreLock;
pub(crate) use manifest::Manifest;
pub(crate) use open::{OpenStore, prepare};
