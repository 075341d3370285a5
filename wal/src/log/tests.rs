//! The state machine alone: requests in, answers out, no storage at all.
//!
//! Promises: the order of requests that `log` promises, step by step.
//! Invariants: the answers are made up by the test, so every failure is reachable.
//! Fails by: a failing test.
//! Not here: whole lives of a log (`tests/` beside this crate).
//! Source: none.

mod zeroes;

use std::io;

use super::*;
use crate::fault::Step;
use crate::frame::{FrameKind, read_header};
use crate::io::{CommitDone, CommitIo, UpkeepIo};
use crate::key::{Epoch, SegmentId, StoreId};
use crate::limits::{BLOCK_BYTES, FRAME_HEADER_BYTES};
use crate::storage::FileName;
use crate::writer::Pressure;

const IDENTITY: LogIdentity = LogIdentity { store: StoreId([1; 16]), shard: 0 };
/// Room for a header, three blocks of frames, the note of a checkpoint, and the seal.
const SIZES: LogOptions =
    LogOptions { group_bytes: 8192, segment_bytes: 6 * 4096, log_bytes_max: u64::MAX };

fn key() -> FrameKey {
    FrameKey::derive(&SegmentId { log: IDENTITY, seq: 1, epoch: Epoch([2; 16]) })
}

/// A new log with one spare.
fn log() -> Log {
    log_of(SIZES)
}

fn log_of(options: LogOptions) -> Log {
    Log::start(LogStart {
        identity: IDENTITY,
        options,
        epochs: EpochSource::new([3; 32]),
        key: key(),
        chain: ChainHash([4; 16]),
        lsn_first: Lsn::FIRST,
        segments: VecDeque::from([SegmentSpan {
            seq: 1,
            prev_last: Lsn::NONE,
            bytes: options.segment_bytes,
        }]),
        spares: VecDeque::from([1]),
        number: 2,
    })
}

fn fault(kind: io::ErrorKind) -> IoFault {
    IoFault::new(Step::WriteFrame, FileName::Segment(1), &kind.into())
}

/// The write that is asked for: where, how long, and the buffer to answer with.
fn expect_write(log: &mut Log) -> (u64, usize, AlignedBuf) {
    match log.next_commit() {
        Some(CommitIo::Write { offset, buffer, range, .. }) => (offset, range.len(), buffer),
        other => panic!("a write is due, not {other:?}"),
    }
}

fn write(log: &mut Log) -> FrameKind {
    let (_, bytes, buffer) = expect_write(log);
    let key = log.active.key.clone();
    let kind = read_header(&key, &buffer).unwrap().fields.kind;
    log.commit_done(CommitDone::Write { buffer, result: Ok(bytes) });
    kind
}

fn sync(log: &mut Log) {
    let asked = log.next_commit();
    assert!(matches!(asked, Some(CommitIo::Sync { .. })), "a sync is due, not {asked:?}");
    log.commit_done(CommitDone::Sync(Ok(())));
}

fn marks(log: &Log) -> (u64, u64, u64) {
    let marks = log.watermarks();
    (marks.appended.get(), marks.written.unwrap().get(), marks.durable.unwrap().get())
}

#[test]
fn what_arrives_during_a_write_goes_with_the_next_one() {
    let mut log = log();
    log.append(b"a", 1).unwrap();
    let (offset, bytes, buffer) = expect_write(&mut log);
    assert_eq!((offset, bytes), (4096, 4096));
    for _ in 0..5 {
        log.append(b"bc", 2).unwrap();
        assert!(log.next_commit().is_none(), "one write is out at a time");
    }
    log.commit_done(CommitDone::Write { buffer, result: Ok(4096) });
    assert_eq!(marks(&log), (11, 1, 0));
    sync(&mut log);
    assert_eq!(marks(&log), (11, 1, 1));

    let (offset, _, buffer) = expect_write(&mut log);
    assert_eq!(offset, 8192);
    let fields = read_header(&key(), &buffer).unwrap().fields;
    assert_eq!((fields.lsn_first, fields.lsn_count), (Lsn::new(2), 10));
    assert_eq!(fields.durable, Lsn::new(1), "the watermark travels in the next frame");
}

