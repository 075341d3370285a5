//! Redis as a rival: a server of our own for the time of a row, which keeps the same signals.
//!
//! ```text
//! events ─▶ RedisSignals ─EVALSHA, pipelined, unix socket─▶ redis-server: a script in Lua
//!                                                     string by entity: decayed sums, buckets
//! ```
//!
//! Promises: a reply was had for every event that is counted. The server is found in `PATH`, works
//! in a folder that it is given, listens on a socket there and nowhere else, and is gone when its
//! handle is, or the process that started it: however that ended.
//!
//! Choices, each made in the rival's favour:
//! * one call for many events, so that parsing and replies cost next to nothing;
//! * one string for an entity with binary numbers: one GET and one SET for an event, where a hash
//!   costs a conversion and a look-up for each field;
//! * sparse buckets, newest first: most events find theirs at once;
//! * a unix socket instead of TCP; the server on the core that a shard would have, its threads for
//!   the disk on any;
//! * no snapshots while it works, no rewriting of its log, no compression.

mod client;
mod server;
mod signals;

pub use client::{Client, RedisError, Reply};
pub use server::{Keeping, RedisServer};
pub use signals::{RedisEvent, RedisSignals, RedisState};
