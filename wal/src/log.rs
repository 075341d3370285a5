//! The log's state machine: takes batches, says which I/O to do next, learns how it went.
//!
//! Promises: see [`Log`].
//! Invariants: `durable <= written <= appended`; one commit request out at a time, so a frame is
//! written only when every frame before it is durable; a poisoned log asks for nothing more.
//! Fails by: `AppendError` to the appender; faults that nobody caused by asking (a failed write)
//! latch as poison, and running out of space shows as back-pressure.
//! Not here: any clock, file, thread or executor. The two halves of the machine are `commit`
//! (towards durability) and `upkeep` (files ready ahead, old files gone).
//! Source: one write in flight and everything that arrived meanwhile in the next, as in
//! `TigerBeetle`; fail-stop after a failed sync as in `PostgreSQL` 11.2.

use std::collections::VecDeque;
use std::io;

use thiserror::Error;

use crate::aligned::AlignedBuf;
use crate::fault::{IoFault, Step};
use crate::group::{Group, batch_bytes_max};
use crate::key::{ChainHash, EpochSource, FrameKey, LogIdentity};
use crate::limits::{BLOCK_BYTES, LogOptions, SEGMENT_HEADER_BYTES, SPARES_MAX};
use crate::lsn::Lsn;
use crate::note::CheckpointNote;
use crate::retire::{Covered, SegmentSpan};
use crate::writer::{AppendError, Pressure, WalWriter, Watermarks};

mod commit;
#[cfg(test)]
mod tests;
mod upkeep;

use commit::Commit;
pub(crate) use commit::seal_segment;
use upkeep::{Seal, Spare, Upkeep};

/// One shard's log, without any I/O.
///
/// A driver loops over four calls: [`next_commit`](Self::next_commit) and
/// [`next_upkeep`](Self::next_upkeep) say what to do, `CommitLane` and `UpkeepLane` do it,
/// [`commit_done`](Self::commit_done) and [`upkeep_done`](Self::upkeep_done) take the answers.
/// Between them the owner appends as it likes. What arrives while a group is being written is the
/// next group: at low load a batch is written at once, at high load groups grow by themselves.
///
/// * A record at or below `watermarks().written` survives the end of the process, one at or below
///   `durable` survives power loss, each with everything before it.
/// * After a failed write, a failed sync or a write that stays short the log is poisoned: it
///   never asks for I/O again, and the cause is in every later [`AppendError::Poisoned`].
/// * Without space for a next segment the log goes on in the one it has and the one made ahead,
///   then pushes back, and resumes by itself when space returns.
#[derive(Debug)]
pub struct Log {
    identity: LogIdentity,
    options: LogOptions,
    epochs: EpochSource,

    open: Group,
    /// The second buffer; absent while a write is out.
    free: Option<AlignedBuf>,
    active: Active,
    commit: Commit,
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    /// The durable watermark that the last frame on disk carries.
    told: Lsn,
    /// A completed write that no sync has covered yet.
    unsynced: bool,
    watermark_asked: bool,
    /// How far the log was durable when it last rested.
    rested: Lsn,
    /// To be written.
    note: Option<CheckpointNote>,
    /// Written, to be synced.
    noted: Option<CheckpointNote>,
    closing: Closing,

    /// Oldest to active.
    segments: VecDeque<SegmentSpan>,
    seals: VecDeque<Seal>,
    /// By a checkpoint whose note is durable.
    covered: Covered,
    /// Files ready to become segments.
    spares: VecDeque<Spare>,
    /// Above the number of every spare.
    number: u64,
    upkeep: Upkeep,
    /// Why there is no next segment yet; cleared by [`Log::retry_space`].
    starved: Option<IoFault>,
    /// Renaming a retired segment failed for want of space: delete instead.
    recycle_refused: bool,

    poison: Option<IoFault>,
    stats: LogStats,
}

/// The segment that frames go to.
#[derive(Debug)]
struct Active {
    seq: u64,
    key: FrameKey,
    bytes: u64,
    /// Where the next frame goes.
    offset: u64,
    /// Written to before it was active or since, by zeroes, up to here.
    zeroed: u64,
    /// What the next frame links to.
    chain: ChainHash,
}

/// How far closing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Not asked for.
    No,
    /// Asked for; what is in memory goes out first.
    Asked,
    /// The shutdown frame is written.
    Said,
    /// The file is cut; only spares are left to remove.
    Trimmed,
}

