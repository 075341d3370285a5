//! Contents: all bytes of a trace's file, by which a trace is told from one that begins alike.
//!
//! A head stands for the first rows only. An interrupted replay that went on with a trace that
//! differs behind them would leave lines out, unseen.
//!
//! Promises: the digest is of the bytes as they are stored, compressed or not, so that no trace is
//! decompressed twice. Not here: pipes, which are read once; they are known by their head alone.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::identity::hex_digest;

/// How many bytes a trace's file has, and their digest.
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
        // A named pipe that is opened once more waits for somebody who writes to it again.
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        digest_of(File::open(path)?).map(Some)
    }

    /// Of `bytes`.
    #[must_use]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: hex_digest(&blake3::hash(bytes)) }
    }

    /// As the name of a source has it.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.bytes, self.digest)
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

    #[test]
    fn a_content_is_the_bytes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        fs::write(&path, "abc\n").unwrap();
        let content = TraceContent::of_file(&path).unwrap().unwrap();
        assert_eq!(content, TraceContent::of_bytes(b"abc\n"));
        assert_eq!(content.name(), "4:aa95faeede7041e63c6056bdcf10e6fb");
        assert_eq!(TraceContent::of_file(Path::new("/dev/null")).unwrap(), None);
        assert!(TraceContent::of_file(&folder.path().join("nowhere")).is_err());
    }
}
