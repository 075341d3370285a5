//! Every frame of every log, also of what a checkpoint covers.
//!
//! ```text
//! segments  1 2 3 4 5 6      damage in 3: told;  then 4 5 6 as if the log began there
//!           1 2 3 4 5 6      no header in 3: told;  then 1 2 and 4 5 6
//! ```
//!
//! Promises: each segment is read to its end or to its first damage, whatever the others hold;
//! what a frame holds is decoded too.
//! Not here: what the events amount to (`compare`).

use super::{FINDINGS_MAX, Finding, Verification, VerifyStep, log_numbers};
use crate::StoreError;
use crate::store::StoreFiles;
use crate::store::files::failed;
use crate::store::manifest::Manifest;
use ebbtide_shard::checkpoint::MetaRecord;
use ebbtide_shard::record::{Batch as Decoded, decode_batch};
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::storage::{FileName, Storage as _};
use ebbtide_wal::{
    Batch, FrameSeen, LogIdentity, Lsn, RecoverError, RecoveryReport, ReplayOptions, ReplaySink,
    SinkError, UnsealedSeen, ready, replay_with,
};
use std::ops::RangeInclusive;
use std::path::Path;

/// What was read of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogVerified {
    /// Which.
    pub number: u32,
    /// Whether all of it could be read. If not, findings say what could not.
    pub whole: bool,
    /// Segments; not known of a log that is damaged.
    pub segments: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of its segments.
    pub bytes: u64,
    /// The last record before the first segment.
    pub begins_after: Lsn,
    /// Its last record.
    pub last: Lsn,
    /// Up to where the checkpoint covers it; `None` without one, or if it does not know the log.
    pub covered: Option<Lsn>,
    /// Whether it was closed in order.
    pub clean_shutdown: bool,
    /// Bytes behind its end that a crash left unfinished; none of them was durable.
    pub torn_bytes: u64,
    /// Bytes that no hash covers, and that nobody reads as data: behind the ends of segments, in
    /// files that are ready to be used, and in such as were left unfinished. None in a log that was
    /// closed in order.
    pub unused_bytes: u64,
    /// Files in its folder that no log made.
    pub strangers: u64,
}

/// Reads every log.
pub(super) fn verify(
    files: &StoreFiles,
    (manifest, meta): (&Manifest, Option<&MetaRecord>),
    found: &mut Verification,
    progress: &mut dyn FnMut(VerifyStep),
) -> Result<(), StoreError> {
    for number in log_numbers(files, meta, found)? {
        progress(VerifyStep::Log(number));
        let known = meta.and_then(|meta| meta.covered.iter().find(|&&(log, _)| log == number));
        let covered = known.map(|&(_, lsn)| Lsn::new(lsn));
        let path = files.log(number);
        let identity = LogIdentity { store: manifest.store, shard: number };
        let mut log = Reading::of(number, covered);
        for source in log.read_past_damage(&path, identity) {
            found.judge(Err::<(), _>(StoreError::Log { path: path.clone(), source }))?;
        }
        if let Some(report) = log.report {
            if meta.is_some() && covered.is_none() && log.saw_events {
                found.note(StoreError::UnknownLog { path: path.clone() });
            }
            log.end(&report, &path)?;
            log.judge(&report, files, found);
        }
        found.logs.push(log.log);
    }
    Ok(())
}

/// A log that is being read.
struct Reading {
    log: LogVerified,
    saw_events: bool,
    /// What the end says, if nothing is wrong.
    report: Option<RecoveryReport>,
    /// The last record so far.
    last: Lsn,
    unsealed: Vec<(UnsealedSeen, Lsn)>,
}

impl Reading {
    fn of(number: u32, covered: Option<Lsn>) -> Self {
        let log = LogVerified { number, covered, ..LogVerified::default() };
        Self { log, saw_events: false, report: None, last: Lsn::NONE, unsealed: Vec::new() }
    }

    /// Reads all that can be read, and gives what is wrong. The report is there if nothing is.
    fn read_past_damage(&mut self, path: &Path, identity: LogIdentity) -> Vec<RecoverError> {
        let (mut parts, mut wrong) = (vec![0..=u64::MAX], Vec::new());
        while let Some(part) = parts.pop().filter(|_| wrong.len() < FINDINGS_MAX) {
            let (first, last) = part.clone().into_inner();
            let frames = self.log.frames;
            let error = match self.read(path, identity, part) {
                Ok(report) => {
                    self.report = wrong.is_empty().then_some(report);
                    continue;
                }
                Err(error) => error,
            };
            // What lies behind a part was told before, and there may be nothing.
            let is_rest = first > 0 || last < u64::MAX;
            let is_told = error.segment().is_some_and(|seq| seq > last);
            if is_rest && (is_told || matches!(error, RecoverError::Gone)) {
                continue;
            }
            parts.extend(rest(&error, first..=last, frames == self.log.frames));
            wrong.push(error);
        }
        wrong
    }

