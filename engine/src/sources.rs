//! Which sources have a producer, and what the last one left on its way.
//!
//! Promises: a source has one living producer at most; a new one opens only when everything its
//! predecessor had offered is applied, so that repeats are told by one number.

use crate::acked::Acked;
use crate::block_on::block_on_for;
use crate::engine::visit;
use crate::{Engine, SourceError, SourceProducer, VisitError};
use ebbtide_router::SourceRouter;
use ebbtide_shard::{LocalShard, SourceName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long opening a source again waits for what its last producer left.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// The sources of one engine.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// By source, what its last producer left on its way; `None` while one lives.
    left: Mutex<BTreeMap<SourceName, Option<Vec<Acked>>>>,
    /// Held while a source is opened, so that two new ones do not both take the last place.
    opening: Mutex<()>,
}

/// The right to be the producer of a source. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    sources: Arc<Sources>,
    name: SourceName,
    left: Vec<Acked>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claim {
    fn new(sources: &Arc<Sources>, name: SourceName) -> Result<Self, SourceError> {
        match lock(&sources.left).insert(name.clone(), None) {
            Some(None) => Err(SourceError::InUse { name: name.to_string() }),
            left => {
                let left = left.flatten().unwrap_or_default();
                Ok(Self { sources: Arc::clone(sources), name, left })
            }
        }
    }

    /// Waits until what the last producer left is applied.
    fn settle(&mut self, patience: Duration) -> Result<(), SourceError> {
        let begun = Instant::now();
        for left in &mut self.left {
            let taken = block_on_for(left, patience.saturating_sub(begun.elapsed()));
            let unsettled = || SourceError::Unsettled { name: self.name.to_string(), patience };
            taken.ok_or_else(unsettled)??;
        }
        self.left.clear();
        Ok(())
    }

    pub(crate) fn name(&self) -> &SourceName {
        &self.name
    }

    /// Says what is on its way still.
    pub(crate) fn leave(&mut self, left: Vec<Acked>) {
        self.left = left;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.left);
        lock(&self.sources.left).insert(self.name.clone(), Some(left));
    }
}

impl Engine {
    /// A handle for the one thread that records a source: a stream whose events have rising
    /// offsets, so that it can be sent again after a crash and every event counts once. A source
    /// may be opened again after its producer was dropped.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub fn producer_for(&self, source: &str) -> Result<SourceProducer, SourceError> {
        let name = SourceName::new(source)?;
        let mut claim = Claim::new(&self.sources, name.clone())?;
        claim.settle(SETTLE_PATIENCE)?;
        let _one_at_a_time = lock(&self.sources.opening);
        let mut known = Vec::with_capacity(self.shards());
        for port in self.shards.ports() {
            let name = name.clone();
            known.push(visit(port, move |local| local.resume_offset(&name))??);
        }
        let resume_offset = resume_of(known).unwrap_or(0);
        let (placement, key) = (self.placement, self.key);
        let events =
            SourceRouter::open(self.shards.ports(), placement, key, self.admission(), name)?;
        Ok(SourceProducer::new(events, resume_offset, self.has_log, claim))
    }

    /// The offset behind which a source has to go on: every event up to it is recorded, or was
    /// never offered. `None` for a source that was never opened.
    ///
    /// # Errors
    ///
    /// [`VisitError`] if a shard is down.
    pub fn resume_offset(&self, source: &str) -> Result<Option<u64>, VisitError> {
        Ok(self.sources()?.into_iter().find(|(name, _)| name == source).map(|(_, offset)| offset))
    }

    /// Every source that was ever opened, with the offset behind which it has to go on, in the
    /// order of their names.
    ///
    /// # Errors
    ///
    /// [`VisitError`] if a shard is down.
    pub fn sources(&self) -> Result<Vec<(String, u64)>, VisitError> {
        let look = |local: &LocalShard<'_>| -> Vec<(SourceName, u64)> {
            local.sources().map(|(name, offset)| (name.clone(), offset)).collect()
        };
        let mut known: BTreeMap<SourceName, Vec<Option<u64>>> = BTreeMap::new();
        for (name, offset) in self.on_every_shard(look)?.into_iter().flatten() {
            known.entry(name).or_default().push(Some(offset));
        }
        let resume = |(name, mut offsets): (SourceName, Vec<Option<u64>>)| {
            offsets.resize(self.shards(), None);
            resume_of(offsets).map(|offset| (name.to_string(), offset))
        };
        Ok(known.into_iter().filter_map(resume).collect())
    }
}

/// Where a source goes on, from what each shard knows; one that does not know it has nothing of it.
fn resume_of(known: Vec<Option<u64>>) -> Option<u64> {
    if known.iter().all(Option::is_none) {
        return None;
    }
    known.into_iter().map(|offset| offset.unwrap_or(0)).min()
}
