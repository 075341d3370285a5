//! Records and events on their way to whoever rebuilds the state: all shards, or one that looks.
//!
//! ```text
//! storage ─pages, looked at─▶ pairs, by entity ─▶ shards: take them in ─▶ what they came to
//! ```
//!
//! Promises: each is given to the shard that owns its entity, in its order; a record says whether
//! the logs may give events again that it includes. What the shards were given counts once
//! [`Outlets::taken`] has their word for it.
//! Invariants: parts are bounded, and so are those on their way.
//! Not here: reading them (`recover`, `ebbtide_shard::checkpoint`).

use super::open::RecoveryProgress;
use super::recover::{EventSink, LEAVING};
use super::sources::SourceOffsets;
use super::{FjallStorage, StoreError};
use ebbtide_router::Placement;
use ebbtide_shard::checkpoint::{
    IdsRecord, Key, ListedPair, LoadError, LoadSink, Loaded, MetaRecord, PairRecord, RecordFault,
    Round, Rounds, RoutedPairs, SourceRecord, Tag, load_range, scan_pairs,
};
use ebbtide_shard::limits::IDS_PER_GENERATION;
use ebbtide_shard::recovery::{Recovering, ReplayedEvent, ReplayedEvents};
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::{SourceId, SourceName, SourceTable};
use ebbtide_shard::{EntityHash, EntityId, PartitionKey, RestoredPair};
use ebbtide_wal::{Lsn, Replayed, SinkError, StartOptions};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Records that are taken in together: one part on its way to a shard.
pub(super) const PART_ITEMS: usize = 1024;
/// Events of one part, 0.4 MB of them: handing it over wakes a thread, in the time of hundreds of
/// events.
const PART_EVENTS: usize = 8 * PART_ITEMS;
/// Parts on their way to one shard.
const PARTS_AHEAD: usize = 8;

/// What a shard is given while it is rebuilt.
enum Part {
    Pairs(RoutedPairs),
    /// There are no more pairs; what did they come to?
    Taken(Sender<Result<Taken, LoadError>>),
    Ids(Vec<(EntityHash, u128)>),
    Events(ReplayedEvents),
    Sources(Arc<Vec<SourceRecord>>),
    /// That was all.
    Go(Box<(Replayed, StartOptions)>),
}

/// What the pairs came to that a shard was given.
#[derive(Default)]
struct Taken {
    /// In which rounds they were last saved.
    rounds: Rounds,
    /// The last record of a log that any of them includes.
    last_included: Lsn,
}

/// A shard's end of the way its state comes.
pub(crate) struct ShardParts {
    parts: Receiver<Part>,
    covered: Arc<Covered>,
}

/// A shard's state, rebuilt.
pub(crate) struct Rebuilt {
    pub(crate) recovering: Recovering,
    pub(crate) sources: SourceTable,
    pub(crate) replayed: Replayed,
    pub(crate) options: StartOptions,
}

impl ShardParts {
    /// Takes in everything; `None` if the opening was given up.
    pub(crate) fn take_in(
        self,
        mut recovering: Recovering,
        mut sources: SourceTable,
    ) -> Result<Option<Rebuilt>, String> {
        let Self { parts, covered } = self;
        let mut taken = Ok(());
        for part in parts {
            match part {
                Part::Pairs(pairs) => {
                    let is_ahead = |hash, lsn| covered.is_ahead(hash, lsn);
                    taken = taken.and_then(|()| recovering.restore_all(&pairs, is_ahead));
                }
                Part::Taken(tell) => {
                    let taken = std::mem::replace(&mut taken, Ok(())).map(|()| Taken {
                        rounds: recovering.rounds().clone(),
                        last_included: recovering.last_included(),
                    });
                    let _nobody_waits = tell.send(taken);
                }
                Part::Ids(ids) => {
                    for (hash, key) in ids {
                        recovering.remember(hash, key);
                    }
                }
                Part::Events(events) => recovering.replay(&events),
                Part::Sources(records) => restore_sources(&mut sources, &records)?,
                Part::Go(go) => {
                    let (replayed, options) = *go;
                    return Ok(Some(Rebuilt { recovering, sources, replayed, options }));
                }
            }
        }
        Ok(None)
    }
}

