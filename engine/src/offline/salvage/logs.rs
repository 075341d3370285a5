//! Every event that the logs of a damaged store still hold, in the order it was recorded in.
//!
//! ```text
//! log 0 ─batch, gap─▶ ┐
//! log 1 ─batch, gap─▶ ┴ by number ─▶ state;  a gap stops the sources of the partitions it concerns
//! ```
//!
//! Promises: an event is counted once. Where events of a source are missing, what that source
//! recorded behind them is left out, unless it is to be kept: it comes again when the source goes
//! on from its offset, and must not count twice then. Events without a source are kept.
//! Not here: reading over damage (`ebbtide_wal::salvage`), the checkpoint (`super`).

use super::Trouble;
use super::troubles::Troubles;
use crate::StoreError;
use crate::store::StoreFiles;
use crate::store::backup::segments;
use crate::store::files::{self, failed};
use crate::store::recover::{EventSink, listed_logs};
use crate::store::sources::SourceOffsets;
use ebbtide_router::Placement;
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::record::{self, LoggedEvents, decode_batch};
use ebbtide_shard::recovery::ReplayedEvent;
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::SourceId;
use ebbtide_shard::{PartitionKey, RoutedEvent};
use ebbtide_wal::limits::SEGMENT_HEADER_BYTES;
use ebbtide_wal::segment::SegmentHeader;
use ebbtide_wal::storage::FileName;
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{Gap, IoFault, Lsn, SalvageReport, Salvaged, StoreId, ready, salvage};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, ScopedJoinHandle};

/// Pieces read ahead of the merge, for each log.
const PIECES_AHEAD: usize = 64;

/// What is known before the logs are read.
pub(super) struct LogsOf<'a> {
    pub(super) files: &'a StoreFiles,
    /// `None` if the store's identity is lost.
    pub(super) store: Option<StoreId>,
    pub(super) key: &'a PartitionKey,
    /// Whether entities are placed as they were.
    pub(super) key_is_known: bool,
    pub(super) numbers: &'a SignalNumbers,
    /// Logs that must be there, and what the checkpoint includes of each.
    pub(super) covered: BTreeMap<u32, u64>,
    /// Logs all of which is in the checkpoint.
    pub(super) leaving: BTreeSet<u32>,
    /// Shards at the last checkpoint.
    pub(super) layout: u32,
    /// Partitions of which the checkpoint has nothing left: their sources begin again.
    pub(super) forgotten: BTreeSet<usize>,
    /// Whether to keep events of sources that lie behind a gap.
    pub(super) keep_sourced: bool,
}

/// What became of them.
#[derive(Default)]
pub(super) struct LogsRead {
    pub(super) last: Lsn,
    /// Logs that some opening had and that are not there.
    pub(super) missing: BTreeSet<u32>,
    /// Events of each source that were left out.
    pub(super) left_out: BTreeMap<SourceId, u64>,
}

/// A part of a log on its way to the merge.
enum Piece {
    Batch { first: Lsn, count: u32, records: Vec<u8> },
    Gap(Gap),
}

impl Piece {
    fn of(found: Salvaged<'_>) -> Self {
        match found {
            Salvaged::Batch(batch) => {
                let (first, count) = (batch.first, batch.count);
                Self::Batch { first, count, records: batch.records.to_vec() }
            }
            Salvaged::Gap(gap) => Self::Gap(gap),
        }
    }

    fn first(&self) -> Lsn {
        match self {
            Self::Batch { first, .. } => *first,
            Self::Gap(gap) => gap.after.next(),
        }
    }
}

struct LogReader<'scope> {
    log: u32,
    covered: Lsn,
    /// Which partitions its shard owned; empty while that is not known.
    owned: Range<usize>,
    pieces: Receiver<Piece>,
    head: Option<Piece>,
    thread: ScopedJoinHandle<'scope, Result<SalvageReport, IoFault>>,
}

