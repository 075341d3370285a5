//! The log's boundary: durable, ordered bytes, named by sequence numbers; it knows nothing of what
//! they mean.
//!
//! A shard's turn appends every batch of records through [`WalWriter`] before it applies them, and
//! reads [`Watermarks`] to tell its producers how far the log has come. [`NoWal`] is the writer of
//! an engine that lives in memory only.

mod lsn;
mod writer;

pub use lsn::Lsn;
pub use writer::{AppendError, NoWal, WalWriter, Watermarks};
