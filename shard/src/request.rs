//! What a reader may ask of a shard, and what comes back. Buffers travel there and back, so that a
//! reader that repeats itself allocates nothing.

use crate::{EntityHash, EntityId, Feature, SignalId, SignalReading, Timestamp, TopEntry};
use std::sync::Arc;

/// A question to one shard about entities it owns.
#[derive(Debug)]
pub enum Request {
    /// Everything about one pair.
    Read {
        /// Whose.
        entity: EntityId,
        /// Its hash.
        hash: EntityHash,
        /// Which signal type.
        signal: SignalId,
        /// As of when.
        now: Timestamp,
    },
    /// Some numbers of many entities.
    ReadRows {
        /// Whose, and which numbers.
        rows: Rows,
        /// As of when.
        now: Timestamp,
    },
    /// The best of many entities by a weighted sum of some numbers.
    Rank {
        /// Whose, which numbers, and their weights.
        rows: Rows,
        /// How many of the best.
        k: usize,
        /// As of when.
        now: Timestamp,
    },
    /// The best entities by one score.
    Top {
        /// Of which signal type.
        signal: SignalId,
        /// Which half-life.
        half_life: usize,
        /// How many of the best.
        k: usize,
        /// As of when.
        now: Timestamp,
    },
}

/// A part of a feature matrix: the rows one shard fills.
#[derive(Debug, Default)]
pub struct Rows {
    /// Which numbers.
    pub columns: Arc<[Feature]>,
    /// Whose; one row each.
    pub entities: Vec<(EntityHash, EntityId)>,
    /// Row after row, as long as `entities` times `columns`; the shard fills it.
    pub values: Vec<f64>,
    /// What each column counts for in a ranking.
    pub weights: Vec<f64>,
    /// The best of them in a ranking, best first, each with its weighted sum; the shard fills it.
    pub ranked: Vec<(f64, EntityId)>,
}

/// The answer, of the kind of the request.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "replies stay in their ring slot; a box would allocate"
)]
pub enum Reply {
    /// To [`Request::Read`].
    Reading(Option<SignalReading>),
    /// To [`Request::ReadRows`] and [`Request::Rank`].
    Rows(Rows),
    /// To [`Request::Top`]: best first.
    Top(Vec<TopEntry>),
}