fn read(
    directory: &Path,
    (log, store): (u32, Option<StoreId>),
    covered: Lsn,
    take: impl FnMut(Salvaged<'_>),
) -> Result<SalvageReport, IoFault> {
    let list = |cause| IoFault::directory(ebbtide_wal::Step::List, &cause);
    let storage = Threads::open_existing(directory).map_err(list)?;
    ready(salvage(&storage, (log, store), covered, take))
}

/// The first segment of a log that is there and what its header says came before it, if it reads.
fn beginning(directory: &Path) -> Result<Option<(u64, Option<Lsn>)>, StoreError> {
    let Some(name) = segments(directory)?.into_iter().next() else { return Ok(None) };
    let Some(FileName::Segment(seq)) = FileName::parse(&name.to_string_lossy()) else {
        return Ok(None);
    };
    let header = match files::read_short(&directory.join(name), SEGMENT_HEADER_BYTES) {
        Err(error @ StoreError::Io { .. }) if !error.is_unreadable() => return Err(error),
        read => read.ok().flatten().and_then(|bytes| SegmentHeader::decode(&bytes).ok()),
    };
    Ok(Some((seq, header.map(|(header, _)| header.prev_last))))
}

impl LogsOf<'_> {
    /// The logs that are there with where each begins, but for those that are leaving.
    fn found(&self) -> Result<BTreeMap<u32, (u64, Option<Lsn>)>, StoreError> {
        let mut found = BTreeMap::new();
        // Whoever else may write to them, and whatever lies beside them, they are read.
        let (mut logs, _) = listed_logs(self.files)?;
        logs.retain(|&log| !self.leaving.contains(&log) && self.files.log(log).is_dir());
        for log in logs {
            if let Some(begins) = beginning(&self.files.log(log))? {
                found.insert(log, begins);
            }
        }
        Ok(found)
    }

    /// Whether the logs hold every event there ever was: each reaches back to its first record,
    /// none is missing, and nothing in them is.
    pub(super) fn are_complete(&self) -> Result<bool, StoreError> {
        let found = self.found()?;
        let from_the_first = found.values().all(|&(_, after)| after == Some(Lsn::NONE));
        let mut wanted: BTreeSet<u32> = self.covered.keys().copied().collect();
        if !from_the_first || !self.leaving.is_empty() {
            return Ok(false);
        }
        for &log in found.keys() {
            if !self.is_whole(log, &mut wanted)? {
                return Ok(false);
            }
        }
        Ok(wanted.iter().all(|log| found.contains_key(log)))
    }

    /// Whether all of a log reads and means something; `wanted` gets the logs that it speaks of.
    fn is_whole(&self, log: u32, wanted: &mut BTreeSet<u32>) -> Result<bool, StoreError> {
        let (path, covered, mut whole) = (self.files.log(log), self.covered(log), true);
        let read = read(&path, (log, self.store), covered, |found| {
            whole &= match found {
                Salvaged::Gap(_) => false,
                Salvaged::Batch(batch) => match decode_batch(batch.records, batch.count) {
                    Ok(record::Batch::Opened { shards, .. }) => {
                        wanted.extend(0..shards);
                        true
                    }
                    Ok(record::Batch::Events(events)) => {
                        events.iter().all(|event| self.numbers.signal(event.number).is_some())
                    }
                    decoded => decoded.is_ok(),
                },
            };
        });
        read.map(|_| whole).map_err(|fault| StoreError::LogFault { path, fault })
    }

    /// What the checkpoint includes of a log.
    fn covered(&self, log: u32) -> Lsn {
        Lsn::new(self.covered.get(&log).copied().unwrap_or(0))
    }
}

