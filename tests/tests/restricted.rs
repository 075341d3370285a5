//! Environments that forbid: little lockable memory, no io_uring, no privileges. The engine falls
//! back to plain threads and says why, or refuses to open and says why; it never panics or hangs.
//!
//! Each test runs `confined`, a small host that takes the right away from itself, so nothing of
//! this machine is changed.

use ebbtide::Backend;
use ebbtide_tests::setting::backends;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// What a confined host printed and returned; `None`, with a note, if it could not be confined.
fn confined(arguments: &str, user: Option<u32>) -> Option<(i32, String)> {
    let program = File::open(env!("CARGO_BIN_EXE_confined")).expect("cargo built it");
    // By its open file, so that the folders on the way may be closed to the other user.
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(arguments.split(' ')).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let Output { status, stdout, stderr } = match command.output() {
        Ok(output) => output,
        Err(error) if user.is_some() => {
            println!("not tested as another user: {error}");
            return None;
        }
        Err(error) => panic!("`confined` does not start: {error}"),
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    println!("confined {arguments}: {status}: {stdout}{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = status.code().expect("it ends by itself");
    if code == 4 {
        println!("not tested: {stdout}");
        return None;
    }
    Some((code, stdout.trim_end().to_owned()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The invoking user, and an ordinary one if there is a choice.
fn users() -> Vec<Option<u32>> {
    if is_root() { vec![None, Some(NOBODY)] } else { vec![None] }
}

/// A machine may also have too little lockable memory to get as far as the refusal.
fn says_what_is_forbidden(why: &str) -> bool {
    why.starts_with("io_uring is not to be had: Operation not permitted")
        || why.starts_with("io_uring needs 512 KiB of lockable memory")
}

fn uring_is_to_be_had() -> bool {
    backends().contains(&Backend::Uring)
}

#[test]
fn with_little_lockable_memory_the_engine_falls_back_and_says_what_to_raise() {
    for user in users() {
        let Some((code, said)) = confined("auto 2 memlock=64", user) else { continue };
        assert_eq!(code, 0, "{said}");
        assert_eq!(
            said,
            "threads (io_uring needs 512 KiB of lockable memory and the limit is 64 KiB; raise \
             `ulimit -l`)"
        );
    }
}

#[test]
fn with_little_lockable_memory_io_uring_is_refused_when_insisted_on() {
    for user in users() {
        let Some((code, said)) = confined("uring 2 memlock=64", user) else { continue };
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("the limit is 64 KiB; raise `ulimit -l`"), "{said}");
        assert!(said.contains("use the automatic or the threads backend"), "{said}");
    }
}

#[test]
fn eight_mebibytes_of_lockable_memory_are_enough_for_an_ordinary_user() {
    for user in users() {
        for shards in [1, 4] {
            let automatic = confined(&format!("auto {shards} memlock=8192"), user);
            let Some((code, said)) = automatic else { continue };
            assert_eq!(code, 0, "{said}");
            let uring = confined(&format!("uring {shards} memlock=8192"), user);
            let Some((code, refusal)) = uring else { continue };
            let expected = if said.starts_with("io_uring (") { 0 } else { 3 };
            assert_eq!(code, expected, "automatic: {said}; insisted on: {refusal}");
            if user.is_none() && uring_is_to_be_had() {
                assert_eq!(said, "io_uring (the kernel gave a ring)");
            }
        }
    }
}

#[test]
fn where_io_uring_is_forbidden_the_engine_falls_back_and_says_why() {
    for user in users() {
        let Some((code, said)) = confined("auto 2 no-io-uring", user) else { continue };
        assert_eq!(code, 0, "{said}");
        let why = said.strip_prefix("threads (").expect("the fallback");
        assert!(says_what_is_forbidden(why), "{said}");
    }
}

#[test]
fn where_io_uring_is_forbidden_it_is_refused_when_insisted_on() {
    for user in users() {
        let Some((code, said)) = confined("uring 1 no-io-uring", user) else { continue };
        assert_eq!(code, 3, "{said}");
        assert!(says_what_is_forbidden(&said), "{said}");
        assert!(said.contains("use the automatic or the threads backend"), "{said}");
    }
}

#[test]
fn plain_threads_ask_for_nothing() {
    for user in users() {
        let Some((code, said)) = confined("threads 4 memlock=0 no-io-uring", user) else {
            continue;
        };
        assert_eq!((code, said.as_str()), (0, "threads (as asked)"));
    }
}
