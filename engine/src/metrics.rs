//! What an engine says of itself.

use crate::CheckpointMetrics;
use ebbtide_router::Rejected;
use ebbtide_shard::{ShardDown, ShardMetrics};

/// Counters of every shard and of the edge, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineMetrics {
    /// One entry for each shard, in their order.
    pub shards: Vec<ShardMetrics>,
    /// Events refused at the edge, by reason.
    pub rejected: Rejected,
    /// What checkpoints have come to; `None` for an engine that lives in memory.
    pub checkpoints: Option<CheckpointMetrics>,
}

impl EngineMetrics {
    /// Events applied, over all shards.
    #[must_use]
    pub fn events_applied(&self) -> u64 {
        self.shards.iter().map(|shard| shard.events_applied).sum()
    }

    /// Pairs of entity and signal type held, over all shards.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.shards.iter().map(|shard| shard.pairs).sum()
    }

    /// Bytes of state held, over all shards.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.memory_bytes).sum()
    }
}

/// Whether an engine can be relied on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Every shard runs.
    Ok,
    /// Every shard runs, but there will be no more checkpoints until the engine is opened again, so
    /// the logs grow.
    Degraded {
        /// What failed.
        why: String,
    },
    /// These shards are down; the others answer.
    Failed(Vec<ShardDown>),
}
