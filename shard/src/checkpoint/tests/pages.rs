//! Which pages a storage keeps over many checkpoints, and what becomes of records of single pairs.

use super::super::digest::DIGEST_BYTES;
use super::super::run::Run;
use super::*;
use crate::limits::PAGE_HASHED_BYTES;

fn rounds_stored(storage: &MemoryStorage) -> BTreeMap<Round, usize> {
    let mut rounds = BTreeMap::new();
    for page in values(storage, Tag::Sig) {
        let Key::Page { round, .. } = page.0 else { panic!("{}", page.0) };
        *rounds.entry(round).or_default() += pairs_of(&page);
    }
    rounds
}

/// What is stored beside the latest records is never more than as much again, and goes.
#[test]
fn pages_go_when_no_pair_needs_them_and_all_are_written_anew_when_half_is_old() {
    let (mut world, mut storage, _) = saved();
    for turn in 0..40_u64 {
        // From one pair that has changed to all of them.
        world.record(1 + turn * turn % 70);
        storage = checkpointed(&mut world, storage);
        let (found, loaded) = found(&storage).unwrap();
        let (stored, latest) = (rounds_stored(&storage), found.rounds());
        assert!(latest.iter().map(|(round, _)| round).eq(stored.keys().copied()), "{stored:?}");
        let all: usize = stored.values().sum();
        assert!(all as u64 <= 3 * latest.pairs(), "{stored:?} for {latest:?}");
        let ledger = world.recovered(&found, &loaded.meta);
        assert_eq!(answers(&ledger), world.truth());
    }
    assert!(rounds_stored(&storage).keys().any(|round| round.get() > 30));
}

#[test]
fn way_is_given_for_each_page_that_is_written_and_each_record_read_back() {
    let (mut world, mut storage, _) = saved();
    let before = storage.ways_given();
    world.record(70);
    world.checkpoint(&mut resumed(&mut storage)).unwrap();
    let last = rounds_stored(&storage).into_keys().last();
    let is_new = |key: &Key| matches!(key, Key::Page { round, .. } if Some(*round) == last);
    let written = values(&storage, Tag::Sig).iter().filter(|(key, _)| is_new(key)).count() as u64;
    let ways = storage.ways_given() - before;
    assert!(written > 1 && ways >= 2 * written, "{ways} for {written} pages");
}

/// A ledger of pairs, and what its checkpoints wrote.
struct Kept {
    ledger: SignalLedger,
    saver: Option<Saver<MemoryStorage>>,
    time: u64,
}

impl Kept {
    fn new() -> Self {
        let saver = Saver::create(MemoryStorage::new(), STORE, opening(1, Vec::new())).unwrap();
        Self { ledger: ledger(), saver: Some(saver.in_runs_of(RUN_BYTES)), time: 0 }
    }

    fn storage(&self) -> &MemoryStorage {
        self.saver.as_ref().unwrap().storage()
    }

    /// A checkpoint after an event of each of some entities; gives how many pairs it wrote.
    fn checkpoint(&mut self, entities: impl IntoIterator<Item = u64>) -> u64 {
        self.time += 1;
        for entity in entities.into_iter().map(EntityId) {
            let (hash, time, signal) = (key().hash(entity), Timestamp(self.time), SignalId(0));
            self.ledger.on_event(&RoutedEvent { entity, time, weight: 1.0, hash, signal });
        }
        let mut saver = self.saver.take().unwrap();
        if saver.wants_anew() {
            saver = saver.anew(MemoryStorage::new(), &[]).unwrap();
        }
        let mut walk = saver.begin_walk().unwrap();
        while let Some(chunk) = self.ledger.checkpoint(&mut walk, Lsn::new(self.time), &NUMBERS) {
            saver.commit(&chunk).unwrap();
        }
        let done = saver.finish(1, vec![(0, self.time)]).unwrap();
        self.saver = Some(saver);
        done.records
    }
}

/// One pair of each round is not changed any more, so no round goes by itself.
#[test]
fn all_pairs_are_written_when_half_of_what_is_stored_would_be_old_and_not_before() {
    let mut kept = Kept::new();
    assert_eq!(kept.checkpoint(0..100), 100);
    let written: Vec<u64> = (0..6).map(|n| kept.checkpoint((0..40).chain([50 + n]))).collect();
    // Stored after each: 100, 141, 182, and 223 would be twice as much as there is.
    assert_eq!(written, [41, 41, 100, 41, 41, 100]);
    assert_eq!(rounds_stored(kept.storage()).len(), 1, "nothing before is there any more");
}

/// Then it is no more work, and nothing has to be removed.
#[test]
fn when_all_pairs_change_each_time_checkpoints_are_storages_of_their_own() {
    let mut kept = Kept::new();
    assert_eq!(kept.checkpoint(0..100), 100, "what is new is no change");
    for _ in 0..3 {
        let is_anew = kept.saver.as_ref().unwrap().wants_anew();
        assert_eq!((is_anew, kept.checkpoint(0..100)), (kept.time > 2, 100));
    }
    assert_eq!(kept.checkpoint([1]), 100, "as many as the last time, it was thought");
    assert_eq!(kept.checkpoint([1]), 1);
}

