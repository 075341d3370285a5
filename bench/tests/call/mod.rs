//! Calls of the program in a folder with a schema, as its users make them.

use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const SCHEMA: &str = r#"
    [signals.view]
    half_lives = ["1h", "24h", "7d"]
    windows = ["1h", "24h"]
    velocity = true

    [signals.buy]
    half_lives = ["30d"]
"#;
/// 2024-01-01T00:00:00Z, the first instant of its minute, hour and day.
pub(crate) const START_NS: u64 = 1_704_067_200_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
pub(crate) const MINUTE_NS: u64 = 60 * SECOND_NS;
pub(crate) const HOUR_NS: u64 = 60 * MINUTE_NS;

/// What a call returned and printed.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Of a call that ended by itself.
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Self { code: output.status.code().expect("it ends by itself"), out, err }
    }

    /// The call failed with `code` and one readable message, which holds each of `told`.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, told: &[&str]) {
        let Self { out, err, .. } = self;
        assert_eq!(self.code, code, "{out}{err}");
        assert!(err.starts_with("error: "), "{err}");
        assert!(told.iter().all(|told| err.contains(told)), "{told:?} in {err}");
    }

    /// The one JSON object it printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        assert_eq!(self.out.lines().count(), 1, "{}", self.out);
        serde_json::from_str(&self.out).expect("one JSON object")
    }
}

/// A folder with a schema, in which the program is called.
pub(crate) struct Bench(pub(crate) TempDir);

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("a temporary folder can be had"));
        bench.write("s.toml", SCHEMA);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a temporary folder is writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `replay --schema s.toml` and the words of `rest`, to be started.
    pub(crate) fn replaying(&self, rest: &str) -> Command {
        self.command("replay --schema s.toml".split(' ').chain(rest.split_whitespace()))
    }

    /// The same, to its end.
    pub(crate) fn replay(&self, rest: &str) -> Ended {
        Ended::of(self.replaying(rest).output().expect("cargo built it"))
    }

    /// The dump of `t.csv`, line by line.
    #[track_caller]
    pub(crate) fn dump(&self, rest: &str) -> Vec<String> {
        let ended = self.replay(&format!("--trace t.csv --dump d.jsonl {rest}"));
        assert_eq!(ended.code, 0, "{}", ended.err);
        self.read("d.jsonl").lines().map(str::to_owned).collect()
    }
}

/// `count` events of some entities, one in seven of them late.
pub(crate) fn many_events(count: u64) -> String {
    let mut text = "timestamp,entity,signal,weight\n".to_owned();
    for n in 0..count {
        let late = if n % 7 == 0 { 90 * MINUTE_NS } else { 0 };
        let time = START_NS + 2 * HOUR_NS + n * 3 * SECOND_NS - late;
        let signal = if n % 3 == 0 { "buy" } else { "view" };
        let (entity, weight) = (n * 31 % 97, (n % 11) as f64 * 0.375);
        writeln!(text, "{time},user-{entity},{signal},{weight}").expect("text grows");
    }
    text
}
