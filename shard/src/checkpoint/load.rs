//! Reading a checkpoint back, and the proof that all of it was there.
//!
//! ```text
//! meta ─▶ scan tag by tag, range by range ─▶ check each record ─▶ sink;  parts ─merge─▶ check
//!         scan of pairs ─▶ check each page ─▶ routed pairs, to the threads of shards
//! ```
//!
//! Promises: what the sink was given is, once [`Part::check`] has passed, exactly the set of
//! records the last batch left behind: none missing, none altered, none of an earlier version. Any
//! number of threads may scan ranges of their own meanwhile.
//! Fails by: [`LoadError`], which names the first bad record; the sink's state is then worth
//! nothing.

use super::key::hex;
use super::{
    IdsRecord, Key, ListedPair, MetaRecord, PairList, PairRecord, RecordDigest, RecordFault, Round,
    SetDigest, SourceRecord, StorageEngine, StorageError, Tag, decode, decode_page,
};
use crate::{EntityHash, EntityId};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

/// What takes the records of a checkpoint.
pub trait LoadSink {
    /// Takes what is stored of a pair, an entity and the stored number of a signal type, in a
    /// round. There may be more of it, of other rounds: the latest one counts.
    ///
    /// # Errors
    ///
    /// [`RecordFault`] if it is of no use; the load ends with it.
    fn pair(
        &mut self,
        pair: (EntityId, u8),
        record: PairRecord,
        round: Round,
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
    /// The state of a pair is of no use.
    #[error(
        "what the checkpoint holds of entity {}, signal type number {number}, is damaged: {fault}",
        entity.0
    )]
    Pair {
        /// Whose it is.
        entity: EntityId,
        /// The stored number of the signal type.
        number: u8,
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
    #[error("some of the checkpoint's {records} records are not those that were written last")]
    Set {
        /// How many there are.
        records: u64,
    },
}

/// Pairs on their way to the shard that owns their entities.
#[derive(Debug, Default)]
pub struct RoutedPairs {
    list: PairList,
    /// The keyed hash of the entity of each, and in which round it was written.
    ways: Vec<(EntityHash, Round)>,
}

impl RoutedPairs {
    /// None yet, with room for as many as others are, and as many counts.
    #[must_use]
    pub fn with_room_as(others: &Self) -> Self {
        let list = PairList {
            pairs: Vec::with_capacity(others.list.pairs.len()),
            // Not every part has as many, and one that has a few more would move.
            counts: Vec::with_capacity(others.list.counts.len() * 9 / 8),
        };
        Self { list, ways: Vec::with_capacity(others.ways.len()) }
    }

    /// Adds a pair with its counts.
    pub fn push(&mut self, way: (EntityHash, Round), (pair, counts): (&ListedPair, &[(u8, u32)])) {
        self.list.push(pair, counts);
        self.ways.push(way);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ways.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// The pairs with their counts.
    pub(crate) fn list(&self) -> &PairList {
        &self.list
    }

    /// The hash of each one's entity, and its round.
    pub(crate) fn ways(&self) -> &[(EntityHash, Round)] {
        &self.ways
    }
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Part {
    records: u64,
    set: SetDigest,
    others: BTreeMap<Key, RecordDigest>,
    pages: BTreeMap<Key, Page>,
}

/// What is known of a record of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) digest: RecordDigest,
    pub(super) pairs: u32,
    /// Of its value.
    pub(super) bytes: u32,
}

/// A checkpoint that was read in full; what a [`super::Saver`] goes on from.
#[derive(Debug)]
pub struct Loaded {
    /// Its meta record.
    pub meta: MetaRecord,
    /// Digests of the records of sources and ids.
    pub(super) others: BTreeMap<Key, RecordDigest>,
    pub(super) pages: BTreeMap<Key, Page>,
}

impl Loaded {
    /// How many records of sources and ids there are.
    #[must_use]
    pub fn others_count(&self) -> u64 {
        self.others.len() as u64
    }
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

/// Gives the pairs of every record of a checkpoint to `each`, with the round they were written in.
///
/// # Errors
///
/// [`LoadError`] that names the first bad record, or of the storage.
pub fn scan_pairs(
    storage: &impl StorageEngine,
    meta: &MetaRecord,
    each: &mut impl FnMut(Round, &PairList),
) -> Result<Part, LoadError> {
    let (tag, mut part, mut list, mut bad) =
        (Tag::Sig, Part::default(), PairList::default(), Ok(()));
    storage.scan(tag, 0..=u64::MAX, &mut |key, value| {
        let of_pairs = Key::of_bytes(key).filter(|key| key.tag() == tag).ok_or(RecordFault::Key);
        match of_pairs.and_then(|key| part.take_pairs(key, value, meta, &mut list)) {
            Ok(round) => {
                each(round, &list);
                ControlFlow::Continue(())
            }
            Err(fault) => {
                bad = Err(LoadError::Record { tag, key: hex(key), fault });
                ControlFlow::Break(())
            }
        }
    })?;
    bad.map(|()| part)
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
        self.pages.extend(other.pages);
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
        Ok(Loaded { meta, others: self.others, pages: self.pages })
    }

    /// Counts in a record of pairs, once it is known to be one, and reads it into `list`; gives the
    /// round it was written in.
    fn take_pairs(
        &mut self,
        key: Key,
        value: &[u8],
        meta: &MetaRecord,
        list: &mut PairList,
    ) -> Result<Round, RecordFault> {
        let (round, digest) = match key {
            Key::Pair { number, .. } if !is_known(meta, number) => {
                return Err(RecordFault::Signal { number });
            }
            Key::Pair { entity, number } => {
                let (record, digest) = decode(key, value)?;
                list.clear();
                list.push_record((entity, number), &record);
                (Round::FIRST, digest)
            }
            Key::Page { round, .. } => (round, decode_page(key, value, list)?),
            _ => return Err(RecordFault::Key),
        };
        if let Some(&ListedPair { number, .. }) =
            list.pairs.iter().find(|pair| !is_known(meta, pair.number))
        {
            return Err(RecordFault::Signal { number });
        }
        let pairs = u32::try_from(list.len()).expect("a record is bounded");
        let bytes = u32::try_from(value.len()).expect("a record is bounded");
        self.pages.insert(key, Page { digest, pairs, bytes });
        self.count(digest);
        Ok(round)
    }

    fn count(&mut self, digest: RecordDigest) {
        self.records += 1;
        self.set = self.set.with(digest);
    }

    fn take(
        &mut self,
        (tag, key): (Tag, &[u8]),
        value: &[u8],
        meta: &MetaRecord,
        sink: &mut impl LoadSink,
    ) -> Result<(), RecordFault> {
        let key = Key::of_bytes(key).filter(|key| key.tag() == tag).ok_or(RecordFault::Key)?;
        match key {
            Key::Meta => return Err(RecordFault::Key),
            Key::Pair { .. } | Key::Page { .. } => {
                let mut list = PairList::default();
                let round = self.take_pairs(key, value, meta, &mut list)?;
                for (pair, counts) in list.iter() {
                    let mut record = PairRecord::blank();
                    pair.write_to(counts, &mut record);
                    sink.pair((EntityId(pair.entity), pair.number), record, round)?;
                }
            }
            Key::Source { id } => {
                let (record, digest) = decode(key, value)?;
                sink.source(id, record)?;
                self.others.insert(key, digest);
                self.count(digest);
            }
            Key::Ids { .. } => {
                let (record, digest) = decode(key, value)?;
                sink.ids(key, record)?;
                self.others.insert(key, digest);
                self.count(digest);
            }
        }
        Ok(())
    }
}
