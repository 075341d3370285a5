//! Reading over damage: every batch that still verifies, and what lies between.
//!
//! ```text
//! frame ─▶ frame ─▶ ✗ ✗ ─▶ frame      block by block until something verifies again
//!                   └─ gap ─┘
//! ```
//!
//! Promises: a batch is given only if the frame around it verifies as one of this log, in the order
//! of its numbers, none twice; wherever records are known or feared to be missing a [`Gap`] stands
//! in their place. A log that replays without an error gives the same batches and no gap.
//! A log that ends before what a checkpoint covers of it ends in a gap.
//! Invariants: nothing is written; memory is bounded by one window.
//! Fails by: [`IoFault`] when something keeps from reading, as a permission does: that is no loss.
//! What the device does not have any more is a gap.
//! Not here: judging whether that is allowed. A log that is opened is read by `recover`, which
//! refuses what is passed over here.

use crate::aligned::AlignedBuf;
use crate::entry::{Batch, entries};
use crate::fault::{IoFault, Step};
use crate::frame::{FrameHeader, FrameKind, read_header};
use crate::key::{ChainHash, FrameKey, StoreId};
use crate::limits::{BLOCK_BYTES, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use crate::lsn::Lsn;
use crate::scan::Window;
use crate::segment::SegmentHeader;
use crate::storage::{FileName, Listed, Storage};
use std::io;

/// A stretch of a log that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The segment it begins in.
    pub segment: u64,
    /// Where in its file.
    pub offset: u64,
    /// The last record before it.
    pub after: Lsn,
    /// The first number behind it that is known; `None` when the log ends in it. Fewer records than
    /// lie between may be missing, since an opening may skip numbers.
    pub until: Option<Lsn>,
    /// Whether the first frame of a segment may be in it, and with it what an opening says first.
    pub first_frame: bool,
    /// The operating system's number for why the device gives nothing; `None` where what it gives
    /// does not verify, or is not there.
    pub raw_os_error: Option<i32>,
}

/// What is found in a log, in its order.
#[derive(Clone, Copy, Debug)]
pub enum Salvaged<'a> {
    /// Records.
    Batch(Batch<'a>),
    /// Records that are missing, or may be.
    Gap(Gap),
}

/// What a salvage found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SalvageReport {
    /// Segment files.
    pub segments: u64,
    /// Of them those that give nothing: no header, or another log's.
    pub unreadable_segments: u64,
    /// Bytes in blocks that should be frames and are not.
    pub bad_bytes: u64,
    /// Everything up to here had left the log before its first readable segment.
    pub begins_after: Lsn,
    /// The last record that was read, or said to be.
    pub last: Lsn,
    /// Records in batches that were given.
    pub records: u64,
    /// Gaps that were given.
    pub gaps: u64,
}

/// Reads everything that can be read of one shard's log and gives it to `sink`. Only segments of
/// `store` count; without one, those of the first readable segment's store. Everything up to
/// `restored` was restored from elsewhere, so the log has to reach at least this far.
///
/// # Errors
///
/// When the directory cannot be listed, or a file not be read that the device has.
pub async fn salvage<S: Storage>(
    storage: &S,
    (shard, store): (u32, Option<StoreId>),
    restored: Lsn,
    sink: impl FnMut(Salvaged<'_>),
) -> Result<SalvageReport, IoFault> {
    let listed = storage.list().await;
    let (listed, _) = listed.map_err(|cause| IoFault::directory(Step::List, &cause))?;
    let is_segment = |file: &Listed| matches!(file.name, FileName::Segment(_));
    let mut files: Vec<Listed> = listed.into_iter().filter(is_segment).collect();
    files.sort_unstable_by_key(|file| file.name);
    let segments = headers(storage, (shard, store), &files).await?;
    let mut reader = Reader {
        storage,
        sink,
        next: Lsn::NONE,
        chain: ChainHash::START,
        suspected: None,
        end: (0, 0),
        report: SalvageReport { segments: files.len() as u64, ..SalvageReport::default() },
    };
    let mut expected = segments.first().map_or(0, |first| first.seq);
    for (at, segment) in segments.iter().enumerate() {
        if segment.seq != expected {
            reader.suspect((expected, 0), true);
        }
        expected = segment.seq.saturating_add(1);
        let next = segments.get(at + 1);
        reader.segment(segment, next).await?;
    }
    reader.end(restored);
    Ok(reader.report)
}

/// A segment file.
struct Segment {
    seq: u64,
    file: Listed,
    /// With the link for its first frame; `None` if it does not verify or is another log's.
    header: Option<(SegmentHeader, ChainHash)>,
    /// Why there is nothing to verify.
    raw_os_error: Option<i32>,
}

async fn headers<S: Storage>(
    storage: &S,
    (shard, mut store): (u32, Option<StoreId>),
    files: &[Listed],
) -> Result<Vec<Segment>, IoFault> {
    let mut segments = Vec::with_capacity(files.len());
    for file in files {
        let FileName::Segment(seq) = file.name else { continue };
        let (read, raw_os_error) = told(read_segment_header(storage, file).await)?;
        let header = read.flatten().filter(|(header, _)| {
            let log = header.id.log;
            let ours = header.id.seq == seq && log.shard == shard;
            ours && *store.get_or_insert(log.store) == log.store
        });
        segments.push(Segment { seq, file: *file, header, raw_os_error });
    }
    Ok(segments)
}

/// What was read, or the number of the error where the device has nothing to read any more.
fn told<T>(read: Result<T, IoFault>) -> Result<(Option<T>, Option<i32>), IoFault> {
    match read {
        Ok(read) => Ok((Some(read), None)),
        Err(fault) if fault.is_unreadable() => Ok((None, fault.raw_os_error)),
        Err(fault) => Err(fault),
    }
}

async fn read_segment_header<S: Storage>(
    storage: &S,
    file: &Listed,
) -> Result<Option<(SegmentHeader, ChainHash)>, IoFault> {
    if !file.regular {
        return Ok(None);
    }
    let fault = |step| move |cause: io::Error| IoFault::new(step, file.name, &cause);
    let opened = storage.open(file.name).await.map_err(fault(Step::Open))?;
    let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES);
    let read = storage.read_at(&opened, 0, &mut block).await.map_err(fault(Step::Read))?;
    Ok(SegmentHeader::decode(&block[..read]).ok())
}

