//! The section of the logs: one folder for each, read from its first segment to its end.
//!
//! Promises: the same reader judges a log here as when a store is opened, so what is refused there
//! is a fault here; what precedes the damage is shown.
//! Invariants: every log of a store carries the same store id, taken from the first segment whose
//! header can be read.
//! Fails by: [`Fault`], when the folders cannot be listed or the log asked for is not there; what
//! is wrong with one log is kept beside it.

use super::segments::{self, Segment};
use super::{InspectArgs, Section, table};
use crate::fault::Fault;
use crate::output::shown;
use ebbtide::StoreError;
use ebbtide::offline::HeldStore;
use ebbtide_wal::frame::FrameKind;
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{
    Batch, FrameSeen, IoFault, LogIdentity, Lsn, RecoveryReport, ReplayOptions, ReplaySink,
    SinkError, Step, StoreId, ready, replay_with,
};
use serde::Serialize;
use std::io;
use std::path::Path;

/// The logs of a store, or the one that was asked for.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Logs {
    all: Vec<Log>,
    #[serde(skip)]
    folder: String,
    #[serde(skip)]
    faults: Vec<Fault>,
}

/// One log, as far as it can be read.
#[derive(Debug, Default, Serialize)]
pub(super) struct Log {
    pub(super) number: u32,
    pub(super) store: Option<String>,
    pub(super) segments: Vec<Segment>,
    /// Retired segments, ready to be used again.
    pub(super) spare_files: u64,
    /// Files that were being prepared when a crash came.
    pub(super) temporary_files: u64,
    pub(super) stranger_files: u64,
    /// How it ends; not known of a log that is damaged.
    pub(super) end: Option<End>,
    /// In the order of the log, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frames: Option<Vec<Frame>>,
    pub(super) error: Option<Broken>,
}

/// What the end of a log that can be read says.
#[derive(Debug, Serialize)]
pub(super) struct End {
    /// Everything up to here had left the log before.
    pub(super) begins_after: u64,
    pub(super) last: u64,
    pub(super) records: u64,
    pub(super) clean_shutdown: bool,
    /// What a crash left unfinished, none of it durable.
    pub(super) torn_bytes: u64,
    pub(super) torn_frames: u64,
    /// Up to which record the newest checkpoint reaches that the log knows of.
    pub(super) checkpoint_covers: Option<u64>,
}

/// One frame.
#[derive(Debug, Serialize)]
pub(super) struct Frame {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) kind: &'static str,
    pub(super) lsn_first: u64,
    pub(super) lsn_count: u32,
    pub(super) durable: u64,
    pub(super) bytes: usize,
}

/// Why a log cannot be read to its end.
#[derive(Debug, Serialize)]
pub(super) struct Broken {
    /// A short name that never changes.
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Logs {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When they cannot be listed, or there is no such log.
    pub(super) fn read(held: &HeldStore, args: &InspectArgs) -> Result<Self, Fault> {
        let (mut folders, wrong) = held.logs()?;
        let mut faults: Vec<Fault> = wrong.into_iter().map(Fault::from).collect();
        if let Some(asked) = args.log {
            let all = folders.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            folders.retain(|number, _| *number == asked);
            if folders.is_empty() {
                let name = shown(&args.store.data_dir);
                let all = if all.is_empty() { "none" } else { &all };
                return Err(Fault::input(format!("{name} has no log {asked}; there is {all}")));
            }
            // Nothing is said of other parts.
            faults.clear();
        }
        let (mut all, mut id) = (Vec::new(), None);
        for (number, path) in folders {
            let mut log = Log { number, ..Log::default() };
            log.frames = args.frames.then(Vec::new);
            faults.extend(read(&mut log, &path, &mut id).err().map(Fault::from));
            all.push(log);
        }
        Ok(Self { all, folder: shown(&held.log_folder()), faults })
    }
}

impl Section for Logs {
    fn text(&self) -> String {
        table::page(&self.all, &self.folder)
    }

    fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// Fills in what can be read; `id` is the store's, once it is known.
fn read(log: &mut Log, path: &Path, id: &mut Option<StoreId>) -> Result<(), StoreError> {
    let unreadable = |cause: io::Error| StoreError::LogFault {
        path: path.to_owned(),
        fault: IoFault::directory(Step::List, &cause),
    };
    let storage = Threads::open_existing(path).map_err(unreadable)?;
    let listed = ready(segments::list(&storage)).map_err(unreadable)?;
    (log.segments, log.spare_files) = (listed.segments, listed.spare_files);
    (log.temporary_files, log.stranger_files) = (listed.temporary_files, listed.stranger_files);
    *id = id.or(listed.store);
    log.store = listed.store.map(|id| id.to_string());

    // Without a checkpoint at hand the log is read from where it begins.
    let restored = listed.begins_after.unwrap_or(Lsn::NONE);
    let options = ReplayOptions { restored, read_covered: true, must_exist: false };
    let identity = LogIdentity { store: id.unwrap_or(StoreId([0; 16])), shard: log.number };
    let replayed = ready(replay_with(&storage, identity, options, &mut Seeing(log)));
    match replayed {
        Ok(replayed) => {
            log.end = Some(End::of(&replayed.report));
            Ok(())
        }
        Err(error) => {
            log.error = Some(Broken { code: error.code(), message: error.to_string() });
            Err(StoreError::Log { path: path.to_owned(), source: error })
        }
    }
}

impl End {
    fn of(report: &RecoveryReport) -> Self {
        Self {
            begins_after: report.begins_after.get(),
            last: report.last.get(),
            records: report.records,
            clean_shutdown: report.clean_shutdown,
            torn_bytes: report.truncated_bytes,
            torn_frames: report.truncated_frames,
            checkpoint_covers: report.checkpoint.map(|note| note.covered.get()),
        }
    }
}

/// Notes the frames that pass by.
struct Seeing<'a>(&'a mut Log);

impl ReplaySink for Seeing<'_> {
    fn batch(&mut self, _batch: Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, seen: FrameSeen) {
        let FrameSeen { segment, offset, fields } = seen;
        if let Some(segment) = self.0.segments.iter_mut().find(|found| found.seq == segment) {
            segment.add(&fields);
        }
        if let Some(frames) = &mut self.0.frames {
            frames.push(Frame {
                segment,
                offset,
                kind: name_of(fields.kind),
                lsn_first: fields.lsn_first.get(),
                lsn_count: fields.lsn_count,
                durable: fields.durable.get(),
                bytes: fields.frame_bytes(),
            });
        }
    }
}

const fn name_of(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Records => "records",
        FrameKind::Watermark => "watermark",
        FrameKind::Checkpoint => "checkpoint",
        FrameKind::Shutdown => "shutdown",
        FrameKind::Seal => "seal",
    }
}
