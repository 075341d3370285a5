//! Sources: where the bytes of a trace come from, and the trace that comes with the program.
//!
//! Promises: a zstd file is recognised by its first bytes or by its name, and may be several
//! frames one after the other. The bundled trace is part of the binary, so it is there wherever
//! the binary runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::TraceContent;

/// The trace bundled with the program, as error messages name it.
pub const BUNDLED_NAME: &str = "nycflights13.csv.zst";
/// The schema of the bundled trace, in TOML.
pub const BUNDLED_SCHEMA: &str = include_str!("../../traces/nycflights13.toml");
static BUNDLED_TRACE: &[u8] = include_bytes!("../../traces/nycflights13.csv.zst");

/// The bytes of a trace, decompressed.
pub(crate) type Source = Box<dyn Read + Send>;

/// How long a pipe without bytes is waited for before a look whether to stop.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// The text of the file at `path`, and whether it is compressed. Reading fails soon after
/// `is_stopped` says so, also where it has to wait.
pub(crate) fn open(
    path: &Path,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> io::Result<(Source, bool)> {
    let is_named_zstd = path.extension().is_some_and(|ending| ending == "zst");
    let mut options = OpenOptions::new();
    // The opening of a named pipe waits for its writer otherwise, and no signal ends that.
    let options = options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    decompressed(Stoppable { file: options.open(path)?, is_stopped }, is_named_zstd)
}

/// A file that may be a pipe.
struct Stoppable<F> {
    file: File,
    is_stopped: F,
}

impl<F: Fn() -> bool> Read for Stoppable<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while !(self.is_stopped)() {
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.file.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        Err(io::Error::other("a signal has come"))
    }
}

/// All bytes of the bundled trace, as they are stored.
pub(crate) fn bundled_content() -> TraceContent {
    TraceContent::of_bytes(BUNDLED_TRACE)
}

/// The text of the bundled trace.
pub(crate) fn bundled() -> io::Result<(Source, bool)> {
    decompressed(BUNDLED_TRACE, true)
}

/// The text of `bytes`, which are zstd if `is_named_zstd` or if they begin as zstd does.
pub(crate) fn decompressed(
    mut bytes: impl Read + Send + 'static,
    is_named_zstd: bool,
) -> io::Result<(Source, bool)> {
    let mut head = Vec::with_capacity(4);
    bytes.by_ref().take(4).read_to_end(&mut head)?;
    let is_zstd = is_named_zstd || begins_zstd(&head);
    let whole = Cursor::new(head).chain(bytes);
    let source: Source =
        if is_zstd { Box::new(zstd::Decoder::new(whole)?) } else { Box::new(whole) };
    Ok((source, is_zstd))
}

/// Whether a file that begins with `head` starts with a zstd frame or a skippable one.
fn begins_zstd(head: &[u8]) -> bool {
    matches!(head, [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}