#[test]
fn a_failed_write_poisons_for_good_and_keeps_its_cause() {
    let mut log = log();
    log.append(b"a", 1).unwrap();
    let (_, _, buffer) = expect_write(&mut log);
    let cause = fault(io::ErrorKind::PermissionDenied);
    log.commit_done(CommitDone::Write { buffer, result: Err(cause.clone()) });
    assert_eq!(log.append(b"b", 1), Err(AppendError::Poisoned(cause.clone())));
    log.driver_lost();
    assert_eq!(log.poison(), Some(&cause), "the first cause stays");
    assert!(log.next_commit().is_none() && log.next_upkeep().is_none());
    assert_eq!((marks(&log), log.room()), ((1, 0, 0), 0));
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let mut log = log();
    log.append(b"a", 1).unwrap();
    write(&mut log);
    assert!(matches!(log.next_commit(), Some(CommitIo::Sync { .. })));
    log.commit_done(CommitDone::Sync(Err(fault(io::ErrorKind::Other))));
    assert!(log.next_commit().is_none());
    assert_eq!(marks(&log), (1, 1, 0));
}

#[test]
fn a_short_write_goes_on_at_the_next_whole_block() {
    let mut log = log();
    log.append(&[7; 5000], 1).unwrap();
    let (offset, bytes, buffer) = expect_write(&mut log);
    assert_eq!((offset, bytes), (4096, 8192));
    log.commit_done(CommitDone::Write { buffer, result: Ok(4096 + 512) });
    assert_eq!(marks(&log), (1, 0, 0));
    let (offset, bytes, buffer) = expect_write(&mut log);
    assert_eq!((offset, bytes), (8192, 4096));
    log.commit_done(CommitDone::Write { buffer, result: Ok(4096) });
    assert_eq!(marks(&log), (1, 1, 0));
    assert_eq!(log.stats().short_writes, 1);
}

#[test]
fn a_write_that_stays_short_or_gets_nothing_through_poisons() {
    for bytes in [0, 512, 4095] {
        let mut log = log();
        log.append(&[7; 5000], 1).unwrap();
        let (_, _, buffer) = expect_write(&mut log);
        log.commit_done(CommitDone::Write { buffer, result: Ok(bytes) });
        assert_eq!(log.poison().map(|fault| fault.kind), Some(io::ErrorKind::WriteZero));
    }
}

#[test]
fn a_batch_that_never_fits_is_told_from_one_that_must_wait() {
    let mut log = log();
    let most = log.room();
    assert_eq!(most, 8192 - FRAME_HEADER_BYTES - 8);
    let error = log.append(&vec![0; most + 1], 1);
    assert_eq!(error, Err(AppendError::TooLarge { asked: most + 1, most }));
    log.append(&vec![0; most], 1).unwrap();
    assert_eq!(log.room(), 0);
    let wait = Err(AppendError::BackPressure(Pressure::Device));
    assert_eq!(log.append(b"x", 1), wait);
    let _ = expect_write(&mut log);
    assert_eq!(log.append(b"x", 1), Ok(Lsn::new(2)), "the second buffer takes over");
}

#[test]
fn a_resting_log_vouches_once_for_its_last_group() {
    let mut log = log();
    log.rest();
    assert!(log.next_commit().is_none(), "there is nothing to vouch for");
    log.append(b"a", 1).unwrap();
    write(&mut log);
    sync(&mut log);
    assert!(log.next_commit().is_none(), "only a resting log does so");
    log.rest();
    assert_eq!(write(&mut log), FrameKind::Watermark);
    sync(&mut log);
    log.rest();
    assert!(log.next_commit().is_none(), "it has been said");
    assert_eq!(marks(&log), (1, 1, 1));
}

/// Fills the first segment and goes on to the second.
fn rotated() -> Log {
    let mut log = log();
    for _ in 0..4 {
        log.append(b"a", 1).unwrap();
        if log.active.offset < 4 * 4096 {
            write(&mut log);
            sync(&mut log);
        }
    }
    match log.next_commit() {
        Some(CommitIo::Activate { from: FileName::Spare(1), segment: 2, .. }) => {}
        other => panic!("the next segment is due, not {other:?}"),
    }
    assert!(log.next_commit().is_none());
    log
}

/// Appends and writes until the log pushes back, and gives the reason.
fn fill(log: &mut Log) -> AppendError {
    loop {
        match log.append(b"a", 1) {
            Ok(_) => {
                write(log);
                sync(log);
            }
            Err(error) => return error,
        }
    }
}

