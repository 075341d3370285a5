//! A store's whole state in memory, as one shard: to look at it, to check it, to write it anew.
//!
//! Promises: the same state that the shards of an engine would have; nothing of the store is
//! written.
//! Not here: which store, and whether it may be read (`open`, `view`).

use super::intake::{Dealer, Intake, PART_ITEMS, PairIntake};
use super::manifest::Manifest;
use super::recover::{LEAVING, LogsOf, read_logs};
use super::{FjallStorage, RecoveryProgress, StoreError, StoreFiles};
use ebbtide_shard::checkpoint::{
    IdsRecord, Key, ListedPair, MetaRecord, Opening, PairRecord, RecordFault, Round, SaveError,
    Saver, SourceRecord, StorageEngine, load, source_id,
};
use ebbtide_shard::dedup::RecentIds;
use ebbtide_shard::limits::{IDS_RECORD_ENTRIES_MAX, PARTITIONS};
use ebbtide_shard::recovery::{Recovering, ReplayedEvent, ReplayedEvents};
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::SourceId;
use ebbtide_shard::{
    EntityHash, EntityId, Materializer as _, PartitionKey, RestoredPair, Schema, SignalLedger, Walk,
};
use ebbtide_wal::{Lsn, Replayed};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A store that may be read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a, S> {
    pub(crate) files: &'a StoreFiles,
    pub(crate) manifest: &'a Manifest,
    pub(crate) storage: &'a S,
    pub(crate) meta: &'a MetaRecord,
    pub(crate) schema: &'a Arc<Schema>,
    pub(crate) numbers: &'a SignalNumbers,
    /// Whether to read segments too that hold nothing but what the checkpoint includes.
    pub(crate) read_covered: bool,
}

/// All of a store's state.
pub(crate) struct Whole {
    pub(crate) ledger: SignalLedger,
    pub(crate) ids: RecentIds,
    pub(crate) sources: Vec<SourceRecord>,
    /// The last record of any log.
    pub(crate) last: Lsn,
    /// The logs that the checkpoint knows.
    pub(crate) logs: BTreeMap<u32, Replayed>,
}

/// What is there before the logs are read.
#[derive(Clone, Copy)]
enum Begin<'a> {
    Nothing,
    /// How far each source has come.
    Sources(&'a [SourceRecord]),
    /// The records of the checkpoint.
    Records,
}

/// Every pair counts as not saved yet in the end, since it is to be saved elsewhere or nowhere.
pub(crate) struct Unsaved {
    recovering: Recovering,
    /// Events that are taken in together.
    events: ReplayedEvents,
}

impl Unsaved {
    pub(crate) fn new(recovering: Recovering) -> Self {
        Self { recovering, events: ReplayedEvents::with_capacity(PART_ITEMS) }
    }

    /// The rebuilt state.
    pub(crate) fn finish(mut self) -> (SignalLedger, RecentIds) {
        self.flush();
        let (mut ledger, ids, _) = self.recovering.finish();
        ledger.forget_saved();
        (ledger, ids)
    }
}

impl PairIntake for Unsaved {
    fn pair(&mut self, pair: RestoredPair, is_ahead: bool) -> Result<(), RecordFault> {
        self.recovering.restore(&pair, is_ahead)
    }
}

impl Intake for Unsaved {
    fn id(&mut self, hash: EntityHash, key: u128) {
        self.recovering.remember(hash, key);
    }

    fn event(&mut self, event: ReplayedEvent) {
        self.events.push(event);
        if self.events.len() >= PART_ITEMS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.recovering.replay(&self.events);
        self.events.clear();
    }
}

