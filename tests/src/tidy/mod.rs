//! House rules that a compiler does not know, as functions from text to violations.
//!
//! Promises: a rule is a pure function of the files given to it, so each is also tested on text
//! that breaks it; every exception stands in [`lists`], with its reason, and an exception that is
//! no longer needed is itself a violation.
//! Deliberately not here: what rustc, clippy and rustfmt already say. Advice that is not checked
//! stands in `docs/STYLE.md`, which names the rules held here.

pub mod bans;
pub mod book;
pub mod dependencies;
pub mod layers;
pub mod lists;
pub mod modules;
pub mod shape;
pub mod source;
pub mod unsafe_code;

use source::Source;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the repository's root.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), instead: instead.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; instead: {}", self.path, self.line, self.what, self.instead)
    }
}

/// A file that is not Rust.
#[derive(Clone, Debug)]
pub struct Document {
    /// Path from the repository's root.
    pub path: String,
    /// The file as it is.
    pub text: String,
}

/// Every file the rules read.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// All `.rs` files.
    pub sources: Vec<Source>,
    /// All `.toml` and `.md` files.
    pub documents: Vec<Document>,
}

impl Repository {
    /// Reads the repository this package was compiled in.
    ///
    /// # Errors
    ///
    /// When a folder or a file cannot be read.
    pub fn load() -> io::Result<Self> {
        let mut repository = Self::default();
        let root = root();
        for path in files_below(&root)? {
            let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
            match extension(&name) {
                "rs" => {
                    let text = fs::read_to_string(&path)?;
                    repository.sources.push(Source::new(name, text));
                }
                "toml" | "md" => {
                    let text = fs::read_to_string(&path)?;
                    repository.documents.push(Document { path: name, text });
                }
                _ => {}
            }
        }
        Ok(repository)
    }

    /// The `Cargo.toml` files.
    pub fn manifests(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(|document| file_name(&document.path) == "Cargo.toml")
    }

    /// The document at `path`.
    #[must_use]
    pub fn document(&self, path: &str) -> Option<&Document> {
        self.documents.iter().find(|document| document.path == path)
    }
}

/// The repository's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Every file below `folder` in a fixed order, without build output and hidden folders.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() {
            files.push(path);
        } else if name != "target" && !name.starts_with('.') {
            files.extend(files_below(&path)?);
        }
    }
    Ok(files)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn extension(path: &str) -> &str {
    file_name(path).rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether `path` is `place` or lies below it; the empty place holds everything.
fn lies_in(path: &str, place: &str) -> bool {
    place.is_empty()
        || path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_what_lies_below_it_and_not_its_namesakes() {
        assert!(lies_in("wal/src/lib.rs", "wal"));
        assert!(lies_in("wal/src/lib.rs", ""));
        assert!(lies_in("wal/src/lib.rs", "wal/src/lib.rs"));
        assert!(!lies_in("wall/src/lib.rs", "wal"));
    }

    #[test]
    fn a_violation_prints_place_fault_and_remedy() {
        let violation = Violation::new("wal/src/lib.rs", 3, "a tab", "four spaces");
        assert_eq!(violation.to_string(), "wal/src/lib.rs:3: a tab; instead: four spaces");
    }
}