#[test]
fn a_full_segment_is_sealed_to_its_end_after_the_next_is_active() {
    let mut log = rotated();
    assert!(!matches!(log.next_upkeep(), Some(UpkeepIo::Seal { .. })), "not before");
    log.upkeep_done(Ok(()));
    log.commit_done(CommitDone::Activate(Ok(())));
    match log.next_upkeep() {
        Some(UpkeepIo::Seal { segment: 1, offset, frame }) => {
            assert_eq!((offset, frame.len()), (4 * 4096, 2 * BLOCK_BYTES));
            let fields = read_header(&key(), &frame).unwrap().fields;
            assert_eq!((fields.kind, fields.durable), (FrameKind::Seal, Lsn::new(3)));
        }
        other => panic!("a seal is due, not {other:?}"),
    }
    let (offset, _, _) = expect_write(&mut log);
    assert_eq!(offset, 4096, "the group that did not fit goes to the new segment");
}

#[test]
fn a_spare_is_made_ahead_and_its_failure_is_no_poison() {
    let mut log = rotated();
    log.commit_done(CommitDone::Activate(Ok(())));
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Seal { .. })));
    log.upkeep_done(Ok(()));
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { number: 2, .. })));
    log.upkeep_done(Err(fault(io::ErrorKind::StorageFull)));
    assert!(log.poison().is_none() && log.space_fault().is_some());
    assert!(log.next_upkeep().is_none(), "not before it is told to");
    log.retry_space();
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { number: 3, .. })));
    log.upkeep_done(Ok(()));
    assert!(log.space_fault().is_none());
    assert_eq!(log.stats().space_faults, 1);
}

#[test]
fn a_segment_without_room_for_its_header_is_tried_again_and_not_poison() {
    let mut log = rotated();
    log.commit_done(CommitDone::Activate(Err(fault(io::ErrorKind::StorageFull))));
    assert!(log.next_commit().is_none() && log.poison().is_none());
    log.retry_space();
    assert!(matches!(
        log.next_commit(),
        Some(CommitIo::Activate { from: FileName::Spare(1), segment: 2, .. })
    ));
    log.commit_done(CommitDone::Activate(Err(fault(io::ErrorKind::Other))));
    assert!(log.poison().is_some());
}

#[test]
fn segments_retire_only_after_the_note_is_durable() {
    let mut log = rotated();
    log.commit_done(CommitDone::Activate(Ok(())));
    let note = |covered| CheckpointNote { covered: Lsn::new(covered), digest: [5; 32] };
    let early = NoteError::NotDurable { covered: Lsn::new(4), durable: Lsn::new(3) };
    assert_eq!(log.note_checkpoint(note(4)), Err(early));
    log.note_checkpoint(note(3)).unwrap();

    assert_eq!(write(&mut log), FrameKind::Checkpoint);
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Seal { .. })));
    log.upkeep_done(Ok(()));
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { .. })), "written is not enough");
    log.upkeep_done(Ok(()));
    sync(&mut log);
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Recycle { segment: 1, .. })));
    log.upkeep_done(Ok(()));
    assert_eq!(log.segments().map(|span| span.seq).collect::<Vec<_>>(), [2]);
}

/// Answers everything that is asked for with success. Says how many files were made, and how many
/// segments were kept as spares.
fn settle(log: &mut Log) -> (usize, usize) {
    let (mut made, mut recycled) = (0, 0);
    loop {
        if let Some(request) = log.next_upkeep() {
            made += usize::from(matches!(request, UpkeepIo::Prepare { .. }));
            recycled += usize::from(matches!(request, UpkeepIo::Recycle { .. }));
            log.upkeep_done(Ok(()));
            continue;
        }
        let Some(request) = log.next_commit() else { return (made, recycled) };
        log.commit_done(request.succeeded());
    }
}

/// Appends until so many segments more have been filled; says how many files were made meanwhile.
fn fill_segments(log: &mut Log, count: u64) -> usize {
    let (end, mut made) = (log.active.seq + count, 0);
    while log.active.seq < end {
        log.append(b"a", 1).unwrap();
        made += settle(log).0;
    }
    made
}

#[test]
fn segments_that_retire_together_become_the_next_ones() {
    let (mut log, many) = (log(), SPARES_MAX as u64);
    assert!(fill_segments(&mut log, many) + 1 >= SPARES_MAX, "one spare was there");
    let covered = log.watermarks().durable.unwrap();
    log.note_checkpoint(CheckpointNote { covered, digest: [5; 32] }).unwrap();
    let spares = log.spares.len();
    assert_eq!(settle(&mut log).1, SPARES_MAX - spares);
    // The last rotation leaves none, and so makes the next.
    assert_eq!(fill_segments(&mut log, many - 1), 0, "and they were written to before");
}

