//! Reading a checkpoint back, and the proof that all of it was there.
//!
//! ```text
//! meta ─▶ scan tag by tag, range by range ─▶ check each record ─▶ sink;  parts ─merge─▶ check
//!         scan of pairs ─▶ raw pairs, to other threads ─▶ check each ─▶ …
//! ```
//!
//! Promises: what the sink was given is, once [`Part::check`] has passed, exactly the set of
//! records the last batch left behind: none missing, none altered, none of an earlier version. Any
//! number of threads may scan ranges of their own meanwhile.
//! Fails by: [`LoadError`], which names the first bad record; the sink's state is then worth
//! nothing.

use super::key::hex;
use super::{
    IdsRecord, Key, MetaRecord, PairRecord, RecordDigest, RecordFault, SetDigest, SourceRecord,
    StorageEngine, StorageError, Tag, decode, decode_pair,
};
use crate::{EntityHash, EntityId};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

/// What takes the records of a checkpoint.
pub trait LoadSink {
    /// Takes the record of a pair, an entity and the stored number of a signal type; the storage
    /// holds it under this digest.
    ///
    /// # Errors
    ///
    /// [`RecordFault`] if it is of no use; the load ends with it.
    fn pair(
        &mut self,
        pair: (EntityId, u8),
        record: PairRecord,
        digest: RecordDigest,
    ) -> Result<(), RecordFault>;

    /// Takes a source's record.
    ///
    /// # Errors
    ///
    /// As [`LoadSink::pair`].
    fn source(&mut self, id: u64, record: SourceRecord) -> Result<(), RecordFault>;

    /// Takes a record of remembered ids; `key` is a [`Key::Ids`].
    ///
    /// # Errors
    ///
    /// As [`LoadSink::pair`].
    fn ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault>;
}

/// Why a checkpoint cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The storage could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no checkpoint: the storage is new, or not one of ours.
    #[error("the checkpoint has no meta record")]
    MetaMissing,
    /// The record that vouches for all others is damaged.
    #[error("the checkpoint's meta record is damaged: {0}")]
    MetaDamaged(RecordFault),
    /// A record is damaged.
    #[error("record {key} of keyspace {tag} is damaged: {fault}")]
    Record {
        /// In which keyspace.
        tag: Tag,
        /// Its key, in hexadecimal digits.
        key: String,
        /// What is wrong.
        fault: RecordFault,
    },
    /// Every record is whole, but there are not as many as there should be.
    #[error("the checkpoint holds {found} records, and {expected} were written")]
    Count {
        /// How many there are.
        found: u64,
        /// How many were written.
        expected: u64,
    },
    /// Every record is whole and their number is right, but they are not those last written.
    #[error("some of the checkpoint's {records} records are not in their latest version")]
    Set {
        /// How many there are.
        records: u64,
    },
}

impl LoadError {
    /// Of a record under `key`.
    pub(crate) fn record(key: Key, fault: RecordFault) -> Self {
        Self::Record { tag: key.tag(), key: key.to_string(), fault }
    }
}

/// Records of pairs as a storage has them, on their way to a thread that looks at them.
#[derive(Debug, Default)]
pub struct RawPairs {
    pairs: Vec<RawPair>,
    values: Vec<u8>,
}

/// Where a pair's record is among others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawPair {
    pub(crate) entity: EntityId,
    /// The keyed hash of the entity.
    pub(crate) hash: EntityHash,
    /// The stored number of the signal type.
    pub(crate) number: u8,
    /// The end of its value, which begins where the one before ends.
    end: usize,
}