/// What was removed and is still there counts too, where the storage knows of it.
#[test]
fn a_storage_that_keeps_what_was_removed_is_left_once_it_takes_twice_what_it_holds() {
    let mut kept = Kept::new();
    kept.checkpoint(0..100);
    let pages = values(kept.storage(), Tag::Sig);
    let page_bytes: usize = pages.iter().map(|(_, value)| value.len()).sum();
    let wants_anew = |stored_bytes: usize, few: u64| {
        let mut storage = kept.storage().after_power_cut(0);
        storage.say_stored(stored_bytes as u64);
        resumed(storage).with_stored_bytes_few(few).wants_anew()
    };
    assert_eq!(kept.saver.as_ref().unwrap().latest_bytes(), page_bytes as u64);
    assert!(!wants_anew(2 * page_bytes - page_bytes / 100, 0));
    assert!(wants_anew(2 * page_bytes, 0));
    assert!(!wants_anew(2 * page_bytes, 2 * page_bytes as u64 + 1), "not worth it");
}

/// Until the new storage is finished the old one is as it was, and what was written to it before is
/// in the new one.
#[test]
fn a_checkpoint_written_anew_that_fails_at_any_operation_leaves_the_one_before() {
    let kind = StorageErrorKind::OutOfSpace;
    for (sticky, done) in [(false, false), (false, true), (true, false), (true, true)] {
        for operation in 1.. {
            let (mut world, mut storage, _) = saved();
            world.record(10);
            storage = checkpointed(&mut world, storage);
            let saver = resumed(storage);
            let mut next = MemoryStorage::new();
            next.fail(Some(Fault { operation, kind, sticky, done }));
            world.record(70);
            let written = saver.anew(&mut next, &[]).and_then(|mut anew| {
                assert!(anew.other_keys().eq(saver.other_keys()));
                world.checkpoint(&mut anew)
            });
            let last = next.operations();
            next.fail(None);
            let next = next.after_power_cut(0);
            let counts = if written.is_ok() { &next } else { saver.storage() };
            let (found, loaded) = found(counts).unwrap();
            assert_eq!(answers(&world.recovered(&found, &loaded.meta)), world.truth());
            if last < operation {
                assert!(operation > 20 && written.is_ok(), "{operation} {written:?}");
                break;
            }
            assert!(written.is_err(), "operation {operation}");
        }
    }
}

#[test]
fn what_is_to_go_is_not_taken_along() {
    let (_, storage, done) = saved();
    let saver = resumed(storage);
    let keys: Vec<Key> = saver.other_keys().collect();
    let (gone, kept) = keys.split_first().unwrap();
    let mut anew = saver.anew(MemoryStorage::new(), &[*gone]).unwrap();
    assert!(!kept.is_empty() && anew.other_keys().eq(kept.iter().copied()));
    let (ledger, mut walk) = (&mut World::new().shards[0], anew.begin_walk().unwrap());
    assert!(ledger.checkpoint(&mut walk, Lsn::NONE, &NUMBERS).is_some());
    let meta = anew.meta();
    assert_eq!((meta.checkpoint, meta.records), (done.number, kept.len() as u64));
}

#[test]
fn a_storage_opened_again_is_known_by_its_meta_record() {
    let (_, storage, _) = saved();
    let saver = resumed(storage).reopened(Ok).unwrap();
    let missing = SaveError::ReadBack { key: Key::Meta, found: ReadBack::Missing };
    assert_eq!(saver.reopened(|_| Ok(MemoryStorage::new())).unwrap_err(), missing);
    let (mut world, other, _) = saved();
    let other = checkpointed(&mut world, other);
    let stale = resumed(saved().1).reopened(|_| Ok(other)).unwrap_err();
    assert_eq!(stale, SaveError::ReadBack { key: Key::Meta, found: ReadBack::Stale });
}

#[test]
#[should_panic(expected = "the walk was of all pairs")]
fn a_checkpoint_written_anew_without_some_pairs_does_not_count() {
    let (_, storage, _) = saved();
    let mut anew = resumed(storage).anew(MemoryStorage::new(), &[]).unwrap();
    let _walked_by_nobody = anew.begin_walk().unwrap();
    let _never = anew.finish(2, vec![(0, 1_000), (1, 1_000)]);
}

#[test]
fn pages_that_are_mostly_empty_are_written_anew() {
    let mut kept = Kept::new();
    let wrote_all = (0..2000).find(|&pair| kept.checkpoint([pair]) > 1 && pair > 0);
    // 1024 pages, and eight more for each full one that what they hold would fill, as they are.
    assert_eq!(wrote_all, Some(1024 + 8 * 6 + 1));
    assert!(values(kept.storage(), Tag::Sig).len() < 10, "they are full");
}

