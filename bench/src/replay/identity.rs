//! Which trace a replay records, as the names of its sources say it, and which one a store holds.
//!
//! ```text
//! trace:1024:<digest of the first rows>:<bytes>:<digest of the file>/0of2
//! synthetic:<digest of all keys but events>/1of2
//! ```
//!
//! Promises: another trace has other names. One that has grown by lines, and one with more
//! synthetic events, goes on under the names it began with.

use crate::fault::Fault;
use crate::trace::{TraceContent, TraceHead};
use std::io;
use std::path::{Path, PathBuf};

/// What a trace that was piped in has in place of its content: it is read once.
const PIPED: &str = "piped";

/// By what a trace is known again.
#[derive(Debug)]
pub(super) enum Identity {
    /// A trace by its first rows and its content.
    Trace {
        /// The first rows.
        head: TraceHead,
        /// The whole of its file; `None` for a pipe.
        content: Option<TraceContent>,
        /// Its file, if it may have grown.
        path: Option<PathBuf>,
    },
    /// Made-up events by the name of their description.
    Synthetic(String),
}

/// How a trace that a store holds is related to the one at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// It is the same, or has grown since.
    Same,
    /// It begins alike and goes on otherwise.
    Alike,
    /// It has nothing to do with it.
    Other,
}

impl Identity {
    /// Of the trace at `path`, which begins with `head`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub(super) fn of_file(
        path: &Path,
        head: TraceHead,
        is_compressed: bool,
    ) -> Result<Self, Fault> {
        let content = TraceContent::of_file(path).map_err(|error| unreadable(path, &error))?;
        // Where a compressed line ends cannot be told from the bytes.
        let path = (!is_compressed).then(|| path.to_owned());
        Ok(Self::Trace { head, content, path })
    }

    /// The beginning of the names of its sources.
    #[must_use]
    pub(super) fn name(&self) -> String {
        match self {
            Self::Synthetic(name) => name.clone(),
            Self::Trace { head, content, .. } => {
                let content = content.as_ref().map_or(PIPED.to_owned(), TraceContent::name);
                format!("{}:{content}", head.source_name())
            }
        }
    }

    /// What a trace of this `name` is to it.
    ///
    /// # Errors
    ///
    /// If its file cannot be read.
    pub(super) fn kinship(&self, name: &str) -> Result<Kinship, Fault> {
        match self {
            Self::Synthetic(own) => Ok(if own == name { Kinship::Same } else { Kinship::Other }),
            Self::Trace { head, content, path } => {
                let Some((stored_head, stored_content)) = parts(name) else {
                    return Ok(Kinship::Other);
                };
                if !head.is_named(stored_head) {
                    return Ok(Kinship::Other);
                }
                let is_same = match (content, TraceContent::of_name(stored_content)) {
                    (None, None) => stored_content == PIPED,
                    (Some(own), Some(stored)) => {
                        *own == stored || has_grown(&stored, path.as_deref())?
                    }
                    _ => false,
                };
                Ok(if is_same { Kinship::Same } else { Kinship::Alike })
            }
        }
    }
}

/// Head and content in the name of a trace's sources.
fn parts(name: &str) -> Option<(&str, &str)> {
    let second = name.match_indices(':').nth(2)?.0;
    Some((&name[..second], &name[second + 1..]))
}

fn has_grown(stored: &TraceContent, path: Option<&Path>) -> Result<bool, Fault> {
    let Some(path) = path else { return Ok(false) };
    stored.has_grown_to(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    Fault::environment(format!("cannot read trace {}: {error}", path.display()))
}

/// The name of the source that producer `index` of `count` records as.
#[must_use]
pub(super) fn source_name(name: &str, index: u16, count: u16) -> String {
    format!("{name}/{index}of{count}")
}

/// The name of the trace and the number of producers in the name of a source, if it is one.
#[must_use]
pub(super) fn of_source(source: &str) -> Option<(&str, u16)> {
    let (name, part) = source.rsplit_once('/')?;
    let (index, count) = part.split_once("of")?;
    let (index, count): (u16, u16) = (index.parse().ok()?, count.parse().ok()?);
    (index < count).then_some((name, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceReader;
    use std::fs;

    struct Traces(tempfile::TempDir);

    impl Traces {
        fn identity(&self, text: &str) -> Identity {
            let path = self.0.path().join("t.csv");
            fs::write(&path, text).unwrap();
            let reader = TraceReader::open(&path, &["view"]).unwrap();
            Identity::of_file(&path, reader.head().clone(), reader.is_compressed()).unwrap()
        }
    }

    fn rows(rows: std::ops::Range<u32>) -> String {
        let rows: Vec<_> = rows.map(|row| format!("{row},a,view,1\n")).collect();
        format!("timestamp,entity,signal,weight\n{}", rows.concat())
    }

    #[test]
    fn a_trace_that_has_grown_is_the_same_and_one_with_another_line_is_not() {
        let traces = Traces(tempfile::tempdir().unwrap());
        for count in [10, 5_000] {
            let name = traces.identity(&rows(0..count)).name();
            let kinship = |text: &str| traces.identity(text).kinship(&name).unwrap();
            assert_eq!(kinship(&rows(0..count)), Kinship::Same);
            assert_eq!(kinship(&rows(0..2 * count)), Kinship::Same);
            let last = format!("{},a,view,1\n", count - 1);
            let mended = rows(0..count).replace(&last, "7,a,view,1\n");
            let expected = if count > 1_024 { Kinship::Alike } else { Kinship::Other };
            assert_eq!(kinship(&mended), expected, "{count}");
            assert_eq!(kinship(&rows(1..count)), Kinship::Other);
        }
    }

    #[test]
    fn a_pipe_is_known_by_its_head_and_is_no_file() {
        let traces = Traces(tempfile::tempdir().unwrap());
        let file = traces.identity(&rows(0..10));
        let Identity::Trace { head, .. } = traces.identity(&rows(0..10)) else { panic!("a trace") };
        let pipe = Identity::Trace { head, content: None, path: None };
        assert_eq!(pipe.kinship(&pipe.name()).unwrap(), Kinship::Same);
        assert_eq!(pipe.kinship(&file.name()).unwrap(), Kinship::Alike);
        assert_eq!(file.kinship(&pipe.name()).unwrap(), Kinship::Alike);
    }

    #[test]
    fn the_names_of_sources_are_told_from_those_of_others() {
        let traces = Traces(tempfile::tempdir().unwrap());
        let name = traces.identity(&rows(0..3)).name();
        let source = source_name(&name, 63, 64);
        assert!(source.len() <= 255, "{source}");
        assert_eq!(of_source(&source), Some((&*name, 64)));
        for other in ["", "orders", "a/b", "a/3of3", "a/of", "a/0of", "a/-1of2"] {
            assert_eq!(of_source(other), None, "{other}");
        }
        let synthetic = Identity::Synthetic("synthetic:00".into());
        assert_eq!(synthetic.kinship("synthetic:00").unwrap(), Kinship::Same);
        assert_eq!(synthetic.kinship(&name).unwrap(), Kinship::Other);
    }
}
