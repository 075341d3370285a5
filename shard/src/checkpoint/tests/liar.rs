//! A storage that loses a change and says nothing: what was written is looked for.

use super::*;

/// Loses or keeps back changes of one key, and says nothing.
struct Liar {
    storage: MemoryStorage,
    about: Key,
}

impl StorageEngine for Liar {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
        self.storage.get(key)
    }

    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        self.storage.scan(tag, ids, visit)
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut told = Batch::default();
        for (key, value) in batch.changes().filter(|&(key, _)| key != self.about) {
            match value {
                Some(value) => told.put(key, value),
                None => told.delete(key),
            }
        }
        self.storage.batch(&told)
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.storage.flush()
    }
}

#[test]
fn a_write_that_is_not_there_stops_the_checkpoint_before_it_covers_anything() {
    let next = |about: Option<Key>| {
        let (mut world, storage, before) = saved();
        let removed = values(&storage, Tag::Ids).remove(0).0;
        let about = about.unwrap_or(removed);
        let mut saver = resumed(Liar { storage, about });
        world.record(60);
        let error = world.checkpoint(&mut saver).unwrap_err();
        assert!(matches!(saver.finish(2, Vec::new()), Err(SaveError::Failed { .. })));
        assert_eq!(read_meta(&saver.into_storage().storage).unwrap().covered, before.covered);
        (about, error)
    };
    let (mut world, mut honest, _) = saved();
    world.record(60);
    let mut saver = resumed(&mut honest);
    world.checkpoint(&mut saver).unwrap();
    let page = values(&honest, Tag::Sig).remove(0).0;
    for (about, found) in [
        (Some(page), ReadBack::Missing),
        (Some(ids(1, 0).0), ReadBack::Missing),
        (None, ReadBack::Undeleted),
    ] {
        let (about, error) = next(about);
        assert_eq!(error, SaveError::ReadBack { key: about, found });
    }
}

/// A page that was let go of is looked for before anything is covered.
#[test]
fn a_page_that_does_not_go_is_found() {
    let (mut world, storage, _) = saved();
    let about = values(&storage, Tag::Sig).remove(0).0;
    let mut saver = resumed(Liar { storage, about });
    world.record(200);
    let error = world.checkpoint(&mut saver).unwrap_err();
    assert_eq!(error, SaveError::ReadBack { key: about, found: ReadBack::Undeleted });
}

#[test]
fn a_long_checkpoint_is_read_back_on_the_way() {
    let count = 1000;
    let mut ledger = ledger();
    for entity in (0..count).map(EntityId) {
        let (hash, time, signal) = (key().hash(entity), Timestamp(5), SignalId(0));
        ledger.on_event(&RoutedEvent { entity, time, weight: 1.0, hash, signal });
    }
    let round = Round::FIRST.next();
    let about = Key::Page { entity: EntityId(0), number: 1, round };
    let storage = Liar { storage: MemoryStorage::new(), about };
    let saver = Saver::create(storage, STORE, opening(1, Vec::new())).unwrap();
    let mut saver = saver.in_runs_of(20_000);
    let mut walk = saver.begin_walk().unwrap().in_steps_of(100, 10_000);
    let mut chunks = std::iter::from_fn(|| ledger.checkpoint(&mut walk, Lsn::new(count), &NUMBERS));
    let found = ReadBack::Missing;
    let error = chunks.find_map(|chunk| saver.commit(&chunk).err());
    assert_eq!(error, Some(SaveError::ReadBack { key: about, found }), "before it was finished");
}
