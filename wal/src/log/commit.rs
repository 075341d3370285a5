//! The commit lane of the log: write, sync, next segment, end.
//!
//! Promises: acknowledgements in log order, because one frame is out at a time and each is
//! synced before the next is written; a rotation happens only when everything is durable.
//! Invariants: every frame leaves one block behind it for the segment's seal. Zeroes go only where
//! no frame is.
//! Fails by: poison on any fault, save for running out of space before the next segment has its
//! name: then nothing is lost, and it is tried again.
//! Not here: preparing and retiring files (`upkeep`), performing (`lane`).
//! Source: see `log`.

use std::io;

use super::{Active, Closing, Log, Seal, Spare};
use crate::aligned::AlignedBuf;
use crate::fault::{IoFault, Step};
use crate::frame::{FrameFields, FrameKind, seal_frame};
use crate::group::Group;
use crate::io::{CommitDone, CommitIo};
use crate::key::{ChainHash, FrameKey, SegmentId};
use crate::limits::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, NOTE_RESERVE_BYTES, SEGMENT_HEADER_BYTES, SHORT_WRITES_MAX,
    ZERO_CHUNK_BYTES_MIN, ZEROED_BEFORE_BYTES_MAX, index,
};
use crate::lsn::Lsn;
use crate::note::{CheckpointNote, NOTE_BYTES};
use crate::retire::{Covered, SegmentSpan};
use crate::segment::SegmentHeader;
use crate::storage::FileName;

/// What the commit lane is doing.
#[derive(Debug)]
pub(super) enum Commit {
    Idle,
    /// A write is out.
    Writing(Flight),
    /// A write came back short; its rest goes next.
    Short(Flight, AlignedBuf),
    Syncing,
    /// Zeroes are out, which end here.
    Zeroing {
        to: u64,
    },
    Activating(Next),
    Trimming,
}

/// A frame on its way to the disk.
#[derive(Debug)]
pub(super) struct Flight {
    kind: FrameKind,
    frame_bytes: usize,
    done_bytes: usize,
    shorts: u32,
    chain: ChainHash,
    last: Lsn,
    durable: Lsn,
    note: Option<CheckpointNote>,
}

/// The segment that is about to be active.
#[derive(Debug)]
pub(super) struct Next {
    spare: Spare,
    active: Active,
}

impl Log {
    /// The next step towards durability, `None` while one is out or nothing is to be done.
    /// Ask again after every append and every answer, of either lane.
    #[must_use]
    pub fn next_commit(&mut self) -> Option<CommitIo> {
        if self.poison.is_some() {
            return None;
        }
        match std::mem::replace(&mut self.commit, Commit::Idle) {
            Commit::Idle => self.next_of_idle(),
            Commit::Short(flight, buffer) => Some(self.send(flight, buffer)),
            busy => {
                self.commit = busy;
                None
            }
        }
    }

    /// Takes the answer to the commit request that is out.
    ///
    /// # Panics
    ///
    /// When no request of that kind is out: the driver is broken.
    pub fn commit_done(&mut self, done: CommitDone) {
        match (std::mem::replace(&mut self.commit, Commit::Idle), done) {
            (Commit::Writing(flight), CommitDone::Write { buffer, result }) => {
                self.write_done(flight, buffer, result);
            }
            (Commit::Syncing, CommitDone::Sync(result)) => self.sync_done(result),
            // It can be used as it is; if the device is ill, the next frame will tell.
            (Commit::Zeroing { to }, CommitDone::Zero(result)) => {
                self.active.zeroed = if result.is_ok() { to } else { u64::MAX };
            }
            (Commit::Activating(next), CommitDone::Activate(result)) => {
                self.activate_done(next, result);
            }
            (Commit::Trimming, CommitDone::Trim(result)) => match result {
                Ok(()) => self.closing = Closing::Trimmed,
                Err(fault) => self.poison_by(fault),
            },
            (commit, done) => panic!("{done:?} answers no request, {commit:?} is out"),
        }
        self.assert_consistent();
    }

    fn next_of_idle(&mut self) -> Option<CommitIo> {
        let segment = self.active.seq;
        if self.unsynced {
            self.commit = Commit::Syncing;
            return Some(CommitIo::Sync { segment });
        }
        if self.closing == Closing::Said {
            self.commit = Commit::Trimming;
            return Some(CommitIo::Trim { segment, bytes: self.active.offset });
        }
        let kind = self.wanted()?;
        if !self.has_room(kind) {
            return self.rotate();
        }
        if let Some(zeroes) = self.zeroes_before(kind) {
            return Some(zeroes);
        }
        let (flight, buffer) = match kind {
            FrameKind::Records => self.take_group(),
            _ => self.build_control(kind),
        };
        Some(self.send(flight, buffer))
    }

