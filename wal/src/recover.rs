//! Reading a log back: which files, in which order, how far, and what that means.
//!
//! Promises: every record that was durable is given, in order, or the log is refused with the
//! place of the damage; memory stays bounded; nothing is written, so it can be done again and
//! gives the same answer.
//! Invariants: records given before an error are to be thrown away by the caller.
//! Fails by: [`RecoverError`], one variant per thing an operator would do differently.
//! Not here: making the log writable again (`start`), reading one file (`scan`), judging the
//! tail (`tail`).
//! Source: evidence, then verdict, then action, as in `TigerBeetle`'s journal recovery.

use std::io;

use crate::entry::Batch;
use crate::fault::{IoFault, Step};
use crate::frame::{FrameFault, FrameKind};
use crate::key::LogIdentity;
use crate::limits::{SEGMENT_HEADER_BYTES, index};
use crate::lsn::Lsn;
use crate::scan::{
    LastFrame, Place, Remains, Walk, WalkError, Window, has_broken_seal, remains, seal_at, walk,
};
use crate::segment::SegmentHeader;
use crate::storage::{FileName, Listed, Storage};
use crate::tail::{TailEvidence, TailVerdict, tail_verdict};

mod error;
mod files;
mod sink;

pub use error::RecoverError;
use files::{Found, find};
use sink::Batches;
pub use sink::{FrameSeen, ReplaySink, SinkError, UnsealedSeen};

/// What the caller knows about the log from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Everything up to here was restored from a checkpoint: the log must reach at least this
    /// far, and need not begin before.
    pub restored: Lsn,
    /// Whether to read segments that hold nothing else, as a verification does.
    pub read_covered: bool,
    /// Whether an empty directory means loss; false only when the log may never have been made.
    pub must_exist: bool,
}

/// What a replay found. Plain facts, for the operator and for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segment files, the unread ones included.
    pub segments: u64,
    /// Segments that a checkpoint covers whole; only their headers were read.
    pub skipped_segments: u64,
    /// Good frames read.
    pub frames: u64,
    /// Batches given to the sink.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Length of all segment files.
    pub file_bytes: u64,
    /// The last record of the log, read or skipped.
    pub last: Lsn,
    /// Everything up to here had left the log before.
    pub begins_after: Lsn,
    /// Whether the log was closed in order.
    pub clean_shutdown: bool,
    /// Bytes behind the end that a crash left unfinished and that are given up.
    pub truncated_bytes: u64,
    /// Frames with a good header among them; none of them was durable.
    pub truncated_frames: u64,
    /// Segments before the last that lack a whole seal, as a crash can leave them. In a log that
    /// was closed in order there is none, so there it means damage that cost no record.
    pub unsealed_segments: u64,
    /// Bytes in files that no hash covers: what lies behind the end of unsealed segments.
    pub loose_bytes: u64,
    /// The newest checkpoint the log knows of.
    pub checkpoint: Option<crate::note::CheckpointNote>,
    /// Files in the directory that are not a log's; they are left alone.
    pub stranger_files: u64,
}

/// A log that was read to its end.
#[derive(Debug)]
pub struct Replayed {
    /// What was found.
    pub report: RecoveryReport,
    pub(crate) identity: LogIdentity,
    /// Oldest first; empty for a log that never was.
    pub(crate) segments: Vec<ReadSegment>,
    pub(crate) spares: Vec<Listed>,
    pub(crate) temps: Vec<Listed>,
}

/// One segment after the replay.
#[derive(Clone, Debug)]
pub(crate) struct ReadSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) file_bytes: u64,
    /// Where its records end; `None` when it was skipped.
    pub(crate) end: Option<Place>,
    pub(crate) last: Option<LastFrame>,
    pub(crate) sealed: bool,
}

