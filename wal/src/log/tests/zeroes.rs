//! What the log asks for of its next file: that it is zeroed, when, and how much at a time; and of
//! the active one, where it was not.

use super::*;
use crate::limits::{ZERO_CHUNK_BYTES, ZERO_CHUNK_BYTES_MIN, ZEROED_BEFORE_BYTES_MAX, index};

#[test]
fn a_new_file_is_zeroed_while_nobody_waits_for_it() {
    let mut log = log();
    log.spares = VecDeque::from([]);
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { number: 2, .. })));
    log.upkeep_done(Ok(()));
    let Some(UpkeepIo::Zero { name, offset: 0, bytes }) = log.next_upkeep() else {
        panic!("zeroes are due")
    };
    assert_eq!((name, bytes as u64), (FileName::Temp(2), SIZES.segment_bytes));

    for _ in 0..4 {
        log.append(b"a", 1).unwrap();
        if log.active.offset < 4 * 4096 {
            write(&mut log);
            sync(&mut log);
        }
    }
    assert!(log.next_commit().is_none(), "what is being zeroed cannot be written to");
    log.upkeep_done(Ok(()));
    let next = log.next_commit();
    assert!(matches!(next, Some(CommitIo::Activate { from: FileName::Temp(2), .. })), "{next:?}");
}

/// Bytes of the next file that are zeroed before nothing is due.
fn zero(log: &mut Log) -> usize {
    let mut zeroed = 0;
    while let Some(asked) = log.next_upkeep() {
        let UpkeepIo::Zero { bytes, .. } = asked else { panic!("zeroes are due, not {asked:?}") };
        assert!(bytes <= ZERO_CHUNK_BYTES && bytes.is_multiple_of(BLOCK_BYTES), "{bytes}");
        zeroed += bytes;
        log.upkeep_done(Ok(()));
    }
    zeroed
}

/// A log whose next segment is as long as this and was just made.
fn with_new_file(active_bytes: u64, segment_bytes: u64) -> Log {
    let mut log = log();
    (log.active.bytes, log.options.segment_bytes) = (active_bytes, segment_bytes);
    log.spares = VecDeque::from([]);
    log.append(b"a", 1).unwrap();
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { .. })));
    log.upkeep_done(Ok(()));
    log
}

/// All of it was zeroed at once, and commits waited behind that for milliseconds.
#[test]
fn while_events_come_a_new_file_is_zeroed_twice_as_fast_as_the_active_one_fills() {
    let segment_bytes = 64 * ZERO_CHUNK_BYTES;
    let mut log = with_new_file(segment_bytes as u64, segment_bytes as u64);
    assert_eq!(zero(&mut log), ZERO_CHUNK_BYTES_MIN, "little more than was written");
    log.active.offset = log.active.bytes / 4;
    assert_eq!(zero(&mut log), segment_bytes / 2 - ZERO_CHUNK_BYTES_MIN);
    write(&mut log);
    sync(&mut log);
    assert!(!log.has_rested());
    log.rest();
    assert!(log.has_rested());
    assert_eq!(zero(&mut log), segment_bytes / 2, "the rest while nothing is written");
}

#[test]
fn a_log_that_waits_for_its_next_file_takes_it_as_it_is() {
    let mut log = log();
    // Taken while there was a next file, which is gone since.
    while log.active.offset < 4 * 4096 {
        log.append(b"a", 1).unwrap();
        write(&mut log);
        sync(&mut log);
    }
    log.append(b"a", 1).unwrap();
    log.spares = VecDeque::from([]);
    assert!(log.next_commit().is_none());
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { .. })));
    log.upkeep_done(Ok(()));
    assert!(log.next_upkeep().is_none(), "no zeroes now");
    assert!(matches!(log.next_commit(), Some(CommitIo::Activate { .. })));
}

/// As a log is opened where there is little room, and as its segments are once there is some.
#[test]
fn whole_blocks_are_zeroed_however_the_lengths_of_segments_relate() {
    let block_bytes = BLOCK_BYTES as u64;
    for (active, next) in [(259, 8_192), (1_024, 1_025), (1_024, 1_280), (8_192, 259)] {
        let mut log = with_new_file(active * block_bytes, next * block_bytes);
        let mut zeroed = 0;
        for block in 1..active {
            log.active.offset = block * block_bytes;
            zeroed += zero(&mut log) as u64;
            let least = (2 * log.active.offset * next / active).min(next * block_bytes);
            assert!(zeroed >= least, "{zeroed} of {least} once {block} blocks are full");
        }
        assert_eq!(zeroed, next * block_bytes);
    }
}

