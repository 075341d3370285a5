//! A ledger written out and put back, against the one it came from, to the bit.

use super::*;
use crate::limits::{HOUR_NS, MINUTE_NS, PARTITIONS};
use crate::{PartitionKey, Schema, TopEntry};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const SCHEMA: &str = r#"
    [signals.delay]
    half_lives = ["1s"]
    [signals.view]
    half_lives = ["1h", "24h", "7d"]
    windows = ["5min", "1h", "24h", "7d"]
    velocity = true
"#;
/// Stored numbers that are not the ids.
const NUMBERS: [u8; 2] = [9, 4];

/// The latest of each pair, and in which round it was written.
type Stored = BTreeMap<(EntityId, u8), (PairRecord, Round)>;

fn key() -> PartitionKey {
    PartitionKey::new([5; 16])
}

fn ledger(partitions: Range<usize>) -> SignalLedger {
    SignalLedger::new(Arc::new(Schema::from_toml(SCHEMA).unwrap()), key(), partitions)
}

fn event(entity: u64, signal: u8, time: u64, weight: f64) -> RoutedEvent {
    let (entity, signal, time) = (EntityId(entity), SignalId(signal), Timestamp(time));
    RoutedEvent { entity, time, weight, hash: key().hash(entity), signal }
}

/// Takes a chunk in as a storage would, and checks what it says of itself.
fn store(chunk: &Chunk, stored: &mut Stored) {
    let mut replaced = Rounds::default();
    for (pair, counts) in chunk.pairs().iter() {
        let mut record = PairRecord::blank();
        pair.write_to(counts, &mut record);
        let place = (EntityId(pair.entity), pair.number);
        if let Some((_, round)) = stored.insert(place, (record, chunk.round())) {
            replaced.add(round, 1);
        }
    }
    assert_eq!(*chunk.replaced(), replaced);
}

/// A checkpoint in small steps, with `meanwhile` before each.
fn write_out(
    ledger: &mut SignalLedger,
    stored: &mut Stored,
    meanwhile: impl FnMut(&mut SignalLedger),
) {
    let last = stored.values().map(|&(_, round)| round).max();
    let walk = Walk::of_changed(last.map_or(Round::FIRST, Round::next));
    walk_through(ledger, walk, stored, meanwhile);
}

fn walk_through(
    ledger: &mut SignalLedger,
    walk: Walk,
    stored: &mut Stored,
    mut meanwhile: impl FnMut(&mut SignalLedger),
) {
    let mut walk = walk.in_steps_of(7, 300);
    while let Some(chunk) = ledger.checkpoint(&mut walk, Lsn::new(77), &NUMBERS) {
        assert!(chunk.pairs().len() <= 7);
        store(&chunk, stored);
        assert_eq!(ledger.rounds(), &rounds_of_slots(ledger));
        meanwhile(ledger);
    }
    assert!(ledger.checkpoint(&mut walk, Lsn::new(78), &NUMBERS).is_none());
}

/// In which rounds the slots say they were saved.
fn rounds_of_slots(ledger: &SignalLedger) -> Rounds {
    let mut rounds = Rounds::default();
    let saved = ledger.states.iter().filter_map(|kept| kept.hot.saved());
    saved.for_each(|round| rounds.add(round, 1));
    rounds
}

/// Puts everything back; says how much of it was taken.
fn put_back(stored: &Stored, ledgers: &mut [SignalLedger]) -> usize {
    let mut taken = 0;
    for (&(entity, number), (record, round)) in stored {
        assert_eq!(record.lsn, 77);
        let signal = NUMBERS.iter().position(|&known| known == number).unwrap();
        let signal = SignalId(u8::try_from(signal).unwrap());
        let (hash, record, saved) = (key().hash(entity), record.clone(), Some(*round));
        let pair = RestoredPair { entity, hash, signal, record, saved };
        let owner = ledgers.iter_mut().find(|ledger| ledger.owns(pair.hash)).unwrap();
        taken += usize::from(owner.restore(&pair).unwrap());
    }
    for ledger in ledgers {
        assert_eq!(ledger.rounds(), &rounds_of_slots(ledger));
    }
    taken
}