#[test]
fn a_page_ends_with_the_pair_that_fills_what_is_hashed_at_once() {
    let pages_of = |pairs: u64, counts: u8| {
        let mut run = Run::default();
        for entity in (0..pairs).map(EntityId) {
            let counts: Vec<_> = (0..counts).map(|position| (position, 1)).collect();
            let all_time = 1 + counts.len() as u64;
            let record = PairRecord { half_lives: 1, all_time, counts, ..PairRecord::blank() };
            run.pairs.push_record((entity, NUMBERS[0]), &record);
        }
        let pages = run.take_pages(Round::FIRST.next(), || ()).unwrap().known;
        assert_eq!(pages.iter().map(|(_, page)| u64::from(page.pairs)).sum::<u64>(), pairs);
        pages
    };
    for counts in [2, 13, 14, 15, 50, 228] {
        let pair_bytes = 60 + 5 * usize::from(counts);
        let mut pages = pages_of(1000, counts);
        let _may_be_shorter = pages.pop().unwrap();
        assert!(pages.len() > 3);
        for (key, page) in pages {
            let hashed = key.to_bytes().len() + page.bytes as usize - DIGEST_BYTES;
            let enough = PAGE_HASHED_BYTES..PAGE_HASHED_BYTES + pair_bytes;
            assert!(enough.contains(&hashed), "{hashed} bytes of pairs of {pair_bytes}");
        }
    }
    let pairs: Vec<_> = pages_of(600, 0).iter().map(|(_, page)| page.pairs).collect();
    assert_eq!(pairs, [256, 256, 88], "more are not lost with one");
}

/// What is left of a checkpoint that was not finished is needless once another one was.
#[test]
fn what_unfinished_checkpoints_wrote_does_not_pile_up() {
    let (mut world, mut storage, _) = saved();
    for _ in 0..6 {
        world.record(70);
        let mut saver = resumed(&mut storage);
        let walk = saver.begin_walk().unwrap();
        for shard in &mut world.shards {
            let (mut walk, lsn) = (walk, Lsn::new(1_000_000));
            while let Some(chunk) = shard.checkpoint(&mut walk, lsn, &NUMBERS) {
                saver.commit(&chunk).unwrap();
            }
        }
        saver.write_run().unwrap();
        let (found, _) = found(&storage).unwrap();
        let stored: usize = rounds_stored(&storage).values().sum();
        assert!(stored as u64 <= 3 * found.rounds().pairs(), "{stored}");
    }
}

/// As a store of format 1 has them.
#[test]
fn records_of_single_pairs_are_read_and_replaced() {
    let (mut world, mut storage, _) = saved();
    let mut meta = read_meta(&storage).unwrap();
    let mut set = SetDigest(meta.set_digest);
    for (key, value) in values(&storage, Tag::Sig) {
        let (list, digest) = decode::<PairList>(key, &value).unwrap();
        (set, meta.records) = (set.without(Some(digest)), meta.records - 1);
        storage.delete(key).unwrap();
        for (pair, counts) in list.iter() {
            let mut record = PairRecord::blank();
            pair.write_to(counts, &mut record);
            let key = Key::Pair { entity: EntityId(pair.entity), number: pair.number };
            let value = encode(key, &record).unwrap();
            (set, meta.records) =
                (set.with(RecordDigest::of_value(&value).unwrap()), meta.records + 1);
            storage.put(key, &value).unwrap();
        }
    }
    meta = MetaRecord { format: 1, set_digest: set.0, ..meta };
    storage.put(Key::Meta, &encode(Key::Meta, &meta).unwrap()).unwrap();
    let (before, _) = found(&storage).unwrap();
    assert_eq!(answers(&world.recovered(&before, &meta)), world.truth());
    let mut saver = resumed(&mut storage);
    saver.note_opening(opening(2, meta.covered)).unwrap();
    drop(saver);
    world.reopen(&storage);
    world.record(10);
    storage = checkpointed(&mut world, storage);
    let is_single = |(key, _): &(Key, Vec<u8>)| matches!(key, Key::Pair { .. });
    assert!(!values(&storage, Tag::Sig).iter().any(is_single), "all were written anew");
    let (found, loaded) = found(&storage).unwrap();
    assert_eq!(loaded.meta.format, FORMAT_VERSION);
    assert_eq!(answers(&world.recovered(&found, &loaded.meta)), world.truth());
}

#[test]
fn a_pair_that_keeps_no_rules_ends_checkpoints_and_leaves_the_last_one() {
    let (_, mut storage, _) = saved();
    let mut saver = resumed(&mut storage);
    let mut walk = saver.begin_walk().unwrap();
    let mut chunk = ledger().checkpoint(&mut walk, Lsn::FIRST, &NUMBERS).unwrap();
    let bad = ListedPair::of((EntityId(5), NUMBERS[0]), &PairRecord::blank());
    chunk.put(&bad, &[], (None, true));
    saver.commit(&chunk).unwrap();
    let refused = saver.write_run().unwrap_err();
    let half_lives = RecordFault::HalfLives { count: 0 };
    assert!(matches!(&refused, SaveError::Refused { fault, .. } if *fault == half_lives));
    let failed = SaveError::Failed { cause: refused.to_string() };
    assert_eq!(saver.write_run(), Err(failed.clone()));
    assert_eq!(saver.finish(2, Vec::new()), Err(failed));
    assert!(found(&storage).is_ok());
}
