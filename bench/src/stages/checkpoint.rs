//! Stages of a checkpoint: pairs written out, read and put back.

use super::{EVENTS, Rounds, Stage, empty_ledger, repeated, rounds};
use crate::compare::tables::{Decays, KEY, batches, history, schema};
use crate::compare::workload::{START_NS, one_each};
use ebbtide_shard::checkpoint::{
    Chunk, Key, MemoryStorage, Opening, PairList, Round, RoutedPairs, Saver, StorageEngine as _,
    Tag, decode, decode_page, encode,
};
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::recovery::Recovering;
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::{EntityId, Materializer as _, PartitionKey, SignalLedger, Walk};
use ebbtide_wal::Lsn;
use std::hint::black_box;
use std::ops::ControlFlow;

/// The stored number of the one signal type.
const NUMBERS: [u8; 1] = [0];

pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "pair_write_out",
        operation: "a pair that has changed, found by the walk and listed",
        operations: EVENTS,
        set_up: write_out,
    },
    Stage {
        name: "pair_save",
        operation: "a listed pair put in a page that is encoded, hashed, kept in memory, read back",
        operations: EVENTS,
        set_up: save,
    },
    Stage {
        name: "pair_encode",
        operation: "a pair of a page that is encoded and hashed",
        operations: EVENTS,
        set_up: encode_pages,
    },
    Stage {
        name: "pair_decode",
        operation: "a pair of a page that is verified, checked and decoded",
        operations: EVENTS,
        set_up: decode_pages,
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
fn walk(ledger: &mut SignalLedger, mut walk: Walk, mut each: impl FnMut(&Chunk)) {
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
        walk(ledger, Walk::of_changed(Round::FIRST), |chunk| {
            black_box(chunk);
        });
    })
}

/// A saver of an empty store in memory.
fn saver() -> Saver<MemoryStorage> {
    let opening = Opening {
        number: 1,
        schema_toml: String::new(),
        signal_names: vec!["view".into()],
        covered: Vec::new(),
    };
    Saver::create(MemoryStorage::new(), [0; 16], opening).expect("memory does not fail")
}

/// All pairs, in a store in memory.
fn saved(chunks: &[Chunk]) -> MemoryStorage {
    let mut saver = saver();
    let _walk = saver.begin_walk().expect("memory does not fail");
    for chunk in chunks {
        saver.commit(chunk).expect("memory does not fail");
    }
    saver.finish(1, Vec::new()).expect("memory does not fail");
    saver.into_storage()
}

/// All pairs, as a walk lists them for an empty store.
fn chunks() -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let all = saver().begin_walk().expect("memory does not fail");
    walk(&mut ledger(), all, |chunk| chunks.push(chunk.clone()));
    chunks
}

/// All pairs, as a checkpoint keeps them.
fn pages() -> Vec<(Key, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pages.push((Key::of_bytes(key).expect("a key was written"), value.to_vec()));
        ControlFlow::Continue(())
    };
    let storage = saved(&chunks());
    storage.scan(Tag::Sig, 0..=u64::MAX, &mut visit).expect("memory does not fail");
    pages
}

fn decoded((key, value): &(Key, Vec<u8>)) -> PairList {
    decode(*key, value).expect("it was encoded").0
}

fn save() -> Box<dyn Rounds> {
    repeated(chunks(), |chunks| {
        black_box(saved(chunks));
    })
}

fn encode_pages() -> Box<dyn Rounds> {
    let pages: Vec<_> = pages().iter().map(|page| (page.0, decoded(page))).collect();
    repeated(pages, |pages| {
        for (key, list) in &*pages {
            black_box(encode(*key, list).expect("it was decoded"));
        }
    })
}

fn decode_pages() -> Box<dyn Rounds> {
    repeated((pages(), PairList::default()), |(pages, list)| {
        for (key, value) in &*pages {
            black_box(decode_page(*key, value, list).expect("it was encoded"));
        }
    })
}

fn restore() -> Box<dyn Rounds> {
    let mut pairs = RoutedPairs::default();
    for page in &pages() {
        for (pair, counts) in decoded(page).iter() {
            let hash = PartitionKey::new(KEY).hash(EntityId(pair.entity));
            pairs.push((hash, Round::FIRST), (pair, counts));
        }
    }
    rounds(
        (nothing_yet(), pairs),
        |(recovering, _)| *recovering = nothing_yet(),
        |(recovering, pairs)| {
            let restored = recovering.restore_all(pairs, |_, _| false);
            restored.expect("pairs are restored where they belong");
        },
    )
}

fn nothing_yet() -> Recovering {
    let schema = schema(Decays::Three).expect("it is ours");
    let (numbers, _) = SignalNumbers::assign(&["view".into()], &schema).expect("it is known");
    Recovering::new(schema, numbers, PartitionKey::new(KEY), 0..PARTITIONS)
}