/// Everything a ledger answers, with scores as bits.
fn answers(ledgers: &[SignalLedger], now: Timestamp) -> Vec<String> {
    let mut all: Vec<_> = ledgers
        .iter()
        .flat_map(|ledger| ledger.iter(now))
        .map(|(entity, signal, reading)| {
            let bits: Vec<_> = reading.scores().iter().map(|score| score.to_bits()).collect();
            format!("{entity} {signal:?} {bits:?} {reading:?}")
        })
        .collect();
    all.sort_unstable();
    for (signal, half_life) in [(0, 0), (1, 0), (1, 1), (1, 2)] {
        let mut top: Vec<_> = Vec::new();
        for ledger in ledgers {
            let mut candidates = Vec::new();
            ledger.top_candidates((SignalId(signal), half_life), now, &mut candidates);
            top.append(&mut candidates);
        }
        TopEntry::keep_best(&mut top, 128);
        all.push(format!("{top:?}"));
    }
    all
}

fn time() -> impl Strategy<Value = u64> {
    let year = 365 * 24 * HOUR_NS;
    prop_oneof![
        1 => Just(0),
        4 => 40 * year..40 * year + 3 * MINUTE_NS,
        4 => 40 * year..40 * year + 8 * 24 * HOUR_NS,
        2 => 20 * year..41 * year,
        1 => 0..u64::MAX,
    ]
}

