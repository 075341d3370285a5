//! Lines: a stream of bytes read in large blocks and cut at its line ends.
//!
//! Promises: how the source deals out its bytes makes no difference; a line is never copied
//! unless it lies across two blocks; a line longer than [`LINE_BYTES_MAX`] is passed over
//! without holding it.

use std::io::{self, Read};

use memchr::memchr;

use crate::limits::{BLOCK_BYTES, LINE_BYTES_MAX, OVERLONG_BYTES_KEPT};

/// A UTF-8 byte order mark, which some programs put in front.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Empty lines and comments are neither events nor bad lines.
#[inline]
pub(crate) fn is_skipped(line: &[u8]) -> bool {
    matches!(line.first(), None | Some(b'#'))
}

/// The lines of `source`.
pub(crate) struct Lines<R> {
    source: R,
    block: Box<[u8]>,
    /// Where the unread bytes of `block` begin and end.
    start: usize,
    end: usize,
    /// The source has no more bytes.
    is_ended: bool,
    /// Why the source gave no more bytes, until the lines before that are handed out.
    failure: Option<io::Error>,
    /// Lines handed out so far.
    count: u64,
}

/// One line without its end (LF or CRLF).
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Its bytes; only the beginning if it is not whole.
    pub(crate) bytes: &'a [u8],
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Whether it is at most [`LINE_BYTES_MAX`] long.
    pub(crate) is_whole: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of `source`, from its first byte.
    pub(crate) fn new(source: R) -> Self {
        let block = vec![0; BLOCK_BYTES].into_boxed_slice();
        Self { source, block, start: 0, end: 0, is_ended: false, failure: None, count: 0 }
    }

    /// How many lines have been handed out.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The first block of the source, before any line was handed out, and whether it is all there
    /// is.
    pub(crate) fn peek(&mut self) -> io::Result<(&[u8], bool)> {
        debug_assert!(self.count == 0 && self.end == 0, "nothing was read yet");
        self.fill()?;
        Ok((&self.block[..self.end], self.is_ended))
    }

    /// The next line, or none at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            let unread = &self.block[self.start..self.end];
            if let Some(length) = memchr(b'\n', unread) {
                return Ok(Some(self.take(length, length + 1)));
            }
            if unread.len() > LINE_BYTES_MAX + 1 {
                return self.pass_over().map(Some);
            }
            if self.is_ended {
                let length = unread.len();
                return Ok((length > 0).then(|| self.take(length, length)));
            }
            self.fill()?;
        }
    }

    /// Hands out the next `length` bytes as a line and steps over `step` bytes.
    #[inline]
    fn take(&mut self, length: usize, step: usize) -> Line<'_> {
        let line = &self.block[self.start..self.start + length];
        self.start += step;
        self.count += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_whole = line.len() <= LINE_BYTES_MAX;
        let bytes = if is_whole { line } else { &line[..OVERLONG_BYTES_KEPT] };
        Line { bytes, number: self.count, is_whole }
    }

    /// Moves the unread bytes to the front and reads until the block is full.
    fn fill(&mut self) -> io::Result<()> {
        self.block.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        while !self.is_ended && self.end < self.block.len() {
            match self.source.read(&mut self.block[self.end..]) {
                Ok(0) => self.is_ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Drops the bytes of a line that is too long, but for its beginning.
    #[cold]
    fn pass_over(&mut self) -> io::Result<Line<'_>> {
        self.block.copy_within(self.start..self.start + OVERLONG_BYTES_KEPT, 0);
        loop {
            // The beginning stays in front; `fill` works on all that follows it.
            let unread = &self.block[self.start.max(OVERLONG_BYTES_KEPT)..self.end];
            if let Some(length) = memchr(b'\n', unread) {
                self.start = self.start.max(OVERLONG_BYTES_KEPT) + length + 1;
                break;
            }
            if self.is_ended {
                self.start = self.end;
                break;
            }
            self.start = self.end - OVERLONG_BYTES_KEPT;
            self.block.copy_within(0..OVERLONG_BYTES_KEPT, self.start);
            self.fill()?;
        }
        self.count += 1;
        let bytes = &self.block[..OVERLONG_BYTES_KEPT];
        Ok(Line { bytes, number: self.count, is_whole: false })
    }
}
