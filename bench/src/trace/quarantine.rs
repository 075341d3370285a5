//! The quarantine: what was not applied, kept in a form that can be repaired and replayed.
//!
//! ```text
//! timestamp,entity,signal,weight
//! # day.csv:17: weight is negative; a signal only decays, it is never taken away from
//! 1357019940000000000,BOS,delay,-3
//! ```
//!
//! Promises: the file is a trace. Each line stands below the reason why it is here, byte for byte
//! as it was read, so replaying it unrepaired reports it again. A line too long to be kept is a
//! comment, because its beginning might pass for a line of its own. If nothing was bad, the file
//! is a header alone. The file appears with the first line set aside, or at
//! [`Quarantine::finish`]; an older one of that name is replaced.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::fields::quote;
use super::{BadLine, Reason, TraceEvent};

/// A file of lines and events set aside, with the reasons.
#[derive(Debug)]
pub struct Quarantine {
    path: PathBuf,
    has_ids: bool,
    file: Option<BufWriter<File>>,
    count: u64,
}

/// An event as its trace spells it.
#[derive(Clone, Copy, Debug)]
pub struct SpelledEvent<'a> {
    /// The event.
    pub event: &'a TraceEvent,
    /// The trace it comes from.
    pub file: &'a str,
    /// The text of its entity.
    pub entity: &'a str,
    /// The name of its signal.
    pub signal: &'a str,
}

impl Quarantine {
    /// A quarantine in the file at `path`, for a trace that has ids or not.
    #[must_use]
    pub fn new(path: &Path, has_ids: bool) -> Self {
        Self { path: path.to_owned(), has_ids, file: None, count: 0 }
    }

    /// Sets aside a line that is no event.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the error names it.
    pub fn bad_line(&mut self, bad: &BadLine) -> io::Result<()> {
        let mut text = comment(format_args!("{bad}"));
        if bad.reason == Reason::Overlong {
            text += &comment(format_args!("its beginning: {}", bad.raw_text()));
            return self.write(text.as_bytes());
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&bad.raw);
        // Where the line itself ends so, a bare line end would make one with this carriage return.
        if bad.raw.ends_with(b"\r") {
            bytes.push(b'\r');
        }
        bytes.push(b'\n');
        self.write(&bytes)
    }

    /// Sets aside an event that was read but not accepted.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the error names it.
    pub fn rejected(
        &mut self,
        spelled: SpelledEvent<'_>,
        reason: impl fmt::Display,
    ) -> io::Result<()> {
        let SpelledEvent { event, file, entity, signal } = spelled;
        let reason = comment(format_args!("{file}:{}: {reason}", event.line));
        let TraceEvent { time_ns, weight, .. } = event;
        let mut text = format!("{reason}{time_ns},{},{},{weight}", quote(entity), quote(signal));
        if self.has_ids {
            text.push(',');
            text.extend(event.id.map(|id| id.to_string()));
        }
        text.push('\n');
        self.write(text.as_bytes())
    }

    /// Completes the file and says how many lines and events it holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the error names it.
    pub fn finish(mut self) -> io::Result<u64> {
        let flushed = self.file().and_then(io::Write::flush);
        flushed.map_err(|error| self.failed(&error))?;
        Ok(self.count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file().and_then(|file| file.write_all(bytes));
        written.map_err(|error| self.failed(&error))?;
        self.count += 1;
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut BufWriter<File>> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.create()?,
        };
        Ok(self.file.insert(file))
    }

    fn create(&self) -> io::Result<BufWriter<File>> {
        let mut file = BufWriter::new(File::create(&self.path)?);
        let id = if self.has_ids { ",id" } else { "" };
        writeln!(file, "timestamp,entity,signal,weight{id}")?;
        Ok(file)
    }

    fn failed(&self, error: &io::Error) -> io::Error {
        let message = format!("cannot write quarantine {}: {error}", self.path.display());
        io::Error::new(error.kind(), message)
    }
}

