//! The checkpoint: a shard's state in a storage engine, and back.
//!
//! ```text
//! save   ledger ─walk─▶ chunk ─▶ pages ─┐
//!        sources, ids ──────────────────┴▶ saver ─records + meta─▶ storage ─read back─▶ covered
//! load   storage ─scan─▶ record ─check─▶ ledger, sources, ids;  all of them ─check─▶ meta
//! ```
//!
//! Promises: every batch is atomic and rewrites the meta record with it, so at any crash records
//! and meta agree; `covered` is raised only over records that were flushed and read back. Loading
//! proves that every record is there, unaltered and the latest, or says which is not.
//! Invariants: a record's key and value are vouched for by its own digest; the meta holds the
//! number of records and the sum of their digests.
//! Fails by: [`SaveError`], after which the saver takes nothing more until the store is opened
//! again; [`LoadError`]; [`RecordFault`] for bytes that are no record.
//! Not here: when to save, what the log does meanwhile, threads. The layout in bytes is in
//! `docs/FORMAT.md`.

mod batch;
mod digest;
mod key;
mod load;
mod memory;
mod read_back;
mod record;
mod round;
mod run;
mod saver;
mod storage;

pub use batch::{Batch, Chunk};
pub use digest::{RecordDigest, SetDigest};
pub use key::{Key, KeyBytes, Tag};
pub use load::{
    LoadError, LoadSink, Loaded, Part, RoutedPairs, load, load_range, read_meta, scan_pairs, survey,
};
pub use memory::{Fault, MemoryStorage};
pub use read_back::ReadBack;
pub use record::{
    FORMAT_VERSION, IdsRecord, ListedPair, MetaRecord, PairList, PairRecord, Record, RecordFault,
    SourceRecord, decode, decode_page, encode, source_id,
};
pub use round::{Round, Rounds};
pub use saver::{CheckpointDone, Opening, SaveError, Saver};
pub use storage::{
    StorageAction, StorageEngine, StorageError, StorageErrorKind, Visit, key_bounds,
};

#[cfg(test)]
mod tests;