/// What a log has done since it was opened; plain counters for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Groups of records written.
    pub groups: u64,
    /// Frames of every kind written.
    pub frames: u64,
    /// Bytes of frames written, padding included.
    pub frame_bytes: u64,
    /// Successful syncs.
    pub syncs: u64,
    /// Segments filled and left.
    pub rotations: u64,
    /// Writes that came back short and were continued.
    pub short_writes: u64,
    /// Times a next segment could not be made.
    pub space_faults: u64,
    /// Segments retired, recycled or deleted.
    pub retired: u64,
}

/// What recovery hands over to a log that starts.
#[derive(Debug)]
pub(crate) struct LogStart {
    pub(crate) identity: LogIdentity,
    pub(crate) options: LogOptions,
    pub(crate) epochs: EpochSource,
    /// The new, empty, active segment's key and the link of its header.
    pub(crate) key: FrameKey,
    pub(crate) chain: ChainHash,
    /// Number of the first record to come.
    pub(crate) lsn_first: Lsn,
    /// Oldest to active; never empty.
    pub(crate) segments: VecDeque<SegmentSpan>,
    /// Recycled files, by number.
    pub(crate) spares: VecDeque<u64>,
    /// Above every number in use.
    pub(crate) number: u64,
}

impl Log {
    /// A log whose active segment is empty, durable, and was written to before, all of it.
    pub(crate) fn start(start: LogStart) -> Self {
        let last = start.lsn_first.previous();
        let active = start.segments.back().expect("a log has an active segment");
        let group_bytes = start.options.group_bytes;
        let open = Group::new(AlignedBuf::zeroed(group_bytes), start.lsn_first, &start.key);
        let log = Self {
            active: Active {
                seq: active.seq,
                key: start.key,
                bytes: active.bytes,
                offset: SEGMENT_HEADER_BYTES as u64,
                zeroed: u64::MAX,
                chain: start.chain,
            },
            identity: start.identity,
            options: start.options,
            epochs: start.epochs,
            open,
            free: Some(AlignedBuf::zeroed(group_bytes)),
            commit: Commit::Idle,
            appended: last,
            written: last,
            durable: last,
            told: last,
            unsynced: false,
            watermark_asked: false,
            rested: last,
            note: None,
            noted: None,
            closing: Closing::No,
            segments: start.segments,
            seals: VecDeque::new(),
            covered: Covered::default(),
            spares: start.spares.into_iter().map(Spare::recycled).collect(),
            number: start.number,
            upkeep: Upkeep::Idle,
            starved: None,
            recycle_refused: false,
            poison: None,
            stats: LogStats::default(),
        };
        log.assert_consistent();
        log
    }

    /// Says that nothing was appended for a while (`limits::IDLE_WATERMARK_US`): a watermark
    /// frame then vouches for the last group, so that damage to it cannot pass for a torn tail, and
    /// the next segment is zeroed to its end.
    pub fn rest(&mut self) {
        self.watermark_asked = self.told < self.durable;
        self.rested = self.durable;
    }

    /// Whether it was told so since anything became durable.
    #[must_use]
    pub fn has_rested(&self) -> bool {
        self.rested == self.durable
    }

    /// Says that space may have returned; call it every `limits::SPACE_RETRY_MS` while
    /// [`space_fault`](Self::space_fault) is set.
    pub fn retry_space(&mut self) {
        self.starved = None;
    }

