//! Reading over damage: what verifies is given, in order and once, and what does not is a gap.
//!
//! Promises: each test damages a log in one way and accounts for every record of it.
//! Fails by: a failing test that names the file and the place.

mod world;

use ebbtide_wal::storage::FileName;
use ebbtide_wal::storage::sim::{FaultPlan, SimDisk, SimFault};
use ebbtide_wal::{Gap, LogOptions, Lsn, SalvageReport, Salvaged, ready, salvage};
use world::{Appended, Crash, IDENTITY, World};

/// A header, room for four blocks of frames, and the seal.
const TINY: LogOptions =
    LogOptions { group_bytes: 8192, segment_bytes: 28672, log_bytes_max: u64::MAX };

/// A log of several segments; each batch is a group of its own, and two lie in a segment.
fn filled(batches: usize) -> World {
    let mut world = World::new(3, TINY);
    world.open(Lsn::NONE).expect("an empty disk");
    for batch in 0..batches {
        world.append(5000 + batch, 4).expect("room");
        world.settle();
    }
    world
}

fn closed(batches: usize) -> World {
    let mut world = filled(batches);
    assert!(world.close());
    world
}

struct Read {
    batches: Vec<Appended>,
    gaps: Vec<Gap>,
    report: SalvageReport,
}

fn read(disk: &SimDisk) -> Read {
    read_behind(disk, Lsn::NONE)
}

/// Reads a log that has to reach up to `restored`.
fn read_behind(disk: &SimDisk, restored: Lsn) -> Read {
    let (mut batches, mut gaps) = (Vec::new(), Vec::new());
    let of = (IDENTITY.shard, Some(IDENTITY.store));
    let report = ready(salvage(disk, of, restored, |found| match found {
        Salvaged::Batch(batch) => {
            let (first, count) = (batch.first, batch.count);
            batches.push(Appended { first, count, bytes: batch.records.to_vec() });
        }
        Salvaged::Gap(gap) => gaps.push(gap),
    }));
    let report = report.expect("it can be listed");
    assert_eq!(report.gaps, gaps.len() as u64);
    Read { batches, gaps, report }
}

/// Every batch is there as it was appended, or lies in a gap.
#[track_caller]
fn assert_accounted_for(world: &World, read: &Read, what: &str) {
    let in_a_gap = |batch: &Appended| {
        let is_in = |gap: &Gap| {
            gap.after < batch.first && gap.until.is_none_or(|until| batch.last() < until)
        };
        read.gaps.iter().any(is_in)
    };
    let mut given = read.batches.iter().peekable();
    for batch in &world.model {
        if given.next_if(|given| *given == batch).is_none() {
            assert!(in_a_gap(batch), "{what}: {} is missing in {:?}", batch.first, read.gaps);
        } else {
            assert!(!in_a_gap(batch), "{what}: {} is given and a gap", batch.first);
        }
    }
    assert!(given.next().is_none(), "{what}: something was given that was never appended");
}

#[test]
fn a_log_without_damage_is_given_whole_and_without_a_gap() {
    for world in [closed(9), {
        let mut world = filled(9);
        world.crash(Crash::Kill);
        world
    }] {
        let read = read(&world.disk);
        assert_eq!((read.batches, read.gaps), (world.model.clone(), vec![]));
        let SalvageReport { bad_bytes, last, records, .. } = read.report;
        assert_eq!((bad_bytes, last, records), (0, Lsn::new(36), 36));
    }
}

#[test]
fn any_flipped_byte_costs_no_more_than_its_frame_or_its_segment() {
    let world = closed(7);
    let (mut whole, mut one_lost, mut more_lost) = (0, 0, 0);
    for name in world.disk.names() {
        for at in (0..world.disk.bytes(name).len() as u64).step_by(97) {
            let bit = at * 8 + at % 8;
            world.disk.flip(name, bit);
            let read = read(&world.disk);
            let what = format!("{name}, byte {at}");
            assert_accounted_for(&world, &read, &what);
            match world.model.len() - read.batches.len() {
                0 => whole += 1,
                1 => one_lost += 1,
                // Without its header nothing in a segment can be told from old bytes.
                2 if at < 4096 => more_lost += 1,
                lost => panic!("{what}: {lost} batches lost"),
            }
            world.disk.flip(name, bit);
        }
    }
    assert!(whole > 0 && one_lost > 0 && more_lost > 0, "{whole}, {one_lost}, {more_lost}");
}

#[test]
fn a_gap_says_which_records_lie_in_it_and_whether_an_opening_may() {
    let world = closed(7);
    let second = FileName::Segment(2);
    // The second frame of the second segment: batch 4, records 13 to 16.
    world.disk.flip(second, (4096 + 8192 + 1000) * 8);
    let found = read(&world.disk);
    let gap = Gap {
        segment: 2,
        offset: 4096 + 8192,
        after: Lsn::new(12),
        until: Some(Lsn::new(17)),
        first_frame: false,
        raw_os_error: None,
    };
    assert_eq!(found.gaps, [gap]);
    assert_eq!(found.report.bad_bytes, 8192);
    world.disk.flip(second, (4096 + 8192 + 1000) * 8);
    world.disk.flip(second, (4096 + 1000) * 8);
    let gap = Gap {
        offset: 4096,
        after: Lsn::new(8),
        until: Some(Lsn::new(13)),
        first_frame: true,
        ..gap
    };
    assert_eq!(read(&world.disk).gaps, [gap]);
}

