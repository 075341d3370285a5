//! Where a replay's events come from, in batches, with whatever is wrong with them set aside.
//!
//! Promises: a line that is no event ends the run with its file, number and reason, or, if asked
//! to, is counted and put in quarantine; the events around it are not touched.

use super::args::ReplayArgs;
use super::identity::Identity;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::synthetic::{Spec, Synthetic};
use crate::trace::{
    BUNDLED_SCHEMA, BatchEnd, EntityNames, Quarantine, SpelledEvent, TraceEvent, TraceReader,
    bundled_content,
};
use ebbtide::Schema;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The events of a run.
pub(super) struct Input {
    source: Source,
    /// How to name it to people.
    pub(super) title: String,
    /// Which trace it is.
    pub(super) identity: Identity,
    signals: Vec<String>,
    quarantine: Option<Quarantine>,
    skip_bad_lines: bool,
    /// Whether the store stays, with the events before a bad line in it.
    is_kept: bool,
    /// Lines that were no events.
    pub(super) bad_lines: u64,
    /// Lines of the events the engine refused.
    pub(super) rejected: HashSet<u64>,
}

enum Source {
    Trace(Box<TraceReader>),
    Synthetic(Box<Synthetic>, EntityNames),
}

/// Reads the schema that the flags name.
///
/// # Errors
///
/// If the file cannot be read or breaks a rule.
pub(super) fn schema(args: &ReplayArgs) -> Result<Schema, Fault> {
    let Some(path) = &args.schema else {
        return Schema::from_toml(BUNDLED_SCHEMA).map_err(Fault::input);
    };
    let text = read_text(path)?;
    Schema::from_toml(&text).map_err(|error| Fault::input(format!("{}: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, Fault> {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound};
    fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read schema {}: {error}", path.display());
        match error.kind() {
            NotFound | IsADirectory | NotADirectory | InvalidData => Fault::input(message),
            _ => Fault::environment(message),
        }
    })
}

/// What is written must not be what is read, nor written twice.
fn refuse_overwriting(args: &ReplayArgs) -> Result<(), Fault> {
    let refuse = |path: &Path, why: &str| {
        let path = path.display();
        Err(Fault::input(format!("{path} is {why} by this run; write to another file")))
    };
    let read: Vec<_> = [&args.trace, &args.schema].into_iter().flatten().collect();
    let written: Vec<_> = [&args.quarantine, &args.dump].into_iter().flatten().collect();
    for path in &written {
        if read.iter().any(|read| is_same_file(read, path)) {
            return refuse(path, "read");
        }
    }
    match written[..] {
        [one, other] if is_same_file(one, other) => refuse(other, "written twice"),
        _ => Ok(()),
    }
}

/// Whether two paths lead to one file, under whatever names, or will once it is there.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => {
            let place = |path: &Path| std::path::absolute(path).ok();
            place(one).is_some_and(|one| Some(one) == place(other))
        }
        _ => false,
    }
}

/// Where the events come from, how to name that to people, and by what it is known again.
fn open_source(
    args: &ReplayArgs,
    signals: &[String],
    interrupt: &Interrupt,
) -> Result<(Source, String, Identity), Fault> {
    if let Some(text) = &args.synthetic {
        let spec = Spec::parse(text, signals.len()).map_err(Fault::input)?;
        let identity = Identity::Synthetic(spec.source_name());
        let source = Source::Synthetic(Box::new(Synthetic::new(spec)), EntityNames::default());
        return Ok((source, format!("synthetic events ({text})"), identity));
    }
    if let Some(path) = &args.trace {
        let interrupt = interrupt.clone();
        let reader = TraceReader::open_until(path, signals, move || interrupt.has_come())?;
        let identity = Identity::of_file(path, reader.head().clone())?;
        return Ok((Source::Trace(Box::new(reader)), path.display().to_string(), identity));
    }
    let reader = TraceReader::bundled(signals)?;
    let (head, content) = (reader.head().clone(), Some(bundled_content()));
    let identity = Identity::Trace { head, content };
    let title = "every New York departure of 2013 (bundled trace)".to_owned();
    Ok((Source::Trace(Box::new(reader)), title, identity))
}