impl<S: StorageEngine> Reading<'_, S> {
    /// The state as of checkpoint and logs together.
    pub(crate) fn whole(&self) -> Result<Whole, StoreError> {
        self.rebuild(self.meta, Begin::Records)
    }

    /// The state as of the logs alone. Fails if one of them does not begin with its first record.
    pub(crate) fn whole_from_logs(&self) -> Result<Whole, StoreError> {
        let covered = self.meta.covered.iter();
        let covered = covered.filter(|&&(_, lsn)| lsn != LEAVING).map(|&(log, _)| (log, 0));
        let meta = MetaRecord { covered: covered.collect(), layout: 0, ..self.meta.clone() };
        self.rebuild(&meta, Begin::Nothing)
    }

    /// What the logs that are there give by themselves, each from its first segment on; `begins`
    /// says behind which record that is. `sources` are known from elsewhere, since a log may have
    /// let the batch go that names one.
    pub(crate) fn whole_from_kept_logs(
        &self,
        begins: &BTreeMap<u32, Lsn>,
        sources: &[SourceRecord],
    ) -> Result<Whole, StoreError> {
        let begin = |&(log, lsn): &(u32, u64)| match begins.get(&log) {
            Some(begin) if lsn != LEAVING => (log, begin.get()),
            _ => (log, lsn),
        };
        let covered = self.meta.covered.iter().map(begin).collect();
        let meta = MetaRecord { covered, layout: 0, ..self.meta.clone() };
        self.rebuild(&meta, Begin::Sources(sources))
    }

    fn rebuild(&self, meta: &MetaRecord, begin: Begin<'_>) -> Result<Whole, StoreError> {
        let key = self.manifest.partition_key();
        let schema = Arc::clone(self.schema);
        let recovering = Recovering::new(schema, self.numbers.clone(), key, 0..PARTITIONS);
        let (mut unsaved, mut silent) = (Unsaved::new(recovering), |_: RecoveryProgress| {});
        let mut dealer = Dealer::new(meta, (&key, self.numbers), &mut unsaved, &mut silent);
        match begin {
            Begin::Nothing => {}
            Begin::Sources(records) => records.iter().for_each(|record| {
                dealer.sources.restore(SourceId(source_id(&record.name)), record);
            }),
            Begin::Records => {
                let path = self.files.checkpoint();
                let loaded = load(self.storage, &mut dealer);
                loaded.map_err(|source| StoreError::Checkpoint { path, source })?;
            }
        }
        dealer.hand_over_ids(|_| true);
        let mut sources = std::mem::take(&mut dealer.sources);
        let read = self.read_logs_into(meta, &key, &mut sources, &mut dealer)?;
        if dealer.last_included > read.last {
            let (found, last) = (dealer.last_included.get(), read.last.get());
            let path = self.files.checkpoint();
            return Err(StoreError::CheckpointAhead { path, found, last });
        }
        let (ledger, ids) = unsaved.finish();
        let (last, logs) = (read.last, read.logs);
        Ok(Whole { ledger, ids, sources: sources.records(), last, logs })
    }

    fn read_logs_into(
        &self,
        meta: &MetaRecord,
        key: &PartitionKey,
        sources: &mut super::sources::SourceOffsets,
        dealer: &mut Dealer<'_, Unsaved>,
    ) -> Result<super::recover::LogsRead, StoreError> {
        let (files, store, numbers) = (self.files, self.manifest.store, self.numbers);
        let read_covered = self.read_covered;
        read_logs(LogsOf { files, store, key, numbers, meta, read_covered }, sources, dealer)
    }
}

impl Whole {
    /// Every pair with its stored number, in no particular order. Each then counts as saved, so
    /// this whole is not to be written any more.
    pub(crate) fn records(
        &mut self,
        numbers: &[u8],
    ) -> impl Iterator<Item = ((EntityId, u8), PairRecord)> {
        let mut walk = Walk::of_all(Round::FIRST);
        let next = move || self.ledger.checkpoint(&mut walk, self.last, numbers);
        std::iter::from_fn(next).flat_map(|chunk| {
            let record = |(pair, counts): (&ListedPair, &[(u8, u32)])| {
                let mut record = PairRecord::blank();
                pair.write_to(counts, &mut record);
                ((EntityId(pair.entity), pair.number), record)
            };
            chunk.pairs().iter().map(record).collect::<Vec<_>>()
        })
    }

    /// Writes everything as a new checkpoint to `directory`, where there is none.
    pub(crate) fn write(mut self, directory: &Path, as_of: Written<'_>) -> Result<(), StoreError> {
        let path = || directory.to_owned();
        let failed = |source| StoreError::Storage { path: path(), source };
        let storage = FjallStorage::open(directory).map_err(failed)?;
        let written = self.write_to(storage, as_of);
        let storage = written.map_err(|source| StoreError::Save { path: path(), source })?;
        storage.close().map_err(failed)
    }

    fn write_to(
        &mut self,
        storage: FjallStorage,
        as_of: Written<'_>,
    ) -> Result<FjallStorage, SaveError> {
        let Written { manifest, opening, layout, covered, numbers } = as_of;
        let number = opening.number;
        let mut saver = Saver::create(storage, manifest.store.0, opening)?;
        let mut walk = saver.begin_walk()?;
        while let Some(chunk) = self.ledger.checkpoint(&mut walk, self.last, numbers) {
            saver.commit(&chunk)?;
        }
        let sources = std::mem::take(&mut self.sources).into_iter();
        saver.put_sources(sources.map(|record| (source_id(&record.name), record)).collect())?;
        let mut sequence = 0;
        while let Some(ids) = self.ids.take_unsaved(IDS_RECORD_ENTRIES_MAX) {
            let key = Key::Ids { opening: number, shard: 0, sequence };
            let entries = ids.ids.iter().map(|&(hash, key)| (hash.0, key)).collect();
            saver.put_ids(vec![(key, IdsRecord { entries })])?;
            sequence += 1;
        }
        saver.finish(layout, covered)?;
        Ok(saver.into_storage())
    }
}

/// What a checkpoint that is written whole says of itself.
pub(crate) struct Written<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) opening: Opening,
    pub(crate) layout: u32,
    pub(crate) covered: Vec<(u32, u64)>,
    pub(crate) numbers: &'a [u8],
}
