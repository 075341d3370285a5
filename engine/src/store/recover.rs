//! Reading a store back: the checkpoint, then every log, merged in the order of their numbers.
//!
//! ```text
//! checkpoint ─records─▶ ┐
//! log 0 ─batches─▶ merge ├─by entity─▶ sink (the new shards, or one that looks)
//! log 1 ─batches─▶   ┘  ┘
//! ```
//!
//! Promises: events of one entity reach the sink in the order they were recorded in, over all
//! openings and whatever numbers of shards they had; memory stays bounded; nothing is written.
//! Invariants: numbers of a later opening lie above all of an earlier one, so the merge by number
//! keeps the order of openings.
//! Fails by: [`StoreError`]; what the sink got is then to be thrown away.
//! Not here: frames and torn tails (`ebbtide_wal`), applying (`ebbtide_shard::recovery`).

use super::StoreError;
use super::files::{self, StoreFiles};
use super::sources::SourceOffsets;
use ebbtide_router::Placement;
use ebbtide_shard::checkpoint::MetaRecord;
use ebbtide_shard::record::{self, LoggedEvents, decode_batch};
use ebbtide_shard::recovery::ReplayedEvent;
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::source::SourceId;
use ebbtide_shard::{PartitionKey, RoutedEvent};
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{Batch, LogIdentity, Lsn, RecoverError, ReplayOptions, Replayed, SinkError};
use ebbtide_wal::{StoreId, ready, replay};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

/// Bytes that go to the merge together, and a batch more: handing them over takes a lock, and often
/// wakes a thread.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead of the merge, for each log.
const CHUNKS_AHEAD: usize = 4;
/// Covered to here: the log is being removed, and all of it is in the checkpoint.
pub(crate) const LEAVING: u64 = u64::MAX;

/// Takes events of the logs, in the order they were recorded in.
pub(crate) trait EventSink {
    /// Takes the next event.
    fn event(&mut self, event: ReplayedEvent) -> Result<(), SinkError>;
}

/// What is known before the logs are read.
#[derive(Clone, Copy)]
pub(crate) struct LogsOf<'a> {
    pub(crate) files: &'a StoreFiles,
    pub(crate) store: StoreId,
    pub(crate) key: &'a PartitionKey,
    pub(crate) numbers: &'a SignalNumbers,
    pub(crate) meta: &'a MetaRecord,
    /// Whether to read segments too that hold nothing but what the checkpoint includes.
    pub(crate) read_covered: bool,
}

/// Logs that were read to their ends.
#[derive(Debug, Default)]
pub(crate) struct LogsRead {
    /// By number.
    pub(crate) logs: BTreeMap<u32, Replayed>,
    /// Folders of logs that never held an event and that the checkpoint does not know.
    pub(crate) unborn: Vec<u32>,
    /// The last record of any log.
    pub(crate) last: Lsn,
}

/// Reads every log of a store and gives its events to `sink`.
pub(crate) fn read_logs(
    of: LogsOf<'_>,
    sources: &mut SourceOffsets,
    sink: &mut impl EventSink,
) -> Result<LogsRead, StoreError> {
    let covered: BTreeMap<u32, u64> = of.meta.covered.iter().copied().collect();
    let present = present_logs(of.files)?;
    let listed = covered.iter().filter(|&(_, &lsn)| lsn != LEAVING).map(|(&log, _)| log);
    let unlisted = present.iter().copied().filter(|log| !covered.contains_key(log));
    let numbers: Vec<u32> = listed.chain(unlisted).collect();
    thread::scope(|scope| {
        let mut merge = Merge { of, sources, sink, logs: Vec::new() };
        for &log in &numbers {
            let restored = Lsn::new(covered.get(&log).copied().unwrap_or(0));
            let listed = covered.contains_key(&log);
            merge.logs.push(LogReader::start(scope, &of, log, (restored, listed))?);
        }
        let merged = merge.run();
        let readers = std::mem::take(&mut merge.logs);
        drop(merge);
        let mut read = LogsRead::default();
        for reader in readers {
            let LogReader { log, listed, saw_events, chunks, thread, .. } = reader;
            drop(chunks);
            let replayed = match thread.join() {
                // The merge gave up first: its reason counts.
                Ok(Ok(_) | Err(RecoverError::Refused { .. })) if merged.is_err() => continue,
                Ok(Ok(replayed)) => replayed,
                Ok(Err(source)) => {
                    return Err(StoreError::Log { path: of.files.log(log), source });
                }
                Err(panic) => std::panic::resume_unwind(panic),
            };
            read.last = read.last.max(replayed.report.last);
            if listed {
                read.logs.insert(log, replayed);
            } else if saw_events {
                return Err(StoreError::UnknownLog { path: of.files.log(log) });
            } else {
                read.unborn.push(log);
            }
        }
        merged.map(|()| read)
    })
}