    /// Asks for an orderly end: what is in memory goes out, then a shutdown frame, then spares
    /// go. The driver goes on as before until [`is_closed`](Self::is_closed), or gives up.
    pub fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Asked;
        }
    }

    /// Whether everything is written, synced, cut to length and cleaned up.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let quiet = matches!(self.commit, Commit::Idle) && matches!(self.upkeep, Upkeep::Idle);
        let clean = self.seals.is_empty() && self.spares.is_empty();
        quiet && clean && self.closing == Closing::Trimmed && self.poison.is_none()
    }

    /// What failed, when the log is poisoned.
    #[must_use]
    pub const fn poison(&self) -> Option<&IoFault> {
        self.poison.as_ref()
    }

    /// Why the next segment could not be made, while that is so. The log still works on what it
    /// has; when that is full it pushes back.
    #[must_use]
    pub const fn space_fault(&self) -> Option<&IoFault> {
        self.starved.as_ref()
    }

    /// Counters since opening.
    #[must_use]
    pub const fn stats(&self) -> LogStats {
        self.stats
    }

    /// The segments that exist, oldest to active.
    #[must_use]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = &SegmentSpan> {
        self.segments.iter()
    }

    /// Which log this is.
    #[must_use]
    pub const fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn starve(&mut self, fault: IoFault) {
        self.stats.space_faults += 1;
        self.starved = Some(fault);
    }

    /// Says that nobody performs requests any more: what became of the ones that are out will
    /// never be known.
    pub fn driver_lost(&mut self) {
        let cause = io::Error::other("the log's I/O has no driver any more");
        self.poison_by(IoFault::directory(Step::Drive, &cause));
    }

    /// What holds between any two requests; asserted after every answer.
    fn assert_consistent(&self) {
        assert!(self.durable <= self.written, "nothing is durable before it is written");
        assert!(self.written <= self.appended, "nothing is written before it is appended");
        assert!(self.told <= self.durable, "no frame says more than was true");
        assert!(self.unsynced || self.written == self.durable, "a write without a sync is known");
        assert!(self.covered.last <= self.durable, "a checkpoint covers durable records only");
        assert!(self.covered.noted_in <= self.active.seq, "its note is in the log");
        let offset = self.active.offset;
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "frames fill their blocks");
        let seal_fits = offset + BLOCK_BYTES as u64 <= self.active.bytes;
        assert!(seal_fits, "a block stays free for the seal");
        let last = self.segments.back().map(|span| span.seq);
        assert_eq!(last, Some(self.active.seq), "the active segment is the last one");
        let first = self.segments.front().map_or(0, |span| span.seq);
        assert!(self.covered.noted_in == 0 || first <= self.covered.noted_in, "the note stays");
        assert!(self.spares.len() <= SPARES_MAX + 1, "no more files are kept than planned");
    }

    /// Latches the first fault; a later one is only its consequence.
    fn poison_by(&mut self, fault: IoFault) {
        self.poison.get_or_insert(fault);
    }
}

impl WalWriter for Log {
    fn append(&mut self, records: &[u8], count: u32) -> Result<Lsn, AppendError> {
        assert!(count > 0, "a batch holds at least one record");
        if let Some(fault) = &self.poison {
            return Err(AppendError::Poisoned(fault.clone()));
        }
        if self.closing != Closing::No {
            return Err(AppendError::Closing);
        }
        let most = batch_bytes_max(self.options.group_bytes);
        if records.len() > most {
            return Err(AppendError::TooLarge { asked: records.len(), most });
        }
        if !self.open.fits(records, count) {
            return Err(AppendError::BackPressure(Pressure::Device));
        }
        if records.len() > self.room() {
            let at_limit = self.starved.is_none() && self.is_at_limit();
            let pressure = if at_limit { Pressure::Limit } else { Pressure::Space };
            return Err(AppendError::BackPressure(pressure));
        }
        let first = self.open.push(records, count);
        assert_eq!(first, self.appended.next(), "numbers follow each other");
        self.appended = self.open.last();
        Ok(first)
    }

    fn watermarks(&self) -> Watermarks {
        assert!(self.durable <= self.written && self.written <= self.appended);
        Watermarks {
            appended: self.appended,
            written: Some(self.written),
            durable: Some(self.durable),
        }
    }

    fn room(&self) -> usize {
        if self.poison.is_some() || self.closing != Closing::No {
            0
        } else if self.spares.is_empty() {
            // Without a next segment only what this one holds: what is taken can be made durable,
            // also on a full disk, and so a checkpoint can cover it and let the log shrink.
            self.open.room_within(self.active_room())
        } else {
            self.open.room()
        }
    }

    /// Once the note is durable too, the segments it covers retire. Note the restored checkpoint
    /// again after opening: a log does not rely on notes of an earlier life, so until then nothing
    /// retires.
    fn note_checkpoint(&mut self, note: CheckpointNote) -> Result<(), NoteError> {
        if let Some(fault) = &self.poison {
            return Err(NoteError::Poisoned(fault.clone()));
        }
        if self.closing != Closing::No {
            return Err(NoteError::Closing);
        }
        if note.covered > self.durable {
            return Err(NoteError::NotDurable { covered: note.covered, durable: self.durable });
        }
        self.note = Some(note);
        Ok(())
    }

    fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|span| span.bytes).sum()
    }

    fn written_bytes(&self) -> u64 {
        self.stats.frame_bytes
    }
}

/// Why a checkpoint was not noted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoteError {
    /// The checkpoint holds records the log could still lose: wait for them, then note it.
    #[error("a checkpoint up to record {covered} cannot be noted: the log is durable to {durable}")]
    NotDurable {
        /// What the checkpoint covers.
        covered: Lsn,
        /// What the log holds durably.
        durable: Lsn,
    },
    /// The log was told to close.
    #[error("the log is closing and takes no more notes")]
    Closing,
    /// The log is poisoned: reopen the store.
    #[error("the log is poisoned, reopen the store to recover: {0}")]
    Poisoned(#[source] IoFault),
}
