//! `ebbtide-bench count` as its users call it wrongly.

use std::process::{Command, Output};

fn count(flags: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
    command.current_dir(folder.path()).arg("count").args(flags).output().expect("it starts")
}

/// The one line a failure ends with.
#[track_caller]
fn refusal(flags: &[&str]) -> String {
    let output = count(flags);
    let line = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.starts_with("error: ") && line.lines().count() == 1, "{line}");
    line
}

#[test]
fn an_unknown_stage_is_refused_with_those_there_are() {
    let line = refusal(&["speed"]);
    assert!(line.contains("speed") && line.contains("apply_in_order"), "{line}");
}

#[test]
fn a_build_that_is_not_optimized_and_a_folder_without_numbers_are_refused() {
    let line = refusal(&[]);
    let what = if cfg!(debug_assertions) { "--release" } else { "--baseline" };
    assert!(line.contains(what), "{line}");
}

#[test]
fn one_round_of_a_stage_prints_nothing() {
    let output = count(&["--inside", "offer"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}
