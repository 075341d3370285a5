//! Stores of every format there was: the sound ones open and answer as they did, the damaged ones
//! are refused with the code the runbook names.
//!
//! Damage is done to an unpacked copy, so what is kept is only what is sound.

use ebbtide::{Engine, OpenError, StoreError};
use ebbtide_tests::frozen::{self, FORMATS, PRESENT, STORES};
use ebbtide_tests::setting::PATIENCE;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

fn fixtures(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format)
}

/// Each kind of store in each format: its format, its name, and whether it was closed.
fn stores() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    let of_format = |format| STORES.map(|(name, _, closed)| (format, name, closed));
    FORMATS.into_iter().flat_map(of_format)
}

fn golden(format: &str, name: &str) -> String {
    fs::read_to_string(fixtures(format).join(format!("{name}.answers"))).expect("it is there")
}

fn unpacked(format: &str, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = frozen::unpack(&fixtures(format).join(name), &folder.path().join("store"));
    unpacked.expect("the fixture is there");
    folder
}

fn open(folder: &tempfile::TempDir, shards: usize) -> Result<Engine, OpenError> {
    frozen::builder(&folder.path().join("store"), shards).open()
}

#[test]
fn every_frozen_store_answers_as_it_did_with_any_number_of_shards() {
    for (format, name, closed) in stores() {
        let golden = golden(format, name);
        for shards in [1, 3] {
            let folder = unpacked(format, name);
            let engine = open(&folder, shards).unwrap();
            assert_eq!(frozen::answers(&engine), golden, "{format} {name} with {shards} shards");
            let recovery = engine.recovery().unwrap();
            assert_eq!(recovery.clean_shutdown(), closed, "{name}");
            assert!(recovery.records_restored > 0 && recovery.events_read > 0, "{recovery:?}");
            engine.close(PATIENCE).unwrap();
        }
    }
}

#[test]
fn what_a_frozen_store_holds_counts_once_when_it_is_recorded_again() {
    for (format, name, _) in stores() {
        let folder = unpacked(format, name);
        let engine = open(&folder, 3).unwrap();
        let before = frozen::answers(&engine);
        frozen::record_again(&engine);
        assert_eq!(frozen::answers(&engine), before, "{format} {name}");
        // What is written now lies beside what was written then, and then in its place.
        engine.checkpoint().unwrap();
        engine.checkpoint().unwrap();
        engine.close(PATIENCE).unwrap();
        assert_eq!(frozen::answers(&open(&folder, 2).unwrap()), before, "{format} {name}");
    }
}

/// A store whose process was killed.
const KILLED: (&str, &str) = (PRESENT, "killed");

/// The code with which a store is refused after `harm` was done to it.
fn refused_after((format, name): (&str, &str), harm: impl FnOnce(&Path)) -> &'static str {
    let folder = unpacked(format, name);
    harm(&folder.path().join("store"));
    match open(&folder, 2).map(drop) {
        Err(OpenError::Store(error)) => {
            assert!(error.is_damage() || matches!(error, StoreError::UnsupportedFormat { .. }));
            error.code()
        }
        Err(error) => panic!("{error}"),
        Ok(()) => "none",
    }
}

/// The files below a folder that hold anything.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("it is there") {
            let path = entry.expect("an entry").path();
            match path.metadata().expect("it is there") {
                about if about.is_dir() => folders.push(path),
                about if about.len() == 0 => {}
                _ => files.push(path.strip_prefix(folder).expect("it is below").to_owned()),
            }
        }
    }
    files
}

fn flip(path: &Path, at: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(path).expect("it is there");
    let at = at(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it can be written");
}

/// Others are ready to become one.
fn is_segment_name(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("seg-")
}

/// The segments of a log, in order.
fn segments(store: &Path, log: u32) -> Vec<PathBuf> {
    let listed = fs::read_dir(store.join(format!("log/{log:04}"))).expect("the log is there");
    let mut paths: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.file_name().is_some_and(is_segment_name));
    paths.sort();
    paths
}

