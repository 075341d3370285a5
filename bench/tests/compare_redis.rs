//! `ebbtide-bench compare` beside Redis: with a server, without one, and when it is ended.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn compare(folder: &Path, keys: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
    command.current_dir(folder).args(["compare", "--quick", "--backend", "threads"]);
    command.args(["--json", "rows.json", "--data-dir", "stores", "--only", keys]);
    fs::create_dir_all(folder.join("stores")).unwrap();
    command
}

/// Runs it to its end; gives its table and its JSON.
fn compared(mut command: Command, folder: &Path) -> (String, Value) {
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let json = fs::read_to_string(folder.join("rows.json")).unwrap();
    (String::from_utf8(output.stdout).unwrap(), serde_json::from_str(&json).unwrap())
}

/// How many servers work in a folder, which may be gone.
fn servers_in(folder: &Path) -> usize {
    let folder = folder.canonicalize().unwrap();
    let works_there = |process: fs::DirEntry| {
        let place = fs::read_link(process.path().join("cwd")).ok()?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        (place.starts_with(&folder) && name.starts_with("redis-server")).then_some(())
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(works_there).count()
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("redis-server").is_file())
}

#[test]
fn without_a_server_its_rows_are_skipped_with_the_reason_and_the_others_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = compare(folder.path(), "replay,restore");
    command.env("PATH", folder.path());
    let (table, json) = compared(command, folder.path());
    let [rows, skipped] = ["rows", "skipped"].map(|list| json[list].as_array().unwrap());
    assert_eq!((rows.len(), rows[0]["key"].as_str()), (1, Some("replay")), "{json}");
    assert_eq!((skipped.len(), skipped[0]["key"].as_str()), (1, Some("restore")), "{json}");
    let reason = skipped[0]["reason"].as_str().unwrap();
    assert!(reason.contains("no redis-server in PATH"), "{reason}");
    assert!(table.contains(&format!("skipped: {reason}")), "{table}");
}

#[test]
fn a_program_that_is_no_server_is_a_reason_too() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("redis-server");
    std::os::unix::fs::symlink("/bin/false", &program).unwrap();
    let mut command = compare(folder.path(), "restore");
    command.env("PATH", folder.path());
    let (_, json) = compared(command, folder.path());
    let reason = json["skipped"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("does not answer"), "{reason}");
}

#[test]
fn a_row_beside_a_server_is_measured_and_it_is_gone_afterwards() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, json) = compared(compare(folder.path(), "restore"), folder.path());
    assert!(json["skipped"].as_array().unwrap().is_empty(), "{json}");
    let row = &json["rows"][0];
    assert_eq!(row["key"], "restore");
    let number = |key: &str| row[key].as_f64().unwrap();
    assert!(number("ours") > 0.0 && number("reference") > 0.0, "{row}");
    let stores = folder.path().join("stores");
    assert_eq!(servers_in(&stores), 0);
    assert_eq!(fs::read_dir(&stores).unwrap().count(), 0);
}

#[test]
fn a_server_does_not_outlive_a_comparison_however_that_ends() {
    if !is_installed() {
        return;
    }
    for signal in [Signal::KILL, Signal::TERM] {
        let folder = tempfile::tempdir().unwrap();
        let stores = folder.path().join("stores");
        let mut child = compare(folder.path(), "durable_vs_redis").spawn().unwrap();
        wait_until(|| servers_in(&stores) == 1);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()));
        wait_until(|| servers_in(&stores) == 0);
        if signal == Signal::TERM {
            assert_eq!(fs::read_dir(&stores).unwrap().count(), 0);
        }
    }
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_mins(2), "it never came to that");
        sleep(Duration::from_millis(10));
    }
}
