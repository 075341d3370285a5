//! Sources: where the bytes of a trace come from, and the trace that comes with the program.
//!
//! Promises: a zstd file is recognised by its first bytes or by its name, and may be several
//! frames one after the other. The bundled trace is part of the binary, so it is there wherever
//! the binary runs.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use super::TraceContent;

/// The trace bundled with the program, as error messages name it.
pub const BUNDLED_NAME: &str = "nycflights13.csv.zst";
/// The schema of the bundled trace, in TOML.
pub const BUNDLED_SCHEMA: &str = include_str!("../../traces/nycflights13.toml");
static BUNDLED_TRACE: &[u8] = include_bytes!("../../traces/nycflights13.csv.zst");

/// The bytes of a trace, decompressed.
pub(crate) type Source = Box<dyn Read + Send>;

/// The text of the file at `path`, and whether it is compressed.
pub(crate) fn open(path: &Path) -> io::Result<(Source, bool)> {
    let is_named_zstd = path.extension().is_some_and(|ending| ending == "zst");
    decompressed(File::open(path)?, is_named_zstd)
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