#[test]
fn damage_to_a_log_is_refused_by_its_code() {
    // The payload of the first frame of a segment in the middle.
    let payload = 4096 + 128 + 9;
    let in_the_middle = |store: &Path| segments(store, 1)[3].clone();
    for (format, name, _) in stores() {
        let (of, log) = ((format, name), u32::from(name == "killed"));
        let segment = |store: &Path| segments(store, log)[3].clone();
        assert_eq!(refused_after(of, |store| flip(&segment(store), |_| payload)), "log-damaged");
        assert_eq!(refused_after(of, |store| flip(&segment(store), |_| 100)), "log-header");
        let missing = |store: &Path| fs::remove_file(segment(store)).unwrap();
        assert_eq!(refused_after(of, missing), "log-segment-missing");
        let last = |store: &Path| fs::remove_file(segments(store, log).pop().unwrap()).unwrap();
        assert_eq!(refused_after(of, last), "log-segment-missing");
        let gone = |store: &Path| fs::remove_dir_all(store.join(format!("log/{log:04}"))).unwrap();
        assert_eq!(refused_after(of, gone), "log-gone");
    }
    let renamed = |store: &Path| {
        let other = segments(store, 2)[3].clone();
        fs::copy(other, in_the_middle(store)).unwrap();
    };
    assert_eq!(refused_after(KILLED, renamed), "log-foreign");
    let begins_late = |store: &Path| {
        let first = segments(store, 1);
        first[..4].iter().for_each(|path| fs::remove_file(path).unwrap());
    };
    assert_eq!(refused_after(KILLED, begins_late), "log-begins-too-late");
}

#[test]
fn a_log_of_another_store_is_foreign() {
    let other = unpacked(PRESENT, "closed");
    let moved_in = |store: &Path| {
        fs::remove_dir_all(store.join("log/0000")).unwrap();
        fs::rename(other.path().join("store/log/0000"), store.join("log/0000")).unwrap();
    };
    assert_eq!(refused_after(KILLED, moved_in), "log-foreign");
}

#[test]
fn a_changed_file_of_the_checkpoint_breaks_its_seal() {
    let journal = "checkpoint/0.jnl";
    for of in FORMATS.map(|format| (format, "closed")) {
        let changed = |store: &Path| flip(&store.join(journal), |length| length / 2);
        assert_eq!(refused_after(of, changed), "store-seal-broken");
        let lost = |store: &Path| fs::remove_file(store.join(journal)).unwrap();
        assert_eq!(refused_after(of, lost), "store-seal-broken");
        let seal = |store: &Path| flip(&store.join("SEAL"), |length| length / 2);
        assert_eq!(refused_after(of, seal), "store-seal-damaged");
    }
}

#[test]
fn without_a_seal_the_records_vouch_for_themselves() {
    for format in FORMATS {
        let folder = unpacked(format, "closed");
        fs::remove_file(folder.path().join("store/SEAL")).unwrap();
        assert_eq!(frozen::answers(&open(&folder, 1).unwrap()), golden(format, "closed"));
    }
}

#[test]
fn a_flipped_byte_of_an_unsealed_checkpoint_is_refused_or_changes_nothing() {
    for format in FORMATS {
        let golden = golden(format, "killed");
        let whole = unpacked(format, "killed");
        let files = files_below(&whole.path().join("store/checkpoint"));
        let mut refused = 0;
        for (file, part) in files.iter().flat_map(|file| (0..12).map(move |part| (file, part))) {
            let folder = unpacked(format, "killed");
            let path = folder.path().join("store/checkpoint").join(file);
            flip(&path, |length| length * part / 12);
            let (what, opened) = (file.display(), open(&folder, 2));
            match opened {
                Ok(engine) => {
                    assert_eq!(frozen::answers(&engine), golden, "{format} {what}, part {part}");
                }
                Err(OpenError::Store(error)) => {
                    assert!(error.is_damage(), "{format} {what}, part {part}: {error}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 20, "{refused} were refused");
    }
}

#[test]
fn checkpoints_that_do_not_belong_to_their_logs_are_refused() {
    let other = unpacked(PRESENT, "closed");
    let moved_in = |store: &Path| {
        fs::remove_dir_all(store.join("checkpoint")).unwrap();
        fs::rename(other.path().join("store/checkpoint"), store.join("checkpoint")).unwrap();
    };
    assert_eq!(refused_after(KILLED, moved_in), "checkpoint-foreign");
}

#[test]
fn a_manifest_that_is_damaged_is_told_from_one_of_a_newer_format() {
    let damaged = |store: &Path| flip(&store.join("MANIFEST"), |_| 40);
    assert_eq!(refused_after((PRESENT, "closed"), damaged), "store-manifest-damaged");
    let newer = |store: &Path| {
        let mut bytes = fs::read(store.join("MANIFEST")).unwrap();
        bytes[8] = 2;
        bytes[96..].fill(0xee);
        fs::write(store.join("MANIFEST"), bytes).unwrap();
    };
    assert_eq!(refused_after((PRESENT, "closed"), newer), "store-format");
}
