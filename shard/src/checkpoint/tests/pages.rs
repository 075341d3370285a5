//! Which pages a storage keeps over many checkpoints, and what becomes of records of single pairs.

use super::*;

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
fn pages_go_when_no_pair_needs_them_and_all_are_written_when_half_is_old() {
    let (mut world, mut storage, _) = saved();
    for turn in 0..40_u64 {
        // From one pair that has changed to all of them.
        world.record(1 + turn * turn % 70);
        let mut saver = resumed(&mut storage);
        world.checkpoint(&mut saver).unwrap();
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

/// A ledger of pairs, and what its checkpoints wrote.
struct Kept {
    ledger: SignalLedger,
    saver: Saver<MemoryStorage>,
    time: u64,
}

impl Kept {
    fn new() -> Self {
        let saver = Saver::create(MemoryStorage::new(), STORE, opening(1, Vec::new())).unwrap();
        Self { ledger: ledger(), saver, time: 0 }
    }

    /// A checkpoint after an event of each of some entities; gives how many pairs it wrote.
    fn checkpoint(&mut self, entities: impl IntoIterator<Item = u64>) -> u64 {
        self.time += 1;
        for entity in entities.into_iter().map(EntityId) {
            let (hash, time, signal) = (key().hash(entity), Timestamp(self.time), SignalId(0));
            self.ledger.on_event(&RoutedEvent { entity, time, weight: 1.0, hash, signal });
        }
        let mut walk = self.saver.begin_walk().unwrap();
        while let Some(chunk) = self.ledger.checkpoint(&mut walk, Lsn::new(self.time), &NUMBERS) {
            self.saver.commit(&chunk).unwrap();
        }
        self.saver.finish(1, vec![(0, self.time)]).unwrap().records
    }
}

/// One pair of each round is not changed any more, so no round goes by itself.
#[test]
fn all_pairs_are_written_when_half_of_what_is_stored_is_old_and_not_before() {
    let mut kept = Kept::new();
    assert_eq!(kept.checkpoint(0..100), 100);
    let written: Vec<u64> = (0..6).map(|n| kept.checkpoint((0..40).chain([50 + n]))).collect();
    // Stored before each: 100, 141, 182, and 223 for the first time twice as much as there is.
    assert_eq!(written, [41, 41, 41, 100, 41, 41]);
    assert_eq!(rounds_stored(kept.saver.storage()).len(), 3, "nothing before is there any more");
}

#[test]
fn pages_that_are_mostly_empty_are_written_anew() {
    let mut kept = Kept::new();
    let wrote_all = (0..2000).find(|&pair| kept.checkpoint([pair]) > 1 && pair > 0);
    // 1024 pages, and one more for each sixteen pairs.
    assert_eq!(wrote_all, Some(1093));
    let pages = values(kept.saver.storage(), Tag::Sig).len();
    assert_eq!(pages, 1094_usize.div_ceil(PAGE_PAIRS_MAX));
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
    let mut saver = resumed(&mut storage);
    world.record(10);
    world.checkpoint(&mut saver).unwrap();
    let is_single = |(key, _): &(Key, Vec<u8>)| matches!(key, Key::Pair { .. });
    assert!(!values(&storage, Tag::Sig).iter().any(is_single), "all were written anew");
    let (found, loaded) = found(&storage).unwrap();
    assert_eq!(loaded.meta.format, FORMAT_VERSION);
    assert_eq!(answers(&world.recovered(&found, &loaded.meta)), world.truth());
}
