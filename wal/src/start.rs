//! Making a log that was read writable again, or removing it.
//!
//! Promises: records that were read are durable before the log takes new ones; the new segment's
//! header fixes where the log before it ends, so what a crash left behind that place is never
//! read again; a crash at any step leaves a log that reads the same.
//! Invariants: nothing is ever appended to a segment of an earlier opening, save its seal.
//! Fails by: [`StartError`]; the directory is then still a readable log.
//! Not here: what the log holds (`recover`).
//! Source: recovery that repairs by writing a new log, as in `LevelDB`.

use std::collections::VecDeque;
use std::io;

use thiserror::Error;

use crate::aligned::AlignedBuf;
use crate::fault::{IoFault, Step};
use crate::frame::read_header;
use crate::key::{ChainHash, EpochSource, SegmentId};
use crate::lane::{CommitLane, UpkeepLane, write_all};
use crate::limits::{
    BLOCK_BYTES, FIRST_SEGMENT_BYTES_MAX, LogOptions, OptionsError, SEGMENT_HEADER_BYTES,
    SPARES_MAX, segment_bytes_min,
};
use crate::log::{Log, LogStart, seal_segment};
use crate::lsn::Lsn;
use crate::recover::{ReadSegment, Replayed};
use crate::retire::SegmentSpan;
use crate::scan::Window;
use crate::segment::SegmentHeader;
use crate::storage::{FileName, Storage};

/// Numbers of files from this one on are no log's: counting up would end.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// How a log starts.
#[derive(Clone, Copy, Debug)]
pub struct StartOptions {
    /// Sizes of groups and segments.
    pub log: LogOptions,
    /// Fresh random bytes; the same ones twice would give two segments the same key.
    pub seed: [u8; 32],
    /// The first new record gets at least this number. `Lsn::NONE` to go on where the log ends.
    pub lsn_first_min: Lsn,
}

/// A log and the lanes that perform its I/O.
#[derive(Debug)]
pub struct Started<S: Storage> {
    /// The log, ready to append.
    pub log: Log,
    /// Performs its commit requests.
    pub commit: CommitLane<S>,
    /// Performs its upkeep requests.
    pub upkeep: UpkeepLane<S>,
}

/// Why a log that was read cannot be made writable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Ask for other sizes.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A step failed: mend its cause and open again. The log is as readable as before.
    #[error("the log cannot be made writable: {0}")]
    Io(#[source] IoFault),
    /// The number of the last segment is so high that no log came there by counting.
    #[error(
        "log segment {segment} has a number that no log comes to, so none can follow it; restore \
         the log from a backup, or salvage the store"
    )]
    Number {
        /// The segment.
        segment: u64,
    },
}

impl From<IoFault> for StartError {
    fn from(fault: IoFault) -> Self {
        Self::Io(fault)
    }
}

impl Replayed {
    /// Opens a new segment behind what was read, and seals the old ones.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    ///
    /// # Panics
    ///
    /// Never for what a disk holds; assertions guard the bookkeeping.
    pub async fn start<S: Storage>(
        self,
        storage: &S,
        options: StartOptions,
    ) -> Result<Started<S>, StartError> {
        options.log.check()?;
        let last = self.segments.last().map_or(0, |segment| segment.header.id.seq);
        if last >= NUMBER_MAX {
            return Err(StartError::Number { segment: last });
        }
        let mut upkeep = UpkeepLane::new(storage.clone());
        let mut commit = CommitLane::new(storage.clone());
        self.settle(storage).await?;
        let (mut spares, number) = self.clear(storage, options.log).await?;

        let (first, bytes) = match spares.pop_front() {
            Some(spare) => (FileName::Spare(spare), options.log.segment_bytes),
            None => prepare_first(&mut upkeep, number, options.log).await?,
        };
        let epochs = EpochSource::new(options.seed);
        let header = self.next_header(&epochs, bytes, options.lsn_first_min);
        let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES);
        let chain = header.encode(&mut block);
        commit.activate(first, header.id.seq, &block).await?;

