//! Calls of the program, as its users make them.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// What a call returned and printed.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// It did what was asked, without a word on standard error.
    #[track_caller]
    pub(crate) fn done(&self) -> &str {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        &self.out
    }

    /// It failed with `code` and one line, which holds each of `told`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, told: &[&str]) -> &Self {
        let Self { out, err, .. } = self;
        assert_eq!(self.code, code, "{out}{err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{err}");
        assert!(told.iter().all(|told| err.contains(told)), "{told:?} in {err}");
        self
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{}{}", self.out, self.err);
        serde_json::from_str(&self.out).expect("one JSON object")
    }
}

/// Runs `ebbtide` with these arguments.
pub(crate) fn ebbtide<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    ended(command.args(arguments))
}

/// Runs `ebbtide` as a user to whom permissions apply: another one, where this is root.
pub(crate) fn ebbtide_by_other<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    // By its open file, so that the folders on the way may be closed to the other user.
    let program = File::open(env!("CARGO_BIN_EXE_ebbtide")).expect("cargo built it");
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(arguments).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    ended(&mut command)
}

/// Makes a folder and all that is in it that user's.
pub(crate) fn give_to_other(path: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if path.symlink_metadata().expect("it is there").is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            give_to_other(&entry.expect("an entry").path());
        }
    }
    lchown(path, Some(NOBODY), Some(NOBODY)).expect("this is root");
}

/// Runs a command that ends by itself.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().expect("cargo built it");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    Ended { code: output.status.code().expect("it ends by itself"), out, err }
}
