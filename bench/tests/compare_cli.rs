//! `ebbtide-bench compare` as its users call it: rows as JSON, wrong keys, unusable folders.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn compare(folder: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
    command.current_dir(folder).args(["compare", "--quick"]).args(flags);
    command.output().expect("the program starts")
}

/// The one line a failure ends with.
#[track_caller]
fn refusal(output: &Output, code: i32) -> String {
    let line = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    line
}

#[test]
fn rows_are_measured_and_told_as_json_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let stores = folder.path().join("stores");
    fs::create_dir(&stores).unwrap();
    let keys = ["replay", "restore_vs_read", "time_to_ready"];
    let flags = ["--json", "rows.json", "--data-dir", "stores", "--backend", "threads", "--only"];
    let output = compare(folder.path(), &[&flags[..], &[&keys.join(",")]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");

    let table = String::from_utf8(output.stdout).unwrap();
    let json = fs::read_to_string(folder.path().join("rows.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["key"]).collect::<Vec<_>>(), keys);
    for row in rows {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(number("ours") > 0.0 && number("reference") > 0.0, "{row}");
        let [least, most] = [0, 1].map(|at| row["spread"][at].as_f64().unwrap());
        assert!(least <= number("ratio") && number("ratio") <= most, "{row}");
        let good = if row["better"] == "higher" {
            number("ratio") >= number("bar")
        } else {
            number("ratio") <= number("bar")
        };
        assert_eq!(row["met"], good, "{row}");
        assert!(table.contains(row["key"].as_str().unwrap()), "{table}");
    }
    assert_eq!(json["machine"]["backend"], "threads (as asked)");
    assert_eq!(fs::read_dir(&stores).unwrap().count(), 0, "stores are removed");
}

#[test]
fn a_row_can_be_had_without_those_it_is_measured_beside() {
    let folder = tempfile::tempdir().unwrap();
    for keys in ["durable_ack_p50", "log_bytes"] {
        let output = compare(folder.path(), &["--only", keys]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert_eq!(told.lines().filter(|line| !line.starts_with("warning")).count(), 1, "{told}");
    }
}

/// It was a panic, and the JSON was not written.
#[test]
fn a_table_that_cannot_be_printed_is_told_and_the_json_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let call = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
        command.args(["compare", "--quick", "--only", "memory_trace", "--json", "rows.json"]);
        command.current_dir(folder.path()).stdout(stdout).output().unwrap()
    };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = call(full.into());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("error: cannot write the table to standard output"), "{told}");
    assert!(fs::read_to_string(folder.path().join("rows.json")).unwrap().contains("memory_trace"));
    let (reading, writing) = std::io::pipe().unwrap();
    drop(reading);
    assert_eq!(call(writing.into()).status.code(), Some(0));
}

/// A signal left its stores, some hundred megabytes.
#[test]
fn a_comparison_that_is_ended_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stores = folder.path().join("stores");
    fs::create_dir(&stores).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
    command.args(["compare", "--only", "durable_throughput", "--data-dir", "stores"]);
    let mut child = command.current_dir(folder.path()).spawn().unwrap();
    let begun = Instant::now();
    // A log is there, and it is written to: an engine that still opens makes its folders again.
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let is_at_work = || {
        let stores = entries(stores.clone()).flat_map(|root| entries(root.path()));
        let mut files = stores.flat_map(|store| entries(store.path().join("log/0000")));
        files.any(|file| file.file_name().to_string_lossy().starts_with("seg-"))
    };
    while !is_at_work() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it never came to that");
        sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(fs::read_dir(&stores).unwrap().count(), 0);
}

#[test]
fn what_is_not_understood_is_refused_with_what_would_be() {
    let folder = tempfile::tempdir().unwrap();
    let line = refusal(&compare(folder.path(), &["--only", "speed"]), 2);
    assert!(line.contains("speed") && line.contains("durable_ack_p50"), "{line}");
    let line = refusal(&compare(folder.path(), &["--backend", "fast"]), 2);
    assert!(line.contains("auto, uring or threads"), "{line}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--only", "replay", "--data-dir", "nowhere"];
    let line = refusal(&compare(folder.path(), &flags), 3);
    assert!(line.contains("nowhere") && line.contains("--data-dir"), "{line}");
}
