//! The upkeep lane of the log: seals, spares made ahead, segments retired.
//!
//! Promises: a next segment is ready before the active one is full, as long as there is space,
//! and zeroed once half of that one is, as far as time allowed; nobody waits for zeroes. A segment
//! retires only after the note of the checkpoint that covers it is durable.
//! Invariants: one request out at a time, so segments leave in order, each durably.
//! Fails by: poison, except where only the future is at stake: a file that cannot be made is
//! remembered (`space_fault`) and tried again when the driver says so.
//! Not here: the active segment (`commit`), performing (`lane`).
//! Source: see `retire`.

use super::commit::Commit;
use super::{Closing, Log};
use crate::aligned::AlignedBuf;
use crate::fault::IoFault;
use crate::io::{UpkeepDone, UpkeepIo};
use crate::limits::{BLOCK_BYTES, SPARES_MAX, ZERO_CHUNK_BYTES, ZERO_CHUNK_BYTES_MIN, index};
use crate::retire::{self, Retire};
use crate::storage::FileName;

/// What the upkeep lane is doing.
#[derive(Debug)]
pub(super) enum Upkeep {
    Idle,
    Sealing,
    Preparing { number: u64 },
    Zeroing { bytes: u64 },
    Recycling { number: u64 },
    DeletingSegment,
    DeletingSpare,
}

/// A seal that waits to be written.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) frame: AlignedBuf,
}

/// A file that can become a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) name: FileName,
    /// Written to before, up to here. It can be used at any time, and is faster when all of it
    /// was: that matters only while nobody waits for it.
    pub(super) zeroed: u64,
}

impl Spare {
    /// A file that was a segment before: all of it was written to.
    pub(super) const fn recycled(number: u64) -> Self {
        Self { name: FileName::Spare(number), zeroed: u64::MAX }
    }
}

impl Log {
    /// The next step of upkeep, `None` while one is out or nothing is to be done. Ask again
    /// after every append, every answer of either lane, [`Log::rest`] and [`Log::retry_space`].
    #[must_use]
    pub fn next_upkeep(&mut self) -> Option<UpkeepIo> {
        let idle = matches!(self.upkeep, Upkeep::Idle);
        if !idle || self.poison.is_some() {
            return None;
        }
        if let Some(Seal { segment, offset, frame }) = self.seals.pop_front() {
            self.upkeep = Upkeep::Sealing;
            return Some(UpkeepIo::Seal { segment, offset, frame });
        }
        self.next_retired()
            .or_else(|| self.next_leftover())
            .or_else(|| self.next_spare())
            .or_else(|| self.next_zeroes())
    }

    /// Takes the answer to the upkeep request that is out.
    ///
    /// # Panics
    ///
    /// When no request is out: the driver is broken.
    pub fn upkeep_done(&mut self, done: UpkeepDone) {
        let upkeep = std::mem::replace(&mut self.upkeep, Upkeep::Idle);
        match done {
            Ok(()) => self.upkeep_succeeded(&upkeep),
            Err(fault) => self.upkeep_failed(&upkeep, fault),
        }
        self.assert_consistent();
    }

    fn upkeep_succeeded(&mut self, upkeep: &Upkeep) {
        match *upkeep {
            Upkeep::Idle => panic!("no upkeep request is out"),
            Upkeep::Sealing | Upkeep::DeletingSpare => {}
            Upkeep::Preparing { number } => {
                self.spares.push_back(Spare { name: FileName::Temp(number), zeroed: 0 });
            }
            Upkeep::Zeroing { bytes } => self.zeroed_more(bytes),
            Upkeep::Recycling { number } => {
                self.spares.push_back(Spare::recycled(number));
                self.oldest_retired();
            }
            Upkeep::DeletingSegment => self.oldest_retired(),
        }
    }

    fn upkeep_failed(&mut self, upkeep: &Upkeep, fault: IoFault) {
        match upkeep {
            Upkeep::Idle => panic!("no upkeep request is out"),
            // Nothing that was acknowledged depends on a file that is not there yet.
            Upkeep::Preparing { .. } => self.starve(fault),
            // The file can be used as it is; if the device is ill, the first frame will tell.
            Upkeep::Zeroing { .. } => self.zeroed_more(u64::MAX),
            Upkeep::Recycling { .. } if fault.is_out_of_space() => self.recycle_refused = true,
            _ => self.poison_by(fault),
        }
    }

