//! The command as a stranger meets it: one line for each failure, the exit codes of the contract,
//! and never the text of a panic.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SCHEMA: &str = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]\n";
const TRACE: &str = "timestamp,entity,signal,weight\n1,a,view,1\n2,b,view,\n";

/// A folder with a schema and a trace.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn with(trace: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("schema.toml"), SCHEMA).expect("written");
        fs::write(folder.path().join("trace.csv"), trace).expect("written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `replay` of the trace with the plain-thread runtime, which is there on every machine.
    fn replay(&self, flags: &[&str]) -> Command {
        let mut command = program(self.folder.path());
        command.args(["replay", "--trace", "trace.csv", "--schema", "schema.toml"]);
        command.args(["--backend", "threads"]).args(flags);
        command
    }
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Asserts that the command ended with `code` and one line, and gives the line back.
#[track_caller]
fn refusal(output: &Output, code: i32) -> String {
    let line = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    line
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let bench = Bench::with(TRACE);
    for flags in [&[][..], &["--json"]] {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let output = bench.replay(flags).stdout(writing).output().unwrap();
        assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{flags:?}");
    }
}

#[test]
fn a_full_disk_under_the_summary_is_the_environment() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let output = Bench::with(TRACE).replay(&[]).stdout(full).output().unwrap();
    assert!(refusal(&output, 3).contains("standard output"));
}

#[test]
fn a_usage_error_is_one_line() {
    let bench = Bench::with(TRACE);
    let line = |flags: &[&str]| refusal(&bench.replay(flags).output().unwrap(), 2);
    assert!(line(&["--bogus"]).contains("'--bogus'"));
    assert!(line(&["--quarantin", "q"]).contains("'--quarantine'"), "the tip is kept");
    assert!(line(&["--rate", "fast"]).contains("events per second"));
    assert!(line(&["--shards", "1", "--shards", "2"]).contains("--shards"));
    let both = ["replay", "--trace", "t", "--synthetic", "events=1"];
    let both = program(bench.folder.path()).args(both).output().unwrap();
    assert!(refusal(&both, 2).contains("--synthetic <SPEC>'; see `--help`"));
}

#[test]
fn no_file_is_read_and_written_or_written_twice() {
    let bench = Bench::with(TRACE);
    fs::hard_link(bench.path("trace.csv"), bench.path("other_name.csv")).unwrap();
    let line = |flags: &[&str]| refusal(&bench.replay(flags).output().unwrap(), 2);
    assert!(line(&["--dump", "./trace.csv"]).contains("is read by this run"));
    assert!(line(&["--dump", "other_name.csv"]).contains("is read by this run"));
    assert!(line(&["--quarantine", "schema.toml"]).contains("is read by this run"));
    assert!(line(&["--dump", "out", "--quarantine", "./out"]).contains("is written twice"));
    assert_eq!(fs::read_to_string(bench.path("trace.csv")).unwrap(), TRACE);

    let nowhere = bench.replay(&["--dump", "/dev/null", "--quarantine", "/dev/null"]).output();
    assert_eq!(nowhere.unwrap().status.code(), Some(0));
}

#[test]
fn an_event_that_was_refused_is_not_the_last_event() {
    // In a full batch, and timed by itself.
    let bench = Bench::with("timestamp,entity,signal,weight\n1,a,view,1\n9,a,view,1e20\n");
    for flags in
        [&["--json", "--skip-bad-lines"][..], &["--json", "--skip-bad-lines", "--rate", "1e6"]]
    {
        let output = bench.replay(flags).output().unwrap();
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&summary["rejected"], &summary["as_of"]), (&1.into(), &1.into()), "{flags:?}");
    }
}

/// The line after it was reported instead, and only that one was set aside.
#[test]
fn a_refused_event_is_told_before_a_bad_line_behind_it_and_both_are_set_aside() {
    let bench = Bench::with("timestamp,entity,signal,weight\n1,a,view,1e20\nx\n");
    let output = bench.replay(&["--quarantine", "aside.csv"]).output().unwrap();
    assert!(refusal(&output, 2).contains("trace.csv:2: "));
    let aside = fs::read_to_string(bench.folder.path().join("aside.csv")).unwrap();
    assert!(aside.contains("trace.csv:2: ") && aside.contains("trace.csv:3: "), "{aside}");
}
