//! A shard's state, as a closure sees it that runs on the shard's own core.

use crate::source::{SourceName, SourceTable, SourceTableError};
use crate::{EntityId, PartitionKey, SignalId, SignalLedger, SignalReading, Timestamp, TopEntry};

/// Read access to one shard, on its own thread, between two turns.
///
/// Nothing changes while a closure looks; the shard does nothing else meanwhile, so be brief.
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
        let hash = self.key.hash(entity);
        assert!(self.ledger.owns(hash), "entity {entity} is not on shard {}", self.shard);
        self.ledger.read(hash, entity, signal, now)
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