    /// Reads some segments as if they were all.
    fn read(
        &mut self,
        path: &Path,
        identity: LogIdentity,
        part: RangeInclusive<u64>,
    ) -> Result<RecoveryReport, RecoverError> {
        let must_exist = part == (0..=u64::MAX) && self.log.covered.is_some();
        // The checkpoint vouches for the end of the log, and for where it begins.
        let covered = self.log.covered.filter(|_| *part.end() == u64::MAX);
        let restored = covered.unwrap_or(Lsn::NONE);
        let options = ReplayOptions { restored, read_covered: true, must_exist };
        match self.read_as(path, identity, (part.clone(), options)) {
            Err(RecoverError::BeginsTooLate { begins_after, .. }) if !must_exist => {
                let options = ReplayOptions { restored: begins_after, ..options };
                self.read_as(path, identity, (part, options))
            }
            read => read,
        }
    }

    fn read_as(
        &mut self,
        path: &Path,
        identity: LogIdentity,
        (part, options): (RangeInclusive<u64>, ReplayOptions),
    ) -> Result<RecoveryReport, RecoverError> {
        if !path.exists() {
            return Err(RecoverError::Gone);
        }
        let storage = Threads::open_existing(path).map_err(|cause| {
            RecoverError::Io(ebbtide_wal::IoFault::directory(ebbtide_wal::Step::List, &cause))
        })?;
        let replayed = ready(replay_with(&storage.only(part), identity, options, self))?;
        Ok(replayed.report)
    }

    /// Notes what the end of the log says, and the files beside its segments.
    fn end(&mut self, report: &RecoveryReport, path: &Path) -> Result<(), StoreError> {
        let storage = Threads::open_existing(path).map_err(failed("listing", path))?;
        let (listed, _) = ready(storage.list()).map_err(failed("listing", path))?;
        let beside = listed.iter().filter(|file| !matches!(file.name, FileName::Segment(_)));
        let log = &mut self.log;
        log.whole = true;
        log.segments = report.segments;
        log.bytes = report.file_bytes;
        log.begins_after = report.begins_after;
        log.last = report.last;
        log.clean_shutdown = report.clean_shutdown;
        log.torn_bytes = report.truncated_bytes;
        log.strangers = report.stranger_files;
        log.unused_bytes = report.loose_bytes + beside.map(|file| file.bytes).sum::<u64>();
        Ok(())
    }

    /// Judges what no single frame shows.
    fn judge(&self, report: &RecoveryReport, files: &StoreFiles, found: &mut Verification) {
        let number = self.log.number;
        let noted = report.checkpoint.map_or(Lsn::NONE, |note| note.covered);
        if let Some(covered) = self.log.covered.filter(|&covered| covered < noted) {
            let (path, covered, noted) = (files.checkpoint(), covered.get(), noted.get());
            found.note(Finding::CheckpointBehind { path, log: number, covered, noted });
        }
        if !report.clean_shutdown {
            return;
        }
        for (seen, last) in &self.unsealed {
            // What is covered is not read by an opening, so a crash's traces may stay there.
            let covered = self.log.covered.is_some_and(|covered| *last <= covered);
            if seen.damaged || (seen.loose_bytes > 0 && !covered) {
                let path = files.log(number).join(FileName::Segment(seen.segment).to_string());
                let (offset, bytes) = (seen.offset, seen.loose_bytes);
                found.note(Finding::SealOfSegment { path, offset, bytes });
            }
        }
    }
}

/// The parts that an error left unread; `at_once` if no frame was read before it.
fn rest(
    error: &RecoverError,
    part: RangeInclusive<u64>,
    at_once: bool,
) -> Vec<RangeInclusive<u64>> {
    let (first, last) = part.into_inner();
    let Some(seq) = error.segment() else {
        // All segments, counted from 1, without asking again where the log may begin.
        let late = matches!(error, RecoverError::BeginsTooLate { .. }) && first == 0;
        return if late { vec![1..=last] } else { Vec::new() };
    };
    // All headers are read first, so one that is no header keeps the others from being read.
    let before = (at_once && seq > first).then(|| first..=seq - 1);
    before.into_iter().chain((seq < last).then(|| seq + 1..=last)).collect()
}

impl ReplaySink for Reading {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), SinkError> {
        match decode_batch(batch.records, batch.count)? {
            Decoded::Events(_) => {
                self.saw_events = true;
                self.log.events += u64::from(batch.count);
            }
            Decoded::Mark { .. } => self.saw_events = true,
            Decoded::Opened { .. } | Decoded::Source { .. } => {}
        }
        Ok(())
    }

    fn frame(&mut self, seen: FrameSeen) {
        self.log.frames += 1;
        let fields = &seen.fields;
        if fields.lsn_count > 0 {
            self.last = fields.lsn_first.after(u64::from(fields.lsn_count)).previous();
        }
    }

    fn unsealed(&mut self, seen: UnsealedSeen) {
        self.unsealed.push((seen, self.last));
    }
}