/// What lies among the logs: numbers that name one, in their order, and paths that do not.
pub(crate) fn listed_logs(files: &StoreFiles) -> Result<(Vec<u32>, Vec<PathBuf>), StoreError> {
    let root = files.logs();
    let (mut numbers, mut strangers) = (Vec::new(), Vec::new());
    if files::length(&root)?.is_none() {
        return Ok((numbers, strangers));
    }
    for entry in fs::read_dir(&root).map_err(files::failed("listing", &root))? {
        let name = entry.map_err(files::failed("listing", &root))?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        match number.filter(|&log| files.log(log).file_name() == Some(&*name)) {
            Some(log) => numbers.push(log),
            None => strangers.push(root.join(name)),
        }
    }
    numbers.sort_unstable();
    Ok((numbers, strangers))
}

/// Numbers of the log folders that exist; nothing else may lie among them.
pub(crate) fn present_logs(files: &StoreFiles) -> Result<Vec<u32>, StoreError> {
    let root = files.logs();
    if files::length(&root)?.is_some() {
        files::check_private(&root, true)?;
    }
    let (numbers, strangers) = listed_logs(files)?;
    if let Some(path) = strangers.into_iter().next() {
        return Err(StoreError::Stranger { path });
    }
    for &log in &numbers {
        files::check_private(&files.log(log), true)?;
    }
    Ok(numbers)
}

/// A batch of a chunk.
struct BatchAt {
    first: Lsn,
    count: u32,
    /// Where its records end in those of the chunk, and those of the next one begin.
    end: usize,
}

/// Batches of a log that lie one behind the other, on their way to the merge.
#[derive(Default)]
struct Chunk {
    batches: VecDeque<BatchAt>,
    records: Vec<u8>,
    /// Up to where the records of batches were taken out.
    taken: usize,
}

impl Chunk {
    fn push(&mut self, Batch { first, count, records }: Batch<'_>) {
        if self.batches.is_empty() {
            self.records.reserve(CHUNK_BYTES + records.len());
        }
        self.records.extend_from_slice(records);
        self.batches.push_back(BatchAt { first, count, end: self.records.len() });
    }

    /// Bytes it takes, batches without records included.
    fn bytes(&self) -> usize {
        self.records.len() + self.batches.len() * size_of::<BatchAt>()
    }

    /// The first batch that was not taken out.
    fn first(&self) -> Option<Lsn> {
        self.batches.front().map(|batch| batch.first)
    }

    fn pop(&mut self) -> Option<Batch<'_>> {
        let BatchAt { first, count, end } = self.batches.pop_front()?;
        let records = &self.records[std::mem::replace(&mut self.taken, end)..end];
        Some(Batch { first, count, records })
    }
}

/// One log, read on a thread of its own.
struct LogReader<'scope> {
    log: u32,
    /// Everything up to here is in the checkpoint.
    covered: Lsn,
    listed: bool,
    saw_events: bool,
    /// Which partitions the log's shard owned when its next batch was written.
    owned: std::ops::Range<usize>,
    chunks: Receiver<Chunk>,
    thread: ScopedJoinHandle<'scope, Result<Replayed, RecoverError>>,
}

impl<'scope> LogReader<'scope> {
    fn start<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        of: &LogsOf<'_>,
        log: u32,
        (covered, listed): (Lsn, bool),
    ) -> Result<Self, StoreError> {
        let path = of.files.log(log);
        let (give, chunks) = sync_channel(CHUNKS_AHEAD);
        let identity = LogIdentity { store: of.store, shard: log };
        let options =
            ReplayOptions { restored: covered, must_exist: listed, read_covered: of.read_covered };
        let directory = path.clone();
        let read = move || read_log(&directory, identity, options, &give);
        let spawned = thread::Builder::new().name(format!("ebbtide-read-{log}"));
        let thread = spawned.spawn_scoped(scope, read).map_err(files::failed("reading", &path))?;
        let placement = Placement::over(of.meta.layout as usize);
        let owned = placement
            .filter(|placement| (log as usize) < placement.shards())
            .map_or(0..0, |placement| placement.partitions(log as usize));
        Ok(Self { log, covered, listed, saw_events: false, owned, chunks, thread })
    }

    /// What comes next; nothing once the log was read.
    fn next_chunk(&self) -> Chunk {
        self.chunks.recv().unwrap_or_default()
    }
}