    /// The frame that should go out now.
    fn wanted(&self) -> Option<FrameKind> {
        assert_eq!(self.written, self.durable, "asked only when nothing waits for a sync");
        if self.closing == Closing::Trimmed {
            None
        } else if self.note.is_some() {
            Some(FrameKind::Checkpoint)
        } else if !self.open.is_empty() {
            Some(FrameKind::Records)
        } else if self.closing == Closing::Asked {
            Some(FrameKind::Shutdown)
        } else {
            self.watermark_asked.then_some(FrameKind::Watermark)
        }
    }

    /// Zeroes that go before a short frame, from where it would be the first to write: such a write
    /// changes the file's extents, and the sync behind it pays for that. Many blocks at once take
    /// little longer than one.
    fn zeroes_before(&mut self, kind: FrameKind) -> Option<CommitIo> {
        let Active { seq: segment, bytes, offset, zeroed, .. } = self.active;
        let frame_bytes = self.frame_bytes(kind);
        if offset + frame_bytes as u64 <= zeroed || frame_bytes > ZEROED_BEFORE_BYTES_MAX {
            return None;
        }
        let from = offset.max(zeroed);
        let to = bytes.min(from + ZERO_CHUNK_BYTES_MIN as u64);
        self.commit = Commit::Zeroing { to };
        Some(CommitIo::Zero { segment, offset: from, bytes: index(to - from) })
    }

    fn frame_bytes(&self, kind: FrameKind) -> usize {
        if kind == FrameKind::Records { self.open.frame_bytes() } else { BLOCK_BYTES }
    }

    /// Whether the frame fits the active segment and leaves a block for the seal, and one for the
    /// note of a checkpoint unless it is what ends a log or lets it shrink.
    fn has_room(&self, kind: FrameKind) -> bool {
        let note_bytes = match kind {
            FrameKind::Records | FrameKind::Watermark => NOTE_RESERVE_BYTES,
            _ => 0,
        };
        let needed = self.frame_bytes(kind) + note_bytes + BLOCK_BYTES;
        self.active.offset + needed as u64 <= self.active.bytes
    }

    /// Bytes of the largest frame of records that the active segment has room for, behind the one
    /// that is out.
    pub(super) fn active_room(&self) -> usize {
        let out = match &self.commit {
            Commit::Writing(flight) | Commit::Short(flight, _) => flight.frame_bytes,
            _ => 0,
        };
        let kept = out + NOTE_RESERVE_BYTES + BLOCK_BYTES;
        index(self.active.bytes - self.active.offset).saturating_sub(kept)
    }

    /// Whether the log waits for a next segment that is not there.
    pub(super) fn is_blocked(&self) -> bool {
        let idle = matches!(self.commit, Commit::Idle) && !self.unsynced;
        idle && self.wanted().is_some_and(|kind| !self.has_room(kind))
    }

    fn take_group(&mut self) -> (Flight, AlignedBuf) {
        let free = self.free.take().expect("the second buffer is free while no write is out");
        let next = Group::new(free, self.appended.next(), &self.active.key);
        let group = std::mem::replace(&mut self.open, next);
        // This frame vouches as well as a watermark would, and whoever appends does not rest.
        self.watermark_asked = false;
        let (frame_bytes, last) = (group.frame_bytes(), group.last());
        let (buffer, chain) = group.seal(&self.active.key, self.active.chain, self.durable);
        let flight = Flight {
            kind: FrameKind::Records,
            frame_bytes,
            done_bytes: 0,
            shorts: 0,
            chain,
            last,
            durable: self.durable,
            note: None,
        };
        (flight, buffer)
    }

    /// A frame without records: one block.
    fn build_control(&mut self, kind: FrameKind) -> (Flight, AlignedBuf) {
        let mut buffer = self.free.take().expect("the second buffer is free while no write is out");
        let note = if kind == FrameKind::Checkpoint { self.note.take() } else { None };
        if let Some(note) = note {
            note.encode(&mut buffer[FRAME_HEADER_BYTES..]);
        }
        let fields = FrameFields {
            kind,
            payload_bytes: if note.is_some() { NOTE_BYTES } else { 0 },
            lsn_first: self.written.next(),
            lsn_count: 0,
            durable: self.durable,
            prev: self.active.chain,
        };
        assert_eq!(fields.frame_bytes(), BLOCK_BYTES, "room was made for one block");
        let chain = seal_frame(&self.active.key, &fields, &mut buffer[..BLOCK_BYTES]);
        self.watermark_asked = false;
        let flight = Flight {
            kind,
            frame_bytes: BLOCK_BYTES,
            done_bytes: 0,
            shorts: 0,
            chain,
            last: self.written,
            durable: self.durable,
            note,
        };
        (flight, buffer)
    }

    fn send(&mut self, flight: Flight, buffer: AlignedBuf) -> CommitIo {
        let range = flight.done_bytes..flight.frame_bytes;
        let offset = self.active.offset + flight.done_bytes as u64;
        assert!(range.start.is_multiple_of(BLOCK_BYTES) && !range.is_empty());
        self.commit = Commit::Writing(flight);
        CommitIo::Write { segment: self.active.seq, offset, buffer, range }
    }