#[test]
fn nothing_is_zeroed_beside_an_activation() {
    let mut log = rotated();
    assert!(matches!(log.next_upkeep(), Some(UpkeepIo::Prepare { .. })));
    log.upkeep_done(Ok(()));
    assert!(log.next_upkeep().is_none(), "a commit waits for the other file");
}

/// A log with an active segment of so many blocks, the first few of which were written to before.
fn in_new_segment(blocks: usize, zeroed_blocks: usize) -> Log {
    let segment_bytes = (blocks * BLOCK_BYTES) as u64;
    let mut log = log_of(LogOptions { group_bytes: 65_536, segment_bytes, ..SIZES });
    log.active.zeroed = (zeroed_blocks * BLOCK_BYTES) as u64;
    log
}

/// Where zeroes are asked for before each of so many commits of `record`, in blocks.
fn zeroes_before(log: &mut Log, commits: usize, record: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut zeroed = Vec::new();
    for _ in 0..commits {
        log.append(record, 1).unwrap();
        let asked = log.next_commit().unwrap();
        if let CommitIo::Zero { segment: 1, offset, bytes } = asked {
            let from = index(offset) / BLOCK_BYTES;
            zeroed.push(from..from + bytes / BLOCK_BYTES);
            assert!(log.next_commit().is_none(), "one request is out at a time");
            log.commit_done(CommitDone::Zero(Ok(())));
            write(log);
        } else {
            log.commit_done(asked.succeeded());
        }
        sync(log);
    }
    zeroed
}

/// Each commit changed the extents of a segment that had become active before it was zeroed.
#[test]
fn the_first_short_frame_in_new_space_goes_behind_zeroes_for_more() {
    let mut log = in_new_segment(40, 3);
    let chunk = ZERO_CHUNK_BYTES_MIN / BLOCK_BYTES;
    let mut want = vec![3..3 + chunk, 3 + chunk..3 + 2 * chunk, 3 + 2 * chunk..40];
    assert_eq!(zeroes_before(&mut log, 37, b"a"), want);
    // Two blocks each: one that reaches behind the zeroes is not all new.
    let mut log = in_new_segment(40, 4);
    want = vec![4..4 + chunk, 4 + chunk..4 + 2 * chunk, 4 + 2 * chunk..40];
    assert_eq!(zeroes_before(&mut log, 18, &[7; 5_000]), want);
    assert_eq!(zeroes_before(&mut in_new_segment(40, 40), 37, b"a"), []);
}

#[test]
fn long_frames_are_written_to_new_space_as_they_are() {
    let mut log = in_new_segment(40, 1);
    // With its header it takes a block more.
    assert_eq!(zeroes_before(&mut log, 3, &[7; ZEROED_BEFORE_BYTES_MAX]), []);
    assert_eq!(log.active.offset, (1 + 3 * 5) * BLOCK_BYTES as u64);
    let longest_short = [7; ZEROED_BEFORE_BYTES_MAX - BLOCK_BYTES / 2];
    assert_eq!(zeroes_before(&mut log, 1, &longest_short).len(), 1);
}

#[test]
fn zeroes_that_cannot_be_written_are_not_tried_again() {
    let mut log = in_new_segment(40, 1);
    log.append(b"a", 1).unwrap();
    assert!(matches!(log.next_commit(), Some(CommitIo::Zero { .. })));
    log.commit_done(CommitDone::Zero(Err(fault(io::ErrorKind::Other))));
    assert!(log.poison().is_none(), "no frame depends on them");
    write(&mut log);
    sync(&mut log);
    assert_eq!(zeroes_before(&mut log, 30, b"a"), []);
}

#[test]
fn a_segment_knows_how_much_of_it_was_zeroed_while_it_was_spare() {
    let mut log = with_new_file(SIZES.segment_bytes, SIZES.segment_bytes);
    let Some(UpkeepIo::Zero { bytes, .. }) = log.next_upkeep() else { panic!("zeroes are due") };
    log.upkeep_done(Ok(()));
    log.active.offset = 4 * BLOCK_BYTES as u64;
    assert!(matches!(log.next_commit(), Some(CommitIo::Activate { .. })));
    log.commit_done(CommitDone::Activate(Ok(())));
    assert_eq!(log.active.zeroed, bytes as u64);
}
