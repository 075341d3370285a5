//! The whole state of an engine as of one instant, read back through its public interface.
//!
//! Promises: a file that cannot be written is found before the run; a dump appears whole or not at
//! all, and what stood there before stays until then.

use super::input::Input;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use ebbtide::dump::push_line;
use ebbtide::{Engine, EntityId, Schema, SignalId, SignalReading, Timestamp};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// One (entity, signal) pair and everything known of it.
pub(super) type Pair = (EntityId, SignalId, SignalReading);

/// Every pair, by entity, then signal type.
///
/// # Errors
///
/// If a shard is down.
pub(super) fn pairs(engine: &Engine, as_of: Timestamp) -> Result<Vec<Pair>, Fault> {
    let visited = engine.on_every_shard(move |local| local.pairs(as_of).collect::<Vec<Pair>>());
    let mut pairs: Vec<Pair> = visited.map_err(Fault::environment)?.into_iter().flatten().collect();
    pairs.sort_unstable_by_key(|&(entity, signal, _)| (entity, signal));
    Ok(pairs)
}

/// The time of the newest event of all.
///
/// # Errors
///
/// If a shard is down.
pub(super) fn newest(engine: &Engine) -> Result<Timestamp, Fault> {
    let newest = engine.on_every_shard(|local| {
        local.pairs(Timestamp(0)).map(|(_, _, reading)| reading.last_update).max()
    });
    let newest = newest.map_err(Fault::environment)?;
    Ok(newest.into_iter().flatten().max().unwrap_or(Timestamp(0)))
}

/// Where a dump will stand.
pub(super) struct Dump<'p> {
    path: &'p Path,
    target: Target,
}

enum Target {
    /// A file beside it, which takes its name when it is whole.
    Beside(NamedTempFile, PathBuf),
    /// What is no file, as a pipe: written directly.
    Direct(File),
}

impl<'p> Dump<'p> {
    /// Begins a dump that will stand at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be written there.
    pub(super) fn begin(path: &'p Path) -> Result<Self, Fault> {
        let target = Target::begin(path).map_err(failed(path))?;
        Ok(Self { path, target })
    }

    /// Writes the state and gives the dump its name.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn write(
        self,
        pairs: &[Pair],
        input: &Input,
        schema: &Schema,
        interrupt: &Interrupt,
    ) -> Result<(), Fault> {
        let of = Of { input, schema, interrupt };
        let written = match self.target {
            Target::Direct(mut file) => write_lines(&mut file, pairs, &of),
            Target::Beside(mut file, path) => write_lines(file.as_file_mut(), pairs, &of)
                .and_then(|()| file.persist(path).map(drop).map_err(Into::into)),
        };
        interrupt.check()?;
        written.map_err(failed(self.path))
    }
}

impl Target {
    fn begin(path: &Path) -> io::Result<Self> {
        // Behind a link the file itself is written, as ever.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_none_or_file = fs::metadata(&path).map_or(true, |found| found.is_file());
        let options = || OpenOptions::new().write(true).open(&path);
        if !is_none_or_file {
            return options().map(Self::Direct);
        }
        if path.exists() {
            // One that may not be written is not to be replaced either.
            options()?;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new();
        file.prefix(".ebbtide-dump-").permissions(Permissions::from_mode(0o666));
        let file = file.tempfile_in(folder.unwrap_or(Path::new(".")))?;
        Ok(Self::Beside(file, path))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Fault + '_ {
    move |error| Fault::environment(format!("cannot write {}: {error}", path.display()))
}

/// What lines are made with.
struct Of<'r> {
    input: &'r Input,
    schema: &'r Schema,
    interrupt: &'r Interrupt,
}

/// JSON lines, one for each pair, by the entity's text, then the signal's name, both as bytes.
fn write_lines(file: &mut File, pairs: &[Pair], of: &Of<'_>) -> io::Result<()> {
    let &Of { input, schema, interrupt } = of;
    let mut lines: Vec<_> =
        pairs.iter().map(|pair| (input.spelling(pair.0.0), pair.1, &pair.2)).collect();
    // Signal ids stand in the order of their names.
    lines.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut file = BufWriter::new(file);
    let mut line = String::new();
    for (entity, signal, reading) in lines {
        if interrupt.has_come() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        line.clear();
        push_line(&mut line, &entity, schema.def(signal), reading);
        file.write_all(line.as_bytes())?;
    }
    file.flush()
}