        let mut segments = VecDeque::with_capacity(self.segments.len() + 1);
        for segment in &self.segments {
            segments.push_back(seal(storage, &upkeep, segment).await?);
        }
        segments.push_back(SegmentSpan { seq: header.id.seq, prev_last: header.prev_last, bytes });
        assert_eq!(segments.len(), self.segments.len() + 1, "every segment is kept in view");
        assert!(header.prev_last >= self.report.last, "nothing that was read is given up");
        let log = Log::start(LogStart {
            identity: self.identity,
            options: options.log,
            epochs,
            key: header.key(),
            chain,
            lsn_first: header.lsn_first,
            segments,
            spares,
            number: number + 1,
        });
        Ok(Started { log, commit, upkeep })
    }

    /// Removes the whole log, oldest segment first; for a log whose records are all safe
    /// elsewhere and whose shard no longer exists.
    ///
    /// # Errors
    ///
    /// The fault of the step that failed; what is left is a log without its beginning.
    pub async fn discard<S: Storage>(self, storage: &S) -> Result<(), IoFault> {
        let lane = UpkeepLane::new(storage.clone());
        for file in self.spares.iter().chain(&self.temps) {
            lane.delete(file.name).await?;
        }
        for segment in &self.segments {
            lane.delete(FileName::Segment(segment.header.id.seq)).await?;
        }
        Ok(())
    }

    /// Makes what was read durable: it may still lie in a cache, and nothing must say that it is
    /// safe before it is. Starting the log does so by itself. The last frame, the only one that no
    /// later frame vouches for, is written once more, whatever its kind: if the sync after its
    /// first write failed, the system may hold it for clean.
    ///
    /// # Errors
    ///
    /// The fault of the step that failed.
    pub async fn settle<S: Storage>(&self, storage: &S) -> Result<(), IoFault> {
        let Some(segment) = self.segments.last() else { return Ok(()) };
        let name = FileName::Segment(segment.header.id.seq);
        let fault = |step| move |cause| IoFault::new(step, name, &cause);
        let mut file = storage.open(name).await.map_err(fault(Step::Open))?;
        if let Some(last) = segment.last {
            let mut window = Window::new(storage, file, segment.file_bytes);
            let seen = window.view(last.offset, last.bytes).await.map_err(fault(Step::Read))?;
            let key = segment.header.key();
            let same = seen.len() == last.bytes
                && read_header(&key, seen).is_ok_and(|header| {
                    Some(header.chain) == segment.end.map(|end| end.chain)
                        && header.verify_payload(&key, seen).is_ok()
                });
            if !same {
                let cause = io::Error::new(io::ErrorKind::InvalidData, "it reads differently now");
                return Err(fault(Step::Read)(cause));
            }
            let mut frame = AlignedBuf::zeroed(last.bytes);
            frame.copy_from_slice(seen);
            file = window.into_file();
            let written = write_all(storage, &file, last.offset, &frame).await;
            written.map_err(fault(Step::WriteFrame))?;
        }
        storage.sync(&file).await.map_err(fault(Step::Sync))?;
        storage.sync_dir().await.map_err(fault(Step::SyncDirectory))
    }

    /// Removes what a crash left half-made, and spares of another size. Gives the usable spares
    /// and a number above every other.
    async fn clear<S: Storage>(
        &self,
        storage: &S,
        options: LogOptions,
    ) -> Result<(VecDeque<u64>, u64), IoFault> {
        let (mut spares, mut next) = (VecDeque::new(), 1);
        for file in self.spares.iter().chain(&self.temps) {
            let (number, is_spare) = match file.name {
                FileName::Spare(number) => (number, true),
                FileName::Temp(number) | FileName::Segment(number) => (number, false),
            };
            if number < NUMBER_MAX {
                next = next.max(number + 1);
            }
            let usable = is_spare && file.bytes == options.segment_bytes && number < NUMBER_MAX;
            if usable && spares.len() <= SPARES_MAX {
                spares.push_back(number);
            } else {
                match storage.remove(file.name).await {
                    // A storage that was opened after the reading may have tidied up itself.
                    Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                        return Err(IoFault::new(Step::Remove, file.name, &cause));
                    }
                    _ => {}
                }
            }
        }
        Ok((spares, next))
    }

    fn next_header(&self, epochs: &EpochSource, bytes: u64, lsn_first_min: Lsn) -> SegmentHeader {
        let (seq, prev_last, prev) =
            self.segments.last().map_or((1, Lsn::NONE, ChainHash::START), |last| {
                let end = last.end.expect("the last segment is never skipped");
                (last.header.id.seq + 1, end.lsn.previous(), end.chain)
            });
        SegmentHeader {
            id: SegmentId { log: self.identity, seq, epoch: epochs.epoch(&self.identity, seq) },
            lsn_first: prev_last.next().max(lsn_first_min),
            bytes,
            prev_last,
            prev,
        }
    }
}

/// Makes the first file, zeroed; a short one, for whoever opens the log waits for it. On a nearly
/// full disk a shorter one yet: a store must be able to open so that a checkpoint can free what the
/// log holds.
async fn prepare_first<S: Storage>(
    lane: &mut UpkeepLane<S>,
    number: u64,
    options: LogOptions,
) -> Result<(FileName, u64), IoFault> {
    let least = segment_bytes_min(options.group_bytes);
    let mut bytes = options.segment_bytes.min(FIRST_SEGMENT_BYTES_MAX);
    loop {
        match lane.prepare(number, bytes).await {
            Ok(()) => break,
            Err(fault) if fault.is_out_of_space() && bytes > least => {
                let half = (bytes / 2).next_multiple_of(BLOCK_BYTES as u64);
                bytes = half.max(least);
            }
            Err(fault) => return Err(fault),
        }
    }
    let name = FileName::Temp(number);
    lane.zero_all(name, bytes).await?;
    Ok((name, bytes))
}

/// Seals a segment of an earlier opening and cuts off what lies behind the seal.
async fn seal<S: Storage>(
    storage: &S,
    lane: &UpkeepLane<S>,
    segment: &ReadSegment,
) -> Result<SegmentSpan, IoFault> {
    let header = &segment.header;
    let seq = header.id.seq;
    let mut span = SegmentSpan { seq, prev_last: header.prev_last, bytes: segment.file_bytes };
    let Some(end) = segment.end.filter(|_| !segment.sealed) else { return Ok(span) };
    let mut frame = AlignedBuf::zeroed(BLOCK_BYTES);
    seal_segment(&header.key(), end.chain, end.lsn.previous(), &mut frame);
    match lane.seal(seq, end.offset, &frame).await {
        Ok(()) => {}
        // One block more than there is room for: it stays unsealed until the next opening.
        Err(fault) if fault.is_out_of_space() => return Ok(span),
        Err(fault) => return Err(fault),
    }
    let name = FileName::Segment(seq);
    let fault = |step| move |cause| IoFault::new(step, name, &cause);
    span.bytes = end.offset + BLOCK_BYTES as u64;
    let file = storage.open(name).await.map_err(fault(Step::Open))?;
    storage.set_len(&file, span.bytes).await.map_err(fault(Step::Truncate))?;
    storage.sync(&file).await.map_err(fault(Step::Sync))?;
    Ok(span)
}