#[test]
fn lost_and_foreign_segments_are_gaps_wherever_they_lie() {
    for lost in 1..=4 {
        let world = closed(7);
        world.disk.lose(FileName::Segment(lost));
        let read = read(&world.disk);
        if lost == 1 {
            // As if a checkpoint had let it go; only that tells the two apart.
            assert_eq!((read.gaps.len(), read.report.begins_after), (0, Lsn::new(8)));
            continue;
        }
        assert_accounted_for(&world, &read, &format!("segment {lost}"));
        let [gap] = read.gaps[..] else { panic!("{:?}", read.gaps) };
        assert_eq!((gap.segment, gap.first_frame, gap.until.is_none()), (lost, true, lost == 4));
    }
    let world = closed(7);
    world.disk.put(FileName::Segment(2), &world.disk.bytes(FileName::Segment(3)));
    let read = read(&world.disk);
    assert_accounted_for(&world, &read, "a segment in place of another");
    assert_eq!(read.report.unreadable_segments, 1);
}

#[test]
fn a_log_cut_anywhere_gives_what_is_left_and_says_that_it_went_on() {
    let world = closed(7);
    let name = FileName::Segment(4);
    let whole = world.disk.bytes(name);
    for len in (0..whole.len()).step_by(512) {
        world.disk.put(name, &whole[..len]);
        let read = read(&world.disk);
        assert_accounted_for(&world, &read, &format!("cut to {len}"));
        assert!(read.gaps.iter().any(|gap| gap.until.is_none()), "cut to {len}");
    }
}

#[test]
fn what_a_crash_leaves_is_no_gap() {
    let mut torn = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, TINY);
        world.open(Lsn::NONE).expect("an empty disk");
        for _ in 0..80 {
            world.act();
        }
        let promised = world.crash(Crash::Power(seed));
        let found = read(&world.disk);
        assert_eq!(found.gaps, [], "seed {seed}");
        let (seen, replayed) = world::read_log(&world.disk, world.replay_options());
        let last = replayed.expect("a crash is no damage").report.last;
        assert!(last >= promised);
        assert!(found.batches.ends_with(&seen), "seed {seed}");
        let report = ready(salvage(&world.disk, (IDENTITY.shard, None), Lsn::NONE, |_| {}));
        torn += u32::from(report.expect("it can be listed").last < world.model_last());
    }
    assert!(torn > 5, "{torn} crashes took something");
}

/// What is zeroed looks like the end of a log that was never closed.
#[test]
fn a_log_that_ends_before_a_checkpoint_does_ends_in_a_gap() {
    let mut world = filled(7);
    world.crash(Crash::Kill);
    world.disk.lose(FileName::Segment(4));
    let third = FileName::Segment(3);
    let mut bytes = world.disk.bytes(third);
    bytes[4096 + 8192..].fill(0);
    world.disk.put(third, &bytes);
    // Five batches of four records are left.
    assert_eq!(read_behind(&world.disk, Lsn::new(20)).gaps, []);
    let found = read_behind(&world.disk, Lsn::new(21));
    let gap = Gap {
        segment: 3,
        offset: 4096 + 8192,
        after: Lsn::new(20),
        until: None,
        first_frame: true,
        raw_os_error: None,
    };
    assert_eq!((found.gaps, found.report.last), (vec![gap], Lsn::new(20)));
}

#[test]
fn a_device_that_gives_nothing_at_any_call_costs_what_lies_there_and_says_so() {
    let world = closed(7);
    let (mut at, mut gaps) = (2, 0);
    loop {
        world.disk.plan(FaultPlan { fault: SimFault::Io, at, sticky: false });
        let found = read(&world.disk);
        if !world.disk.fired() {
            break;
        }
        assert_accounted_for(&world, &found, &format!("call {at}"));
        assert!(found.gaps.iter().all(|gap| gap.raw_os_error == Some(5)), "{:?}", found.gaps);
        (at, gaps) = (at + 1, gaps + found.gaps.len());
    }
    assert!(gaps > 4, "{gaps} gaps in {at} calls");
}

#[test]
fn what_keeps_from_reading_and_is_no_damage_is_no_gap() {
    for at in 2..8 {
        let world = closed(7);
        world.disk.plan(FaultPlan { fault: SimFault::PowerOff, at, sticky: true });
        let of = (IDENTITY.shard, Some(IDENTITY.store));
        let fault = ready(salvage(&world.disk, of, Lsn::NONE, |_| {})).unwrap_err();
        assert!(!fault.is_unreadable(), "{fault}");
    }
}

#[test]
fn a_segment_of_the_highest_number_is_one_like_others() {
    let world = closed(7);
    world.disk.put(FileName::Segment(u64::MAX), &[]);
    let found = read(&world.disk);
    assert_eq!(found.batches, world.model);
    let [gap] = found.gaps[..] else { panic!("{:?}", found.gaps) };
    assert_eq!((gap.segment, gap.until), (5, None));
}
