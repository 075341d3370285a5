//! `ebbtide dump` as its users call it: the lines, the file, what it refuses.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod call;
mod stores;

use call::{Ended, ebbtide};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use stores::{Home, NOW, builder, dump_by_engine, files, flip, make, segments};

fn dump(store: &Path, rest: &[&str]) -> Ended {
    ebbtide(["dump", "--data-dir", store.to_str().unwrap()].iter().chain(rest))
}

#[test]
fn the_lines_are_what_an_engine_says_and_the_store_is_left_as_it_is() {
    for (shards, checkpoint) in [(1, None), (3, Some(250))] {
        let home = Home::new();
        make(&home.store(), shards, 600, checkpoint);
        let before = files(&home.store());
        let now = NOW.0.to_string();
        let told = dump(&home.store(), &["--as-of", &now]);
        assert!(told.done().lines().count() > 200);
        assert_eq!(files(&home.store()), before);
        assert_eq!(told.out, dump_by_engine(&home.store()));
        // Reading it again gives the same, and so does the time as people write it.
        assert_eq!(dump(&home.store(), &["--as-of", "2027-01-15T08:00:00Z"]).out, told.out);
    }
}

#[test]
fn a_store_that_was_killed_is_dumped_as_the_next_opening_finds_it() {
    let home = Home::new();
    stores::make_killed(&home, "killed");
    let wanted = dump_by_engine(&home.store());
    assert!(!home.at("killed/SEAL").exists());
    let now = NOW.0.to_string();
    assert_eq!(dump(&home.at("killed"), &["--as-of", &now]).done(), wanted);
}

#[test]
fn the_instant_is_the_newest_events_unless_another_is_asked_for() {
    let home = Home::new();
    make(&home.store(), 1, 50, None);
    let all = dump(&home.store(), &[]).done().to_owned();
    let last = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["last_update"].as_u64().unwrap()
    };
    let newest = all.lines().map(last).max().unwrap();
    assert_eq!(dump(&home.store(), &["--as-of", &newest.to_string()]).done(), all);
    let later = dump(&home.store(), &["--as-of", &(newest + 3_600_000_000_000).to_string()]);
    assert_ne!(later.done(), all);
}

#[test]
fn only_the_entities_asked_for_are_dumped() {
    let home = Home::new();
    make(&home.store(), 2, 300, None);
    let all = dump(&home.store(), &[]).done().to_owned();
    let some = dump(&home.store(), &["--entity", "7", "--entity", "21", "--entity", "999"]);
    let of = |line: &&str| ["\"7\"", "\"21\""].iter().any(|n| line.starts_with(&entity(n)));
    let wanted: Vec<_> = all.lines().filter(of).collect();
    assert!(wanted.len() >= 2);
    assert_eq!(some.done().lines().collect::<Vec<_>>(), wanted);
    assert_eq!(dump(&home.store(), &["--entity", "999"]).done(), "");
}

fn entity(number: &str) -> String {
    format!("{{\"entity\":{number},")
}

#[test]
fn a_file_is_written_whole_and_never_over_another() {
    let home = Home::new();
    make(&home.store(), 1, 100, None);
    let (store, output) = (home.store(), home.at("lines.jsonl"));
    let name = output.to_str().unwrap();
    let wanted = dump(&store, &[]).done().to_owned();
    let told = dump(&store, &["--output", name]);
    assert!(told.done().starts_with(&format!("{} lines in {name}", wanted.lines().count())));
    assert_eq!(fs::read_to_string(&output).unwrap(), wanted);
    dump(&store, &["--output", name]).failed(2, &["is there already"]);

    let other = home.at("other.jsonl");
    let told = dump(&store, &["--json", "--output", other.to_str().unwrap()]).json();
    assert_eq!(told["lines"].as_u64(), Some(wanted.lines().count() as u64));
    assert_eq!(told["bytes"].as_u64(), Some(wanted.len() as u64));
    dump(&store, &["--output", "/nowhere/at/all"]).failed(2, &["its folder is not there"]);
    let mut names: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["lines.jsonl", "other.jsonl", "store"]);
}

#[test]
fn no_file_is_made_inside_of_the_store() {
    let home = Home::new();
    make(&home.store(), 1, 100, None);
    let before = files(&home.store());
    for name in ["lines.jsonl", "checkpoint/lines.jsonl", "../store/log/lines.jsonl"] {
        let output = home.store().join(name);
        dump(&home.store(), &["--output", output.to_str().unwrap()])
            .failed(2, &["inside of the store", "a place outside of it"]);
    }
    assert_eq!(files(&home.store()), before);
}

#[test]
fn a_reader_that_goes_away_early_is_no_failure() {
    let home = Home::new();
    make(&home.store(), 1, 600, None);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["dump", "--data-dir", home.store().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["dump", "--data-dir", home.store().to_str().unwrap()])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("give it a place with room"));
}

#[test]
fn of_a_damaged_store_nothing_is_served() {
    let home = Home::new();
    make(&home.store(), 2, 600, Some(300));
    let damaged = |name: &str, harm: &dyn Fn(&Path)| {
        stores::copy(&home.store(), &home.at(name));
        harm(&home.at(name));
        let told = dump(&home.at(name), &[]);
        assert_eq!(told.out, "", "{name}");
        told.failed(1, &[]);
    };
    damaged("log", &|store| flip(&segments(store, 1)[1], |_| 4096 + 200));
    damaged("segment", &|store| fs::remove_file(&segments(store, 1)[1]).unwrap());
    damaged("seal", &|store| flip(&store.join("SEAL"), |length| length / 2));
    damaged("manifest", &|store| flip(&store.join("MANIFEST"), |_| 40));
    damaged("no-manifest", &|store| fs::remove_file(store.join("MANIFEST")).unwrap());
    damaged("no-checkpoint", &|store| fs::remove_dir_all(store.join("checkpoint")).unwrap());
    damaged("journal", &|store| {
        fs::remove_file(store.join("SEAL")).unwrap();
        flip(&store.join("checkpoint/0.jnl"), |length| length / 2);
    });
}

#[test]
fn what_cannot_be_dumped_is_told_by_its_kind() {
    let home = Home::new();
    dump(&home.store(), &[]).failed(2, &["holds no store", "check the path"]);
    dump(home.path(), &[]).failed(2, &["holds no store"]);
    make(&home.store(), 1, 20, None);
    dump(&home.store().join("MANIFEST"), &[]).failed(2, &["holds no store"]);
    dump(&home.store(), &["--entity", "seven"]).failed(2, &["--entity", "seven"]);
    dump(&home.store(), &["--as-of", "yesterday"]).failed(2, &["RFC 3339"]);
    dump(&home.store(), &["rubbish"]).failed(2, &["rubbish"]);
    let engine = builder(&home.store(), 1).open().unwrap();
    dump(&home.store(), &[]).failed(3, &["is open already", "close it there first"]);
    drop(engine);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(["dump", "--data-dir", home.store().to_str().unwrap()]);
    call::ended(command.env("TMPDIR", "/nowhere")).failed(3, &["TMPDIR", "bytes"]);
}

#[test]
fn a_store_without_events_has_no_lines() {
    let home = Home::new();
    make(&home.store(), 2, 0, None);
    assert_eq!(dump(&home.store(), &[]).done(), "");
    let mode = fs::metadata(home.store()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
