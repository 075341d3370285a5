//! `ebbtide backup` as its users call it: the copy, what it leaves alone, what it refuses.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod call;
mod stores;

use call::{Ended, ebbtide};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use stores::{Home, builder, dump_by_engine, files, flip, make, record, segments};

fn backup(store: &Path, to: &Path, rest: &[&str]) -> Ended {
    let (store, to) = (store.to_str().unwrap(), to.to_str().unwrap());
    ebbtide(["backup", "--data-dir", store, "--to", to].iter().chain(rest))
}

fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_copy_holds_the_same_bytes_opens_alike_and_says_what_is_in_it() {
    for (shards, checkpoint) in [(1, None), (3, Some(250))] {
        let home = Home::new();
        make(&home.store(), shards, 600, checkpoint);
        let before = files(&home.store());
        let copy = home.at("copy");
        let told = backup(&home.store(), &copy, &["--json"]).json();
        assert_eq!(files(&home.store()), before);
        let bytes: u64 = files(&copy).iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
        assert_eq!(told["bytes"].as_u64(), Some(bytes));
        assert_eq!(told["files"].as_u64(), Some(files(&copy).len() as u64));
        assert_eq!(told["logs"].as_u64(), Some(shards as u64));
        let same = |(path, bytes, _): &(std::path::PathBuf, Vec<u8>, _)| {
            let original = home.store().join(path.strip_prefix(&copy).unwrap());
            assert_eq!(&fs::read(original).unwrap(), bytes, "{}", path.display());
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        };
        files(&copy).iter().for_each(same);
        let wanted = dump_by_engine(&home.store());
        assert_eq!(told["pairs"].as_u64(), Some(wanted.lines().count() as u64));
        assert_eq!(dump_by_engine(&copy), wanted);
        assert_eq!(names(home.path()), ["copy", "store"]);
    }
}

#[test]
fn a_killed_store_is_copied_as_the_next_opening_finds_it_and_goes_on() {
    let home = Home::new();
    stores::make_killed(&home, "killed");
    let told = backup(&home.at("killed"), &home.at("copy"), &[]);
    assert!(told.done().contains("verified"), "{}", told.out);
    // Both go on from the same place, and end alike.
    for name in ["killed", "copy"] {
        let engine = builder(&home.at(name), 3).open().unwrap();
        record(&engine, 1, 500);
        engine.close(stores::PATIENCE).unwrap();
    }
    assert_eq!(dump_by_engine(&home.at("copy")), dump_by_engine(&home.at("killed")));
}

#[test]
fn of_a_damaged_store_no_copy_is_made() {
    let home = Home::new();
    make(&home.store(), 2, 600, Some(300));
    let damaged = |harm: &dyn Fn(&Path), told: &[&str]| {
        stores::copy(&home.store(), &home.at("damaged"));
        harm(&home.at("damaged"));
        backup(&home.at("damaged"), &home.at("copy"), &[]).failed(1, told);
        assert_eq!(names(home.path()), ["damaged", "store"]);
        fs::remove_dir_all(home.at("damaged")).unwrap();
    };
    let wal = |store: &Path| flip(&segments(store, 1)[1], |_| 4096 + 200);
    damaged(&wal, &["log", "an earlier backup is better"]);
    damaged(&|store| fs::remove_file(&segments(store, 1)[1]).unwrap(), &["missing"]);
    damaged(&|store| flip(&store.join("SEAL"), |length| length / 2), &["SEAL"]);
    damaged(&|store| flip(&store.join("MANIFEST"), |_| 40), &["MANIFEST"]);
    damaged(&|store| fs::remove_file(store.join("MANIFEST")).unwrap(), &["MANIFEST"]);
    damaged(&|store| flip(&store.join("checkpoint/0.jnl"), |length| length / 2), &["0.jnl"]);
}