impl Input {
    /// Opens what the flags name.
    ///
    /// # Errors
    ///
    /// If there is no such trace, the description of made-up events is wrong, or a signal has come.
    pub(super) fn open(
        args: &ReplayArgs,
        schema: &Schema,
        interrupt: &Interrupt,
    ) -> Result<Self, Fault> {
        let signals: Vec<String> = schema.signals().map(|(_, def)| def.name().to_owned()).collect();
        let (source, title, identity) = open_source(args, &signals, interrupt)?;
        let has_ids = matches!(&source, Source::Trace(reader) if reader.has_ids());
        refuse_overwriting(args)?;
        let quarantine = args.quarantine.as_deref().map(|path| Quarantine::new(path, has_ids));
        let skip_bad_lines = args.skip_bad_lines;
        Ok(Self {
            source,
            title,
            identity,
            signals,
            quarantine,
            skip_bad_lines,
            is_kept: args.data_dir.is_some(),
            bad_lines: 0,
            rejected: HashSet::new(),
        })
    }

    /// Appends up to `max` events; none appended means there are no more.
    ///
    /// # Errors
    ///
    /// At a line that is no event, unless those are skipped; if the trace cannot be read on.
    pub(super) fn read_batch(
        &mut self,
        max: usize,
        events: &mut Vec<TraceEvent>,
    ) -> Result<(), Fault> {
        let full = events.len() + max;
        loop {
            let left = full - events.len();
            let end = match &mut self.source {
                Source::Synthetic(synthetic, _) => {
                    events.extend(synthetic.by_ref().take(left));
                    return Ok(());
                }
                Source::Trace(reader) => reader.read_batch(left, events)?,
            };
            let BatchEnd::BadLine(bad) = end else { return Ok(()) };
            self.bad_lines += 1;
            if let Some(quarantine) = &mut self.quarantine {
                quarantine.bad_line(&bad).map_err(Fault::environment)?;
            }
            if !self.skip_bad_lines {
                return Err(self.refusal(bad));
            }
        }
    }

    /// Notes that the engine refused an event.
    ///
    /// # Errors
    ///
    /// Always, unless bad lines are skipped.
    pub(super) fn reject(
        &mut self,
        event: &TraceEvent,
        reason: impl fmt::Display,
    ) -> Result<(), Fault> {
        self.rejected.insert(event.line);
        let file = self.file().to_owned();
        let entity = self.spelling(event.entity).into_owned();
        let signal = self.signals[usize::from(event.signal)].clone();
        if let Some(quarantine) = &mut self.quarantine {
            let spelled = SpelledEvent { event, file: &file, entity: &entity, signal: &signal };
            quarantine.rejected(spelled, &reason).map_err(Fault::environment)?;
        }
        if self.skip_bad_lines {
            return Ok(());
        }
        let line = event.line;
        Err(self.refusal(format_args!("{file}:{line}: {reason}")))
    }

    /// What a bad line ends the run with. A mended trace is another one than the store holds.
    fn refusal(&self, what: impl fmt::Display) -> Fault {
        let place = if self.is_kept { " and replay into an empty --data-dir," } else { "" };
        Fault::input(format!("{what}; mend it{place} or use --skip-bad-lines"))
    }

    /// The last line read, or the number of the last made-up event.
    #[must_use]
    pub(super) fn last_line(&self) -> u64 {
        match &self.source {
            Source::Trace(reader) => reader.line(),
            Source::Synthetic(synthetic, _) => synthetic.event_count(),
        }
    }

    /// The last line there will be, if that is known before all are read.
    #[must_use]
    pub(super) fn known_last_line(&self) -> Option<u64> {
        match &self.source {
            Source::Trace(_) => None,
            Source::Synthetic(synthetic, _) => Some(synthetic.events_asked()),
        }
    }

    /// The text of an entity.
    #[must_use]
    pub(super) fn spelling(&self, entity: u64) -> Cow<'_, str> {
        match &self.source {
            Source::Trace(reader) => reader.names().spelling(entity),
            Source::Synthetic(_, names) => names.spelling(entity),
        }
    }

    /// Completes the quarantine, if there is one.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        match self.quarantine.take() {
            Some(quarantine) => quarantine.finish().map(drop).map_err(Fault::environment),
            None => Ok(()),
        }
    }

    fn file(&self) -> &str {
        match &self.source {
            Source::Trace(reader) => reader.file(),
            Source::Synthetic(..) => "synthetic",
        }
    }
}
