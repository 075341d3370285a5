//! Contents: all bytes of a trace's file, by which a trace is told from one that begins alike.
//!
//! A head stands for the first rows only. An interrupted replay that went on with a trace that
//! differs behind them would leave lines out, unseen.
//!
//! Promises: the digest is of the bytes as they are stored, compressed or not, so that no trace is
//! decompressed twice; a plain file that only has more lines now is known again, whatever its last
//! line was. Not here: pipes, which are read once; they are known by their head alone.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::identity::hex_digest;

/// How long the file of a trace is, and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContent {
    bytes: u64,
    digest: String,
}

impl TraceContent {
    /// Of the file at `path`; `None` if that is no regular file.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        digest_of(file).map(Some)
    }

    /// Of `bytes`.
    #[must_use]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: hex_digest(&blake3::hash(bytes)) }
    }

    /// Whether the file at `path` has grown out of this content: it begins with the same bytes, and
    /// they ended where a line does.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn has_grown_to(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let (Some(last), true) = (self.bytes.checked_sub(1), file.metadata()?.is_file()) else {
            return Ok(false);
        };
        file.seek(SeekFrom::Start(last))?;
        let mut seam = Vec::with_capacity(2);
        file.by_ref().take(2).read_to_end(&mut seam)?;
        if !matches!(seam[..], [b'\n', _] | [_, b'\n' | b'\r']) {
            return Ok(false);
        }
        file.rewind()?;
        Ok(digest_of(file.take(self.bytes))? == *self)
    }

    /// As the name of a source has it.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.bytes, self.digest)
    }

    /// The content that `name` names.
    #[must_use]
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (bytes, digest) = name.split_once(':')?;
        Some(Self { bytes: bytes.parse().ok()?, digest: digest.to_owned() })
    }
}

fn digest_of(bytes: impl io::Read) -> io::Result<TraceContent> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(bytes)?;
    Ok(TraceContent { bytes: hasher.count(), digest: hex_digest(&hasher.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_content_is_the_bytes_of_the_file_and_reads_back_from_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, "abc\n").unwrap();
        let content = TraceContent::of_file(&path).unwrap().unwrap();
        assert_eq!(content, TraceContent::of_bytes(b"abc\n"));
        assert_eq!(content.name(), "4:aa95faeede7041e63c6056bdcf10e6fb");
        assert_eq!(TraceContent::of_name(&content.name()), Some(content));
        for wrong in ["", "4", "stream", "x:00", "-1:00"] {
            assert_eq!(TraceContent::of_name(wrong), None, "{wrong}");
        }
        assert_eq!(TraceContent::of_file(Path::new("/dev/null")).unwrap(), None);
        assert!(TraceContent::of_file(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_file_has_grown_if_its_lines_stayed_and_others_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let grows = |from: &str, to: &str| {
            fs::write(&path, to).unwrap();
            TraceContent::of_bytes(from.as_bytes()).has_grown_to(&path).unwrap()
        };
        assert!(grows("a\nb\n", "a\nb\nc\n"));
        assert!(grows("a\nb", "a\nb\nc\n"), "a last line without its end");
        assert!(grows("a\nb", "a\nb\r\nc"));
        assert!(!grows("a\nb", "a\nbc\n"), "its last line is another one now");
        assert!(!grows("a\nb\n", "a\nc\nd\n"));
        assert!(!grows("a\nb\n", "a\n"), "it has shrunk");
        assert!(!grows("a\nb\n", "a\nb\n"), "it is the same");
        assert!(!grows("", "a\n"), "everything has grown out of nothing");
    }
}
