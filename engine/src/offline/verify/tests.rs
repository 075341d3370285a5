//! Checkpoints that were altered in ways that keep the database and the digests whole: what only
//! the records, the logs and their comparison can show.

use super::*;
use crate::{Ack, Engine, Event, SourceEvent, Timestamp};
use ebbtide_shard::checkpoint::{
    Batch, PairList, SetDigest, StorageEngine as _, Tag, decode, encode,
};
use ebbtide_shard::limits::PAGE_PAIRS_MAX;
use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;
use tempfile::TempDir;

/// As many as take two pages, in whichever run the shards are written.
const PAIRS: u64 = PAGE_PAIRS_MAX as u64 * 3 / 2;
const LONG: Duration = Duration::from_secs(30);

/// A closed store without a seal, whose logs still hold every event.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().unwrap());
        store.record(1..=4 * PAIRS, true);
        store
    }

    fn files(&self) -> StoreFiles {
        StoreFiles::new(&self.0.path().join("store"))
    }

    fn record(&self, offsets: std::ops::RangeInclusive<u64>, save: bool) {
        let builder = Engine::builder(self.files().root()).schema(schema());
        let engine = builder.shards(2).open().unwrap();
        let view = engine.schema().signal("view").unwrap();
        let mut source = engine.producer_for("orders").unwrap();
        for offset in offsets {
            let time = Timestamp::from_seconds(1_000_000 + offset);
            let event = SourceEvent::new(offset, Event::new(EntityId(offset % PAIRS), view, time));
            source.offer_within(event, LONG).unwrap();
        }
        source.flush(Ack::Durable, LONG).unwrap();
        if save {
            engine.checkpoint().unwrap();
        }
        drop(source);
        engine.close(LONG).unwrap();
        fs::remove_file(self.files().seal()).unwrap();
    }

    fn verified(&self) -> Verification {
        verify(self.files().root(), &mut |_| {}).unwrap()
    }

    fn codes(&self) -> Vec<&'static str> {
        self.verified().findings.iter().map(Finding::code).collect()
    }

    /// Changes the database.
    fn tamper(&self, change: impl FnOnce(&mut FjallStorage)) {
        let mut storage = FjallStorage::open(&self.files().checkpoint()).unwrap();
        change(&mut storage);
        storage.close().unwrap();
    }

    /// Changes one pair and everything that vouches for it.
    fn alter(&self, change: impl FnOnce(&mut PairRecord)) -> EntityId {
        let mut entity = EntityId(0);
        self.tamper(|storage| {
            let (key, value) = pages(storage).swap_remove(0);
            let (page, old) = decode::<PairList>(key, &value).unwrap();
            let (mut altered, mut change) = (PairList::default(), Some(change));
            for (at, (pair, counts)) in page.iter().enumerate() {
                let mut record = PairRecord::blank();
                pair.write_to(counts, &mut record);
                if let Some(change) = change.take_if(|_| at == 7) {
                    change(&mut record);
                    entity = EntityId(pair.entity);
                }
                altered.push_record((EntityId(pair.entity), pair.number), &record);
            }
            let value = encode(key, &altered).unwrap();
            let (_, new) = decode::<PairList>(key, &value).unwrap();
            let meta = storage.get(Key::Meta).unwrap().unwrap();
            let (mut meta, _) = decode::<MetaRecord>(Key::Meta, &meta).unwrap();
            meta.set_digest = SetDigest(meta.set_digest).without(Some(old)).with(new).0;
            let mut batch = Batch::default();
            batch.put(key, &value);
            batch.put(Key::Meta, &encode(Key::Meta, &meta).unwrap());
            storage.batch(&batch).unwrap();
        });
        entity
    }
}

fn pages(storage: &FjallStorage) -> Vec<(Key, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pages.push((Key::of_bytes(key).unwrap(), value.to_vec()));
        ControlFlow::Continue(())
    };
    storage.scan(Tag::Sig, 0..=u64::MAX, &mut visit).unwrap();
    pages
}

#[test]
fn every_damaged_record_is_named_by_its_key_and_a_lost_one_is_missed() {
    let store = Store::new();
    assert_eq!(store.codes(), [""; 0]);
    let (mut keys, mut left) = (Vec::new(), 0);
    store.tamper(|storage| {
        let pages = pages(storage);
        left = decode::<PairList>(pages[0].0, &pages[0].1).unwrap().0.len() as u64;
        for (key, mut value) in pages.into_iter().skip(1) {
            value[3] ^= 0x40;
            storage.put(key, &value).unwrap();
            keys.push(key.to_string());
        }
    });
    assert!(!keys.is_empty());
    let found = store.verified();
    let named: Vec<_> = found.findings.iter().filter_map(Finding::record).collect();
    assert_eq!(named, keys);
    let checkpoint = found.checkpoint.unwrap();
    assert_eq!((checkpoint.pairs, checkpoint.sealed), (left, false));
    assert!(found.logs.iter().all(|log| log.whole), "the logs are read all the same");
    assert!(found.rebuilt.is_none());

    let store = Store::new();
    store.tamper(|storage| {
        let (key, _) = pages(storage).swap_remove(1);
        storage.delete(key).unwrap();
    });
    assert_eq!(store.codes(), ["checkpoint-damaged"]);
}