impl RawPairs {
    /// Adds the record of an entity and the stored number of a signal type.
    pub fn push(&mut self, (entity, number): (EntityId, u8), hash: EntityHash, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.pairs.push(RawPair { entity, hash, number, end: self.values.len() });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs.
    pub(crate) fn pairs(&self) -> &[RawPair] {
        &self.pairs
    }

    /// The value of the pair at a place.
    pub(crate) fn value(&self, at: usize) -> &[u8] {
        let first = at.checked_sub(1).map_or(0, |before| self.pairs[before].end);
        &self.values[first..self.pairs[at].end]
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Part {
    records: u64,
    set: SetDigest,
    others: BTreeMap<Key, RecordDigest>,
}

/// A checkpoint that was read in full; what a [`super::Saver`] goes on from.
#[derive(Debug)]
pub struct Loaded {
    /// Its meta record.
    pub meta: MetaRecord,
    /// Digests of the records of sources and ids.
    pub(super) others: BTreeMap<Key, RecordDigest>,
}

/// Reads a checkpoint in full.
///
/// # Errors
///
/// [`LoadError`] unless every record is there, unaltered and the latest.
pub fn load(storage: &impl StorageEngine, sink: &mut impl LoadSink) -> Result<Loaded, LoadError> {
    let meta = read_meta(storage)?;
    let mut whole = Part::default();
    for tag in [Tag::Sig, Tag::Src, Tag::Ids] {
        whole = whole.and(load_range(storage, (&meta, tag), 0..=u64::MAX, sink)?);
    }
    whole.check(meta)
}

/// Reads the meta record.
///
/// # Errors
///
/// [`LoadError::MetaMissing`], [`LoadError::MetaDamaged`], or that of the storage.
pub fn read_meta(storage: &impl StorageEngine) -> Result<MetaRecord, LoadError> {
    let value = storage.get(Key::Meta)?.ok_or(LoadError::MetaMissing)?;
    decode(Key::Meta, &value).map(|(meta, _)| meta).map_err(LoadError::MetaDamaged)
}

/// Reads the records of one keyspace (any but that of the meta record) whose ids lie in a range.
///
/// # Errors
///
/// [`LoadError`] that names the first bad record, or of the storage.
pub fn load_range(
    storage: &impl StorageEngine,
    (meta, tag): (&MetaRecord, Tag),
    ids: RangeInclusive<u64>,
    sink: &mut impl LoadSink,
) -> Result<Part, LoadError> {
    let mut bad = Ok(());
    let part = scan_range(storage, (meta, tag), ids, sink, &mut |error| {
        bad = Err(error);
        ControlFlow::Break(())
    })?;
    bad.map(|()| part)
}

/// Gives every pair of a checkpoint with its value to `each`, which looks at the value or has it
/// looked at ([`Part::take_pair`]).
///
/// # Errors
///
/// [`LoadError`] that names the first key that is of no pair, or of the storage.
pub fn scan_pairs(
    storage: &impl StorageEngine,
    meta: &MetaRecord,
    each: &mut impl FnMut((EntityId, u8), &[u8]),
) -> Result<(), LoadError> {
    let (tag, mut bad) = (Tag::Sig, Ok(()));
    storage.scan(tag, 0..=u64::MAX, &mut |key, value| {
        let fault = match Key::of_bytes(key) {
            Some(Key::Pair { entity, number }) if is_known(meta, number) => {
                each((entity, number), value);
                return ControlFlow::Continue(());
            }
            Some(Key::Pair { number, .. }) => RecordFault::Signal { number },
            _ => RecordFault::Key,
        };
        bad = Err(LoadError::Record { tag, key: hex(key), fault });
        ControlFlow::Break(())
    })?;
    bad
}

/// Whether the store has a signal type of this number.
fn is_known(meta: &MetaRecord, number: u8) -> bool {
    usize::from(number) < meta.signal_names.len()
}

/// Reads whatever can be read of a checkpoint, past the damage, and gives each fault to `fault`.
/// Without a fault it was read in full, as by [`load`].
pub fn survey(
    storage: &impl StorageEngine,
    meta: &MetaRecord,
    sink: &mut impl LoadSink,
    fault: &mut dyn FnMut(LoadError),
) {
    let (mut whole, mut faults) = (Part::default(), 0_u64);
    for tag in [Tag::Sig, Tag::Src, Tag::Ids] {
        let read = scan_range(storage, (meta, tag), 0..=u64::MAX, sink, &mut |error| {
            faults += 1;
            fault(error);
            ControlFlow::Continue(())
        });
        match read {
            Ok(part) => whole = whole.and(part),
            Err(error) => {
                faults += 1;
                fault(error.into());
            }
        }
    }
    // Records that were left out are missing, which says nothing new.
    if faults == 0
        && let Err(error) = whole.check(meta.clone())
    {
        fault(error);
    }
}

/// Reads the records of a range; `bad` is given those that are none, and says whether to go on.
fn scan_range(
    storage: &impl StorageEngine,
    (meta, tag): (&MetaRecord, Tag),
    ids: RangeInclusive<u64>,
    sink: &mut impl LoadSink,
    bad: &mut dyn FnMut(LoadError) -> ControlFlow<()>,
) -> Result<Part, StorageError> {
    let mut part = Part::default();
    storage.scan(tag, ids, &mut |key, value| match part.take((tag, key), value, meta, sink) {
        Ok(()) => ControlFlow::Continue(()),
        Err(fault) => bad(LoadError::Record { tag, key: hex(key), fault }),
    })?;
    Ok(part)
}

impl Part {
    /// Both parts together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.records += other.records;
        self.set = self.set.and(other.set);
        self.others.extend(other.others);
        self
    }

    /// Whether the parts read so far are all of the checkpoint.
    ///
    /// # Errors
    ///
    /// [`LoadError::Count`] or [`LoadError::Set`] if not.
    pub fn check(self, meta: MetaRecord) -> Result<Loaded, LoadError> {
        if self.records != meta.records {
            return Err(LoadError::Count { found: self.records, expected: meta.records });
        }
        if self.set != SetDigest(meta.set_digest) {
            return Err(LoadError::Set { records: self.records });
        }
        Ok(Loaded { meta, others: self.others })
    }

    /// Counts in the record of a pair, once it is known to be one and read into `record`.
    ///
    /// # Errors
    ///
    /// As [`decode`]; what is in `record` then is of no use.
    pub fn take_pair(
        &mut self,
        (entity, number): (EntityId, u8),
        value: &[u8],
        record: &mut PairRecord,
    ) -> Result<RecordDigest, RecordFault> {
        let digest = decode_pair(Key::Pair { entity, number }, value, record)?;
        self.records += 1;
        self.set = self.set.with(digest);
        Ok(digest)
    }

    fn take(
        &mut self,
        (tag, key): (Tag, &[u8]),
        value: &[u8],
        meta: &MetaRecord,
        sink: &mut impl LoadSink,
    ) -> Result<(), RecordFault> {
        let key = Key::of_bytes(key).filter(|key| key.tag() == tag).ok_or(RecordFault::Key)?;
        let digest = match key {
            Key::Meta => return Err(RecordFault::Key),
            Key::Pair { number, .. } if !is_known(meta, number) => {
                return Err(RecordFault::Signal { number });
            }
            Key::Pair { entity, number } => {
                let (record, digest) = decode(key, value)?;
                sink.pair((entity, number), record, digest)?;
                digest
            }
            Key::Source { id } => {
                let (record, digest) = decode(key, value)?;
                sink.source(id, record)?;
                self.others.insert(key, digest);
                digest
            }
            Key::Ids { .. } => {
                let (record, digest) = decode(key, value)?;
                sink.ids(key, record)?;
                self.others.insert(key, digest);
                digest
            }
        };
        self.records += 1;
        self.set = self.set.with(digest);
        Ok(())
    }
}
