//! Damaged logs: a typed error or an exact restore, never a wrong answer.
//!
//! Promises: every byte of a closed log, flipped, is noticed; in a log that was killed, damage is
//! noticed wherever a later frame vouches for what was there; what a crash can leave is never
//! called damage.
//! Invariants: each test damages a healthy log in one way.
//! Fails by: a failing test that names the file and the place.
//! Not here: crashes and failing calls (`simulation`, `faults`).
//! Source: Alagappan et al., "Protocol-Aware Recovery", FAST 2018.

mod world;

use ebbtide_wal::frame::{FrameFields, FrameKind, seal_frame};
use ebbtide_wal::segment::SegmentHeader;
use ebbtide_wal::storage::FileName;
use ebbtide_wal::storage::sim::SimDisk;
use ebbtide_wal::{
    Batch, ChainHash, LogOptions, Lsn, RecoverError, RecoveryReport, ReplayOptions, ReplaySink,
    SinkError, StartError, UnsealedSeen, ready, replay_with,
};

use world::{Appended, Crash, IDENTITY, NotOpen, World, read_log};

const BLOCK: u64 = 4096;
/// A header, room for four blocks of frames, and the seal.
const TINY: LogOptions =
    LogOptions { group_bytes: 8192, segment_bytes: 28672, log_bytes_max: u64::MAX };
const ALL: ReplayOptions =
    ReplayOptions { restored: Lsn::NONE, read_covered: false, must_exist: true };

/// A log of three segments; each batch is a group of its own.
fn filled() -> World {
    let mut world = World::new(3, TINY);
    world.open(Lsn::NONE).expect("an empty disk");
    for batch in 0..5 {
        world.append(5000 + batch, 4).expect("room");
        world.settle();
    }
    assert_eq!(world.log().segments().len(), 3);
    world
}

fn closed() -> World {
    let mut world = filled();
    assert!(world.close());
    world
}

fn killed() -> World {
    let mut world = filled();
    world.crash(Crash::Kill);
    world
}

fn read(disk: &SimDisk) -> (Vec<Appended>, Result<RecoveryReport, RecoverError>) {
    let (seen, replayed) = read_log(disk, ALL);
    (seen, replayed.map(|replayed| replayed.report))
}

/// Segments of a disk.
fn segments(disk: &SimDisk) -> Vec<FileName> {
    let names = disk.names().into_iter();
    names.filter(|name| matches!(name, FileName::Segment(_))).collect()
}

/// The damage to a closed log was noticed, and nothing wrong was said.
fn assert_noticed(world: &World, disk: &SimDisk, what: &str) {
    match read(disk) {
        (_, Err(error)) => assert!(error.is_damage(), "{what}: {error}"),
        (seen, Ok(report)) => {
            assert_eq!(seen, world.model, "{what}");
            let noticed = report.clean_shutdown && report.unsealed_segments > 0;
            assert!(noticed, "{what} went unnoticed: {report:?}");
        }
    }
}

#[test]
fn every_byte_of_a_closed_log_is_under_a_hash() {
    let world = closed();
    for name in world.disk.names() {
        let bytes = world.disk.bytes(name).len() as u64;
        for at in 0..bytes {
            let bit = at * 8 + (at * 5) % 8;
            world.disk.flip(name, bit);
            assert_noticed(&world, &world.disk, &format!("{name}, byte {at}"));
            world.disk.flip(name, bit);
        }
    }
    let (seen, report) = read(&world.disk);
    assert_eq!(seen, world.model);
    assert_eq!(report.expect("whole again").loose_bytes, 0);
}

