//! Heads: the first rows of a trace, by which it is known again.
//!
//! An interrupted replay goes on where it stopped only if it is given the same trace, under
//! whatever path, plain or compressed, from a file or a pipe. So the source it records as is named
//! after the first rows.
//!
//! Promises: the name follows from the bytes up to the end of the last of these rows, line ends
//! included but for that one's own; a trace that has grown since is still the same; nothing is read
//! twice. Rows behind the head do not matter: two traces that differ only there are taken for one.

use std::fmt::Write as _;

use memchr::memchr;

use super::lines::{BYTE_ORDER_MARK, is_skipped};
use crate::limits::{HEAD_ROWS_MAX, SOURCE_DIGEST_BYTES};

/// The beginning of a trace: its header and its first rows, good or bad, at most
/// [`HEAD_ROWS_MAX`], and no more than the reader takes in at once.
///
/// ```
/// use ebbtide_bench::trace::TraceReader;
/// let open = |csv: &'static str| TraceReader::from_bytes("day.csv", csv.as_bytes(), &["view"]);
/// let name = open("timestamp,entity,signal,weight\n1,a,view,1\n")?.head().source_name();
/// assert!(name.starts_with("trace:1:"));
/// let grown = open("timestamp,entity,signal,weight\n1,a,view,1\n2,b,view,1\n")?;
/// assert!(grown.head().is_named(&name));
/// assert_ne!(grown.head().source_name(), name);
/// # Ok::<(), ebbtide_bench::trace::TraceError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TraceHead {
    /// Up to the end of the last row, or all that was read if that is none.
    bytes: Box<[u8]>,
    /// Where in `bytes` the header ends, and then each row.
    ends: Vec<usize>,
}

impl TraceHead {
    /// The head of a trace that begins with `block`, which is all of it if it `is_whole`.
    pub(crate) fn of(block: &[u8], is_whole: bool) -> Self {
        let mut ends = Vec::new();
        let mut start = 0;
        while ends.len() <= HEAD_ROWS_MAX && start < block.len() {
            let rest = &block[start..];
            let length = match memchr(b'\n', rest) {
                Some(length) => length,
                None if is_whole => rest.len(),
                None => break,
            };
            let line = &rest[..length];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let is_before_header = ends.is_empty();
            let text = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| is_before_header);
            if !is_skipped(text.unwrap_or(line)) {
                ends.push(start + line.len());
            }
            start += length + 1;
        }
        let end = ends.get(1..).and_then(<[usize]>::last).copied();
        Self { bytes: block[..end.unwrap_or(block.len())].into(), ends }
    }

    /// How many rows it has.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.ends.len().saturating_sub(1)
    }

    /// The name of the source that a replay of the trace records as.
    #[must_use]
    pub fn source_name(&self) -> String {
        self.name_of(self.row_count())
    }

    /// Whether `name` is the source name of this trace, now or when it had fewer rows. A trace that
    /// had none is not known again, since every trace began so.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let rows = name.strip_prefix("trace:").and_then(|rest| rest.split_once(':'));
        let count = self.row_count();
        rows.and_then(|(rows, _)| rows.parse().ok())
            .filter(|rows| (1..count).contains(rows) || *rows == count)
            .is_some_and(|rows| self.name_of(rows) == name)
    }

    fn name_of(&self, rows: usize) -> String {
        let end = if rows == 0 { self.bytes.len() } else { self.ends[rows] };
        format!("trace:{rows}:{}", short_digest(&self.bytes[..end]))
    }
}

/// The digest in the name of a source: the first half of the BLAKE3 of `bytes`, in hexadecimal.
pub(crate) fn short_digest(bytes: &[u8]) -> String {
    hex_digest(&blake3::hash(bytes))
}

