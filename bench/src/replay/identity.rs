//! Which trace a replay records, as the names of its sources say it, and which one a store holds.
//!
//! ```text
//! trace:1024:<digest of the first rows>:<bytes>:<digest of the file>/0of2
//! synthetic:<digest of all keys but events>/1of2
//! ```
//!
//! Promises: another trace has other names, and so has one that was changed or has grown. More
//! synthetic events go on under the names they began with.

use crate::fault::Fault;
use crate::trace::{TraceContent, TraceHead};
use std::path::Path;

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
    },
    /// Made-up events by the name of their description.
    Synthetic(String),
}

/// How a trace that a store holds is related to the one at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinship {
    /// It is the same.
    Same,
    /// It begins alike and goes on otherwise, or not so far.
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
    pub(super) fn of_file(path: &Path, head: TraceHead) -> Result<Self, Fault> {
        let content = TraceContent::of_file(path).map_err(|error| {
            Fault::environment(format!("cannot read trace {}: {error}", path.display()))
        })?;
        Ok(Self::Trace { head, content })
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
    #[must_use]
    pub(super) fn kinship(&self, name: &str) -> Kinship {
        if self.name() == name {
            return Kinship::Same;
        }
        match self {
            Self::Trace { head, .. }
                if head_in(name).is_some_and(|stored| head.is_named(stored)) =>
            {
                Kinship::Alike
            }
            _ => Kinship::Other,
        }
    }
}

/// Whether sources of this `name` come from a trace, and not from made-up events.
#[must_use]
pub(super) fn is_trace(name: &str) -> bool {
    name.starts_with("trace:")
}

/// The head in the name of a trace's sources.
fn head_in(name: &str) -> Option<&str> {
    let third = name.match_indices(':').nth(2)?.0;
    Some(&name[..third])
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
            Identity::of_file(&path, reader.head().clone()).unwrap()
        }
    }

    fn rows(rows: std::ops::Range<u32>) -> String {
        let rows: Vec<_> = rows.map(|row| format!("{row},a,view,1\n")).collect();
        format!("timestamp,entity,signal,weight\n{}", rows.concat())
    }

    #[test]
    fn a_trace_that_has_grown_or_was_changed_is_not_the_same() {
        let traces = Traces(tempfile::tempdir().unwrap());
        for count in [10, 5_000] {
            let name = traces.identity(&rows(0..count)).name();
            let kinship = |text: &str| traces.identity(text).kinship(&name);
            assert_eq!(kinship(&rows(0..count)), Kinship::Same);
            assert_eq!(kinship(&rows(0..2 * count)), Kinship::Alike, "it has grown");
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
        let pipe = Identity::Trace { head, content: None };
        assert_eq!(pipe.kinship(&pipe.name()), Kinship::Same);
        assert_eq!(pipe.kinship(&file.name()), Kinship::Alike);
        assert_eq!(file.kinship(&pipe.name()), Kinship::Alike);
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
        assert_eq!(synthetic.kinship("synthetic:00"), Kinship::Same);
        assert_eq!(synthetic.kinship(&name), Kinship::Other);
    }
}
