//! When a checkpoint is better written to a storage of its own, and how one is begun.
//!
//! Promises: the new storage knows what the old one knows of sources and ids, and that it lacks
//! all pairs; the old one is only read.
//! Not here: which of the two counts, which is whoever's that keeps both.

use super::{
    Batch, Key, Loaded, MetaRecord, Round, SaveError, Saver, StorageEngine, compare, encode,
};
use crate::limits::{PAGE_PAIRS_FEW, PAGES_FEW};
use std::collections::BTreeMap;

impl<S: StorageEngine> Saver<S> {
    /// Of fewer bytes of pairs than these no checkpoint is written anew because they are old; by
    /// default [`STORED_BYTES_FEW`](crate::limits::STORED_BYTES_FEW).
    #[must_use]
    pub fn with_few(self, stored_bytes_few: u64) -> Self {
        Self { stored_bytes_few, ..self }
    }

    /// Whether the next checkpoint is better written to a storage of its own, with
    /// [`Saver::anew`]. So it is when this one, if as many pairs have changed as the last time,
    /// would take twice what its latest records do; when pages are mostly empty; and when there are
    /// records of single pairs.
    #[must_use]
    pub fn wants_anew(&self) -> bool {
        let (latest, stored) = (self.rounds.pairs(), self.stored_pairs());
        let page_bytes: u64 = self.pages.values().map(|page| u64::from(page.bytes)).sum();
        let taken_bytes = self.storage.stored_bytes().max(page_bytes);
        // Of as many bytes each as those that are stored.
        let taken = u128::from(taken_bytes) * u128::from(stored) / u128::from(page_bytes.max(1));
        let is_mostly_old = taken_bytes >= self.stored_bytes_few
            && taken + u128::from(self.rewritten) >= 2 * u128::from(latest);
        let is_mostly_empty = self.pages.len() as u64 > PAGES_FEW + latest / PAGE_PAIRS_FEW;
        let is_of_single_pairs = self.rounds.need(Round::FIRST);
        latest > 0 && (is_mostly_old || is_mostly_empty || is_of_single_pairs)
    }

    /// The saver of another storage, which is empty, for the next checkpoint of the same store: it
    /// has all records of sources and ids, and its walk goes through all pairs. Once it is finished
    /// it can take this one's place, which is as it was.
    ///
    /// # Errors
    ///
    /// [`SaveError::Exists`] if there is a checkpoint in the other storage, otherwise as
    /// [`Saver::commit`].
    pub fn anew<T: StorageEngine>(&self, storage: T) -> Result<Saver<T>, SaveError> {
        self.refuse_after_failure()?;
        if storage.get(Key::Meta)?.is_some() {
            return Err(SaveError::Exists);
        }
        let meta = MetaRecord { records: 0, set_digest: 0, ..self.meta.clone() };
        let loaded = Loaded { meta, others: BTreeMap::new(), pages: BTreeMap::new() };
        let mut anew = Saver {
            round: self.round,
            run_bytes_max: self.run_bytes_max,
            dropped_max: self.dropped_max,
            stored_bytes_few: self.stored_bytes_few,
            ..Saver::resume(storage, loaded, self.rounds.clone())
        };
        for (&key, &digest) in &self.others {
            let value = self.storage.get(key)?;
            compare(key, Some(digest), value.as_deref())
                .map_err(|found| SaveError::ReadBack { key, found })?;
            let mut batch = Batch::default();
            batch.put(key, &value.unwrap_or_default());
            anew.write_others(batch)?;
        }
        Ok(anew)
    }

    /// Goes on with the storage that `reopen` makes of this one: the same records, closed and
    /// opened again.
    ///
    /// # Errors
    ///
    /// Those of `reopen`; [`SaveError::ReadBack`] if the meta record is not what was written last.
    pub fn reopened(
        self,
        reopen: impl FnOnce(S) -> Result<S, SaveError>,
    ) -> Result<Self, SaveError> {
        let mut saver = Self { storage: reopen(self.storage)?, ..self };
        let key = Key::Meta;
        let refused = |fault| SaveError::Refused { key, fault };
        let written = encode(key, &saver.meta).map_err(refused)?;
        saver.verify(key, &written)?;
        Ok(saver)
    }
}
