//! The format of version 1, as `docs/FORMAT.md` tells it and as files were written with it.
//!
//! Promises: the tables of the documentation cover every byte of what they describe, with the
//! values the code writes there; logs of version 1 stay readable, and are still written alike.
//! Invariants: the files in `fixtures/v1` never change.
//! Fails by: a failing test that names the field or the file.
//! Not here: what is done with damaged files (`damage`).
//! Source: none.

mod world;

use std::path::{Path, PathBuf};

use ebbtide_wal::frame::{FrameFields, FrameKind, seal_frame};
use ebbtide_wal::limits::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use ebbtide_wal::segment::SegmentHeader;
use ebbtide_wal::storage::FileName;
use ebbtide_wal::storage::sim::SimDisk;
use ebbtide_wal::{
    Batch, ChainHash, CheckpointNote, Epoch, FrameSeen, LogIdentity, LogOptions, Lsn,
    ReplayOptions, ReplaySink, SegmentId, SinkError, StartOptions, Started, StoreId, WalWriter,
    ready, replay, replay_with,
};

/// Rows of the first table after `heading`: offset, length, first word of the field.
fn table(heading: &str) -> Vec<(usize, usize, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let (_, after) = text.split_once(heading).expect("the heading is there");
    after
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let mut number = || cells.next().expect("a cell").parse().expect("a number");
            let (offset, bytes) = (number(), number());
            (offset, bytes, cells.next().expect("a name").to_owned())
        })
        .collect()
}

/// The table's fields follow each other without a gap, fill `whole`, and hold these values.
fn assert_table(heading: &str, bytes: &[u8], values: &[(&str, Vec<u8>)]) {
    let rows = table(heading);
    let mut at = 0;
    for (offset, len, name) in &rows {
        assert_eq!(*offset, at, "{name}");
        at += len;
        let seen = &bytes[*offset..at];
        if name.starts_with("zero") {
            assert!(seen.iter().all(|&byte| byte == 0), "{name} at {offset}");
            continue;
        }
        let value = values.iter().find(|(start, _)| name.starts_with(start));
        let (_, value) = value.unwrap_or_else(|| panic!("{name} is in no list of values"));
        assert_eq!(seen, value, "{name} at {offset}");
    }
    assert_eq!(at, bytes.len(), "the table describes every byte");
    assert_eq!(rows.iter().filter(|row| !row.2.starts_with("zero")).count(), values.len());
}

fn id() -> SegmentId {
    let log = LogIdentity { store: StoreId([0x11; 16]), shard: 0x2233 };
    SegmentId { log, seq: 0x44, epoch: Epoch([0x55; 16]) }
}

#[test]
fn the_documented_segment_header_is_the_one_written() {
    let header = SegmentHeader {
        id: id(),
        lsn_first: Lsn::new(0x66),
        bytes: 0x7000,
        prev_last: Lsn::new(0x65),
        prev: ChainHash([0x77; 16]),
    };
    let mut block = vec![0xff; SEGMENT_HEADER_BYTES];
    header.encode(&mut block);
    let mut hasher = blake3::Hasher::new_derive_key("ebbtide wal v1 segment header");
    let hash = hasher.update(&block[..4064]).finalize().as_bytes().to_vec();
    assert_table(
        "Header of a segment:",
        &block,
        &[
            ("magic", b"EBBTWAL\0".to_vec()),
            ("format version", 1_u32.to_le_bytes().to_vec()),
            ("shard", 0x2233_u32.to_le_bytes().to_vec()),
            ("store id", vec![0x11; 16]),
            ("segment number", 0x44_u64.to_le_bytes().to_vec()),
            ("epoch", vec![0x55; 16]),
            ("lsn first", 0x66_u64.to_le_bytes().to_vec()),
            ("length", 0x7000_u64.to_le_bytes().to_vec()),
            ("prev last", 0x65_u64.to_le_bytes().to_vec()),
            ("prev hash", vec![0x77; 16]),
            ("hash", hash),
        ],
    );
}

#[test]
fn the_documented_frame_header_is_the_one_written() {
    let fields = FrameFields {
        kind: FrameKind::Records,
        payload_bytes: 0x123,
        lsn_first: Lsn::new(0x66),
        lsn_count: 0x88,
        durable: Lsn::new(0x65),
        prev: ChainHash([0x77; 16]),
    };
    let mut frame = vec![0xee; fields.frame_bytes()];
    let SegmentId { log, seq, epoch } = id();
    let header = SegmentHeader {
        id: id(),
        lsn_first: Lsn::new(0x66),
        bytes: 0x7000,
        prev_last: Lsn::new(0x65),
        prev: ChainHash([0; 16]),
    };
    seal_frame(&header.key(), &fields, &mut frame);

    let mut hasher = blake3::Hasher::new_derive_key("ebbtide wal v1 frame key");
    hasher.update(&log.store.0).update(&log.shard.to_le_bytes());
    hasher.update(&seq.to_le_bytes()).update(&epoch.0);
    let mut derived = [0; 40];
    hasher.finalize_xof().fill(&mut derived);
    let (key, tag) = derived.split_first_chunk::<32>().expect("40 bytes");
    let hash = |bytes: &[u8]| blake3::keyed_hash(key, bytes).as_bytes().to_vec();
    assert_table(
        "Header of a frame:",
        &frame[..FRAME_HEADER_BYTES],
        &[
            ("tag", tag.to_vec()),
            ("payload bytes", 0x123_u32.to_le_bytes().to_vec()),
            ("kind", vec![1]),
            ("lsn first", 0x66_u64.to_le_bytes().to_vec()),
            ("lsn count", 0x88_u32.to_le_bytes().to_vec()),
            ("durable", 0x65_u64.to_le_bytes().to_vec()),
            ("prev hash", vec![0x77; 16]),
            ("payload hash", hash(&frame[FRAME_HEADER_BYTES..])),
            ("header hash", hash(&frame[..96])),
        ],
    );
}