fn events(most: usize) -> impl Strategy<Value = Vec<RoutedEvent>> {
    let event =
        (0..300u64, 0..2u8, time(), 0..1000u32).prop_map(|(entity, signal, time, weight)| {
            event(entity, signal, time, f64::from(weight) / 8.0)
        });
    prop::collection::vec(event, 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_ledger_put_back_answers_to_the_bit_then_and_later(
        before in events(1200),
        between in events(300),
        after in events(600),
        now in time(),
        cut in 1..PARTITIONS,
    ) {
        let mut whole = [ledger(0..PARTITIONS)];
        let mut stored = Stored::new();
        whole[0].apply_batch(&before);
        write_out(&mut whole[0], &mut stored, |_| ());
        let first = stored.clone();
        // The second checkpoint is of what changed.
        whole[0].apply_batch(&between);
        write_out(&mut whole[0], &mut stored, |_| ());
        prop_assert_eq!(stored.len(), whole[0].pairs());

        let mut parts = [ledger(0..cut), ledger(cut..PARTITIONS)];
        // What was stored first is overtaken, whether it comes before or after.
        let overtaken: Stored = first
            .into_iter()
            .filter(|(place, (_, round))| stored[place].1 > *round)
            .collect();
        prop_assert_eq!(put_back(&overtaken, &mut parts[..]), overtaken.len());
        prop_assert_eq!(put_back(&stored, &mut parts), stored.len());
        prop_assert_eq!(put_back(&overtaken, &mut parts), 0);
        let mut rounds = Rounds::default();
        for &(_, round) in stored.values() {
            rounds.add(round, 1);
        }
        prop_assert_eq!(parts[0].rounds().clone().and(parts[1].rounds()), rounds.clone());
        prop_assert_eq!(whole[0].rounds(), &rounds);
        for now in [Timestamp(now), Timestamp::MAX] {
            prop_assert_eq!(answers(&whole, now), answers(&parts, now));
        }
        // Nothing is dirty that is saved.
        let mut unsaved = Stored::new();
        for part in &mut parts {
            write_out(part, &mut unsaved, |_| ());
        }
        prop_assert!(unsaved.is_empty());
        for event in &after {
            whole[0].on_event(event);
            parts[usize::from(event.hash.partition() >= cut)].on_event(event);
        }
        prop_assert_eq!(answers(&whole, Timestamp(now)), answers(&parts, Timestamp(now)));
        prop_assert_eq!(answers(&whole, Timestamp::MAX), answers(&parts, Timestamp::MAX));
        // Both write the same records now.
        let next = Walk::of_changed(Round::new(9).unwrap());
        let (mut from_whole, mut from_parts) = (stored.clone(), stored);
        walk_through(&mut whole[0], next, &mut from_whole, |_| ());
        for part in &mut parts {
            walk_through(part, next, &mut from_parts, |_| ());
        }
        prop_assert_eq!(from_whole, from_parts);
    }
}

/// Entities of one partition, so that its table grows while it is written out.
fn crowd(count: usize) -> Vec<u64> {
    (0..).filter(|&entity| key().hash(EntityId(entity)).partition() == 3).take(count).collect()
}

#[test]
fn every_pair_dirty_at_the_beginning_is_written_out_whatever_grows_meanwhile() {
    let mut ledger = ledger(0..8);
    let crowd = crowd(400);
    let (first, mut later) = (&crowd[..40], crowd[40..].iter());
    for &entity in first {
        ledger.on_event(&event(entity, 1, 5, 1.0));
    }
    let mut stored = Stored::new();
    write_out(&mut ledger, &mut stored, |ledger| {
        // Each step meets a table that has grown, or is about to.
        for &entity in later.by_ref().take(25) {
            ledger.on_event(&event(entity, 1, 6, 1.0));
        }
    });
    for &entity in first {
        assert!(stored.contains_key(&(EntityId(entity), NUMBERS[1])));
    }
    // What came meanwhile is dirty still, or written out already.
    later.for_each(|&entity| ledger.on_event(&event(entity, 1, 6, 1.0)));
    write_out(&mut ledger, &mut stored, |_| ());
    assert_eq!(stored.len(), ledger.pairs());
}

#[test]
fn a_walk_ends_however_many_pairs_come_meanwhile() {
    let mut ledger = ledger(0..PARTITIONS);
    (0..100).for_each(|entity| ledger.on_event(&event(entity, 1, 5, 1.0)));
    let (mut stored, mut new) = (Stored::new(), 100..);
    write_out(&mut ledger, &mut stored, |ledger| {
        // As many as a step writes out.
        new.by_ref().take(7).for_each(|entity| ledger.on_event(&event(entity, 1, 6, 1.0)));
        assert!(new.start < 1000, "the walk goes on after what comes meanwhile");
    });
    assert_eq!(stored.len(), 100);
}

#[test]
fn a_walk_that_ends_with_a_step_takes_no_other() {
    let mut ledger = ledger(0..PARTITIONS);
    (0..600).for_each(|entity| ledger.on_event(&event(entity, 1, 5, 1.0)));
    let mut steps = |mut walk: Walk| {
        let chunks = std::iter::from_fn(|| ledger.checkpoint(&mut walk, Lsn::new(77), &NUMBERS));
        chunks.map(|chunk| chunk.pairs().len()).collect::<Vec<_>>()
    };
    let round = Round::FIRST.next();
    assert_eq!(steps(Walk::of_all(Round::FIRST).in_steps_of(300, 1_000)), [300; 2]);
    assert_eq!(steps(Walk::of_all(round).in_steps_of(1_000, 200)), [200; 3]);
    assert_eq!(steps(Walk::of_changed(round.next()).in_steps_of(7, 300)), [0; 2]);
}

#[test]
fn a_walk_writes_what_has_changed_and_nothing_else() {
    let mut ledger = ledger(0..PARTITIONS);
    for entity in 0..2000 {
        ledger.on_event(&event(entity, 1, 5, 1.0));
    }
    let mut stored = Stored::new();
    write_out(&mut ledger, &mut stored, |_| ());
    assert_eq!(stored.len(), 2000);
    ledger.on_event(&event(7, 1, 6, 1.0));
    let before = stored.clone();
    write_out(&mut ledger, &mut stored, |_| ());
    let changed = stored.iter().filter(|&(place, saved)| before[place] != *saved);
    let changed: Vec<_> = changed.map(|(&place, &(_, round))| (place, round)).collect();
    assert_eq!(changed, [((EntityId(7), NUMBERS[1]), Round::FIRST.next())]);
    // A walk of all writes out what it would have passed over.
    walk_through(&mut ledger, Walk::of_all(Round::new(5).unwrap()), &mut stored, |_| ());
    assert!(stored.values().all(|&(_, round)| round.get() == 5));
    ledger.forget_saved();
    assert_eq!(ledger.rounds(), &Rounds::default());
    let mut elsewhere = Stored::new();
    write_out(&mut ledger, &mut elsewhere, |_| ());
    assert_eq!(elsewhere.len(), 2000);
}

#[test]
fn counters_at_their_end_are_put_back_and_stay_there() {
    let mut full = ledger(0..PARTITIONS);
    full.on_event(&event(1, 1, 0, 1.0));
    let hash = key().hash(EntityId(1));
    let state = full.states.at_mut(0).unwrap();
    state.hot.set_all_time(u64::MAX);
    full.on_event(&event(1, 1, 0, 1.0));
    let mut stored = Stored::new();
    write_out(&mut full, &mut stored, |_| ());
    let mut back = [ledger(0..PARTITIONS)];
    put_back(&stored, &mut back);
    let reading = back[0].read(hash, EntityId(1), SignalId(1), Timestamp(0)).unwrap();
    assert_eq!((reading.all_time, reading.saturated), (u64::MAX, true));
}

#[test]
fn a_candidate_that_has_sunk_to_zero_is_none_before_and_after() {
    let mut sunk = [ledger(0..PARTITIONS)];
    for (time, weight) in [(0, 5.0), (HOUR_NS, 0.0)] {
        sunk[0].on_event(&event(1, 0, time, weight));
        sunk[0].on_event(&event(2, 0, time, 5.0));
    }
    let now = Timestamp(HOUR_NS);
    let mut top = Vec::new();
    sunk[0].top_candidates((SignalId(0), 0), now, &mut top);
    assert_eq!(top.iter().map(|entry| entry.entity).collect::<Vec<_>>(), [EntityId(2)]);
    let mut stored = Stored::new();
    write_out(&mut sunk[0], &mut stored, |_| ());
    let mut back = [ledger(0..PARTITIONS)];
    put_back(&stored, &mut back);
    assert_eq!(answers(&sunk, now), answers(&back, now));
}

#[test]
fn two_states_of_one_pair_in_one_round_are_refused() {
    let mut ledger = ledger(0..PARTITIONS);
    ledger.on_event(&event(1, 1, 5, 1.0));
    let mut stored = Stored::new();
    write_out(&mut ledger, &mut stored, |_| ());
    let (&(entity, _), (record, round)) = stored.first_key_value().unwrap();
    let (hash, signal, record) = (key().hash(entity), SignalId(1), record.clone());
    let pair = RestoredPair { entity, hash, signal, record, saved: Some(*round) };
    let mut back = self::ledger(0..PARTITIONS);
    assert_eq!(back.restore(&pair), Ok(true));
    assert_eq!(back.restore(&pair), Err(RecordFault::Twice));
}

#[test]
fn a_record_of_another_schema_is_refused() {
    let mut ledger = ledger(0..PARTITIONS);
    let entity = EntityId(1);
    let record = PairRecord {
        lsn: 1,
        last_update: 2,
        sums: [1.0; 3],
        all_time: 1,
        half_lives: 2,
        saturated: false,
        counts: Vec::new(),
    };
    let pair =
        RestoredPair { entity, hash: key().hash(entity), signal: SignalId(1), record, saved: None };
    assert_eq!(ledger.restore(&pair), Err(RecordFault::HalfLives { count: 2 }));
    let mut pair = pair;
    pair.record.half_lives = 3;
    assert_eq!(ledger.restore(&pair), Ok(true));
    // Without a saved record it is dirty.
    let mut stored = Stored::new();
    write_out(&mut ledger, &mut stored, |_| ());
    assert_eq!(stored.len(), 1);
}
