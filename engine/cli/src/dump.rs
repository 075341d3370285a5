//! `dump`: everything a store holds as of one instant, a JSON object on each line.
//!
//! Promises: nothing is printed of a store that is damaged anywhere; the lines are those that
//! `replay --dump` writes, byte for byte, where entities are numbers; a file is there whole and
//! durable, or not at all; the store is not changed. A reader that goes away early is no failure.
//! Fails by: [`Fault`].
//! Not here: what a line looks like (`ebbtide::dump`), reading a store (`ebbtide::offline`).

use crate::args::DumpArgs;
use crate::fault::Fault;
use crate::output::{count, print, print_json, shown};
use ebbtide::offline::{StoredState, check_outside};
use ebbtide::{EntityId, Timestamp, dump as form};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// What was written to a file.
#[derive(Serialize)]
struct Written {
    data_dir: String,
    output: String,
    /// Nanoseconds since 1970; null for a store without events.
    as_of: Option<u64>,
    lines: u64,
    bytes: u64,
}

/// Writes the lines.
///
/// # Errors
///
/// When there is no such store, it is open or damaged, or the lines cannot be written.
pub fn dump(args: &DumpArgs) -> Result<(), Fault> {
    if let Some(output) = &args.output {
        check_absent(output)?;
        check_outside(output, &args.store.data_dir)?;
    }
    let state = StoredState::read(&args.store.data_dir)?;
    let as_of = args.as_of.or_else(|| state.newest());
    let lines = Lines { state: &state, as_of, only: entities(args) };
    let Some(output) = &args.output else { return lines.print() };
    let (lines, bytes) = lines.put(output)?;
    let (data_dir, output_name) = (shown(&args.store.data_dir), shown(output));
    if args.store.json {
        let as_of = as_of.map(Timestamp::as_nanos);
        return print_json(&Written { data_dir, output: output_name, as_of, lines, bytes });
    }
    print(&format!("{} in {output_name}{}\n", count(lines, "line"), at(as_of)))
}

fn entities(args: &DumpArgs) -> Option<BTreeSet<EntityId>> {
    let only = (!args.entity.is_empty()).then_some(&args.entity)?;
    Some(only.iter().copied().map(EntityId).collect())
}

fn at(as_of: Option<Timestamp>) -> String {
    let instant = as_of.and_then(|at| jiff::Timestamp::from_nanosecond(at.0.into()).ok());
    instant.map(|instant| format!(", as of {instant}")).unwrap_or_default()
}

/// The lines of a dump.
struct Lines<'s> {
    state: &'s StoredState,
    as_of: Option<Timestamp>,
    /// Only of these entities.
    only: Option<BTreeSet<EntityId>>,
}

impl Lines<'_> {
    fn print(&self) -> Result<(), Fault> {
        match self.write(io::stdout().lock()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fault::environment(
                format!("standard output cannot be written: {error}; give it a place with room"),
            )),
            _ => Ok(()),
        }
    }

    /// Puts a file in place; gives how many lines and bytes it has.
    fn put(&self, path: &Path) -> Result<(u64, u64), Fault> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut aside = NamedTempFile::with_prefix_in(".ebbtide-dump-", folder)
            .map_err(|error| cannot_write(path, &error))?;
        let written = self.write(&mut aside);
        let written = written.and_then(|written| aside.as_file().sync_all().map(|()| written));
        let written = written.map_err(|error| cannot_write(path, &error))?;
        aside.persist_noclobber(path).map_err(|failed| cannot_write(path, &failed.error))?;
        let named = File::open(folder).and_then(|folder| folder.sync_all());
        named.map_err(|error| cannot_write(path, &error))?;
        Ok(written)
    }

    fn write(&self, out: impl Write) -> io::Result<(u64, u64)> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let (mut lines, mut bytes, mut line) = (0, 0, String::new());
        let is_wanted = |entity| self.only.as_ref().is_none_or(|only| only.contains(&entity));
        let pairs = self.state.pairs(self.as_of.unwrap_or(Timestamp(0)), is_wanted);
        for (entity, signal, reading) in pairs {
            line.clear();
            let def = self.state.schema().def(signal);
            form::push_line(&mut line, &entity.0.to_string(), def, &reading);
            out.write_all(line.as_bytes())?;
            lines += 1;
            bytes += line.len() as u64;
        }
        out.flush()?;
        Ok((lines, bytes))
    }
}

fn check_absent(output: &Path) -> Result<(), Fault> {
    match output.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot_write(output, &error)),
        Ok(_) => Err(exists(output)),
    }
}

fn exists(output: &Path) -> Fault {
    Fault::input(format!("{} is there already; name a file that is not", shown(output)))
}

fn cannot_write(output: &Path, error: &io::Error) -> Fault {
    let name = shown(output);
    match error.kind() {
        ErrorKind::AlreadyExists => exists(output),
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Fault::input(format!("{name} cannot be made: {error}; make its folder first"))
        }
        _ => Fault::environment(format!(
            "{name} cannot be written: {error}; see to the permissions and the room there"
        )),
    }
}