fn restore_sources(sources: &mut SourceTable, records: &[SourceRecord]) -> Result<(), String> {
    records.iter().try_for_each(|record| {
        let name = SourceName::new(&record.name).map_err(|error| error.to_string())?;
        let restored = sources.restore(&name, &record.runs);
        restored.map(drop).map_err(|error| error.to_string())
    })
}

/// The ways to all shards that are being rebuilt.
pub(crate) struct Outlets {
    placement: Placement,
    ways: Vec<Outlet>,
}

struct Outlet {
    parts: SyncSender<Part>,
    pairs: RoutedPairs,
    ids: Vec<(EntityHash, u128)>,
    events: ReplayedEvents,
}

impl Outlets {
    /// Ways to the shards of a placement, and the shards' ends of them.
    pub(crate) fn new(placement: Placement, meta: &MetaRecord) -> (Self, Vec<ShardParts>) {
        let covered = Arc::new(Covered::of(meta));
        let way = |_| {
            let (parts, inbox) = sync_channel(PARTS_AHEAD);
            let (pairs, ids) = (RoutedPairs::default(), Vec::new());
            let events = ReplayedEvents::default();
            let covered = Arc::clone(&covered);
            (Outlet { parts, pairs, ids, events }, ShardParts { parts: inbox, covered })
        };
        let (ways, inboxes) = (0..placement.shards()).map(way).unzip();
        (Self { placement, ways }, inboxes)
    }

    pub(crate) fn shards(&self) -> usize {
        self.placement.shards()
    }

    /// Gives a pair, with its counts, to the shard that owns it.
    fn pair(&mut self, (hash, round): (EntityHash, Round), pair: (&ListedPair, &[(u8, u32)])) {
        let way = self.way(hash);
        way.pairs.push((hash, round), pair);
        if way.pairs.len() >= PART_ITEMS {
            way.flush();
        }
    }

