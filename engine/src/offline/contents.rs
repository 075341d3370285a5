//! What a store's manifest and checkpoint hold, for an operator who looks.
//!
//! Promises: nothing of the store changes; what can be read is shown past what cannot.
//! Fails by: [`StoreError`], when there is nothing to show of a part.
//! Not here: whether the parts fit together (`verify`), the logs (`ebbtide_wal` reads them).

use super::copy::CheckpointCopy;
use super::held::HeldStore;
use super::verify::FINDINGS_MAX;
use crate::StoreError;
use crate::store::manifest::FORMAT;
use crate::store::recover::LEAVING;
use crate::store::{FjallStorage, StoreFiles, files, open};
use ebbtide_shard::checkpoint::{
    IdsRecord, Key, LoadSink, MetaRecord, PairRecord, RecordFault, Round, SourceRecord,
    StorageEngine as _, StorageError, Tag, survey,
};
use ebbtide_shard::{EntityId, Schema, SignalTypeDef};
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

/// Who a store is. Its partition key is left out: who knows it can aim entities at one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestContents {
    /// The version of the format.
    pub format: u32,
    /// The store's id, which its logs and its checkpoint carry.
    pub store: [u8; 16],
}

impl ManifestContents {
    /// Reads the manifest of a store; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if it is damaged or cannot be read.
    pub fn read(held: &HeldStore) -> Result<Option<Self>, StoreError> {
        if files::length(&held.files().manifest())?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { format: FORMAT, store: held.manifest()?.store.0 }))
    }
}

/// What a checkpoint holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckpointContents {
    /// Whether there is a seal. It is not compared with the files.
    pub sealed: bool,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// The version of the format.
    pub format: u32,
    /// The id of the store it belongs to.
    pub store: [u8; 16],
    /// How often the store was opened, its making included.
    pub openings: u64,
    /// How many checkpoints were finished.
    pub finished: u64,
    /// Shards at the last one; none before the first.
    pub layout: u32,
    /// Up to where each log is covered; `None` for one whose shard is no more.
    pub covered: BTreeMap<u32, Option<u64>>,
    /// Pairs, in records that can be read.
    pub pairs: u64,
    /// Earlier states of those pairs, which mean nothing any more.
    pub earlier: u64,
    /// Records there should be, besides the one that says so.
    pub records: u64,
    /// The sum of their digests.
    pub set_digest: u64,
    /// The schema of the last opening, as TOML.
    pub schema: String,
    /// The signal types by their stored numbers: name, and definition if the schema has it.
    pub signals: Vec<(String, Option<SignalTypeDef>)>,
    /// Sources, by name.
    pub sources: BTreeMap<String, SourceContents>,
    /// Remembered ids, by opening and shard that remembered them: records, and ids in them.
    pub ids: BTreeMap<(u64, u16), (u64, u64)>,
    /// Each keyspace.
    pub keyspaces: Vec<KeyspaceContents>,
    /// What cannot be read, or is not as it was written: the first [`FINDINGS_MAX`] records.
    pub damage: Vec<StoreError>,
}

/// How far a source had come at the last checkpoint. The logs may know of more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceContents {
    /// Every partition had come to here.
    pub lowest: u64,
    /// One had come to here.
    pub highest: u64,
}