    fn write_done(
        &mut self,
        mut flight: Flight,
        buffer: AlignedBuf,
        result: Result<usize, IoFault>,
    ) {
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(fault) => return self.poison_by(fault),
        };
        let rest = flight.frame_bytes - flight.done_bytes;
        assert!(bytes <= rest, "a write cannot exceed its request");
        if bytes < rest {
            // Only whole blocks count: the next write must begin at one.
            let whole = bytes - bytes % BLOCK_BYTES;
            flight.done_bytes += whole;
            flight.shorts += 1;
            self.stats.short_writes += 1;
            if whole == 0 || flight.shorts > SHORT_WRITES_MAX {
                let cause = io::Error::new(io::ErrorKind::WriteZero, "the write stayed short");
                let file = FileName::Segment(self.active.seq);
                return self.poison_by(IoFault::new(Step::WriteFrame, file, &cause));
            }
            self.commit = Commit::Short(flight, buffer);
            return;
        }
        self.free = Some(buffer);
        self.frame_written(&flight);
    }

    fn frame_written(&mut self, flight: &Flight) {
        assert!(flight.last >= self.written, "the written watermark never goes back");
        self.active.offset += flight.frame_bytes as u64;
        self.active.chain = flight.chain;
        self.written = flight.last;
        self.told = flight.durable;
        self.unsynced = true;
        self.noted = flight.note.or(self.noted);
        self.stats.frames += 1;
        self.stats.frame_bytes += flight.frame_bytes as u64;
        match flight.kind {
            FrameKind::Records => self.stats.groups += 1,
            FrameKind::Shutdown => self.closing = Closing::Said,
            FrameKind::Checkpoint | FrameKind::Watermark | FrameKind::Seal => {}
        }
    }

    fn sync_done(&mut self, result: Result<(), IoFault>) {
        if let Err(fault) = result {
            // The system may have dropped what it could not write: a second sync that succeeds
            // would prove nothing.
            return self.poison_by(fault);
        }
        self.durable = self.written;
        self.unsynced = false;
        self.stats.syncs += 1;
        if let Some(note) = self.noted.take() {
            let last = self.covered.last.max(note.covered);
            self.covered = Covered { last, noted_in: self.active.seq };
        }
    }

    /// Goes on to the next segment, if one is ready.
    fn rotate(&mut self) -> Option<CommitIo> {
        if self.starved.is_some() || self.is_zeroing() {
            return None;
        }
        let spare = self.spares.pop_front()?;
        let seq = self.active.seq + 1;
        let id =
            SegmentId { log: self.identity, seq, epoch: self.epochs.epoch(&self.identity, seq) };
        let header = SegmentHeader {
            id,
            lsn_first: self.durable.next(),
            bytes: self.options.segment_bytes,
            prev_last: self.durable,
            prev: self.active.chain,
        };
        let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES);
        let chain = header.encode(&mut block);
        let active = Active {
            seq,
            key: header.key(),
            bytes: header.bytes,
            offset: SEGMENT_HEADER_BYTES as u64,
            zeroed: spare.zeroed,
            chain,
        };
        self.commit = Commit::Activating(Next { spare, active });
        Some(CommitIo::Activate { from: spare.name, segment: seq, header: block })
    }

    fn activate_done(&mut self, next: Next, result: Result<(), IoFault>) {
        match result {
            Ok(()) => {
                let span = SegmentSpan {
                    seq: next.active.seq,
                    prev_last: self.durable,
                    bytes: next.active.bytes,
                };
                self.segments.push_back(span);
                let left = std::mem::replace(&mut self.active, next.active);
                self.seals.push_back(seal_of(&left, self.durable));
                self.stats.rotations += 1;
            }
            // Until the rename the spare is a spare, and the active segment has all its frames.
            Err(fault) if fault.is_out_of_space() && fault.step != Step::SyncDirectory => {
                self.spares.push_front(next.spare);
                self.starve(fault);
            }
            Err(fault) => self.poison_by(fault),
        }
    }
}

/// The last frame of a full segment: it reaches to the end of the file, so that no byte of the
/// file is outside a hash.
fn seal_of(left: &Active, durable: Lsn) -> Seal {
    let mut frame = AlignedBuf::zeroed(index(left.bytes - left.offset));
    seal_segment(&left.key, left.chain, durable, &mut frame);
    Seal { segment: left.seq, offset: left.offset, frame }
}

/// Makes `frame`, which is as long as the seal shall be, the seal of a segment whose last frame
/// gave `chain`.
pub(crate) fn seal_segment(key: &FrameKey, chain: ChainHash, last: Lsn, frame: &mut [u8]) {
    assert!(frame.len() >= BLOCK_BYTES, "every frame left a block for the seal");
    let fields = FrameFields {
        kind: FrameKind::Seal,
        payload_bytes: frame.len() - FRAME_HEADER_BYTES,
        lsn_first: last.next(),
        lsn_count: 0,
        durable: last,
        prev: chain,
    };
    seal_frame(key, &fields, frame);
}
