//! Environments that forbid: little lockable memory, few or short files, no io_uring, no
//! privileges. The engine falls back to plain threads and says why, or refuses to open and says
//! why; it never panics or hangs.
//!
//! Each test runs `confined`, a small host that takes the right away from itself, so nothing of
//! this machine is changed.

use ebbtide::{Backend, Engine, EntityId, SignalId};
use ebbtide_tests::setting::{backends, schema};
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

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

/// A kernel without io_uring, and filters that say so.
#[test]
fn where_io_uring_does_not_exist_the_engine_says_so() {
    const ENOSYS: i32 = 38;
    for user in users() {
        let forbidden = format!("no-io-uring={ENOSYS}");
        let automatic = confined(&format!("auto 2 {forbidden}"), user);
        let Some((code, said)) = automatic else { continue };
        assert_eq!(code, 0, "{said}");
        let says = |why: &str| {
            why.contains("io_uring is not to be had: Function not implemented")
                || why.contains("io_uring needs 512 KiB of lockable memory")
        };
        assert!(said.starts_with("threads (") && says(&said), "{said}");
        let Some((code, said)) = confined(&format!("uring 1 {forbidden}"), user) else { continue };
        assert_eq!(code, 3, "{said}");
        assert!(says(&said) && said.contains("use the automatic or the threads backend"), "{said}");
    }
}

/// A folder that every user may walk through, with one in it that belongs to `user`.
fn folder_of(user: Option<u32>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).expect("it is ours");
    let own = folder.path().join("own");
    fs::create_dir(&own).expect("a new folder");
    fs::set_permissions(&own, Permissions::from_mode(0o700)).expect("it is ours");
    chown(&own, user, user).expect("root may give it away");
    (folder, own)
}

#[test]
fn a_store_in_a_directory_of_its_own_asks_for_no_privilege() {
    for user in users() {
        let (_folder, own) = folder_of(user);
        let store = format!("dir={}", own.join("deep/store").display());
        for (engine, runtime) in [
            ("auto 2 memlock=8192", "(the kernel gave a ring)"),
            ("auto 3 no-io-uring", "threads (io_uring"),
            ("threads 1 memlock=0", "threads (as asked)"),
        ] {
            let Some((code, said)) = confined(&format!("{engine} {store}"), user) else { continue };
            assert_eq!(code, 0, "{engine}: {said}");
            assert!(said.contains(runtime) || !uring_is_to_be_had(), "{engine}: {said}");
        }
    }
}

#[test]
fn without_enough_files_a_store_is_refused_unharmed_or_works() {
    let (_folder, own) = folder_of(None);
    let store = format!("dir={}", own.display());
    let mut worked = 0;
    for engine in ["threads 1", "auto 2"] {
        for most in [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40, 60, 100] {
            let restricted = confined(&format!("{engine} {store} nofile={most}"), None);
            let Some((code, said)) = restricted else { continue };
            assert!(code == 0 || code == 3, "{engine}, {most} files: {said}");
            assert!(code == 0 || said.contains(": "), "it says why: {said}");
            worked += u64::from(code == 0);
            assert!(code == 0 || most < 100, "a hundred files are enough: {said}");
        }
    }
    let engine = Engine::builder(&own).schema(schema()).shards(1).open().expect("it is unharmed");
    let reading = engine.reader().expect("it runs").read(EntityId(7), SignalId(0), engine.now());
    assert_eq!(reading.expect("it runs").map(|reading| reading.all_time), Some(worked));
}

/// A write beyond the limit would end the host by a signal.
#[test]
fn where_files_may_not_grow_long_enough_a_store_is_refused_before_it_is_made() {
    let (_folder, own) = folder_of(None);
    for kib in [0, 4, 1_024, 64 * 1_024, 127 * 1_024] {
        let arguments = format!("auto 2 fsize={kib} dir={}", own.display());
        let Some((code, said)) = confined(&arguments, None) else { continue };
        assert_eq!(code, 3, "{said}");
        assert!(said.starts_with("store-file-limit: ") && said.contains("ulimit -f"), "{said}");
        assert_eq!(fs::read_dir(&own).expect("it is there").count(), 0, "nothing is made");
    }
    let enough = format!("auto 2 fsize={} dir={}", 128 * 1_024, own.display());
    if let Some((code, said)) = confined(&enough, None) {
        assert_eq!(code, 0, "{said}");
    }
}

/// What the operating system refuses to `user`, as a store's code and its words.
fn refused_to(user: u32, directory: &Path) -> Option<String> {
    let (code, said) = confined(&format!("auto 1 dir={}", directory.display()), Some(user))?;
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("store-io: "), "{said}");
    assert!(said.contains("Permission denied") && said.contains("own"), "it says what: {said}");
    Some(said)
}

#[test]
fn what_another_user_may_not_touch_is_refused_by_name_and_unharmed() {
    if !is_root() {
        println!("not tested: there is no other user to be");
        return;
    }
    let (_folder, own) = folder_of(None);
    let store = own.join("store");
    let recorded = confined(&format!("auto 2 dir={}", store.display()), None);
    assert_eq!(recorded.expect("it may").0, 0);
    // A folder that is closed, one that may be looked into, a store whose files are closed.
    for (mode, directory) in [(0o700, &store), (0o755, &own.join("new")), (0o755, &store)] {
        for open in [&own, &store] {
            fs::set_permissions(open, Permissions::from_mode(mode)).expect("it is ours");
        }
        if refused_to(NOBODY, directory).is_none() {
            return;
        }
    }
    // A directory of one's own that may not be written to.
    let (_folder, own) = folder_of(Some(NOBODY));
    fs::set_permissions(&own, Permissions::from_mode(0o500)).expect("root may");
    refused_to(NOBODY, &own);
    let again = confined(&format!("threads 1 dir={}", store.display()), None);
    assert_eq!(again.expect("it may").0, 0, "it is whole, and counts on");
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