    /// What the pairs came to, once the shards have taken all of them in.
    fn taken(&mut self) -> Result<Result<Taken, LoadError>, StoreError> {
        self.flush();
        let ask = |way: &Outlet| {
            let (tell, told) = channel();
            way.parts.send(Part::Taken(tell)).ok().map(|()| told)
        };
        let asked: Vec<_> = self.ways.iter().map(ask).collect();
        let mut whole = Taken::default();
        for (shard, told) in asked.into_iter().enumerate() {
            let gone = || StoreError::Shard { shard, why: "it ended while it was rebuilt".into() };
            match told.and_then(|told| told.recv().ok()).ok_or_else(gone)? {
                Ok(Taken { rounds, last_included }) => {
                    whole.rounds = whole.rounds.and(&rounds);
                    whole.last_included = whole.last_included.max(last_included);
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(whole))
    }

    /// Ends the rebuilding of a shard: it goes on with its log.
    pub(crate) fn go(
        &self,
        shard: usize,
        sources: &Arc<Vec<SourceRecord>>,
        go: (Replayed, StartOptions),
    ) {
        let way = &self.ways[shard].parts;
        // A shard that is gone has told why.
        let _gone = way.send(Part::Sources(Arc::clone(sources)));
        let _gone = way.send(Part::Go(Box::new(go)));
    }

    fn way(&mut self, hash: EntityHash) -> &mut Outlet {
        &mut self.ways[self.placement.shard(hash)]
    }
}

impl Outlet {
    fn flush(&mut self) {
        let Self { parts, pairs, ids, events } = self;
        // A shard that is gone has told why; the opening ends when it is asked whether it runs.
        if !pairs.is_empty() {
            let next = RoutedPairs::with_room_as(pairs);
            let _gone = parts.send(Part::Pairs(std::mem::replace(pairs, next)));
        }
        if !ids.is_empty() {
            let _gone = parts.send(Part::Ids(std::mem::take(ids)));
        }
        if !events.is_empty() {
            let _gone = parts.send(Part::Events(std::mem::take(events)));
        }
    }
}

/// Takes in what is not of the records of pairs.
pub(crate) trait Intake {
    /// A remembered id.
    fn id(&mut self, hash: EntityHash, key: u128);
    /// An event of a log.
    fn event(&mut self, event: ReplayedEvent);
    /// What is on its way arrives.
    fn flush(&mut self) {}
}

/// Takes in pairs too, one after the other.
pub(crate) trait PairIntake: Intake {
    /// A pair of the checkpoint; whether the logs may give events again that it includes.
    fn pair(&mut self, pair: RestoredPair, is_ahead: bool) -> Result<(), RecordFault>;
}

impl Intake for Outlets {
    fn id(&mut self, hash: EntityHash, key: u128) {
        let way = self.way(hash);
        way.ids.push((hash, key));
        if way.ids.len() >= PART_ITEMS {
            way.flush();
        }
    }

    #[inline]
    fn event(&mut self, event: ReplayedEvent) {
        let way = self.way(event.event.hash);
        if way.events.is_empty() {
            way.events = ReplayedEvents::with_capacity(PART_EVENTS);
        }
        way.events.push(event);
        if way.events.len() >= PART_EVENTS {
            way.flush();
        }
    }

    fn flush(&mut self) {
        self.ways.iter_mut().for_each(Outlet::flush);
    }
}

/// Makes of what is stored what a shard takes in.
pub(crate) struct Dealer<'a, I> {
    key: &'a PartitionKey,
    numbers: &'a SignalNumbers,
    /// Under which layout, and up to where, the logs are covered.
    covered: Covered,
    pub(crate) intake: &'a mut I,
    pub(crate) sources: SourceOffsets,
    progress: &'a mut dyn FnMut(RecoveryProgress),
    records: u64,
    of: u64,
    pub(crate) events: u64,
    /// The last record that any pair of the checkpoint includes.
    pub(crate) last_included: Lsn,
    /// The newest records of ids of each shard that wrote some, and how many ids they hold.
    ids: BTreeMap<u16, (usize, VecDeque<IdsRecord>)>,
}

/// Up to where each shard's log was covered, under the layout of that time.
struct Covered {
    placement: Option<Placement>,
    by_shard: Vec<Lsn>,
}

impl Covered {
    fn of(meta: &MetaRecord) -> Self {
        let lsn = |log: u32| {
            let known = meta.covered.iter().find(|&&(other, _)| other == log);
            known.map_or(
                Lsn::NONE,
                |&(_, lsn)| if lsn == LEAVING { Lsn::NONE } else { Lsn::new(lsn) },
            )
        };
        let by_shard = (0..meta.layout).map(lsn).collect();
        Self { placement: Placement::over(meta.layout as usize), by_shard }
    }

    /// Whether a log may hold events that are not covered and that a record up to `lsn` includes.
    fn is_ahead(&self, hash: EntityHash, lsn: Lsn) -> bool {
        self.placement.is_none_or(|placement| lsn > self.by_shard[placement.shard(hash)])
    }
}

impl<'a, I: Intake> Dealer<'a, I> {
    pub(crate) fn new(
        meta: &MetaRecord,
        (key, numbers): (&'a PartitionKey, &'a SignalNumbers),
        intake: &'a mut I,
        progress: &'a mut dyn FnMut(RecoveryProgress),
    ) -> Self {
        Self {
            key,
            numbers,
            covered: Covered::of(meta),
            intake,
            sources: SourceOffsets::default(),
            progress,
            records: 0,
            of: meta.records,
            events: 0,
            last_included: Lsn::NONE,
            ids: BTreeMap::new(),
        }
    }

    /// Hands over the ids that count: the newest of each shard, as many as two generations have.
    /// They come oldest first, so those before are known by then. Only those of entities that are
    /// wanted.
    pub(crate) fn hand_over_ids(&mut self, is_wanted: impl Fn(EntityHash) -> bool) {
        let records = std::mem::take(&mut self.ids).into_values().flat_map(|(_, records)| records);
        for (hash, key) in records.flat_map(|record| record.entries) {
            if is_wanted(EntityHash(hash)) {
                self.intake.id(EntityHash(hash), key);
            }
        }
    }

