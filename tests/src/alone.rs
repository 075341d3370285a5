//! Running one test in a process of its own, in surroundings that a shell command prepares: a small
//! file system, a limit, another user.
//!
//! Promises: nothing of this machine is changed; where the surroundings are not to be had, the
//! reason is printed, and the test counts as passed.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

const PLACE: &str = "EBBTIDE_ALONE";
/// What a preparation ends with when it cannot be made.
const NOT_HERE: i32 = 77;

/// Where a test that runs alone may make its files; `None` in the process that only starts it,
/// after it has come to its end.
///
/// `prepare` is a shell command that finds an empty folder in `$PLACE`. With `mount` in it, it gets
/// mounts of its own.
///
/// # Panics
///
/// If the test fails there.
#[must_use]
pub fn alone(test: &str, prepare: &str) -> Option<PathBuf> {
    if let Some(place) = env::var_os(PLACE) {
        return Some(PathBuf::from(place));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    std::fs::create_dir(&place).expect("a new folder");
    let script = format!(
        "PLACE={}; {prepare} || exit {NOT_HERE}; exec {} --exact {test} --nocapture",
        place.display(),
        env::current_exe().expect("it is running").display()
    );
    let mut words: Vec<OsString> = ["sh", "-c", &script].map(OsString::from).into();
    if prepare.contains("mount ") {
        words.splice(0..0, unshare().map(OsString::from));
    }
    let ended = Command::new(&words[0]).args(&words[1..]).env(PLACE, &place).status();
    match ended.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(NOT_HERE | 1 | 126 | 127)) if !can_mount() && prepare.contains("mount ") => {
            println!("not tested: no mounts for us here");
        }
        Ok(Some(NOT_HERE)) => println!("not tested: `{prepare}` is not to be had here"),
        ended => panic!("`{test}` alone: {ended:?}"),
    }
    None
}

/// What gives mounts of one's own; to an ordinary user, where the kernel lets it play root there.
fn unshare() -> [&'static str; 3] {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    ["unshare", flags, "--"]
}

fn can_mount() -> bool {
    let [program, arguments @ ..] = unshare();
    let tried = Command::new(program).args(arguments).arg("true").status();
    tried.is_ok_and(|status| status.success())
}