/// The identity of the frozen log.
const FROZEN: LogIdentity = LogIdentity { store: StoreId(*b"frozen fixture 1"), shard: 7 };

fn run(started: &mut Started<SimDisk>) {
    loop {
        if let Some(request) = started.log.next_commit() {
            let done = ready(started.commit.perform(request));
            started.log.commit_done(done);
        } else if let Some(request) = started.log.next_upkeep() {
            let done = ready(started.upkeep.perform(request));
            started.log.upkeep_done(done);
        } else {
            return;
        }
    }
}

/// A log of every kind of frame, over two segments, closed in order.
fn write_frozen() -> SimDisk {
    let disk = SimDisk::new(0);
    let found = ready(replay(&disk, FROZEN, ReplayOptions::default(), |_| Ok(()))).expect("empty");
    let log = LogOptions { group_bytes: 8192, segment_bytes: 28672, ..LogOptions::default() };
    let options = StartOptions { log, seed: [9; 32], lsn_first_min: Lsn::NONE };
    let mut started = ready(found.start(&disk, options)).expect("it starts");
    for (first, count) in [(1_u8, 2_u8), (3, 1)] {
        let bytes: Vec<u8> = (first..first + count).flat_map(|lsn| [lsn; 24]).collect();
        started.log.append(&bytes, u32::from(count)).expect("room");
    }
    run(&mut started);
    started.log.rest();
    run(&mut started);
    started.log.append(&[4; 5000], 1).expect("room");
    run(&mut started);
    let note = CheckpointNote { covered: Lsn::new(3), digest: [0xcc; 32] };
    started.log.note_checkpoint(note).expect("durable");
    run(&mut started);
    started.log.close();
    run(&mut started);
    assert!(started.log.is_closed());
    disk
}

fn fixture(name: FileName) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name.to_string())
}

const FROZEN_FILES: [FileName; 2] = [FileName::Segment(1), FileName::Segment(2)];

#[test]
fn todays_log_is_byte_for_byte_that_of_version_one() {
    let disk = write_frozen();
    assert_eq!(disk.names(), FROZEN_FILES);
    for name in FROZEN_FILES {
        let frozen = std::fs::read(fixture(name)).expect("the fixture is there");
        assert!(disk.bytes(name) == frozen, "{name} is written differently now");
    }
}

/// Collects everything a replay shows.
#[derive(Default)]
struct All {
    frames: Vec<(u64, u64, FrameKind)>,
    batches: Vec<(Lsn, u32, usize)>,
}

impl ReplaySink for All {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), SinkError> {
        self.batches.push((batch.first, batch.count, batch.records.len()));
        Ok(())
    }

    fn frame(&mut self, seen: FrameSeen) {
        self.frames.push((seen.segment, seen.offset, seen.fields.kind));
    }
}

#[test]
fn a_log_of_version_one_is_read_frame_by_frame() {
    let disk = SimDisk::new(0);
    for name in FROZEN_FILES {
        disk.put(name, &std::fs::read(fixture(name)).expect("the fixture is there"));
    }
    let mut all = All::default();
    let options = ReplayOptions { must_exist: true, ..ReplayOptions::default() };
    let report = ready(replay_with(&disk, FROZEN, options, &mut all)).expect("it is read").report;
    assert_eq!(
        all.frames,
        [
            (1, 4096, FrameKind::Records),
            (1, 8192, FrameKind::Watermark),
            (1, 12288, FrameKind::Records),
            (1, 20480, FrameKind::Checkpoint),
            (1, 24576, FrameKind::Seal),
            (2, 4096, FrameKind::Shutdown),
        ]
    );
    let batches = [(Lsn::new(1), 2, 48), (Lsn::new(3), 1, 24), (Lsn::new(4), 1, 5000)];
    assert_eq!(all.batches, batches);
    assert!(report.clean_shutdown && report.loose_bytes == 0);
    let note = CheckpointNote { covered: Lsn::new(3), digest: [0xcc; 32] };
    assert_eq!((report.last, report.checkpoint), (Lsn::new(4), Some(note)));
}
