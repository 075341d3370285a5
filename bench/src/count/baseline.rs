//! The committed numbers: a file that changes only on purpose.
//!
//! Promises: what is written is read back; a file that is no baseline is refused with the reason.

use crate::fault::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

const HEAD: &str = "\
# Instructions of one operation of each stage, as callgrind counts them in a release build.
# Written by `cargo run --release -p ebbtide-bench -- count --accept`; see docs/TESTING.md.

";

/// The numbers, and what they are numbers of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    /// Which ways through the code the processor took that they were counted on.
    pub(super) instruction_set: String,
    /// By stage.
    pub(super) instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// Reads a file, which `may_be_missing`.
    pub(super) fn read(path: &Path, may_be_missing: bool) -> Result<Self, Fault> {
        let refused = |error: &dyn Display| {
            let file = path.display();
            Fault::input(format!(
                "cannot read the committed numbers from {file}: {error}; run it in the \
                 repository's root, or give --baseline"
            ))
        };
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| refused(&error.message())),
            Err(error) if may_be_missing && error.kind() == ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(refused(&error)),
        }
    }

    /// Takes what was counted for what is committed; what was not counted stays, unless everything
    /// was.
    pub(super) fn take(&mut self, counted: Vec<(&'static str, f64)>, is_whole: bool) {
        if is_whole {
            self.instructions.clear();
        }
        let tenths = |count: f64| (count * 10.0).round() / 10.0;
        self.instructions
            .extend(counted.into_iter().map(|(name, count)| (name.to_owned(), tenths(count))));
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<(), Fault> {
        let text = toml::to_string(self).map_err(Fault::environment)?;
        fs::write(path, format!("{HEAD}{text}")).map_err(|error| {
            Fault::environment(format!("cannot write {}: {error}", path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_read_back_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.toml");
        assert_eq!(Baseline::read(&path, true).unwrap(), Baseline::default());
        let mut baseline =
            Baseline { instruction_set: "x86_64 with AVX2".into(), ..Baseline::default() };
        baseline.take(vec![("offer", 31.04), ("turn", 200.0)], true);
        baseline.take(vec![("turn", 210.06)], false);
        baseline.write(&path).unwrap();
        let read = Baseline::read(&path, false).unwrap();
        assert_eq!(read, baseline);
        let counts = [("offer".to_owned(), 31.0), ("turn".to_owned(), 210.1)];
        assert_eq!(read.instructions, BTreeMap::from(counts));
        baseline.take(vec![("offer", 30.0)], true);
        assert_eq!(baseline.instructions.len(), 1);
    }

    #[test]
    fn what_is_no_baseline_is_refused_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.toml");
        let refusal = |path: &Path| Baseline::read(path, false).unwrap_err().message;
        assert!(refusal(&path).contains("--baseline"));
        for text in ["instructions = 3", "[stages]\noffer = 1.0", "\0"] {
            fs::write(&path, text).unwrap();
            let line = refusal(&path);
            assert!(line.contains("counts.toml") && line.lines().count() == 1, "{line}");
        }
    }
}
