//! One core's share of an [Ebbtide](https://docs.rs/ebbtide) engine: signal mathematics, ledger,
//! turn.
//!
//! ```text
//! lane ─drain─▶ turn ─┬─append─▶ wal
//!                     └─apply──▶ ledger ─▶ hot states, buckets, rankings
//! ```
//!
//! * [`signal`] is arithmetic: decay, windows, buckets.
//! * [`schema`] says which signals exist; [`event`] what enters; [`reading`] what comes out;
//!   [`record`] what the log keeps; [`source`] how far each source has come.
//! * [`ledger`] owns the state; [`shard`] moves events into it and answers requests, sans-I/O.
//! * [`checkpoint`] and [`saving`] write the state out while events go on, [`recovery`] takes it
//!   back.
//! * [`lane`], [`doorbell`] and [`watermark`] are the only crossings between threads; [`port`] is
//!   what the rest of the engine holds of a shard.
//! * [`dedup`] remembers which events were counted last.
//! * [`model`] is the slow truth everything is checked against.
//!
//! Invariant: time is a field of an event or an argument of a query. Nothing here asks a clock,
//! opens a file or knows an executor. Hosts use the `ebbtide` crate instead of this one.

mod blocks;
pub mod checkpoint;
pub mod dedup;
pub mod doorbell;
pub mod event;
pub mod hash;
pub mod lane;
pub mod ledger;
pub mod limits;
pub mod local;
pub mod materializer;
pub mod metrics;
pub mod model;
pub mod port;
mod prefetch;
mod primitives;
pub mod reading;
pub mod record;
pub mod recovery;
pub mod request;
pub mod saving;
pub mod schema;
pub mod shard;
pub mod signal;
pub mod source;
pub mod watermark;
pub mod wide;

pub use event::{
    EntityHash, EntityId, Event, EventId, RoutedEvent, SignalId, Timestamp, WeightError,
    checked_weight,
};
pub use hash::PartitionKey;
pub use ledger::{RestoredPair, SignalLedger, Walk};
pub use local::LocalShard;
pub use materializer::Materializer;
pub use metrics::ShardMetrics;
pub use port::{Gate, ShardDown, ShardPort};
pub use reading::{Feature, Plan, PlanBuilder, PlanError, Ranked, SignalReading, TopEntry};
pub use schema::{
    Dedup, Fingerprint, Schema, SchemaBuilder, SchemaError, SignalBuilder, SignalTypeDef,
};
pub use shard::{Shard, Turn, TurnError};
pub use source::{SourceName, SourceNameError};