#[test]
fn a_place_that_cannot_be_is_refused_and_nothing_is_left_behind() {
    let home = Home::new();
    make(&home.store(), 1, 50, None);
    let refused = |to: &Path, told: &str| {
        backup(&home.store(), to, &[]).failed(2, &[told]);
    };
    fs::create_dir(home.at("empty")).unwrap();
    refused(&home.at("empty"), "is there already");
    refused(&home.store(), "is there already");
    refused(&home.path().join("store/inside"), "inside of the store");
    refused(&home.path().join("none/copy"), "its folder is not there");
    refused(home.path(), "is there already");
    fs::remove_dir(home.at("empty")).unwrap();
    backup(&home.at("none"), &home.at("copy"), &[]).failed(2, &["holds no store"]);
    let file = home.store().join("MANIFEST");
    refused(&file.join("copy"), "its folder is not there");
    backup(&file, &home.at("copy"), &[]).failed(2, &["holds no store"]);
    ebbtide(["backup", "--to", "x"]).failed(2, &["--data-dir"]);
    backup(&home.store(), &home.at("copy"), &["rubbish"]).failed(2, &["rubbish"]);
    assert_eq!(names(home.path()), ["store"]);
}

#[test]
fn a_store_that_is_open_is_left_to_its_engine() {
    let home = Home::new();
    let engine = builder(&home.store(), 1).open().unwrap();
    record(&engine, 1, 10);
    backup(&home.store(), &home.at("copy"), &[]).failed(3, &["is open already", "Engine::backup"]);
    assert_eq!(names(home.path()), ["store"]);
    engine.backup(home.at("copy")).unwrap();
    assert_eq!(dump_by_engine(&home.at("copy")), stores::dump_of(&engine));
}

/// The database's files have what the umask leaves them; their folder keeps others out.
#[test]
fn a_store_made_under_a_wide_umask_is_copied() {
    let home = Home::new();
    make(&home.store(), 1, 50, None);
    let journal = home.store().join("checkpoint/0.jnl");
    fs::set_permissions(journal, fs::Permissions::from_mode(0o664)).unwrap();
    backup(&home.store(), &home.at("copy"), &[]).done();
    assert_eq!(dump_by_engine(&home.at("copy")), dump_by_engine(&home.store()));
}

#[test]
fn what_only_looks_like_a_segment_is_left_alone() {
    let home = Home::new();
    make(&home.store(), 1, 50, None);
    fs::create_dir(home.store().join("log/0000/seg-old")).unwrap();
    fs::write(home.store().join("log/0000/seg-1.wal"), "old").unwrap();
    backup(&home.store(), &home.at("copy"), &[]).done();
    let names = names(&home.at("copy/log/0000"));
    assert!(names.iter().all(|name| name.len() == "seg-0000000000000001.wal".len()), "{names:?}");
}

#[test]
fn every_copy_has_a_lock_that_keeps_engines_out_while_it_is_looked_at() {
    let home = Home::new();
    let engine = builder(&home.store(), 1).open().unwrap();
    record(&engine, 1, 10);
    engine.backup(home.at("online")).unwrap();
    engine.close(stores::PATIENCE).unwrap();
    backup(&home.store(), &home.at("offline"), &[]).done();
    let (store, new) = (home.store(), home.at("salvaged"));
    let arguments = ["salvage", "--data-dir", store.to_str().unwrap(), "--to"];
    ebbtide(arguments.iter().copied().chain([new.to_str().unwrap()])).done();
    for copy in ["online", "offline", "salvaged"] {
        let lock = home.at(copy).join("LOCK").metadata().unwrap();
        assert_eq!((lock.len(), lock.permissions().mode() & 0o777), (0, 0o600), "{copy}");
    }
}

#[test]
fn where_there_is_no_room_nothing_is_left_behind() {
    let home = Home::new();
    make(&home.store(), 1, 600, None);
    let to = home.at("copy");
    let (store, to) = (home.store(), to.to_str().unwrap());
    // As on a full disk: no file may grow beyond 8 KiB.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec '{}' backup --data-dir '{}' --to '{to}'",
        env!("CARGO_BIN_EXE_ebbtide"),
        store.display()
    );
    let mut command = std::process::Command::new("bash");
    call::ended(command.args(["-c", &script])).failed(3, &[]);
    assert_eq!(names(home.path()), ["store"]);
}
