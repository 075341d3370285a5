//! When a checkpoint writes all pairs, when to a storage of its own, and how one is begun.
//!
//! Promises: the new storage knows what the old one knows of sources and ids, and that it lacks
//! all pairs; the old one is only read.
//! Not here: which of the two counts, which is whoever's that keeps both.

use super::{
    Batch, Key, Loaded, MetaRecord, RecordDigest, Round, SaveError, Saver, StorageEngine, compare,
    encode, round_of,
};
use crate::limits::{COPIED_BYTES_MAX, PAGE_HASHED_BYTES, PAGES_FEW, PAGES_FOR_FULL_MAX};
use std::collections::{BTreeMap, BTreeSet};

impl<S: StorageEngine> Saver<S> {
    /// With so few bytes of pairs that a storage of their own is not worth it; by default
    /// [`STORED_BYTES_FEW`](crate::limits::STORED_BYTES_FEW).
    #[must_use]
    pub fn with_stored_bytes_few(self, stored_bytes_few: u64) -> Self {
        Self { stored_bytes_few, ..self }
    }

    /// Whether a checkpoint is to write out every pair: half of what is stored is old, pages are
    /// mostly empty, there are records of single pairs, or pairs have no record here.
    pub(super) fn wants_all(&self) -> bool {
        let stored: u64 = self.pages.values().map(|page| u64::from(page.pairs)).sum();
        let is_mostly_old = stored >= 2 * self.rounds.pairs();
        is_mostly_old
            || self.has_mostly_empty_pages()
            || self.has_single_pairs()
            || !self.is_complete()
    }

    fn has_mostly_empty_pages(&self) -> bool {
        let full = self.latest_bytes() / PAGE_HASHED_BYTES as u64;
        self.pages.len() as u64 > PAGES_FEW + PAGES_FOR_FULL_MAX * full
    }

    fn has_single_pairs(&self) -> bool {
        self.rounds.need(Round::FIRST)
    }

    /// Whether there are pages of every round that pairs need. Only a storage that is written anew
    /// lacks some.
    pub(super) fn is_complete(&self) -> bool {
        let stored: BTreeSet<Round> = self.pages.keys().map(|&key| round_of(key)).collect();
        self.rounds.iter().all(|(round, _)| stored.contains(&round))
    }

    /// Whether the next checkpoint is better written to a storage of its own, with
    /// [`Saver::anew`]: where this one takes many bytes, and all pairs are to be written, or would
    /// have to be after this checkpoint, if as many change as before the last. What was removed and
    /// still takes room counts as old.
    #[must_use]
    pub fn wants_anew(&self) -> bool {
        let (stored, page_bytes) = self.needed_pages();
        let taken_bytes = self.storage.stored_bytes().max(page_bytes);
        // Pairs that would take as many bytes.
        let taken = u128::from(taken_bytes) * u128::from(stored) / u128::from(page_bytes.max(1));
        let would_be_mostly_old =
            taken + u128::from(self.rewritten) >= 2 * u128::from(self.rounds.pairs());
        stored > 0
            && taken_bytes >= self.stored_bytes_few
            && (would_be_mostly_old || self.has_mostly_empty_pages() || self.has_single_pairs())
    }

    /// Bytes that the latest records take, more or less: as many as are written anew.
    #[must_use]
    pub fn latest_bytes(&self) -> u64 {
        let (stored, page_bytes) = self.needed_pages();
        let latest = u128::from(page_bytes) * u128::from(self.rounds.pairs());
        u64::try_from(latest / u128::from(stored.max(1))).unwrap_or(u64::MAX)
    }

    /// Pairs and bytes of all pages that pairs need; a pair counts for every one it is in.
    fn needed_pages(&self) -> (u64, u64) {
        let needed = self.pages.iter().filter(|&(&key, _)| self.rounds.need(round_of(key)));
        needed.fold((0, 0), |(pairs, bytes), (_, page)| {
            (pairs + u64::from(page.pairs), bytes + u64::from(page.bytes))
        })
    }

    /// The saver of another storage, which is empty, for the next checkpoint of the same store: it
    /// has all records of sources and ids but those that are to go, which come in order, and its
    /// walk goes through all pairs. Once it is finished it can take this one's place, which is as
    /// it was.
    ///
    /// # Errors
    ///
    /// [`SaveError::Exists`] if there is a checkpoint in the other storage, otherwise as
    /// [`Saver::commit`].
    pub fn anew<T: StorageEngine>(&self, storage: T, to_go: &[Key]) -> Result<Saver<T>, SaveError> {
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
        let mut batch = Batch::default();
        let is_to_go = |key: &Key| to_go.binary_search(key).is_ok();
        for (&key, &digest) in self.others.iter().filter(|(key, _)| !is_to_go(key)) {
            let value = self.storage.get(key)?.unwrap_or_default();
            compare(key, Some(digest), Some(&value))
                .map_err(|found| SaveError::ReadBack { key, found })?;
            batch.put(key, &value);
            if batch.value_bytes() >= COPIED_BYTES_MAX {
                anew.write_others(std::mem::take(&mut batch))?;
            }
        }
        anew.write_others(batch)?;
        // They were written for this checkpoint, and not by it.
        (anew.records, anew.bytes) = (0, 0);
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
        saver.verify((key, RecordDigest::of_value(&written)))?;
        Ok(saver)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::load::Page;
    use super::super::super::{MemoryStorage, Opening};
    use super::*;
    use crate::EntityId;

    /// Whether so many pages of so many pairs and bytes each are mostly empty.
    fn are_mostly_empty(pages: u64, (pairs, bytes): (u32, u32)) -> bool {
        let covered = Vec::new();
        let opening =
            Opening { number: 1, schema_toml: String::new(), signal_names: vec![], covered };
        let mut saver = Saver::create(MemoryStorage::new(), [1; 16], opening).unwrap();
        let (round, digest) = (Round::FIRST.next(), RecordDigest::of_value(&[1; 16]).unwrap());
        for entity in (0..pages).map(EntityId) {
            let key = Key::Page { entity, number: 0, round };
            saver.pages.insert(key, Page { digest, pairs, bytes });
        }
        saver.rounds.add(round, pages * u64::from(pairs));
        saver.has_mostly_empty_pages()
    }

    #[test]
    fn full_pages_are_told_from_mostly_empty_ones_whatever_their_pairs() {
        let full = [(256, 15_400), (234, 16_400), (131, 16_400), (14, 16_800), (64, 64 * 65)];
        for page in full {
            assert!(!are_mostly_empty(5_000, page), "{page:?}");
        }
        for page in [(1, 92), (1, 1_200), (16, 16 * 65)] {
            assert!(are_mostly_empty(5_000, page), "{page:?}");
            assert!(!are_mostly_empty(1_000, page), "so few never matter: {page:?}");
        }
    }
}