/// Reads all logs and gives their events to `sink`.
pub(super) fn read_logs(
    of: &LogsOf<'_>,
    (sources, troubles): (&mut SourceOffsets, &mut Troubles),
    sink: &mut impl EventSink,
) -> Result<LogsRead, StoreError> {
    let found = of.found()?;
    thread::scope(|scope| {
        let mut logs = Vec::new();
        for &log in found.keys() {
            logs.push(LogReader::start(scope, of, log)?);
        }
        let read = LogsRead::default();
        let mut merge = Merge { of, sources, troubles, sink, logs, read };
        merge.look_at_beginnings(&found);
        merge.run();
        let Merge { logs, mut read, .. } = merge;
        for reader in logs {
            let path = of.files.log(reader.log);
            let report = match reader.thread.join() {
                Ok(report) => report.map_err(|fault| StoreError::LogFault { path, fault })?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            read.last = read.last.max(report.last);
        }
        read.missing.retain(|log| !found.contains_key(log));
        Ok(read)
    })
}

impl<'scope> LogReader<'scope> {
    fn start<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        of: &LogsOf<'_>,
        log: u32,
    ) -> Result<Self, StoreError> {
        let (give, pieces) = sync_channel(PIECES_AHEAD);
        let (directory, store) = (of.files.log(log), of.store);
        let covered = of.covered(log);
        // The merge takes everything, or panics.
        let take = move |found: Salvaged<'_>| drop(give.send(Piece::of(found)));
        let work = move || read(&directory, (log, store), covered, take);
        let thread = thread::Builder::new().name(format!("ebbtide-read-{log}"));
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(failed("reading", &of.files.log(log)))?;
        let placement = Placement::over(of.layout as usize);
        let placement = placement.filter(|placement| (log as usize) < placement.shards());
        let owned = placement.map_or(0..0, |placement| placement.partitions(log as usize));
        Ok(Self { log, covered, owned, pieces, head: None, thread })
    }
}

struct Merge<'a, 'scope, S> {
    of: &'a LogsOf<'a>,
    sources: &'a mut SourceOffsets,
    troubles: &'a mut Troubles,
    sink: &'a mut S,
    logs: Vec<LogReader<'scope>>,
    read: LogsRead,
}

impl<S: EventSink> Merge<'_, '_, S> {
    /// Logs that are gone, and those that begin behind what the checkpoint includes.
    fn look_at_beginnings(&mut self, found: &BTreeMap<u32, (u64, Option<Lsn>)>) {
        for (&log, &after) in &self.of.covered {
            if !found.contains_key(&log) {
                self.troubles.note(Trouble::LogGone { log, after: Lsn::new(after) });
                self.stop(0..PARTITIONS);
            }
        }
        for (&log, &(segment, begins)) in found {
            let after = self.of.covered(log);
            if let Some(begins) = begins.filter(|&begins| begins > after) {
                let until = Some(begins.next());
                let (offset, first_frame, raw_os_error) = (0, true, None);
                let gap = Gap { segment, offset, after, until, first_frame, raw_os_error };
                self.troubles.note(Trouble::Gap { log, gap });
                self.stop(0..PARTITIONS);
            }
        }
    }

    fn run(&mut self) {
        for at in 0..self.logs.len() {
            self.advance(at);
        }
        loop {
            let first = |at: usize| self.logs[at].head.as_ref().map(|piece| (piece.first(), at));
            let Some((_, at)) = (0..self.logs.len()).filter_map(first).min() else { break };
            let log = self.logs[at].log;
            match self.logs[at].head.take() {
                Some(Piece::Batch { first, count, records }) => {
                    if let Err(why) = self.batch(at, (first, count), &records) {
                        self.troubles.note(Trouble::Batch { log, first, count, why });
                        self.stop(0..PARTITIONS);
                    }
                }
                Some(Piece::Gap(gap)) => self.gap(at, gap),
                None => {}
            }
            self.advance(at);
        }
        for LogReader { log, owned, .. } in &self.logs {
            self.sources.settle(*log, owned.clone());
        }
    }

    fn advance(&mut self, at: usize) {
        self.logs[at].head = self.logs[at].pieces.recv().ok();
    }

