//! The ledger: every pair a shard owns, its hot state and its buckets, and the rankings kept on
//! writes.
//!
//! ```text
//! event ─hash─▶ segment ─slot─▶ hot state (one line) ─▶ scores, all-time
//!                               few buckets (the next line), of almost every pair
//!                                    └─ bucket ref ───▶ many buckets (two to fifteen lines)
//! ```
//!
//! Promises: one owner, no lock, no atomic, no clock; the same events in the same order give the
//! same bits. Growth moves the index of one segment of pairs at a time. Not here: rings and threads
//! ([`crate::shard`]), what a score is ([`crate::signal`]).

mod apply;
mod best;
mod checkpoint;
mod front;
mod index;
mod read;
pub mod table;
mod top;

use crate::checkpoint::Rounds;
use crate::limits::PARTITIONS;
use crate::signal::buckets::BucketStore;
use crate::signal::pair::PairState;
use crate::{EntityHash, PartitionKey, Schema};
pub use checkpoint::{RestoredPair, Walk};
use front::Front;
use std::ops::Range;
use std::sync::Arc;
use table::Table;
use top::TopList;

/// One shard's signals.
///
/// ```
/// use ebbtide_shard::{EntityId, Materializer, PartitionKey, RoutedEvent};
/// use ebbtide_shard::{Schema, SignalId, SignalLedger, Timestamp};
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]")?;
/// let key = PartitionKey::new([0; 16]);
/// let mut ledger = SignalLedger::new(schema.into(), key, 0..4096);
/// let (entity, signal, time) = (EntityId(42), SignalId(0), Timestamp::from_seconds(1_000_000));
/// ledger.on_event(&RoutedEvent { entity, time, weight: 8.0, hash: key.hash(entity), signal });
/// let an_hour_later = Timestamp::from_seconds(1_003_600);
/// let reading = ledger.read(key.hash(entity), entity, signal, an_hour_later).unwrap();
/// assert!((reading.scores()[0] - 4.0).abs() < 1e-12);
/// assert_eq!((reading.counts()[0], reading.all_time), (0, 1));
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Debug)]
pub struct SignalLedger {
    schema: Arc<Schema>,
    key: PartitionKey,
    partitions: Range<usize>,
    states: Table<PairState>,
    buckets: BucketStore,
    /// One list per half-life of each signal type.
    tops: Box<[Vec<TopList>]>,
    /// One for each signal type.
    fronts: Box<[Front]>,
    /// How often a front has moved.
    front_moves: u64,
    /// In which rounds its pairs were last saved.
    rounds: Rounds,
}

impl SignalLedger {
    /// An empty ledger for a range of partitions of the store that `key` belongs to.
    ///
    /// # Panics
    ///
    /// If the range reaches past the last partition.
    #[must_use]
    pub fn new(schema: Arc<Schema>, key: PartitionKey, partitions: Range<usize>) -> Self {
        assert!(partitions.end <= PARTITIONS, "there are {PARTITIONS} partitions");
        let tops = schema
            .signals()
            .map(|(_, def)| def.half_lives().iter().map(|_| TopList::default()).collect())
            .collect();
        let fronts = schema.signals().map(|(_, def)| Front::nowhere(def.half_lives())).collect();
        let (states, buckets) = (Table::default(), BucketStore::default());
        let (front_moves, rounds) = (0, Rounds::default());
        Self { schema, key, partitions, states, buckets, tops, fronts, front_moves, rounds }
    }

    /// The schema of the signals held.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The key its entities are hashed under.
    #[must_use]
    pub fn key(&self) -> &PartitionKey {
        &self.key
    }

    /// The partitions whose entities belong here.
    #[must_use]
    pub fn partitions(&self) -> Range<usize> {
        self.partitions.clone()
    }

    /// Whether an entity of this hash belongs here.
    #[must_use]
    pub fn owns(&self, hash: EntityHash) -> bool {
        self.partitions.contains(&hash.partition())
    }

    /// Pairs of entity and signal type ever seen.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.states.len()
    }

    /// Bytes held for hot states, buckets and rankings.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let rankings = self.tops.iter().flatten().map(TopList::memory_bytes).sum::<usize>();
        self.states.memory_bytes() + self.buckets.memory_bytes() + rankings
    }
}

#[cfg(test)]
mod tests;