/// `text` as one comment line, whatever it contains.
fn comment(text: fmt::Arguments<'_>) -> String {
    let mut line = String::from("# ");
    // Writing to a string does not fail.
    let _ = line.write_fmt(text);
    let mut line = line.replace(['\n', '\r'], " ");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{BatchEnd, TraceReader};

    fn read_all(file: &str, bytes: &[u8]) -> (Vec<TraceEvent>, Vec<BadLine>) {
        let bytes = io::Cursor::new(bytes.to_vec());
        let mut reader = TraceReader::from_bytes(file, bytes, &["view"]).unwrap();
        let (mut events, mut bad_lines) = (Vec::new(), Vec::new());
        loop {
            match reader.read_batch(100, &mut events).unwrap() {
                BatchEnd::Full => {}
                BatchEnd::BadLine(bad) => bad_lines.push(bad),
                BatchEnd::EndOfTrace => return (events, bad_lines),
            }
        }
    }

    #[test]
    fn nothing_bad_leaves_a_trace_without_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.csv");
        let quarantine = Quarantine::new(&path, true);
        assert!(!path.exists(), "the file appears with its first line");
        assert_eq!(quarantine.finish().unwrap(), 0);
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written, b"timestamp,entity,signal,weight,id\n");
        assert_eq!(read_all("bad.csv", &written), (vec![], vec![]));
    }

    #[test]
    fn bad_lines_replayed_unrepaired_are_bad_for_the_same_reasons() {
        let mut trace = b"timestamp,entity,signal,weight\n1,caf\xe9,view,1\n1,a,view,-1\n\
                          2,a,look,\n,a,view,1\n1,\"a,view,1\n1,,view,1\n1,a,view,1\r\r\n"
            .to_vec();
        trace.extend(b"3,a,view,1");
        trace.resize(trace.len() + crate::limits::LINE_BYTES_MAX, b'0');
        let (events, bad_lines) = read_all("day\n1.csv", &trace);
        assert_eq!((events.len(), bad_lines.len()), (0, 8));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.csv");
        let mut quarantine = Quarantine::new(&path, false);
        for bad in &bad_lines {
            quarantine.bad_line(bad).unwrap();
        }
        assert_eq!(quarantine.finish().unwrap(), 8);

        let (events, again) = read_all("bad.csv", &std::fs::read(&path).unwrap());
        assert_eq!(events, []);
        // The overlong line is a comment now.
        let what = |bad: &BadLine| (bad.reason.clone(), bad.raw.clone());
        let kept: Vec<_> = bad_lines[..7].iter().map(what).collect();
        assert_eq!(again.iter().map(what).collect::<Vec<_>>(), kept);
    }

    #[test]
    fn a_rejected_event_replays_as_the_same_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.csv");
        let event = TraceEvent {
            time_ns: u64::MAX,
            entity: crate::trace::EntityNames::default().text("St. \"J\", x").unwrap(),
            signal: 0,
            weight: 0.1 + 0.2,
            id: Some(u128::MAX),
            line: 9,
        };
        let mut quarantine = Quarantine::new(&path, true);
        let spelled =
            SpelledEvent { event: &event, file: "day.csv", entity: "St. \"J\", x", signal: "view" };
        quarantine.rejected(spelled, "too far in\nthe future").unwrap();
        quarantine.finish().unwrap();

        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("\n# day.csv:9: too far in the future\n"), "{written}");
        let (events, bad_lines) = read_all("rejected.csv", written.as_bytes());
        assert_eq!(bad_lines, []);
        assert_eq!(events, [TraceEvent { line: 3, ..event }]);
    }

    #[test]
    fn an_unwritable_file_is_named() {
        let quarantine = Quarantine::new(Path::new("/nowhere/bad.csv"), false);
        let error = quarantine.finish().unwrap_err().to_string();
        assert!(error.contains("/nowhere/bad.csv"), "{error}");
    }
}
