//! An embedded, thread-per-core engine for *decaying signals*.
//!
//! A host records timestamped events and reads, within microseconds and exactly, what they amount
//! to now: exponentially decayed scores, windowed counts, velocities, rankings.
//!
//! ```
#![doc = include_str!("../examples/quickstart.rs")]
//! ```
//!
//! # How it works
//!
//! Entities are hash-partitioned over shards; each shard is one pinned thread that owns a plain map
//! of its entities' states. [`Producer`]s and [`Reader`]s reach shards through wait-free rings, one
//! for each handle and shard. Nothing is shared, so nothing is locked.
//!
//! # What holds
//!
//! * A score is the sum over all events of `weight · 2^(−age / half-life)`, within 1e-12
//!   (relative), in any order of arrival.
//! * A window of N minutes (hours) as of `now` counts the events in the N minutes (hours) of Unix
//!   time that end with the one holding `now`.
//! * A read as of a time before a pair's last event is answered as of that event, and says so.
//! * Events of one producer for one entity are applied in the order they were offered.
//! * An event that is refused comes back with a typed reason; one that is accepted is applied
//!   exactly once, unless its shard fails or the engine is closed before, which is told to everyone
//!   who waits.
//!
//! * An event that was acknowledged as [`Ack::Written`] survives the end of the process, one as
//!   [`Ack::Durable`] a power cut; any number of shards opens any store. Damage to a store is a
//!   [`StoreError`] with its place, never a smaller state.
//! * Events of a source ([`SourceProducer`]) count once, however often they are sent.
//!
//! # What does not
//!
//! Readable is not safe: reads see applied events, which a crash may take until they are durable.
//! There is no atomicity across shards.

#![forbid(unsafe_code)]
#[cfg(not(target_os = "linux"))]
compile_error!("ebbtide runs on Linux only: it pins threads and uses io_uring");

mod acked;
mod block_on;
mod builder;
pub mod dump;
mod engine;
mod error;
mod metrics;
pub mod offline;
mod producer;
mod reader;
mod runtime;
mod shards;
mod source;
mod sources;
mod store;

pub use acked::{Ack, Acked};
pub use builder::EngineBuilder;
pub use ebbtide_router::{
    Clock, ManualClock, OfferError, Rejected, Rejection, SourceEvent, SourceOfferError,
    SystemClock, Ticket,
};
pub use ebbtide_shard::checkpoint::CheckpointDone;
pub use ebbtide_shard::schema::evolution::Retune;
pub use ebbtide_shard::signal::half_life::HalfLife;
pub use ebbtide_shard::signal::window::Window;
pub use ebbtide_shard::source::SourceTableError;
pub use ebbtide_shard::{
    Dedup, EntityId, Event, EventId, Feature, Fingerprint, LocalShard, Plan, PlanBuilder,
    PlanError, Ranked, Schema, SchemaBuilder, SchemaError, ShardDown, ShardMetrics, SignalBuilder,
    SignalId, SignalReading, SignalTypeDef, SourceNameError, Timestamp, TopEntry, WeightError,
};
pub use ebbtide_wal::LogOptions;
pub use engine::Engine;
pub use error::{AckError, CloseError, OpenError, ReadError, SourceError, VisitError, WaitError};
pub use metrics::{EngineMetrics, Health};
pub use producer::{BatchOffer, Producer};
pub use reader::{AsyncReader, Reader};
pub use runtime::{Backend, BackendChoice, Idle, probe};
pub use source::SourceProducer;
pub use store::{
    CheckpointError, CheckpointMetrics, Durability, Medium, RecoveryProgress, RecoveryReport,
    StoreError, Survives,
};

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeDoctests;
