//! `ebbtide doctor` as its users call it: exit codes, the table, the JSON, the directory it is
//! asked about.

mod call;

use call::{ebbtide, ended};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

fn doctor(data_dir: &Path, rest: &[&str]) -> call::Ended {
    let data_dir = data_dir.to_str().expect("tests use plain names");
    ebbtide(["doctor", "--data-dir", data_dir].iter().chain(rest))
}

/// The finding of this name.
#[track_caller]
fn finding(report: &Value, name: &str) -> (String, String) {
    let findings = report["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["name"] == name).expect("it is checked");
    let text = |key: &str| found[key].as_str().expect("text").to_owned();
    (text("status"), text("found"))
}

#[test]
fn a_table_of_eighty_columns_names_every_check_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let ended = doctor(&home.path().join("store"), &["--shards", "1"]);
    let table = ended.done();
    for name in ["kernel", "io_uring", "memlock", "file system", "direct I/O", "free space"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{name} in {table}");
    }
    assert!(table.lines().skip(1).all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("\nnothing is bad, "), "{table}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn json_is_one_object_whose_counts_are_those_of_its_findings() {
    let home = tempfile::tempdir().unwrap();
    let report = doctor(home.path(), &["--json", "--shards", "3"]).json();
    assert_eq!((report["shards"].as_u64(), report["bad"].as_u64()), (Some(3), Some(0)));
    let findings = report["findings"].as_array().unwrap();
    let warned = findings.iter().filter(|finding| finding["status"] == "warn").count();
    assert_eq!(report["warn"].as_u64(), Some(warned as u64));
    assert!(findings.iter().all(|f| f["todo"].is_null() == (f["status"] == "ok")), "{report}");
}

#[test]
fn a_store_in_use_is_told_and_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let told = || finding(&doctor(home.path(), &["--json"]).json(), "store");
    assert_eq!(told(), ("ok".into(), "there is none yet".into()));
    fs::write(home.path().join("MANIFEST"), "").unwrap();
    assert_eq!(told().0, "ok");
    let lock = File::create(home.path().join("LOCK")).unwrap();
    lock.try_lock().unwrap();
    assert_eq!(told().0, "warn");
    assert!(told().1.contains("has it open"), "{told:?}", told = told());
}

#[test]
fn a_path_that_can_be_no_directory_is_bad_and_ends_with_three() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    doctor(&file, &[]).failed(3, &["directory: there is a file of that name", "name a directory"]);
    let below = doctor(&file.join("below"), &["--json"]);
    below.failed(3, &["directory: "]);
    assert_eq!(finding(&below.json(), "directory").0, "bad");
}

#[test]
fn other_users_who_may_look_into_the_store_are_a_warning() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (status, found) = finding(&doctor(home.path(), &["--json"]).json(), "directory");
    assert_eq!(status, "warn");
    assert!(found.contains("0755"), "{found}");
}

#[test]
fn files_in_memory_are_told_apart_from_files_on_a_disk() {
    let Ok(home) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no /dev/shm to write to");
        return;
    };
    let report = doctor(home.path(), &["--json"]).json();
    let (status, found) = finding(&report, "file system");
    assert_eq!(status, "warn");
    assert!(found.contains("files in memory"), "{found}");
}

#[test]
fn an_ordinary_user_may_ask_about_a_directory_that_is_not_his() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = File::open(env!("CARGO_BIN_EXE_ebbtide")).unwrap();
    // By its open file, so that the folders on the way may be closed to the other user.
    let program = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&program));
    let mut command = Command::new(program);
    command.args(["doctor", "--json", "--data-dir"]).arg(home.path());
    let ended = ended(command.uid(65_534).gid(65_534).current_dir("/"));
    ended.failed(3, &["writing: ", "Permission denied"]);
    assert_eq!(finding(&ended.json(), "directory").0, "warn");
}

#[test]
fn a_name_that_would_steer_the_terminal_is_escaped() {
    let home = tempfile::tempdir().unwrap();
    for rest in [&[][..], &["--json"]] {
        let ended = doctor(&home.path().join("a\u{1b}[2J\u{9b}b"), rest);
        let steers = |sign: char| sign.is_control() && sign != '\n';
        assert!(!ended.done().chars().any(steers), "{}", ended.out);
    }
}

#[test]
fn wrong_usage_is_one_line_and_ends_with_two() {
    ebbtide(["doctor"]).failed(2, &["--data-dir"]);
    ebbtide(["doctor", "--data-dir", "/", "--shards", "0"]).failed(2, &["'0'", "1..=1024"]);
    ebbtide(["top"]).failed(2, &["unrecognized subcommand 'top'"]);
    let ended = ebbtide(["\u{202e}a\u{1b}[2J"]);
    ended.failed(2, &["unrecognized subcommand '\\u{202e}a"]);
    assert!(!ended.err.trim_end().contains(char::is_control), "{}", ended.err);
}

#[test]
fn help_and_version_are_no_failure() {
    assert!(ebbtide(["--help"]).done().contains("inspect"));
    assert!(ebbtide(["--version"]).done().starts_with("ebbtide "));
}
