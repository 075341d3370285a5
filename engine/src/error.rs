//! What can go wrong between a host and its engine: one enum per operation.

use crate::{ShardDown, StoreError};
use ebbtide_shard::SourceNameError;
use ebbtide_shard::limits::SHARDS_MAX;
use ebbtide_shard::source::SourceTableError;
use ebbtide_wal::OptionsError;
use std::time::Duration;

/// Why an engine did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No schema was given. Call `schema` on the builder.
    #[error("the engine has no schema; give one to the builder")]
    NoSchema,
    /// A number of shards that cannot be.
    #[error("{asked} shards were asked for; 1 to {SHARDS_MAX} are possible")]
    Shards {
        /// How many.
        asked: usize,
    },
    /// A core that this process may not run on.
    #[error("core {core} is not among those this process may use: {available:?}")]
    Core {
        /// Which.
        core: usize,
        /// Those it may use.
        available: Vec<usize>,
    },
    /// io_uring was insisted on and is not to be had. Use `Backend::Auto` or lift the restriction.
    #[error("{why}; use the automatic or the threads backend, or lift the restriction")]
    Backend {
        /// Why not.
        why: String,
    },
    /// The operating system gave no random bytes for the partition key.
    #[error("no random bytes for the partition key: {why}")]
    Random {
        /// What it said.
        why: String,
    },
    /// Sizes of the log that cannot be.
    #[error(transparent)]
    Log(#[from] OptionsError),
    /// The store in the directory cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard's thread could not be started.
    #[error("shard {shard} could not be started: {why}")]
    Launch {
        /// Which.
        shard: usize,
        /// Why not.
        why: String,
    },
}

/// Why an event will not come as far as was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The engine lives in memory and keeps no log: nothing is ever written or durable. Ask for
    /// `Ack::Applied`, or open an engine on a directory.
    #[error("the engine keeps no log, so nothing is ever written; wait until it is applied")]
    NoLog,
    /// The event's shard went away before it got there.
    #[error(transparent)]
    Down(#[from] ShardDown),
}

/// Why waiting for an event ended without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The patience ran out; the event may still get there. Wait again.
    #[error("the event was not there within {patience:?}; it may still get there")]
    Timeout {
        /// How long was waited.
        patience: Duration,
    },
    /// The engine lives in memory and keeps no log: nothing is ever written or durable. Ask for
    /// `Ack::Applied`, or open an engine on a directory.
    #[error("the engine keeps no log, so nothing is ever written; wait until it is applied")]
    NoLog,
    /// The event's shard went away before it got there.
    #[error(transparent)]
    Down(#[from] ShardDown),
}

impl From<AckError> for WaitError {
    fn from(error: AckError) -> Self {
        match error {
            AckError::NoLog => Self::NoLog,
            AckError::Down(down) => Self::Down(down),
        }
    }
}

/// Why a source has no producer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] SourceNameError),
    /// Another producer of this engine records the source. Drop it first.
    #[error("source `{name}` has a producer; drop it before you open another")]
    InUse {
        /// Of the source.
        name: String,
    },
    /// Events of the source's last producer are still on their way, because a shard is busy or its
    /// log takes nothing. Try again.
    #[error("events of the last producer of `{name}` were not applied within {patience:?}")]
    Unsettled {
        /// Of the source.
        name: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The store cannot know the source.
    #[error(transparent)]
    Refused(#[from] SourceTableError),
    /// A shard is down.
    #[error(transparent)]
    Down(#[from] ShardDown),
}

impl From<AckError> for SourceError {
    fn from(error: AckError) -> Self {
        match error {
            AckError::Down(down) => Self::Down(down),
            AckError::NoLog => unreachable!("events are applied without a log too"),
        }
    }
}

impl From<VisitError> for SourceError {
    fn from(error: VisitError) -> Self {
        match error {
            VisitError::Down(down) => Self::Down(down),
            VisitError::Panicked { message, .. } => unreachable!("looking is safe: {message}"),
        }
    }
}

/// Why a closure did not give its result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VisitError {
    /// The shard is gone.
    #[error(transparent)]
    Down(#[from] ShardDown),
    /// The closure panicked. The shard goes on.
    #[error("the closure panicked on shard {shard}: {message}")]
    Panicked {
        /// Where.
        shard: usize,
        /// What the panic said.
        message: String,
    },
}

/// Why a read gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The schema has no such signal type.
    #[error("signal type {signal} is not in the schema of {known} types")]
    UnknownSignal {
        /// The id.
        signal: u8,
        /// How many types the schema has.
        known: usize,
    },
    /// The signal type has no such half-life.
    #[error("half-life {half_life} is not among the {known} of the signal type")]
    UnknownHalfLife {
        /// Its place.
        half_life: usize,
        /// How many there are.
        known: usize,
    },
    /// The signal type has no such window.
    #[error("window {window} is not among the {known} of the signal type")]
    UnknownWindow {
        /// Its place.
        window: usize,
        /// How many there are.
        known: usize,
    },
    /// More places were asked for than are kept.
    #[error("the best {asked} were asked for; at most {most} are kept")]
    TooMany {
        /// How many.
        asked: usize,
        /// How many are possible.
        most: usize,
    },
    /// The buffer does not have a place for each column of each entity, or there is not a weight
    /// for each column.
    #[error("{rows} entities by {columns} columns need {} numbers; there is room for {room}",
        .rows * .columns)]
    Shape {
        /// Entities asked for.
        rows: usize,
        /// Columns of the plan.
        columns: usize,
        /// Places given.
        room: usize,
    },
    /// A shard that has part of the answer is gone.
    #[error(transparent)]
    Down(#[from] ShardDown),
}

/// Why closing was not clean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Some shards had not ended in time; they end by themselves. Close again to wait longer.
    #[error("shards {shards:?} had not ended within {patience:?}")]
    Timeout {
        /// Which.
        shards: Vec<usize>,
        /// How long was waited.
        patience: Duration,
    },
    /// A shard had failed before.
    #[error(transparent)]
    Failed(ShardDown),
    /// The shards ended, and their logs; the checkpoint's storage was not closed in order. Nothing
    /// is lost: the logs have what it may lack.
    #[error("the checkpoint was not closed in order: {why}")]
    Store {
        /// What went wrong.
        why: String,
    },
}