    fn zeroed_more(&mut self, bytes: u64) {
        let spare = self.spares.front_mut().expect("nobody takes a file that is being zeroed");
        spare.zeroed = spare.zeroed.saturating_add(bytes);
    }

    /// Whether the next file is being written to by this lane.
    pub(super) const fn is_zeroing(&self) -> bool {
        matches!(self.upkeep, Upkeep::Zeroing { .. })
    }

    fn oldest_retired(&mut self) {
        self.segments.pop_front();
        assert!(!self.segments.is_empty(), "the active segment stays");
        self.stats.retired += 1;
        self.starved = None;
    }

    fn next_retired(&mut self) -> Option<UpkeepIo> {
        let wanted = self.spares.len() < SPARES_MAX && !self.recycle_refused;
        let kept = self.segment_bytes() + self.spares.len() as u64 * self.options.segment_bytes;
        let wanted = wanted && self.closing == Closing::No && kept <= self.options.log_bytes_max;
        let spare_bytes = wanted.then_some(self.options.segment_bytes);
        match retire::oldest(&self.segments, self.covered, spare_bytes) {
            Retire::Keep => None,
            Retire::Recycle { seq } => {
                let number = self.take_number();
                self.upkeep = Upkeep::Recycling { number };
                Some(UpkeepIo::Recycle { segment: seq, spare: number })
            }
            Retire::Delete { seq } => {
                self.upkeep = Upkeep::DeletingSegment;
                Some(UpkeepIo::Delete { name: FileName::Segment(seq) })
            }
        }
    }

    /// A closed log keeps no spares: at rest every byte of its files is under a hash.
    fn next_leftover(&mut self) -> Option<UpkeepIo> {
        if self.closing != Closing::Trimmed {
            return None;
        }
        let spare = self.spares.pop_front()?;
        self.upkeep = Upkeep::DeletingSpare;
        Some(UpkeepIo::Delete { name: spare.name })
    }

    fn next_spare(&mut self) -> Option<UpkeepIo> {
        let needed = self.closing == Closing::No || self.is_blocked();
        // A log that ends may go beyond its limit: nothing would retire any more.
        let limited = self.closing == Closing::No && self.is_at_limit();
        if !needed || !self.spares.is_empty() || self.starved.is_some() || limited {
            return None;
        }
        let number = self.take_number();
        self.upkeep = Upkeep::Preparing { number };
        Some(UpkeepIo::Prepare { number, bytes: self.options.segment_bytes })
    }

    /// Whether one segment more would be more than the log may take.
    pub(super) fn is_at_limit(&self) -> bool {
        let one_more = self.segment_bytes().saturating_add(self.options.segment_bytes);
        one_more > self.options.log_bytes_max
    }

    fn segment_bytes(&self) -> u64 {
        self.segments.iter().map(|span| span.bytes).sum()
    }

    /// A little more of the next file is zeroed, as long as nobody waits for it: as the active one
    /// fills, so that commits meet few zeroes on the device, or all of it while the log rests.
    fn next_zeroes(&mut self) -> Option<UpkeepIo> {
        let Spare { name, zeroed } = *self.spares.front()?;
        let left = self.options.segment_bytes.saturating_sub(zeroed);
        let waits = self.is_blocked() || matches!(self.commit, Commit::Activating(_));
        if left == 0 || self.closing != Closing::No || waits {
            return None;
        }
        let due = if self.rested == self.appended {
            left
        } else {
            self.zeroes_due().saturating_sub(zeroed)
        };
        if due == 0 {
            return None;
        }
        let chunk = due.clamp(ZERO_CHUNK_BYTES_MIN as u64, ZERO_CHUNK_BYTES as u64);
        // The clamp's ends and the segment are whole blocks; what lies between need not be.
        let bytes = left.min(chunk.next_multiple_of(BLOCK_BYTES as u64));
        self.upkeep = Upkeep::Zeroing { bytes };
        Some(UpkeepIo::Zero { name, offset: zeroed, bytes: index(bytes) })
    }

    /// Bytes of the next file that are to be zeroed by now: all of them once half of the active
    /// segment is full.
    fn zeroes_due(&self) -> u64 {
        let due = 2 * self.active.offset * self.options.segment_bytes / self.active.bytes;
        due.min(self.options.segment_bytes)
    }

    fn take_number(&mut self) -> u64 {
        let number = self.number;
        self.number += 1;
        number
    }
}