#[test]
fn a_segment_that_retires_is_not_kept_beyond_the_limit_of_the_log() {
    let (mut log, segments) = (log(), 4);
    fill_segments(&mut log, segments);
    // As if the log was opened again and may take less.
    log.options.log_bytes_max = 3 * SIZES.segment_bytes;
    let covered = log.watermarks().durable.unwrap();
    log.note_checkpoint(CheckpointNote { covered, digest: [5; 32] }).unwrap();
    settle(&mut log);
    assert!(log.segments().count() + log.spares.len() <= 3, "{:?}", log.spares);
}

/// A log whose second segment is full, and that gets no third one, because of `lack`.
fn stuck(lack: impl FnOnce(&mut Log)) -> (Log, AppendError) {
    let mut log = rotated();
    log.commit_done(CommitDone::Activate(Ok(())));
    lack(&mut log);
    write(&mut log);
    sync(&mut log);
    let refused = fill(&mut log);
    (log, refused)
}

/// Notes a checkpoint of everything; the first segment goes because of it, and becomes the third.
fn shrink(log: &mut Log) {
    let covered = log.watermarks().durable.unwrap();
    assert_eq!(covered, log.watermarks().appended, "what is taken can be made durable");
    log.note_checkpoint(CheckpointNote { covered, digest: [5; 32] }).unwrap();
    assert_eq!(write(log), FrameKind::Checkpoint);
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Seal { segment: 1, .. })));
    log.upkeep_done(Ok(()));
    sync(log);
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Recycle { segment: 1, .. })));
    log.upkeep_done(Ok(()));
    log.append(b"a", 1).unwrap();
    let next = log.next_commit();
    assert!(matches!(next, Some(CommitIo::Activate { segment: 3, .. })), "{next:?}");
}

#[test]
fn a_full_log_without_space_keeps_its_promises_and_shrinks_by_a_checkpoint() {
    let (mut log, refused) = stuck(|log| log.starve(fault(io::ErrorKind::StorageFull)));
    assert_eq!(refused, AppendError::BackPressure(Pressure::Space));
    shrink(&mut log);
}

#[test]
fn a_log_at_its_limit_pushes_back_until_a_segment_retires() {
    let limit = 2 * SIZES.segment_bytes;
    let (mut log, refused) = stuck(|log| log.options.log_bytes_max = limit);
    assert_eq!(refused, AppendError::BackPressure(Pressure::Limit));
    shrink(&mut log);
}

#[test]
fn a_log_at_its_limit_or_without_space_can_still_be_closed() {
    let limit = 2 * SIZES.segment_bytes;
    for full in [true, false] {
        let (mut log, _) = stuck(|log| {
            if full {
                log.starve(fault(io::ErrorKind::StorageFull));
            } else {
                log.options.log_bytes_max = limit;
            }
        });
        log.close();
        assert_eq!(write(&mut log), FrameKind::Shutdown, "there is a block left for it");
        sync(&mut log);
        assert!(matches!(log.next_commit(), Some(CommitIo::Trim { .. })));
    }
}

#[test]
fn closing_writes_what_is_left_says_so_and_cleans_up() {
    let mut log = log();
    log.append(b"a", 1).unwrap();
    log.close();
    assert_eq!(log.append(b"b", 1), Err(AppendError::Closing));
    assert_eq!(write(&mut log), FrameKind::Records);
    sync(&mut log);
    assert_eq!(write(&mut log), FrameKind::Shutdown);
    sync(&mut log);
    match log.next_commit() {
        Some(CommitIo::Trim { segment: 1, bytes }) => assert_eq!(bytes, 3 * 4096),
        other => panic!("a cut is due, not {other:?}"),
    }
    log.commit_done(CommitDone::Trim(Ok(())));
    assert!(!log.is_closed(), "a spare is left");
    match log.next_upkeep() {
        Some(UpkeepIo::Delete { name }) => assert_eq!(name, FileName::Spare(1)),
        other => panic!("the spare is to go, not {other:?}"),
    }
    log.upkeep_done(Ok(()));
    assert!(log.is_closed());
    assert!(log.next_commit().is_none() && log.next_upkeep().is_none());
}

#[test]
#[should_panic(expected = "answers no request")]
fn an_answer_nobody_asked_for_is_the_drivers_mistake() {
    log().commit_done(CommitDone::Sync(Ok(())));
}