    /// Lets no source come further in these partitions, unless what it recorded is kept.
    fn stop(&mut self, partitions: Range<usize>) {
        if !self.of.keep_sourced {
            let logs = self.logs.iter().map(|reader| (reader.log, reader.owned.clone()));
            self.sources.stop(partitions, &logs.collect::<Vec<_>>());
        }
    }

    fn gap(&mut self, at: usize, gap: Gap) {
        let LogReader { log, covered, ref owned, .. } = self.logs[at];
        if gap.until.is_some_and(|until| until.previous() <= covered) {
            self.troubles.note(Trouble::Covered { log, gap });
            return;
        }
        let concerned = owned.clone();
        let all = gap.first_frame || concerned.is_empty() || !self.of.key_is_known;
        self.troubles.note(Trouble::Gap { log, gap: Gap { after: gap.after.max(covered), ..gap } });
        self.stop(if all { 0..PARTITIONS } else { concerned });
    }

    fn batch(&mut self, at: usize, (first, count): (Lsn, u32), bytes: &[u8]) -> Result<(), String> {
        let decoded = decode_batch(bytes, count).map_err(|error| error.to_string())?;
        let LogReader { log, covered, .. } = self.logs[at];
        let is_new = first.after(u64::from(count)).previous() > covered;
        let progress =
            decoded.progress().filter(|&(source, _)| is_new && self.sources.knows(source));
        if let Some((source, offset)) = progress {
            self.sources.reached(log, source, offset)?;
        }
        match decoded {
            record::Batch::Opened { shards, shard } if is_new => {
                self.sources.settle(log, self.logs[at].owned.clone());
                self.read.missing.extend(0..shards);
                let placement = Placement::over(shards as usize).filter(|_| shard == log);
                let placement = placement.ok_or("it says that another shard wrote it")?;
                self.logs[at].owned = placement.partitions(shard as usize);
            }
            record::Batch::Source { id, name } => self.sources.name(id, name)?,
            record::Batch::Events(events) => return self.events(at, first, events),
            record::Batch::Opened { .. } | record::Batch::Mark { .. } => {}
        }
        Ok(())
    }

    fn events(&mut self, at: usize, first: Lsn, events: LoggedEvents<'_>) -> Result<(), String> {
        let LogReader { covered, log, .. } = self.logs[at];
        let source = events.form().source;
        let (mut next, mut unknown) = (first, 0);
        for logged in events.iter() {
            let lsn = next;
            next = next.next();
            let Some(signal) = self.of.numbers.signal(logged.number) else {
                unknown += 1;
                continue;
            };
            let hash = self.of.key.hash(logged.entity);
            if let (Some(source), Some(offset)) = (source, logged.offset)
                && !self.is_kept((source, offset), hash.partition(), lsn > covered)?
            {
                *self.read.left_out.entry(source).or_default() += 1;
                continue;
            }
            let (entity, time, weight) = (logged.entity, logged.time, logged.weight);
            let event = RoutedEvent { entity, time, weight, hash, signal };
            let taken = self.sink.event(ReplayedEvent { lsn, event, id: logged.id });
            taken.map_err(|error| error.to_string())?;
        }
        if unknown > 0 {
            let count = next.get() - first.get();
            let count = u32::try_from(count).expect("a batch counts its records in 32 bits");
            self.troubles.note(Trouble::UnknownSignal { log, first, count, unknown });
            self.stop(0..PARTITIONS);
        }
        Ok(())
    }

    /// Whether an event of a source is to be counted now, and not when it is sent again; its offset
    /// is known then.
    fn is_kept(
        &mut self,
        (source, offset): (SourceId, u64),
        partition: usize,
        is_new: bool,
    ) -> Result<bool, String> {
        let is_known = self.sources.knows(source);
        if !self.of.keep_sourced {
            let sent_again = self.sources.is_stopped(partition) || !is_known;
            if self.of.forgotten.contains(&partition) || (is_new && sent_again) {
                return Ok(false);
            }
        }
        if is_new && is_known && self.of.key_is_known {
            self.sources.seen(source, (partition, offset))?;
        }
        Ok(true)
    }
}