/// Reads the log in `storage` from the first segment that matters to its end, and gives every
/// batch to `sink`, in order. Batches may begin at or below `options.restored`; the sink knows
/// what it has.
///
/// # Errors
///
/// See [`RecoverError`]. What the sink got before is then to be thrown away.
pub async fn replay<S: Storage>(
    storage: &S,
    identity: LogIdentity,
    options: ReplayOptions,
    sink: impl FnMut(Batch<'_>) -> Result<(), SinkError>,
) -> Result<Replayed, RecoverError> {
    replay_with(storage, identity, options, &mut Batches(sink)).await
}

/// Like [`replay`], for a sink that wants to see the frames too.
///
/// # Errors
///
/// See [`RecoverError`].
///
/// # Panics
///
/// Never for what a disk holds; assertions guard the reader's own bookkeeping.
pub async fn replay_with<S: Storage>(
    storage: &S,
    identity: LogIdentity,
    options: ReplayOptions,
    sink: &mut impl ReplaySink,
) -> Result<Replayed, RecoverError> {
    let files = find(storage, identity, options).await?;
    let mut replayed = Replayed {
        report: RecoveryReport {
            segments: files.segments.len() as u64,
            file_bytes: files.segments.iter().map(|found| found.file_bytes).sum(),
            begins_after: files.segments.first().map_or(Lsn::NONE, |f| f.header.prev_last),
            stranger_files: files.strangers,
            ..RecoveryReport::default()
        },
        identity,
        segments: Vec::with_capacity(files.segments.len()),
        spares: files.spares,
        temps: files.temps,
    };
    let mut reader = Reader { storage, options, report: &mut replayed.report, sink };
    for (at, found) in files.segments.iter().enumerate() {
        let next = files.segments.get(at + 1);
        replayed.segments.push(reader.read(found, next).await?);
    }
    let (report, segments) = (&replayed.report, &replayed.segments);
    assert_eq!(segments.len() as u64, report.segments, "every segment was looked at");
    assert!(report.last >= options.restored, "a log that ends early was refused");
    let read = segments.last().is_none_or(|last| last.end.is_some());
    assert!(read, "the last segment is never passed over");
    Ok(replayed)
}

/// Reads one segment after the other.
struct Reader<'a, S: Storage, F> {
    storage: &'a S,
    options: ReplayOptions,
    report: &'a mut RecoveryReport,
    sink: &'a mut F,
}

impl<S: Storage, F: ReplaySink> Reader<'_, S, F> {
    async fn read(
        &mut self,
        found: &Found,
        next: Option<&Found>,
    ) -> Result<ReadSegment, RecoverError> {
        let (header, file_bytes) = (found.header, found.file_bytes);
        let covered = next.is_some_and(|next| next.header.prev_last <= self.options.restored);
        if covered && !self.options.read_covered {
            self.report.skipped_segments += 1;
            return Ok(ReadSegment { header, file_bytes, end: None, last: None, sealed: false });
        }
        let name = FileName::Segment(header.id.seq);
        let fault =
            |step| move |cause: io::Error| RecoverError::Io(IoFault::new(step, name, &cause));
        let file = self.storage.open(name).await.map_err(fault(Step::Open))?;
        let mut window = Window::new(self.storage, file, file_bytes);
        let key = header.key();
        let start = SEGMENT_HEADER_BYTES as u64;
        let place = Place { offset: start, lsn: header.lsn_first, chain: found.chain };
        let until = next.map(|next| next.header.prev);
        let walk = walk(&mut window, header.id.seq, &key, (place, until), self.sink).await;
        let walk = walk.map_err(|error| match error {
            WalkError::Io(cause) => fault(Step::Read)(cause),
            WalkError::Sink { first, source } => RecoverError::Refused { first, source },
        })?;
        self.report.add(&walk);
        let mut sealed = false;
        if let Some(next) = next {
            check_junction(found, &walk, next)?;
            let seal = seal_at(&mut window, &key, walk.place).await.map_err(fault(Step::Read))?;
            if let Some(fields) = seal {
                let (segment, offset) = (header.id.seq, walk.place.offset);
                self.sink.frame(FrameSeen { segment, offset, fields });
            }
            sealed = seal.is_some();
            if !sealed {
                self.report.unsealed_segments += 1;
                self.tell_unsealed(&mut window, &header, walk.place)
                    .await
                    .map_err(fault(Step::Read))?;
            }
        } else {
            let remains = remains(&mut window, &key, walk.place).await;
            let remains = remains.map_err(fault(Step::Read))?;
            judge(found, &walk, remains, self.options, self.report)?;
        }
        if !sealed {
            self.report.loose_bytes += file_bytes.saturating_sub(walk.place.offset);
        }
        let (end, last) = (Some(walk.place), walk.last);
        Ok(ReadSegment { header, file_bytes, end, last, sealed })
    }
}

