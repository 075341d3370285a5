//! What a reader may ask of a shard, and what comes back. Buffers travel there and back, so that a
//! reader that repeats itself allocates nothing.

use crate::{EntityHash, EntityId, Feature, Ranked, SignalId, Timestamp, TopEntry};
use std::sync::Arc;

/// Asks for everything about one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose.
    pub entity: EntityId,
    /// Its hash.
    pub hash: EntityHash,
    /// Which signal type.
    pub signal: SignalId,
    /// As of when.
    pub now: Timestamp,
}

/// A question to one shard about many entities it owns.
#[derive(Debug)]
pub enum Request {
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
        /// For the answer.
        entries: Vec<TopEntry>,
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
    pub ranked: Vec<Ranked>,
}

/// The answer, of the kind of the request.
#[derive(Debug)]
pub enum Reply {
    /// To [`Request::ReadRows`] and [`Request::Rank`].
    Rows(Rows),
    /// To [`Request::Top`]: best first.
    Top(Vec<TopEntry>),
}
