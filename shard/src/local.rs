//! A shard's state, as a closure sees it that runs on the shard's own core.

use crate::request::Rows;
use crate::source::{SourceName, SourceTable, SourceTableError};
use crate::{
    EntityHash, EntityId, PartitionKey, Plan, Ranked, SignalId, SignalLedger, SignalReading,
    Timestamp, TopEntry,
};

/// Entities that are hashed and read together.
const GROUP: usize = 64;

/// Read access to one shard, on its own thread, between two turns.
///
/// It answers what a reader does, for the entities of this shard, straight from the ledger: no ring
/// and no other core is on the way. Nothing changes while a closure looks; the shard does nothing
/// else meanwhile, so be brief.
#[derive(Debug)]
pub struct LocalShard<'s> {
    shard: usize,
    key: &'s PartitionKey,
    ledger: &'s SignalLedger,
    sources: &'s SourceTable,
}

impl<'s> LocalShard<'s> {
    pub(crate) fn new(shard: usize, ledger: &'s SignalLedger, sources: &'s SourceTable) -> Self {
        Self { shard, key: ledger.key(), ledger, sources }
    }

    /// The shard's number.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Whether this shard owns `entity`.
    #[must_use]
    pub fn owns(&self, entity: EntityId) -> bool {
        self.ledger.owns(self.key.hash(entity))
    }

    /// Everything known of a pair as of `now`; `None` if it never had an event.
    ///
    /// # Panics
    ///
    /// If another shard owns the entity: its answer is not here.
    #[must_use]
    pub fn read(
        &self,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> Option<SignalReading> {
        self.ledger.read(self.owned(entity, self.key.hash(entity)), entity, signal, now)
    }

    /// Fills `out` with a feature matrix as of one instant: a row for each entity, a column for
    /// each number of the plan, zeros for an entity without events. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If another shard owns one of the entities, the plan names what the schema does not have, or
    /// `out` has not one place for each column of each entity.
    pub fn read_many(&self, entities: &[EntityId], plan: &Plan, now: Timestamp, out: &mut [f64]) {
        let columns = plan.columns();
        assert_eq!(out.len(), entities.len() * columns.len(), "a place for each number");
        let mut left = out;
        for group in entities.chunks(GROUP) {
            let mut hashes = [EntityHash(0); GROUP];
            let hashes = &mut hashes[..group.len()];
            self.key.hash_all(group, hashes);
            let mut asked = [(EntityHash(0), EntityId(0)); GROUP];
            for ((asked, &entity), &hash) in asked.iter_mut().zip(group).zip(&*hashes) {
                *asked = (self.owned(entity, hash), entity);
            }
            let (rows, rest) = left.split_at_mut(group.len() * columns.len());
            self.ledger.read_rows(&asked[..group.len()], columns, now, rows);
            left = rest;
        }
    }

    /// The best `k` of `entities` by the weighted sum of the plan's numbers, best first, ties by
    /// the smaller id.
    ///
    /// # Panics
    ///
    /// If another shard owns one of the entities, the plan names what the schema does not have, or
    /// there is not one weight for each column.
    #[must_use]
    pub fn rank(
        &self,
        entities: &[EntityId],
        (plan, weights): (&Plan, &[f64]),
        k: usize,
        now: Timestamp,
    ) -> Vec<Ranked> {
        assert_eq!(weights.len(), plan.columns().len(), "one weight for each column");
        let asked = |&entity| (self.owned(entity, self.key.hash(entity)), entity);
        let mut rows = Rows {
            columns: plan.columns().clone(),
            entities: entities.iter().map(asked).collect(),
            values: vec![0.0; entities.len() * weights.len()],
            weights: weights.into(),
            ranked: Vec::with_capacity(entities.len()),
        };
        self.ledger.rank_rows(&mut rows, k, now);
        rows.ranked
    }

    fn owned(&self, entity: EntityId, hash: EntityHash) -> EntityHash {
        assert!(self.ledger.owns(hash), "entity {entity} is not on shard {}", self.shard);
        hash
    }

    /// Every pair of this shard with its reading as of `now`, in no particular order.
    pub fn pairs(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (EntityId, SignalId, SignalReading)> {
        self.ledger.iter(now)
    }

    /// The sources this shard knows, each with the offset behind which it has to go on for this
    /// shard.
    #[must_use]
    pub fn sources(&self) -> impl ExactSizeIterator<Item = (&SourceName, u64)> {
        let sources = self.sources;
        sources.slots().map(|slot| (sources.name(slot), sources.resume_offset(slot)))
    }

    /// The offset behind which a source has to go on for this shard, if the shard knows it.
    ///
    /// # Errors
    ///
    /// [`SourceTableError`] if the shard does not know the source and cannot come to know it.
    pub fn resume_offset(&self, name: &SourceName) -> Result<Option<u64>, SourceTableError> {
        let known = self.sources.check(name)?;
        Ok(known.map(|slot| self.sources.resume_offset(slot)))
    }

    /// This shard's best entities by one score, best first, at most `k` and 128.
    ///
    /// # Panics
    ///
    /// If there is no such signal type or half-life.
    #[must_use]
    pub fn top_k(
        &self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Vec<TopEntry> {
        self.ledger.top_k(signal, half_life, k, now)
    }
}
