//! Stages of a checkpoint: pairs written out, read and put back.

use super::{EVENTS, Rounds, Stage, empty_ledger, repeated, rounds};
use crate::compare::tables::{batches, history};
use crate::compare::workload::{START_NS, VIEW, one_each};
use ebbtide_shard::checkpoint::{Chunk, Key, PairRecord, decode, decode_pair, encode};
use ebbtide_shard::{Materializer as _, RestoredPair, SignalLedger, Walk};
use ebbtide_wal::Lsn;
use std::hint::black_box;

/// The stored number of the one signal type.
const NUMBERS: [u8; 1] = [0];

pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "pair_write_out",
        operation: "a pair that has changed, found by the walk and encoded",
        operations: EVENTS,
        set_up: write_out,
    },
    Stage {
        name: "pair_encode",
        operation: "the record of a pair encoded and hashed",
        operations: EVENTS,
        set_up: encode_pairs,
    },
    Stage {
        name: "pair_decode",
        operation: "the same record verified, checked and decoded",
        operations: EVENTS,
        set_up: decode_pairs,
    },
    Stage {
        name: "pair_restore",
        operation: "a decoded pair put into a ledger, the growth of the table included",
        operations: EVENTS,
        set_up: restore,
    },
];

/// A ledger in which as many pairs as a round has operations have a history.
fn ledger() -> SignalLedger {
    let mut ledger = empty_ledger();
    history(EVENTS as u64, START_NS).for_each(|batch| ledger.apply_batch(&batch));
    ledger
}

/// Writes out what has changed.
fn walk(ledger: &mut SignalLedger, mut each: impl FnMut(&Chunk)) {
    let mut walk = Walk::begin();
    while let Some(chunk) = ledger.checkpoint(&mut walk, Lsn::FIRST, &NUMBERS) {
        each(&chunk);
    }
}

fn write_out() -> Box<dyn Rounds> {
    let change = |(ledger, now_ns): &mut (SignalLedger, u64)| {
        *now_ns += 1_000_000_000;
        batches(one_each(EVENTS as u64, *now_ns)).for_each(|batch| ledger.apply_batch(&batch));
    };
    rounds((ledger(), START_NS), change, |(ledger, _)| {
        walk(ledger, |chunk| {
            black_box(chunk);
        });
    })
}

/// All pairs, as a checkpoint keeps them.
fn values() -> Vec<(Key, Vec<u8>)> {
    let mut values = Vec::new();
    walk(&mut ledger(), |chunk| {
        let value = |(key, value): (Key, Option<&[u8]>)| Some((key, value?.to_vec()));
        values.extend(chunk.puts().changes().filter_map(value));
    });
    values
}

fn decoded((key, value): &(Key, Vec<u8>)) -> PairRecord {
    decode(*key, value).expect("it was encoded").0
}

fn encode_pairs() -> Box<dyn Rounds> {
    let records: Vec<_> = values().iter().map(|value| (value.0, decoded(value))).collect();
    repeated(records, |records| {
        for (key, record) in &*records {
            black_box(encode(*key, record).expect("it was decoded"));
        }
    })
}

fn decode_pairs() -> Box<dyn Rounds> {
    repeated((values(), PairRecord::blank()), |(values, record)| {
        for (key, value) in &*values {
            black_box(decode_pair(*key, value, record).expect("it was encoded"));
        }
    })
}

fn restore() -> Box<dyn Rounds> {
    let ledger = empty_ledger();
    let pair = |value: &(Key, Vec<u8>)| {
        let Key::Pair { entity, .. } = value.0 else { unreachable!("a walk writes out pairs") };
        let (hash, record) = (ledger.key().hash(entity), decoded(value));
        RestoredPair { entity, hash, signal: VIEW, record, saved: None }
    };
    let pairs: Vec<RestoredPair> = values().iter().map(pair).collect();
    rounds(
        (ledger, pairs),
        |(ledger, _)| *ledger = empty_ledger(),
        |(ledger, pairs)| {
            for pair in &*pairs {
                ledger.restore(pair).expect("a pair is restored where it belongs");
            }
        },
    )
}