/// Reads one segment after the other.
struct Reader<'s, S, F> {
    storage: &'s S,
    sink: F,
    /// The next record to come, once any number is known.
    next: Lsn,
    /// What the next frame links to.
    chain: ChainHash,
    /// Where something is missing whose end is not known yet.
    suspected: Option<Gap>,
    /// The segment and the offset where the last frame ends.
    end: (u64, u64),
    report: SalvageReport,
}

impl<S: Storage, F: FnMut(Salvaged<'_>)> Reader<'_, S, F> {
    /// Something is wrong from here on.
    fn suspect(&mut self, (segment, offset): (u64, u64), first_frame: bool) -> &mut Gap {
        let after = self.next.previous();
        let raw_os_error = None;
        let new = Gap { segment, offset, after, until: None, first_frame, raw_os_error };
        let gap = self.suspected.get_or_insert(new);
        gap.first_frame |= first_frame;
        gap
    }

    /// The device gives nothing from here on.
    fn unreadable(&mut self, place: (u64, u64), first_frame: bool, raw_os_error: Option<i32>) {
        let gap = self.suspect(place, first_frame);
        gap.raw_os_error = gap.raw_os_error.or(raw_os_error);
    }

    /// Every record before `lsn` is accounted for: what is missing of them ends here.
    fn resume(&mut self, lsn: Lsn) {
        if let Some(gap) = self.suspected.take()
            && lsn > self.next.max(Lsn::FIRST)
        {
            self.give(Gap { until: Some(lsn), ..gap });
        }
        self.next = lsn.max(self.next);
    }

    fn give(&mut self, gap: Gap) {
        self.report.gaps += 1;
        (self.sink)(Salvaged::Gap(gap));
    }

    fn end(&mut self, restored: Lsn) {
        if self.next.previous() < restored {
            self.suspect(self.end, true);
        }
        if let Some(gap) = self.suspected.take() {
            self.give(gap);
        }
        self.report.last = self.next.previous();
    }

    /// Reads a segment up to where the one behind it, if that is known, says that it ends.
    async fn segment(
        &mut self,
        segment: &Segment,
        behind: Option<&Segment>,
    ) -> Result<(), IoFault> {
        let (seq, bytes) = (segment.seq, segment.file.bytes);
        let Some((header, chain)) = segment.header else {
            self.report.unreadable_segments += 1;
            self.report.bad_bytes += bytes;
            self.unreadable((seq, 0), true, segment.raw_os_error);
            return Ok(());
        };
        if self.next == Lsn::NONE && self.suspected.is_none() {
            (self.report.begins_after, self.next) = (header.prev_last, header.prev_last.next());
        } else if header.prev_last.next() > self.next {
            self.suspect((seq, 0), false);
        }
        // What the header says of the records before it is true, whatever became of them.
        self.resume(header.prev_last.next());
        (self.next, self.chain) = (header.lsn_first.max(self.next), chain);
        let name = segment.file.name;
        let opened = self.storage.open(name).await;
        let opened = opened.map_err(|cause| IoFault::new(Step::Open, name, &cause));
        let (file, raw_os_error) = told(opened)?;
        let Some(file) = file else {
            self.unreadable((seq, 0), true, raw_os_error);
            return Ok(());
        };
        let mut window = Window::new(self.storage, file, bytes);
        let following = seq.checked_add(1);
        let next = behind.filter(|behind| Some(behind.seq) == following);
        let next = next.and_then(|behind| behind.header);
        let bounds = Bounds { seq, bytes, next: next.map(|(header, _)| header) };
        let (end, last) = self.frames(&mut window, &header.key(), &bounds).await?;
        self.end = (seq, end);
        let closed = last == Some(FrameKind::Shutdown) && end == bytes;
        if behind.is_none() && last == Some(FrameKind::Seal) {
            // It went on, and that is gone.
            self.suspect((seq.saturating_add(1), 0), true);
        } else if behind.is_none() && bytes < header.bytes && !closed {
            self.suspect((seq, end), false);
        }
        Ok(())
    }

    /// Gives every frame that verifies; says where the last one ends, and what kind it is.
    async fn frames(
        &mut self,
        window: &mut Window<'_, S>,
        key: &FrameKey,
        bounds: &Bounds,
    ) -> Result<(u64, Option<FrameKind>), IoFault> {
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        let (mut end, mut last, mut bad) = (offset, None, 0);
        while offset < bounds.bytes && !bounds.next.is_some_and(|next| next.prev == self.chain) {
            let found = self.frame(window, key, (offset, end), bounds).await?;
            match found {
                Found::Frame { bytes, kind } => {
                    offset += bytes;
                    (end, last) = (offset, Some(kind));
                    self.report.bad_bytes += std::mem::take(&mut bad);
                    continue;
                }
                // It vouches for what came before it, though not for itself.
                Found::Torn { durable } if durable >= self.next => {
                    self.suspect((bounds.seq, end), is_first(end));
                }
                Found::Unreadable { raw_os_error } => {
                    self.unreadable((bounds.seq, end), is_first(end), raw_os_error);
                }
                _ => {}
            }
            bad += if matches!(found, Found::Zeroes) { 0 } else { BLOCK_BYTES as u64 };
            offset += BLOCK_BYTES as u64;
        }
        if self.suspected.is_some() {
            self.report.bad_bytes += bad;
        }
        Ok((end, last))
    }

    async fn frame(
        &mut self,
        window: &mut Window<'_, S>,
        key: &FrameKey,
        (offset, end): (u64, u64),
        bounds: &Bounds,
    ) -> Result<Found, IoFault> {
        let name = FileName::Segment(bounds.seq);
        let fault = |cause: io::Error| IoFault::new(Step::Read, name, &cause);
        let (seen, raw_os_error) = told(window.view(offset, BLOCK_BYTES).await.map_err(fault))?;
        let Some(seen) = seen else { return Ok(Found::Unreadable { raw_os_error }) };
        let header = match read_header(key, seen) {
            Ok(header) => header,
            Err(_) if seen.iter().all(|&byte| byte == 0) => return Ok(Found::Zeroes),
            Err(_) => return Ok(Found::Rubbish),
        };
        let fields = header.fields;
        let torn = Found::Torn { durable: fields.durable };
        let (frame, _) = told(window.view(offset, fields.frame_bytes()).await.map_err(fault))?;
        let Some(frame) = frame else { return Ok(torn) };
        let whole =
            frame.len() == fields.frame_bytes() && header.verify_payload(key, frame).is_ok();
        if !whole || fields.lsn_first < self.next || !bounds.admit(&header) {
            return Ok(torn);
        }
        let payload = &frame[FRAME_HEADER_BYTES..][..fields.payload_bytes];
        let batches = match (fields.kind, entries(payload, fields.lsn_first, fields.lsn_count)) {
            (FrameKind::Records, Ok(batches)) => Some(batches),
            (FrameKind::Records, Err(_)) => return Ok(torn),
            _ => None,
        };
        if fields.prev != self.chain {
            self.suspect((bounds.seq, end), is_first(end));
        }
        self.resume(fields.lsn_first);
        for batch in batches.into_iter().flatten() {
            self.report.records += u64::from(batch.count);
            (self.sink)(Salvaged::Batch(batch));
        }
        (self.next, self.chain) = (header.lsn_end(), header.chain);
        Ok(Found::Frame { bytes: fields.frame_bytes() as u64, kind: fields.kind })
    }
}

/// Whether no frame of a segment ends before this place.
const fn is_first(end: u64) -> bool {
    end == SEGMENT_HEADER_BYTES as u64
}

/// Where a segment may end.
struct Bounds {
    seq: u64,
    bytes: u64,
    /// The header of the segment behind it.
    next: Option<SegmentHeader>,
}

impl Bounds {
    /// Whether a frame lies before the end of the segment, as the next one knows it.
    fn admit(&self, header: &FrameHeader) -> bool {
        self.next.is_none_or(|next| header.lsn_end().previous() <= next.prev_last)
    }
}

/// What lies at a place.
enum Found {
    Frame {
        bytes: u64,
        kind: FrameKind,
    },
    /// A header that verifies, of a frame that does not.
    Torn {
        durable: Lsn,
    },
    /// The device gives nothing.
    Unreadable {
        raw_os_error: Option<i32>,
    },
    Zeroes,
    Rubbish,
}
