//! Records and events on their way to whoever rebuilds the state: all shards, or one that looks.
//!
//! Promises: each is given to the shard that owns its entity, in its order; a record says whether
//! the logs may give events again that it includes.
//! Invariants: parts are bounded, and so are those on their way.
//! Not here: reading them (`recover`, `ebbtide_shard::checkpoint`).

use super::open::RecoveryProgress;
use super::recover::{EventSink, LEAVING};
use super::sources::SourceOffsets;
use ebbtide_router::Placement;
use ebbtide_shard::checkpoint::{
    IdsRecord, Key, LoadSink, MetaRecord, PairRecord, RecordDigest, RecordFault, SourceRecord,
};
use ebbtide_shard::limits::IDS_PER_GENERATION;
use ebbtide_shard::recovery::{Recovering, ReplayedEvent};
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::{SourceId, SourceName, SourceTable};
use ebbtide_shard::{EntityHash, EntityId, PartitionKey, RestoredPair};
use ebbtide_wal::{Lsn, Replayed, SinkError, StartOptions};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Records or events that are taken in together: one part on its way to a shard.
pub(super) const PART_ITEMS: usize = 1024;
/// Parts on their way to one shard.
const PARTS_AHEAD: usize = 16;

/// What a shard is given while it is rebuilt.
enum Part {
    /// Each with whether it is ahead of its log.
    Pairs(Vec<(RestoredPair, bool)>),
    Ids(Vec<(EntityHash, u128)>),
    Events(Vec<ReplayedEvent>),
    Sources(Arc<Vec<SourceRecord>>),
    /// That was all.
    Go(Box<(Replayed, StartOptions)>),
}

/// A shard's end of the way its state comes.
pub(crate) struct ShardParts(Receiver<Part>);

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
        for part in self.0 {
            match part {
                Part::Pairs(pairs) => {
                    recovering.restore_all(&pairs).map_err(|fault| fault.to_string())?;
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
    pairs: Vec<(RestoredPair, bool)>,
    ids: Vec<(EntityHash, u128)>,
    events: Vec<ReplayedEvent>,
}

impl Outlets {
    /// Ways to the shards of a placement, and the shards' ends of them.
    pub(crate) fn new(placement: Placement) -> (Self, Vec<ShardParts>) {
        let way = |_| {
            let (parts, inbox) = sync_channel(PARTS_AHEAD);
            let (pairs, ids, events) = (Vec::new(), Vec::new(), Vec::new());
            (Outlet { parts, pairs, ids, events }, ShardParts(inbox))
        };
        let (ways, inboxes) = (0..placement.shards()).map(way).unzip();
        (Self { placement, ways }, inboxes)
    }

    pub(crate) fn shards(&self) -> usize {
        self.placement.shards()
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
            let _gone = parts.send(Part::Pairs(std::mem::take(pairs)));
        }
        if !ids.is_empty() {
            let _gone = parts.send(Part::Ids(std::mem::take(ids)));
        }
        if !events.is_empty() {
            let _gone = parts.send(Part::Events(std::mem::take(events)));
        }
    }
}

/// Takes in records and events of a whole store.
pub(crate) trait Intake {
    /// A pair of the checkpoint; whether the logs may give events again that it includes.
    fn pair(&mut self, pair: RestoredPair, is_ahead: bool) -> Result<(), RecordFault>;
    /// A remembered id.
    fn id(&mut self, hash: EntityHash, key: u128);
    /// An event of a log.
    fn event(&mut self, event: ReplayedEvent);
    /// What is on its way arrives.
    fn flush(&mut self) {}
}

impl Intake for Outlets {
    fn pair(&mut self, pair: RestoredPair, is_ahead: bool) -> Result<(), RecordFault> {
        let way = self.way(pair.hash);
        way.pairs.push((pair, is_ahead));
        if way.pairs.len() >= PART_ITEMS {
            way.flush();
        }
        Ok(())
    }

    fn id(&mut self, hash: EntityHash, key: u128) {
        let way = self.way(hash);
        way.ids.push((hash, key));
        if way.ids.len() >= PART_ITEMS {
            way.flush();
        }
    }

    fn event(&mut self, event: ReplayedEvent) {
        let way = self.way(event.event.hash);
        way.events.push(event);
        if way.events.len() >= PART_ITEMS {
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

    fn count_record(&mut self) {
        self.records += 1;
        if self.records.is_multiple_of(PART_ITEMS as u64) || self.records == self.of {
            (self.progress)(RecoveryProgress::Restoring { records: self.records, of: self.of });
        }
    }
}

impl<I: Intake> LoadSink for Dealer<'_, I> {
    fn pair(
        &mut self,
        (entity, number): (EntityId, u8),
        record: PairRecord,
        digest: RecordDigest,
    ) -> Result<(), RecordFault> {
        self.count_record();
        let signal = self.numbers.signal(number).ok_or(RecordFault::Signal { number })?;
        let (hash, lsn) = (self.key.hash(entity), Lsn::new(record.lsn));
        let is_ahead = self.covered.is_ahead(hash, lsn);
        self.last_included = self.last_included.max(lsn);
        let saved = Some(digest);
        self.intake.pair(RestoredPair { entity, hash, signal, record, saved }, is_ahead)
    }

    fn source(&mut self, id: u64, record: SourceRecord) -> Result<(), RecordFault> {
        self.count_record();
        self.sources.restore(SourceId(id), &record);
        Ok(())
    }

    fn ids(&mut self, key: Key, record: IdsRecord) -> Result<(), RecordFault> {
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
}

impl<I: Intake> EventSink for Dealer<'_, I> {
    fn event(&mut self, event: ReplayedEvent) -> Result<(), SinkError> {
        self.intake.event(event);
        self.events += 1;
        if self.events.is_multiple_of(64 * PART_ITEMS as u64) {
            (self.progress)(RecoveryProgress::Replaying { events: self.events });
        }
        Ok(())
    }
}
