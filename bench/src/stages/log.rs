//! Stages of the log: records, frames, and both back again.

use super::{Arrivals, EVENTS, Rounds, Stage, repeated, rounds};
use crate::compare::log::{append, started, take_all};
use ebbtide_shard::RoutedEvent;
use ebbtide_shard::limits::BATCH_EVENTS_MAX;
use ebbtide_shard::record::{Batch, BatchForm, EventsEncoder, decode_batch};
use ebbtide_wal::frame::{FrameFields, FrameKind, read_header, seal_frame};
use ebbtide_wal::limits::FRAME_HEADER_BYTES;
use ebbtide_wal::storage::sim::SimDisk;
use ebbtide_wal::{ChainHash, Epoch, FrameKey, LogIdentity, Lsn, SegmentId, StoreId};
use std::hint::black_box;

/// Batches and frames of a round.
const BATCHES: usize = EVENTS / BATCH_EVENTS_MAX;

pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "encode",
        operation: "one event as a record, in batches of 512",
        operations: EVENTS,
        set_up: encode,
    },
    Stage {
        name: "append",
        operation: "one event encoded, in a group and sealed with it, on a disk that does nothing",
        operations: EVENTS,
        set_up: append_all,
    },
    Stage {
        name: "seal_frame",
        operation: "a frame with 512 records, hashed with BLAKE3",
        operations: BATCHES,
        set_up: seal,
    },
    Stage {
        name: "verify_frame",
        operation: "the same frame read and verified",
        operations: BATCHES,
        set_up: verify,
    },
    Stage {
        name: "decode",
        operation: "one record as an event, in batches of 512",
        operations: EVENTS,
        set_up: decode,
    },
];

/// A batch as a turn makes it, of the number of its records.
fn batch_of(events: &[RoutedEvent], bytes: &mut Vec<u8>) -> u32 {
    let mut encoder = EventsEncoder::begin(BatchForm::default(), bytes);
    for event in events {
        encoder.push(event, event.signal.0, 0, None);
    }
    encoder.finish(0)
}

/// The batches of a round.
fn batches() -> Vec<(Vec<u8>, u32)> {
    let events = Arrivals::new().take();
    let batches = events.chunks(BATCH_EVENTS_MAX).map(|events| {
        let mut bytes = Vec::new();
        let records = batch_of(events, &mut bytes);
        (bytes, records)
    });
    batches.collect()
}

fn encode() -> Box<dyn Rounds> {
    let state = (Arrivals::new().take(), Vec::new());
    repeated(state, |(events, bytes)| {
        for batch in events.chunks(BATCH_EVENTS_MAX) {
            black_box(batch_of(batch, bytes));
        }
    })
}

fn append_all() -> Box<dyn Rounds> {
    let log = started(&SimDisk::new(1)).expect("a disk in memory starts").log;
    let state = (log, Arrivals::new(), Vec::new());
    rounds(
        state,
        |(_, arrivals, events)| *events = arrivals.take(),
        |(log, _, events)| {
            let make_room = |log: &mut _, _| {
                take_all(log);
                Ok(())
            };
            append(log, events, make_room).expect("a disk that does nothing refuses nothing");
            take_all(log);
        },
    )
}

/// A frame before it is sealed.
struct Frame {
    key: FrameKey,
    fields: FrameFields,
    bytes: Vec<u8>,
}

impl Frame {
    fn new() -> Self {
        let log = LogIdentity { store: StoreId([7; 16]), shard: 0 };
        let key = FrameKey::derive(&SegmentId { log, seq: 1, epoch: Epoch([7; 16]) });
        let (payload, lsn_count) = batches().remove(0);
        let fields = FrameFields {
            kind: FrameKind::Records,
            payload_bytes: payload.len(),
            lsn_first: Lsn::FIRST,
            lsn_count,
            durable: Lsn::NONE,
            prev: ChainHash::START,
        };
        let mut bytes = vec![0; fields.frame_bytes()];
        bytes[FRAME_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        Self { key, fields, bytes }
    }

    fn seal(&mut self) {
        black_box(seal_frame(&self.key, &self.fields, &mut self.bytes));
    }

    fn verify(&self) {
        let header = read_header(&self.key, &self.bytes).expect("the frame was sealed");
        header.verify_payload(&self.key, &self.bytes).expect("the frame was sealed");
    }
}

fn seal() -> Box<dyn Rounds> {
    repeated(Frame::new(), |frame| (0..BATCHES).for_each(|_| frame.seal()))
}

fn verify() -> Box<dyn Rounds> {
    let mut frame = Frame::new();
    frame.seal();
    repeated(frame, |frame| (0..BATCHES).for_each(|_| frame.verify()))
}

fn decode() -> Box<dyn Rounds> {
    repeated(batches(), |batches| {
        for (bytes, records) in &*batches {
            let batch = decode_batch(bytes, *records).expect("it was encoded");
            let Batch::Events(events) = batch else { unreachable!("a batch of events") };
            for event in events.iter() {
                black_box(event);
            }
        }
    })
}
