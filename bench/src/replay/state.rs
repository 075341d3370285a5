//! The whole state of an engine as of one instant, read back through its public interface.

use super::input::Input;
use crate::fault::Fault;
use ebbtide::dump::push_line;
use ebbtide::{Engine, EntityId, Schema, SignalId, SignalReading, Timestamp};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

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

/// Writes the state as JSON lines, one for each pair, by the entity's text, then the signal's name,
/// both as bytes.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn dump(
    path: &Path,
    pairs: &[Pair],
    input: &Input,
    schema: &Schema,
) -> Result<(), Fault> {
    let failed = |error| Fault::environment(format!("cannot write {}: {error}", path.display()));
    let mut lines: Vec<_> =
        pairs.iter().map(|pair| (input.spelling(pair.0.0), pair.1, &pair.2)).collect();
    // Signal ids stand in the order of their names.
    lines.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let mut line = String::new();
    for (entity, signal, reading) in lines {
        line.clear();
        push_line(&mut line, &entity, schema.def(signal), reading);
        file.write_all(line.as_bytes()).map_err(failed)?;
    }
    file.flush().map_err(failed)
}