    fn take_source(&mut self, id: u64, record: &SourceRecord) {
        self.count_record();
        self.sources.restore(SourceId(id), record);
    }

    fn take_ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault> {
        self.count_record();
        let Key::Ids { shard, .. } = key else { return Err(RecordFault::Key) };
        let (held, records) = self.ids.entry(shard).or_default();
        *held += record.entries.len();
        records.push_back(record);
        while let Some(oldest) = records.front()
            && *held - oldest.entries.len() >= 2 * IDS_PER_GENERATION
        {
            *held -= oldest.entries.len();
            records.pop_front();
        }
        Ok(())
    }

    fn count_record(&mut self) {
        self.records += 1;
        if self.records.is_multiple_of(PART_ITEMS as u64) || self.records == self.of {
            (self.progress)(RecoveryProgress::Restoring { records: self.records, of: self.of });
        }
    }
}

impl Dealer<'_, Outlets> {
    /// Reads a checkpoint in full; says too in which rounds the pairs were last saved.
    pub(crate) fn load(
        &mut self,
        storage: &FjallStorage,
        meta: MetaRecord,
    ) -> Result<Result<(Loaded, Rounds), LoadError>, StoreError> {
        let scanned = scan_pairs(storage, &meta, &mut |round, list| {
            self.count_record();
            for (pair, counts) in list.iter() {
                let hash = self.key.hash(EntityId(pair.entity));
                self.intake.pair((hash, round), (pair, counts));
            }
        });
        let mut part = match scanned {
            Ok(part) => part,
            Err(error) => return Ok(Err(error)),
        };
        let Taken { rounds, last_included } = match self.intake.taken()? {
            Ok(taken) => taken,
            Err(error) => return Ok(Err(error)),
        };
        self.last_included = last_included;
        for tag in [Tag::Src, Tag::Ids] {
            match load_range(storage, (&meta, tag), 0..=u64::MAX, &mut Others(self)) {
                Ok(others) => part = part.and(others),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(part.check(meta).map(|loaded| (loaded, rounds)))
    }
}

/// Records that are not of pairs.
struct Others<'d, 'a>(&'d mut Dealer<'a, Outlets>);

impl LoadSink for Others<'_, '_> {
    fn pair(&mut self, _: (EntityId, u8), _: PairRecord, _: Round) -> Result<(), RecordFault> {
        Err(RecordFault::Key)
    }

    fn source(&mut self, id: u64, record: SourceRecord) -> Result<(), RecordFault> {
        self.0.take_source(id, &record);
        Ok(())
    }

    fn ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault> {
        self.0.take_ids(key, record)
    }
}

impl<I: PairIntake> LoadSink for Dealer<'_, I> {
    fn pair(
        &mut self,
        (entity, number): (EntityId, u8),
        record: PairRecord,
        round: Round,
    ) -> Result<(), RecordFault> {
        self.count_record();
        let signal = self.numbers.signal(number).ok_or(RecordFault::Signal { number })?;
        let (hash, lsn) = (self.key.hash(entity), Lsn::new(record.lsn));
        let is_ahead = self.covered.is_ahead(hash, lsn);
        self.last_included = self.last_included.max(lsn);
        let saved = Some(round);
        self.intake.pair(RestoredPair { entity, hash, signal, record, saved }, is_ahead)
    }

    fn source(&mut self, id: u64, record: SourceRecord) -> Result<(), RecordFault> {
        self.take_source(id, &record);
        Ok(())
    }

    fn ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault> {
        self.take_ids(key, record)
    }
}

impl<I: Intake> EventSink for Dealer<'_, I> {
    #[inline]
    fn event(&mut self, event: ReplayedEvent) -> Result<(), SinkError> {
        self.intake.event(event);
        self.events += 1;
        if self.events.is_multiple_of(64 * PART_ITEMS as u64) {
            (self.progress)(RecoveryProgress::Replaying { events: self.events });
        }
        Ok(())
    }
}