/// How much a keyspace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceContents {
    /// Its name.
    pub name: &'static str,
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl CheckpointContents {
    /// Reads the checkpoint of a store, from a copy; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`], if it cannot be opened or its meta record cannot be read.
    pub fn read(held: &HeldStore) -> Result<Option<Self>, StoreError> {
        let files = held.files();
        let path = files.checkpoint();
        if files::length(&path)?.is_none() {
            return Ok(None);
        }
        files::check_private(&path, true)?;
        let copy = CheckpointCopy::open(files)?;
        let meta = match held.manifest() {
            Ok(manifest) => open::known_meta(copy.storage(), files, &manifest)?,
            // Without it nothing says whose the checkpoint should be.
            Err(_) => open::any_meta(copy.storage(), files)?,
        };
        let mut contents = Self::of(&meta);
        contents.sealed = files::length(&files.seal())?.is_some();
        contents.file_bytes = copy.bytes();
        contents.survey(copy.storage(), &meta, files);
        Ok(Some(contents))
    }

    fn of(meta: &MetaRecord) -> Self {
        let schema = Schema::from_toml(&meta.schema_toml).ok();
        let def = |name: &String| {
            let schema = schema.as_ref()?;
            Some(schema.def(schema.signal(name)?).clone())
        };
        let signals = meta.signal_names.iter().map(|name| (name.clone(), def(name)));
        let covered = meta.covered.iter();
        let covered = covered.map(|&(log, lsn)| (log, (lsn != LEAVING).then_some(lsn)));
        Self {
            sealed: false,
            file_bytes: 0,
            format: meta.format,
            store: meta.store_id,
            openings: meta.openings,
            finished: meta.checkpoint,
            layout: meta.layout,
            covered: covered.collect(),
            pairs: 0,
            earlier: 0,
            records: meta.records,
            set_digest: meta.set_digest,
            signals: signals.collect(),
            schema: meta.schema_toml.clone(),
            sources: BTreeMap::new(),
            ids: BTreeMap::new(),
            keyspaces: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn survey(&mut self, storage: &FjallStorage, meta: &MetaRecord, files: &StoreFiles) {
        let path = files.checkpoint();
        let (mut damage, mut read) =
            (Vec::new(), Read { contents: self, pairs: PairCount::default() });
        survey(storage, meta, &mut read, &mut |source| {
            if damage.len() < FINDINGS_MAX {
                damage.push(StoreError::Checkpoint { path: path.clone(), source });
            }
        });
        let PairCount { seen, states } = read.pairs;
        self.pairs = seen.len() as u64;
        self.earlier = states - self.pairs;
        self.damage = damage;
        for tag in Tag::ALL {
            // What cannot be scanned was told above.
            self.keyspaces.extend(keyspace(storage, tag));
        }
    }
}

fn keyspace(storage: &FjallStorage, tag: Tag) -> Result<KeyspaceContents, StorageError> {
    let mut contents = KeyspaceContents { name: tag.name(), records: 0, bytes: 0 };
    storage.scan(tag, 0..=u64::MAX, &mut |key, value| {
        contents.records += 1;
        contents.bytes += (key.len() + value.len()) as u64;
        ControlFlow::Continue(())
    })?;
    Ok(contents)
}

/// Counts pairs, which may be in several records.
#[derive(Default)]
pub(super) struct PairCount {
    pub(super) seen: HashSet<(EntityId, u8)>,
    pub(super) states: u64,
}

impl PairCount {
    pub(super) fn add(&mut self, pair: (EntityId, u8)) {
        self.seen.insert(pair);
        self.states += 1;
    }
}

/// What reading adds to the contents.
struct Read<'a> {
    contents: &'a mut CheckpointContents,
    pairs: PairCount,
}

impl LoadSink for Read<'_> {
    fn pair(&mut self, pair: (EntityId, u8), _: PairRecord, _: Round) -> Result<(), RecordFault> {
        self.pairs.add(pair);
        Ok(())
    }

    fn source(&mut self, _: u64, record: SourceRecord) -> Result<(), RecordFault> {
        let offsets = || record.runs.iter().map(|&(_, offset)| offset);
        let (lowest, highest) = (offsets().min(), offsets().max());
        let (lowest, highest) = (lowest.unwrap_or(0), highest.unwrap_or(0));
        self.contents.sources.insert(record.name, SourceContents { lowest, highest });
        Ok(())
    }

    fn ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault> {
        let Key::Ids { opening, shard, .. } = key else { return Err(RecordFault::Key) };
        let (records, ids) = self.contents.ids.entry((opening, shard)).or_default();
        *records += 1;
        *ids += record.entries.len() as u64;
        Ok(())
    }
}