impl<S: Storage, F: ReplaySink> Reader<'_, S, F> {
    /// Tells a verification of a segment without a whole seal.
    async fn tell_unsealed(
        &mut self,
        window: &mut Window<'_, S>,
        header: &SegmentHeader,
        place: Place,
    ) -> io::Result<()> {
        if self.options.read_covered {
            let damaged = has_broken_seal(window, &header.key(), place).await?;
            let (segment, offset) = (header.id.seq, place.offset);
            let loose_bytes = window.file_bytes().saturating_sub(offset);
            self.sink.unsealed(UnsealedSeen { segment, offset, loose_bytes, damaged });
        }
        Ok(())
    }
}

impl RecoveryReport {
    fn add(&mut self, walk: &Walk) {
        self.frames += walk.frames;
        self.batches += walk.batches;
        self.records += walk.records;
        self.last = walk.place.lsn.previous();
        self.checkpoint = walk.note.or(self.checkpoint);
    }
}

/// A segment that is not the last must end exactly where the header of the next one says.
fn check_junction(found: &Found, walk: &Walk, next: &Found) -> Result<(), RecoverError> {
    let segment = found.header.id.seq;
    if let Some(fault) = walk.fault {
        let Place { offset, lsn, .. } = walk.place;
        return Err(RecoverError::Damaged { segment, offset, lsn, fault });
    }
    // The link was reached, and the link is a hash over the frame before it: the numbers can
    // differ only if the header of the next segment was written by a broken log.
    if walk.place.lsn.previous() != next.header.prev_last {
        let Place { offset, lsn, .. } = walk.place;
        let fault = FrameFault::Chain { found: next.header.prev_last.next() };
        return Err(RecoverError::Damaged { segment, offset, lsn, fault });
    }
    Ok(())
}

/// Evidence about the end of the last segment, the verdict, and the refusal if it is one.
fn judge(
    found: &Found,
    walk: &Walk,
    remains: Remains,
    options: ReplayOptions,
    report: &mut RecoveryReport,
) -> Result<(), RecoverError> {
    let (segment, place) = (found.header.id.seq, walk.place);
    let last_is = |kind| walk.last.is_some_and(|last| last.kind == kind);
    let shut = last_is(FrameKind::Shutdown);
    let seen = TailEvidence {
        vouched: remains.durable >= Some(place.lsn) || options.restored >= place.lsn,
        continues: remains.sealed || last_is(FrameKind::Seal),
        shortened: found.file_bytes < found.header.bytes
            && !(shut && place.offset == found.file_bytes),
        remains: remains.bytes > 0,
    };
    let damaged = |fault| {
        let Place { offset, lsn, .. } = place;
        RecoverError::Damaged { segment, offset, lsn, fault }
    };
    match tail_verdict(seen) {
        TailVerdict::End | TailVerdict::CutTorn => {
            report.truncated_bytes = remains.bytes;
            report.truncated_frames = remains.frames;
            report.clean_shutdown = shut;
            Ok(())
        }
        TailVerdict::RefuseDamaged => Err(damaged(walk.fault.unwrap_or(FrameFault::Short))),
        TailVerdict::RefuseMissing => {
            Err(RecoverError::Missing { segment: segment.saturating_add(1) })
        }
        TailVerdict::RefuseShortened => Err(match walk.fault {
            // A log that is closed cuts its file: what is wrong is the frame, not the length.
            Some(fault @ (FrameFault::Header | FrameFault::Payload)) => damaged(fault),
            _ => RecoverError::Shortened {
                segment,
                bytes: found.file_bytes,
                written_as: found.header.bytes,
            },
        }),
    }
}

/// The header block of a segment file.
async fn read_block<S: Storage>(storage: &S, listed: &Listed) -> Result<Vec<u8>, RecoverError> {
    let fault =
        |step| move |cause: io::Error| RecoverError::Io(IoFault::new(step, listed.name, &cause));
    let file = storage.open(listed.name).await.map_err(fault(Step::Open))?;
    let bytes = listed.bytes.min(SEGMENT_HEADER_BYTES as u64);
    let mut window = Window::new(storage, file, bytes);
    let block = window.view(0, index(bytes)).await.map_err(fault(Step::Read))?;
    Ok(block.to_vec())
}
