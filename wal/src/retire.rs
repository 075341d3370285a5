//! Which segment a durable checkpoint has made needless.
//!
//! Promises: the segment named holds no record above the covered one and not the note that says
//! so; it is not the last.
//! Invariants: oldest first, one at a time, each made durable before the next: whatever a crash
//! leaves is a log without its beginning, never one with a hole.
//! Fails by: nothing; it is arithmetic.
//! Not here: renaming and deleting (`lane`), the order against the checkpoint (`log`).
//! Source: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014: names change in
//! any order until the directory is synced.

use std::collections::VecDeque;

use crate::lsn::Lsn;

/// One segment of the log, as far as retiring it is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its place in the log.
    pub seq: u64,
    /// Last record before it.
    pub prev_last: Lsn,
    /// Length of its file.
    pub bytes: u64,
}

/// How far a durable checkpoint reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Its last record.
    pub(crate) last: Lsn,
    /// The segment that holds its note, and therefore stays; zero before the first note.
    pub(crate) noted_in: u64,
}

/// What to do with the oldest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retire {
    /// It is still needed.
    Keep,
    /// Make it a spare.
    Recycle {
        /// The segment.
        seq: u64,
    },
    /// Remove it: there are spares enough, or it has another size than a spare must have.
    Delete {
        /// The segment.
        seq: u64,
    },
}

/// What to do with the oldest of `segments` when a checkpoint covers what `covered` says.
/// `spare_bytes` is the size a spare must have, `None` when no more spares are wanted.
#[must_use]
pub(crate) fn oldest(
    segments: &VecDeque<SegmentSpan>,
    covered: Covered,
    spare_bytes: Option<u64>,
) -> Retire {
    let (Some(oldest), Some(second)) = (segments.front(), segments.get(1)) else {
        return Retire::Keep;
    };
    assert_eq!(oldest.seq + 1, second.seq, "segments count up by one");
    if second.prev_last > covered.last || oldest.seq >= covered.noted_in {
        return Retire::Keep;
    }
    if spare_bytes == Some(oldest.bytes) {
        Retire::Recycle { seq: oldest.seq }
    } else {
        Retire::Delete { seq: oldest.seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments 4, 5, 6 holding the records 11..=20, 21..=20 (none), 21..
    fn segments() -> VecDeque<SegmentSpan> {
        let span = |seq, prev_last| SegmentSpan { seq, prev_last: Lsn::new(prev_last), bytes: 64 };
        VecDeque::from([span(4, 10), span(5, 20), span(6, 20)])
    }

    fn covered(last: u64) -> Covered {
        Covered { last: Lsn::new(last), noted_in: 6 }
    }

    #[test]
    fn the_segment_that_holds_the_note_stays() {
        for (noted_in, kept) in [(0, true), (4, true), (5, false)] {
            let covered = Covered { noted_in, ..covered(20) };
            assert_eq!(oldest(&segments(), covered, None) == Retire::Keep, kept, "{noted_in}");
        }
    }

    #[test]
    fn a_segment_retires_with_its_last_record_and_not_before() {
        assert_eq!(oldest(&segments(), covered(19), Some(64)), Retire::Keep);
        assert_eq!(oldest(&segments(), covered(20), Some(64)), Retire::Recycle { seq: 4 });
    }

    #[test]
    fn a_segment_without_records_retires_with_the_one_before() {
        let mut left = segments();
        left.pop_front();
        assert_eq!(oldest(&left, covered(20), Some(64)), Retire::Recycle { seq: 5 });
    }

    #[test]
    fn the_last_segment_never_retires() {
        let last = segments().split_off(2);
        assert_eq!(oldest(&last, covered(1_000), Some(64)), Retire::Keep);
        assert_eq!(oldest(&VecDeque::new(), covered(1_000), None), Retire::Keep);
    }

    #[test]
    fn a_file_of_another_size_or_one_too_many_is_deleted() {
        let covered = covered(20);
        assert_eq!(oldest(&segments(), covered, Some(128)), Retire::Delete { seq: 4 });
        assert_eq!(oldest(&segments(), covered, None), Retire::Delete { seq: 4 });
    }
}