#[test]
fn a_damaged_end_of_a_closed_log_is_named_by_its_frame_and_a_lost_one_by_the_length() {
    let world = closed();
    let last = *segments(&world.disk).last().expect("there are three");
    let whole = world.disk.bytes(last);
    let at = whole.len() as u64 - BLOCK;
    // Behind the tag, by which a frame is known to be one of this segment.
    for byte in [8, 40, 100, 200, BLOCK - 1] {
        world.disk.flip(last, (at + byte) * 8);
        let error = read(&world.disk).1.expect_err("it is damaged");
        assert!(matches!(error, RecoverError::Damaged { segment: 3, offset, .. } if offset == at));
        world.disk.flip(last, (at + byte) * 8);
    }
    world.disk.put(last, &whole[..usize::try_from(at).expect("small")]);
    let error = read(&world.disk).1.expect_err("it is cut");
    assert!(matches!(error, RecoverError::Shortened { segment: 3, bytes, .. } if bytes == at));
}

/// Notes the segments without a whole seal.
#[derive(Default)]
struct Unsealed(Vec<UnsealedSeen>);

impl ReplaySink for Unsealed {
    fn batch(&mut self, _: Batch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn unsealed(&mut self, seen: UnsealedSeen) {
        self.0.push(seen);
    }
}

/// What a verification is told of unsealed segments.
fn unsealed(disk: &SimDisk) -> Vec<UnsealedSeen> {
    let (mut seen, options) = (Unsealed::default(), ReplayOptions { read_covered: true, ..ALL });
    ready(replay_with(disk, IDENTITY, options, &mut seen)).expect("no record is concerned");
    seen.0
}

#[test]
fn a_verification_tells_an_altered_seal_from_one_that_was_never_written() {
    let world = closed();
    assert_eq!(unsealed(&world.disk), []);
    let first = FileName::Segment(1);
    let whole = world.disk.bytes(first);
    let loose_bytes = 2 * BLOCK;
    let at = whole.len() - usize::try_from(loose_bytes).expect("small");
    let seen = |damaged| UnsealedSeen { segment: 1, offset: at as u64, loose_bytes, damaged };
    for byte in (at..whole.len()).step_by(7) {
        let mut altered = whole.clone();
        altered[byte] ^= 1 + u8::try_from(byte % 255).expect("below 255");
        world.disk.put(first, &altered);
        assert_eq!(unsealed(&world.disk), [seen(true)], "byte {byte}");
    }
    for byte in [0, 0xab] {
        let mut never = whole.clone();
        never[at..].fill(byte);
        world.disk.put(first, &never);
        assert_eq!(unsealed(&world.disk), [seen(false)]);
    }
    // Written in part: its last block is what lay there before.
    let mut torn = whole.clone();
    torn[at + 4096..].fill(0xab);
    world.disk.put(first, &torn);
    assert_eq!(unsealed(&world.disk), [seen(false)]);
    world.disk.put(first, &whole[..at]);
    let cut = UnsealedSeen { loose_bytes: 0, ..seen(false) };
    assert_eq!(unsealed(&world.disk), [cut]);
}

#[test]
fn a_closed_log_cut_anywhere_is_noticed() {
    let world = closed();
    for name in world.disk.names() {
        let whole = world.disk.bytes(name);
        for len in (0..whole.len()).step_by(256) {
            world.disk.put(name, &whole[..len]);
            assert_noticed(&world, &world.disk, &format!("{name} cut to {len}"));
        }
        world.disk.put(name, &whole);
    }
}

#[test]
fn a_killed_log_with_any_byte_flipped_is_a_prefix_or_refused() {
    let world = killed();
    let last_group = world.model.last().expect("not empty").clone();
    let (mut exact, mut cut, mut refused) = (0, 0, 0);
    for name in segments(&world.disk) {
        for at in (0..world.disk.bytes(name).len() as u64).step_by(3) {
            let bit = at * 8 + at % 8;
            world.disk.flip(name, bit);
            match read(&world.disk) {
                (_, Err(error)) => {
                    assert!(error.is_damage(), "{name}, byte {at}: {error}");
                    refused += 1;
                }
                (seen, Ok(report)) => {
                    let whole = seen == world.model;
                    // Nothing on disk vouches for the last group: the one stated gap.
                    let all_but_last = seen == world.model[..world.model.len() - 1];
                    assert!(whole || all_but_last, "{name}, byte {at}");
                    assert!(whole || report.last < last_group.first);
                    exact += u32::from(whole);
                    cut += u32::from(all_but_last);
                }
            }
            world.disk.flip(name, bit);
        }
    }
    assert!(exact > 0 && cut > 0 && refused > 0, "{exact}, {cut}, {refused}");
}

#[test]
fn a_lost_file_is_named() {
    let code = |lost: &[u64]| {
        let world = closed();
        for seq in lost {
            world.disk.lose(FileName::Segment(*seq));
        }
        let error = read(&world.disk).1.expect_err("a file is missing");
        (error.code(), error.to_string())
    };
    assert_eq!(code(&[1]).0, "log-begins-too-late");
    let (middle, text) = code(&[2]);
    assert_eq!(middle, "log-segment-missing");
    assert!(text.contains("segment 2 is missing"), "{text}");
    let (last, text) = code(&[3]);
    assert_eq!(last, "log-segment-missing", "the seal of the one before says so");
    assert!(text.contains("segment 3 is missing"), "{text}");
    assert_eq!(code(&[1, 2, 3]).0, "log-gone");
}

#[test]
fn a_file_under_another_name_or_of_another_log_is_foreign() {
    let world = closed();
    let (one, two) = (FileName::Segment(1), FileName::Segment(2));
    let (first, second) = (world.disk.bytes(one), world.disk.bytes(two));
    world.disk.put(one, &second);
    assert_eq!(read(&world.disk).1.expect_err("renamed").code(), "log-foreign");
    world.disk.put(one, &first);
    world.disk.put(FileName::Segment(4), &second);
    assert_eq!(read(&world.disk).1.expect_err("duplicated").code(), "log-foreign");
    world.disk.lose(FileName::Segment(4));

    let (header, _) = SegmentHeader::decode(&first).expect("whole");
    let mut other = header;
    other.id.log.shard += 1;
    let mut moved = first.clone();
    other.encode(&mut moved[..4096]);
    world.disk.put(one, &moved);
    assert_eq!(read(&world.disk).1.expect_err("of another shard").code(), "log-foreign");
}

#[test]
fn a_segment_number_that_nothing_can_follow_is_refused() {
    let block = |seq| {
        let world = closed();
        let first = world.disk.bytes(FileName::Segment(1));
        let (mut header, _) = SegmentHeader::decode(&first).expect("whole");
        header.id.seq = seq;
        let mut file = vec![0; usize::try_from(header.bytes).expect("a small file")];
        header.encode(&mut file[..4096]);
        file
    };
    for seq in [u64::MAX - 1, u64::MAX / 2] {
        let mut world = World::new(3, TINY);
        world.disk.put(FileName::Segment(seq), &block(seq));
        let refused = world.open(Lsn::NONE).expect_err("nothing can follow");
        let NotOpen::Start(StartError::Number { segment }) = refused else { panic!("{refused:?}") };
        assert_eq!(segment, seq);
        assert!(world.disk.bytes(FileName::Segment(seq)) == block(seq), "nothing was changed");
    }
    let (mut world, seq) = (World::new(3, TINY), u64::MAX / 2 - 1);
    world.disk.put(FileName::Segment(seq), &block(seq));
    world.open(Lsn::NONE).expect("one can follow");
}

#[test]
fn a_segment_of_an_older_copy_does_not_fit_into_the_chain() {
    // Two logs that went different ways from the same beginning: same names, other epochs.
    let (ours, theirs) = (closed(), {
        let mut world = World::new(4, TINY);
        world.open(Lsn::NONE).expect("an empty disk");
        for batch in 0..5 {
            world.append(5000 + batch, 4).expect("room");
            world.settle();
        }
        assert!(world.close());
        world
    });
    for seq in 1..=3 {
        let name = FileName::Segment(seq);
        let kept = ours.disk.bytes(name);
        ours.disk.put(name, &theirs.disk.bytes(name));
        let error = read(&ours.disk).1.expect_err("spliced");
        assert!(matches!(error, RecoverError::Damaged { .. }), "{seq}: {error}");
        ours.disk.put(name, &kept);
    }
}

/// Where the last group of a log begins and ends: found by its first record.
fn last_group(world: &World) -> (FileName, u64, Lsn) {
    let name = *segments(&world.disk).last().expect("a segment");
    let bytes = world.disk.bytes(name);
    let first = world.model.last().expect("not empty").first;
    let at = (1..bytes.len() / 4096)
        .map(|block| block * 4096)
        .find(|at| bytes[at + 16..at + 24] == first.get().to_le_bytes())
        .expect("the group is in the last segment");
    (name, at as u64, first)
}

#[test]
fn a_torn_last_group_is_cut_and_said() {
    let mut world = killed();
    let (name, at, first) = last_group(&world);
    world.disk.flip(name, (at + BLOCK) * 8);
    let (seen, report) = read(&world.disk);
    let report = report.expect("a torn tail is no damage");
    assert_eq!(seen, world.model[..world.model.len() - 1]);
    assert_eq!(report.last, first.previous());
    assert!(report.truncated_bytes > BLOCK && report.truncated_frames == 1, "{report:?}");
    world.open(first.previous()).expect("it opens");
}

#[test]
fn the_same_bytes_are_damage_once_a_watermark_vouches_for_them() {
    let mut world = filled();
    world.log().rest();
    world.settle();
    world.crash(Crash::Kill);
    let (name, at, first) = last_group(&world);
    world.disk.flip(name, (at + BLOCK) * 8);
    let error = read(&world.disk).1.expect_err("acknowledged records are damaged");
    let RecoverError::Damaged { segment, offset, lsn, .. } = error else { panic!("{error}") };
    assert_eq!((FileName::Segment(segment), offset, lsn), (name, at, first));
}

#[test]
fn a_torn_frame_still_vouches_with_its_header() {
    let mut world = filled();
    let (name, at, first) = last_group(&world);
    world.append(6000, 1).expect("room");
    while world.durable == world.written {
        world.step_commit();
    }
    world.crash(Crash::Kill);
    let (torn_name, torn_at, _) = last_group(&world);
    assert_eq!(torn_name, name);
    world.disk.flip(name, (torn_at + BLOCK) * 8);
    world.disk.flip(name, (at + BLOCK) * 8);
    let error = read(&world.disk).1.expect_err("acknowledged records are damaged");
    assert!(matches!(error, RecoverError::Damaged { lsn, .. } if lsn == first), "{error}");
}

#[test]
fn the_same_bytes_are_damage_once_a_checkpoint_vouches_for_them() {
    let world = killed();
    let (name, at, first) = last_group(&world);
    world.disk.flip(name, (at + BLOCK) * 8);
    let restored = |restored| ReplayOptions { restored, ..ALL };
    assert!(read_log(&world.disk, restored(first.previous())).1.is_ok());
    let error = read_log(&world.disk, restored(first)).1.expect_err("the checkpoint had it");
    assert_eq!(error.code(), "log-damaged");
}

#[test]
fn a_good_frame_behind_a_missing_one_is_cut_with_it_when_nothing_vouches() {
    let world = killed();
    let name = *segments(&world.disk).last().expect("a segment");
    let mut bytes = world.disk.bytes(name);
    let (header, _) = SegmentHeader::decode(&bytes).expect("whole");
    let last = world.model.last().expect("not empty").last();
    // What a log with two writes in flight would leave: the first lost, the second there.
    let fields = FrameFields {
        kind: FrameKind::Records,
        payload_bytes: 0,
        lsn_first: last.after(3),
        lsn_count: 1,
        durable: last,
        prev: ChainHash([9; 16]),
    };
    let at = bytes.len() - 4096;
    seal_frame(&header.key(), &fields, &mut bytes[at..]);
    world.disk.put(name, &bytes);
    let (seen, report) = read(&world.disk);
    assert_eq!(seen, world.model, "no more and no less than what is whole");
    assert_eq!(report.expect("a legal crash state").truncated_frames, 1);

    // The same frame, written after the missing one was durable.
    let fields = FrameFields { durable: last.next(), ..fields };
    seal_frame(&header.key(), &fields, &mut bytes[at..]);
    world.disk.put(name, &bytes);
    let error = read(&world.disk).1.expect_err("a durable record is missing");
    assert!(matches!(error, RecoverError::Damaged { lsn, .. } if lsn == last.next()), "{error}");
}

#[test]
fn stale_frames_of_a_recycled_segment_are_not_read() {
    let mut world = World::new(5, TINY);
    world.open(Lsn::NONE).expect("an empty disk");
    let mut recycled = 0;
    for round in 0..40 {
        world.append(5000, 2).expect("room");
        world.settle();
        world.checkpoint();
        world.settle();
        let name = *segments(&world.disk).last().expect("a segment");
        let bytes = world.disk.bytes(name);
        let (header, _) = SegmentHeader::decode(&bytes).expect("whole");
        let ours = bytes.chunks(4096).filter(|block| block[..8] == *header.key().tag()).count();
        let stale = bytes.chunks(4096).skip(1).filter(|block| block[..8] != [0; 8]).count();
        recycled += u32::from(stale > ours);

        let disk = world.disk.kill();
        let (_, replayed) = read_log(&disk, ReplayOptions { restored: world.restored, ..ALL });
        let report = replayed.expect("nothing is wrong").report;
        assert_eq!((report.last, report.truncated_frames), (world.durable, 0), "round {round}");
    }
    assert!(recycled > 10, "only {recycled} rounds had stale frames to meet");
    assert!(world.log().stats().retired > 10);
}

#[test]
fn recovering_twice_is_recovering_once() {
    let mut world = killed();
    let (name, at, first) = last_group(&world);
    world.disk.flip(name, (at + BLOCK) * 8);
    let (once, report) = read(&world.disk);
    let (twice, again) = read(&world.disk);
    assert_eq!((&once, report.expect("cut")), (&twice, again.expect("cut")));
    for _ in 0..3 {
        world.open(first.previous()).expect("it opens");
        world.crash(Crash::Kill);
        let (seen, report) = read(&world.disk);
        assert_eq!(seen, once);
        let report = report.expect("whole");
        assert_eq!((report.truncated_bytes, report.last), (0, first.previous()));
    }
}

#[test]
fn numbers_may_be_skipped_when_a_log_starts() {
    use ebbtide_wal::{StartOptions, WalWriter, ready};
    let world = closed();
    let last = world.model.last().expect("not empty").last();
    let (_, replayed) = read_log(&world.disk, ALL);
    let options = StartOptions { log: TINY, seed: [8; 32], lsn_first_min: Lsn::new(1_000) };
    let mut started =
        ready(replayed.expect("whole").start(&world.disk, options)).expect("it starts");
    assert_eq!(started.log.append(b"x", 1), Ok(Lsn::new(1_000)));
    while let Some(request) = started.log.next_commit() {
        let done = ready(started.commit.perform(request));
        started.log.commit_done(done);
    }
    let (seen, report) = read(&world.disk.kill());
    let firsts: Vec<_> = seen.iter().map(|batch| batch.first).collect();
    assert_eq!(firsts[firsts.len() - 2..], [world.model[4].first, Lsn::new(1_000)]);
    assert_eq!(report.expect("whole").last, Lsn::new(1_000));
    assert!(last < Lsn::new(1_000));
}

#[test]
fn a_segment_that_a_checkpoint_covers_matters_only_to_a_verification() {
    let world = closed();
    world.disk.flip(FileName::Segment(1), 5000 * 8);
    let last = world.model.last().expect("not empty").last();
    let restored = ReplayOptions { restored: last, ..ALL };
    let (seen, replayed) = read_log(&world.disk, restored);
    assert_eq!(replayed.expect("it is not needed").report.skipped_segments, 2);
    assert!(seen.iter().all(|batch| batch.first > world.model[3].last()));
    let verified = read_log(&world.disk, ReplayOptions { read_covered: true, ..restored }).1;
    let error = verified.expect_err("a verification reads all");
    assert!(matches!(error, RecoverError::Damaged { segment: 1, .. }), "{error}");
}