/// The first half of `digest`, in hexadecimal.
pub(crate) fn hex_digest(digest: &blake3::Hash) -> String {
    let mut text = String::with_capacity(2 * SOURCE_DIGEST_BYTES);
    for byte in &digest.as_bytes()[..SOURCE_DIGEST_BYTES] {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::*;
    use crate::limits::BLOCK_BYTES;
    use crate::trace::{BatchEnd, TraceReader};

    const HEADER: &str = "timestamp,entity,signal,weight\n";

    fn reader(bytes: impl Into<Vec<u8>>) -> TraceReader {
        TraceReader::from_bytes("day.csv", io::Cursor::new(bytes.into()), &["view"]).unwrap()
    }

    fn name(bytes: impl Into<Vec<u8>>) -> String {
        reader(bytes).head().source_name()
    }

    fn rows(count: usize) -> String {
        (1..=count).fold(HEADER.to_owned(), |text, row| text + &format!("{row},a,view,1\n"))
    }

    /// From an implementation of BLAKE3 that shares no code with this one.
    #[test]
    fn the_name_of_a_trace_is_frozen() {
        assert_eq!(name(rows(2)), "trace:2:adb220e0a57f1f9e3edb6a4d344d5887");
        assert_eq!(name(HEADER.trim_end()), "trace:0:47ada9d567acac5630b7173d13ba61f2");
    }

    #[test]
    fn a_trace_that_has_grown_is_still_the_same() {
        for (before, after) in
            [(1, 2), (1, 5000), (100, 101), (1023, 1024), (1024, 1025), (1024, 90_000)]
        {
            let (name, grown) = (name(rows(before)), reader(rows(after)));
            assert!(grown.head().is_named(&name), "{before} then {after}");
            assert_eq!(grown.head().row_count(), after.min(HEAD_ROWS_MAX));
            assert_eq!(grown.head().source_name() == name, before >= HEAD_ROWS_MAX);
            assert!(
                !reader(rows(before)).head().is_named(&grown.head().source_name())
                    || before >= 1024
            );
        }
        let cut = rows(2).trim_end().to_owned();
        assert!(reader(cut.clone() + "\n3,a,view,1").head().is_named(&name(cut.clone())));
        assert!(reader(cut.clone() + "\r\n3,a,view,1").head().is_named(&name(cut.clone())));
        assert!(!reader(cut.clone() + "5\n3,a,view,1").head().is_named(&name(cut)), "half a row");
    }

    #[test]
    fn another_trace_is_not_the_same() {
        let name = name(rows(3));
        for other in [
            rows(3).replace("2,a", "2,b"),
            rows(3).replace('\n', "\r\n"),
            format!("# a comment moves every line\n{}", rows(3)),
            rows(2),
            HEADER.to_owned(),
        ] {
            assert!(!reader(other.clone()).head().is_named(&name), "{other}");
        }
        assert!(reader(rows(3) + "# more to come\n\n").head().is_named(&name));
        for wrong in ["", "trace", "trace:3", "trace:3:", "trace:x:y", "synthetic:00", "trace:4:0"]
        {
            assert!(!reader(rows(3)).head().is_named(wrong), "{wrong}");
        }
        assert!(!reader(rows(3)).head().is_named(&name.replace("trace:3", "trace:03")));
        let empty = reader(HEADER).head().source_name();
        assert!(reader(HEADER).head().is_named(&empty));
        assert!(!reader(rows(1)).head().is_named(&empty), "every trace began so");
        let late =
            |first: &str| first.to_owned() + &"# a long story\n".repeat(BLOCK_BYTES / 10) + HEADER;
        assert!(reader(late("#\n")).head().is_named(&self::name(late("#\n"))));
        assert!(!reader(late("#\n")).head().is_named(&self::name(late("# 2\n"))));
    }

    #[test]
    fn rows_are_counted_as_the_reader_counts_them() {
        let text = "\u{feff}\n\u{feff}# before\n\u{feff}timestamp,entity,signal,weight\n\
                    1,a,view,1\n\n# between\nnonsense\n\u{feff}# no comment\n2,a,view,1";
        let mut reader = reader(text);
        let (mut events, mut bad) = (Vec::new(), 0);
        while let Ok(BatchEnd::BadLine(_)) = reader.read_batch(100, &mut events) {
            bad += 1;
        }
        assert_eq!((events.len(), bad), (2, 2));
        assert_eq!(reader.head().row_count(), 4);
        assert_eq!(&*reader.head().bytes, text.as_bytes());
    }

    #[test]
    fn the_same_trace_has_one_name_whatever_it_comes_through() {
        /// Deals out a few bytes at a time, as a pipe may.
        struct Pipe(io::Cursor<Vec<u8>>);
        impl Read for Pipe {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                let length = bytes.len().min(977);
                self.0.read(&mut bytes[..length])
            }
        }
        let text = rows(50_000).into_bytes();
        assert!(text.len() > 2 * BLOCK_BYTES);
        let packed = zstd::encode_all(&text[..], 3).unwrap();
        let piped = Pipe(io::Cursor::new(text.clone()));
        let mut piped = TraceReader::from_bytes("-", piped, &["view"]).unwrap();
        assert_eq!(piped.head().source_name(), name(text.clone()));
        assert_eq!(name(packed), name(text));
        let mut events = Vec::new();
        assert_eq!(piped.read_batch(60_000, &mut events).unwrap(), BatchEnd::EndOfTrace);
        assert_eq!(events.len(), 50_000, "nothing is lost by looking ahead");
        assert!(events.iter().zip(2..).all(|(event, line)| event.line == line));
    }

    #[test]
    fn a_head_ends_where_the_first_block_does() {
        let long = |count: usize| {
            let row = format!("1,{},view,1\n", "a".repeat(10_000));
            format!("{HEADER}{}", row.repeat(count))
        };
        let whole = long(100);
        let rows = reader(whole.clone()).head().row_count();
        assert_eq!(rows, (BLOCK_BYTES - HEADER.len()) / 10_010);
        assert!(reader(long(200)).head().is_named(&name(whole)));
        assert!(reader(long(100)).head().is_named(&name(long(3))));
    }
}
