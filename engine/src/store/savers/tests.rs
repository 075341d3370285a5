//! A checkpoint written anew: when it counts, and what is left of one that never does.

use super::super::fjall::tests::{ledger, record};
use super::*;
use ebbtide_shard::checkpoint::{Opening, read_meta};
use ebbtide_shard::{Materializer as _, SignalLedger};
use ebbtide_wal::Lsn;
use std::fs;
use tempfile::TempDir;

/// A store's checkpoints, all of which may be written anew.
struct Kept {
    folder: TempDir,
    ledger: SignalLedger,
    savers: Savers,
    lsn: u64,
}

impl Kept {
    /// One that was written after every pair had changed: the next wants to be written anew.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let files = StoreFiles::new(folder.path());
        let opening = Opening {
            number: 1,
            schema_toml: ledger().schema().to_toml(),
            signal_names: vec!["view".into()],
            covered: Vec::new(),
        };
        let storage = FjallStorage::open(&files.checkpoint()).unwrap();
        let saver = Saver::create(storage, [3; 16], opening).unwrap().with_stored_bytes_few(0);
        let savers = Savers::new(files, saver);
        let mut kept = Self { folder, ledger: ledger(), savers, lsn: 0 };
        for _ in 0..2 {
            kept.write();
            kept.finish().unwrap();
        }
        assert_eq!(kept.savers.replaced(), 0);
        kept
    }

    /// Begins a checkpoint after a change of every pair, and writes all of it.
    fn write(&mut self) {
        record(&mut self.ledger, 0..100);
        self.lsn += 100;
        let mut walk = self.savers.begin_walk(&[]).unwrap();
        while let Some(chunk) = self.ledger.checkpoint(&mut walk, Lsn::new(self.lsn), &[0]) {
            self.savers.saver().unwrap().commit(&chunk).unwrap();
        }
        self.savers.saver().unwrap().write_run().unwrap();
    }

    fn finish(&mut self) -> Result<CheckpointDone, SaveError> {
        self.savers.finish(1, vec![(0, self.lsn)])
    }

    /// Up to where the checkpoint that counts covers the log.
    fn covered(&self) -> Vec<(u32, u64)> {
        read_meta(self.savers.storage().unwrap()).unwrap().covered
    }

    fn is_anew_there(&self) -> bool {
        self.folder.path().join("checkpoint.new").exists()
    }
}

/// Up to where the checkpoint in a directory covers the log.
fn covered_in(directory: &Path) -> Vec<(u32, u64)> {
    read_meta(&FjallStorage::open(directory).unwrap()).unwrap().covered
}

#[test]
fn one_that_is_written_anew_counts_when_it_is_finished() {
    let mut kept = Kept::new();
    kept.write();
    assert!(kept.is_anew_there());
    assert_eq!(kept.covered(), [(0, 200)], "the one before");
    kept.finish().unwrap();
    assert_eq!((kept.covered(), kept.savers.replaced()), (vec![(0, 300)], 1));
    assert!(!kept.is_anew_there());
    kept.savers.close().unwrap();
    assert_eq!(covered_in(&kept.folder.path().join("checkpoint")), [(0, 300)]);
}

#[test]
fn one_that_is_given_up_leaves_the_one_before_and_nothing_else() {
    for is_closed in [false, true] {
        let mut kept = Kept::new();
        kept.write();
        assert!(kept.is_anew_there());
        if is_closed {
            kept.savers.close().unwrap();
        } else {
            kept.savers.give_up();
            assert_eq!(kept.covered(), [(0, 200)]);
            drop(kept.savers);
        }
        assert!(!kept.folder.path().join("checkpoint.new").exists());
        assert_eq!(covered_in(&kept.folder.path().join("checkpoint")), [(0, 200)]);
    }
}

#[test]
fn one_that_cannot_be_begun_anew_is_written_beside_what_is_old() {
    let mut kept = Kept::new();
    let in_the_way = kept.folder.path().join("checkpoint.new");
    fs::write(&in_the_way, "something else").unwrap();
    kept.write();
    kept.finish().unwrap();
    assert_eq!((kept.covered(), kept.savers.replaced()), (vec![(0, 300)], 0));
    let refused = kept.savers.refused().unwrap();
    assert!(refused.contains("checkpoint.new"), "{refused}");
    fs::remove_file(&in_the_way).unwrap();
    kept.write();
    kept.finish().unwrap();
    assert_eq!((kept.covered(), kept.savers.replaced()), (vec![(0, 400)], 1));
    assert_eq!(kept.savers.refused(), None);
}

#[test]
fn one_that_does_not_open_in_the_others_place_gives_it_back() {
    let mut kept = Kept::new();
    kept.write();
    let damage = kept.folder.path().join("checkpoint.new/keyspaces/77");
    fs::create_dir(&damage).unwrap();
    fs::write(damage.join("current"), "no version").unwrap();
    let error = kept.finish().unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(!kept.is_anew_there());
    kept.savers.close().unwrap();
    assert_eq!(covered_in(&kept.folder.path().join("checkpoint")), [(0, 200)]);
}

#[test]
fn one_that_cannot_take_the_others_place_does_not_count() {
    let mut kept = Kept::new();
    kept.write();
    let (path, moved) = (kept.folder.path().join("checkpoint"), kept.folder.path().join("moved"));
    fs::rename(&path, &moved).unwrap();
    let error = kept.finish().unwrap_err();
    let SaveError::Storage(StorageError { action, .. }) = &error else { panic!("{error}") };
    assert_eq!(*action, StorageAction::Replace);
    assert!(kept.is_anew_there(), "which of them counts is for the next opening to see");
    assert!(kept.savers.saver().is_err() && kept.savers.storage().is_err());
    kept.savers.close().unwrap();
    assert_eq!(covered_in(&moved), [(0, 200)]);
}