fn read_log(
    directory: &std::path::Path,
    identity: LogIdentity,
    options: ReplayOptions,
    give: &SyncSender<Chunk>,
) -> Result<Replayed, RecoverError> {
    if !directory.exists() {
        return Err(RecoverError::Gone);
    }
    let storage = Threads::open_existing(directory).map_err(|cause| {
        RecoverError::Io(ebbtide_wal::IoFault::directory(ebbtide_wal::Step::List, &cause))
    })?;
    let mut chunk = Chunk::default();
    let sink = |batch: Batch<'_>| {
        chunk.push(batch);
        if chunk.bytes() < CHUNK_BYTES {
            return Ok(());
        }
        let full = std::mem::take(&mut chunk);
        give.send(full).map_err(|_| SinkError::from("the opening was given up"))
    };
    let replayed = ready(replay(&storage, identity, options, sink));
    // If nobody takes the last one, the merge gave up and says why.
    let _given_up = give.send(chunk);
    replayed
}

/// Puts the batches of all logs in order and gives out their events.
struct Merge<'a, 'scope, S> {
    of: LogsOf<'a>,
    sources: &'a mut SourceOffsets,
    sink: &'a mut S,
    logs: Vec<LogReader<'scope>>,
}

impl<S: EventSink> Merge<'_, '_, S> {
    fn run(&mut self) -> Result<(), StoreError> {
        let mut heads: Vec<Chunk> = self.logs.iter().map(LogReader::next_chunk).collect();
        let next = |heads: &[Chunk]| {
            heads.iter().enumerate().filter_map(|(at, head)| Some((head.first()?, at))).min()
        };
        while let Some((first, at)) = next(&heads) {
            let batch = heads[at].pop().expect("it was just seen");
            self.take(at, batch).map_err(|source| StoreError::Log {
                path: self.of.files.log(self.logs[at].log),
                source: RecoverError::Refused { first, source },
            })?;
            if heads[at].first().is_none() {
                heads[at] = self.logs[at].next_chunk();
            }
        }
        for reader in &self.logs {
            self.sources.settle(reader.log, reader.owned.clone());
        }
        Ok(())
    }

    fn take(&mut self, at: usize, batch: Batch<'_>) -> Result<(), SinkError> {
        let decoded = decode_batch(batch.records, batch.count)?;
        let reader = &mut self.logs[at];
        // How far a source had come in what is covered is in the checkpoint, under the layout of
        // its time; the log may have lost the batch that says which layout that was.
        let is_new = batch.first.after(u64::from(batch.count)).previous() > reader.covered;
        if let Some((source, offset)) = decoded.progress().filter(|_| is_new) {
            self.sources.reached(reader.log, source, offset)?;
        }
        match decoded {
            record::Batch::Opened { shards, shard } => {
                self.sources.settle(reader.log, reader.owned.clone());
                let placement = Placement::over(shards as usize).filter(|_| shard == reader.log);
                let placement = placement.ok_or("it says that another shard wrote it")?;
                reader.owned = placement.partitions(shard as usize);
            }
            record::Batch::Source { id, name } => self.sources.name(id, name)?,
            record::Batch::Mark { .. } => reader.saw_events = true,
            record::Batch::Events(events) => {
                reader.saw_events = true;
                self.events(at, batch.first, events)?;
            }
        }
        Ok(())
    }

    fn events(&mut self, at: usize, first: Lsn, events: LoggedEvents<'_>) -> Result<(), SinkError> {
        let covered = self.logs[at].covered;
        let source: Option<SourceId> = events.form().source;
        let mut next = first;
        for logged in events.iter() {
            let lsn = next;
            next = next.next();
            if lsn <= covered {
                continue;
            }
            let signal = self.of.numbers.signal(logged.number);
            let signal = signal.ok_or("it names a signal type that the store does not know")?;
            let hash = self.of.key.hash(logged.entity);
            if let (Some(source), Some(offset)) = (source, logged.offset) {
                self.sources.seen(source, (hash.partition(), offset))?;
            }
            let (entity, time, weight) = (logged.entity, logged.time, logged.weight);
            let event = RoutedEvent { entity, time, weight, hash, signal };
            self.sink.event(ReplayedEvent { lsn, event, id: logged.id })?;
        }
        Ok(())
    }
}