#[test]
fn a_pair_that_is_not_what_its_events_amount_to_is_named() {
    type Case = (fn(&mut PairRecord), fn(&Difference) -> bool);
    let changes: [Case; 5] = [
        (
            |record| record.sums[1] *= 1.5,
            |found| matches!(found, Difference::Score { half_life } if half_life == "1d"),
        ),
        (|record| record.counts.truncate(1), |found| *found == Difference::Buckets),
        (
            |record| record.last_update += 60_000_000_000,
            |found| matches!(found, Difference::LastUpdate { logged, stored } if logged < stored),
        ),
        (
            |record| record.last_update -= 60_000_000_000,
            |found| matches!(found, Difference::LastUpdate { logged, stored } if logged > stored),
        ),
        (
            |record| {
                record.all_time -= 1;
                record.counts.clear();
            },
            |found| *found == Difference::Events { logged: 4, stored: 3 },
        ),
    ];
    for (change, is_it) in changes {
        let store = Store::new();
        let entity = store.alter(change);
        let found = store.verified();
        let [finding @ Finding::Differs { difference, .. }] = &found.findings[..] else {
            panic!("{found:#?}");
        };
        assert!(is_it(difference), "{finding}");
        assert_eq!((finding.code(), finding.entity()), ("pair-differs", Some(entity)));
        let text = finding.to_string();
        assert!(text.contains(&format!("entity {}, signal type `view`", entity.0)), "{text}");
    }
}

#[test]
fn a_score_below_its_events_counts_as_restarted_and_is_told() {
    let store = Store::new();
    store.alter(|record| record.sums[0] /= 2.0);
    let found = store.verified();
    assert!(found.is_whole(), "{:#?}", found.findings);
    let rebuilt = found.rebuilt.unwrap();
    assert_eq!((rebuilt.pairs, rebuilt.whole, rebuilt.restarted), (PAIRS, PAIRS, 1));
}

#[test]
fn a_checkpoint_that_is_older_than_its_logs_know_is_found() {
    let store = Store::new();
    let (new, old) = (store.files().checkpoint(), store.0.path().join("old"));
    let copied = CheckpointCopy::open(&store.files()).unwrap();
    let mut kept = FjallStorage::open(&old).unwrap();
    for tag in Tag::ALL {
        let mut batch = Batch::default();
        let mut visit = |key: &[u8], value: &[u8]| {
            batch.put(Key::of_bytes(key).unwrap(), value);
            ControlFlow::Continue(())
        };
        copied.storage().scan(tag, 0..=u64::MAX, &mut visit).unwrap();
        kept.batch(&batch).unwrap();
    }
    kept.close().unwrap();
    store.record(4 * PAIRS + 1..=6 * PAIRS, true);
    assert_eq!(store.codes(), [""; 0]);
    fs::remove_dir_all(&new).unwrap();
    fs::rename(&old, &new).unwrap();
    let found = store.verified();
    assert!(found.findings_count >= 1, "{found:#?}");
    for finding in &found.findings {
        assert_eq!(finding.code(), "checkpoint-behind", "{finding}");
        assert_eq!(finding.path(), Some(&*store.files().checkpoint()));
    }
    assert!(Engine::builder(store.files().root()).schema(schema()).open().is_ok());
}

fn schema() -> Schema {
    let text = "[signals.view]\nhalf_lives = [\"1h\", \"1d\"]\nwindows = [\"1h\"]";
    Schema::from_toml(text).unwrap()
}

#[test]
fn a_log_that_is_lost_or_of_another_store_and_strangers_are_told() {
    let store = Store::new();
    let log = store.files().log(1);
    let aside = store.0.path().join("aside");
    fs::rename(&log, &aside).unwrap();
    assert_eq!(store.codes(), ["log-gone"]);
    let other = Store::new();
    fs::rename(other.files().log(1), &log).unwrap();
    assert_eq!(store.codes()[0], "log-foreign");
    fs::remove_dir_all(&log).unwrap();
    fs::rename(&aside, &log).unwrap();

    fs::write(store.files().root().join("notes.txt"), "mine").unwrap();
    let found = store.verified();
    assert_eq!((found.strangers, found.findings_count), (1, 0), "{found:#?}");
    fs::write(store.files().logs().join("notes.txt"), "mine").unwrap();
    assert_eq!(store.codes(), ["store-stranger"]);
}

#[test]
fn findings_are_bounded_and_all_counted() {
    let store = Store::new();
    store.tamper(|storage| {
        for entity in (0..300).map(EntityId) {
            storage.put(Key::Pair { entity, number: 0 }, &[7; 40]).unwrap();
        }
    });
    let found = store.verified();
    assert_eq!((found.findings.len(), found.findings_count), (FINDINGS_MAX, 300));
    let mut found = Verification::default();
    for _ in 0..=FINDINGS_MAX {
        found.note(Finding::ManifestMissing { path: store.files().manifest() });
    }
    assert_eq!((found.findings.len(), found.findings_count), (FINDINGS_MAX, 101));
    assert!(!found.is_whole());
}
