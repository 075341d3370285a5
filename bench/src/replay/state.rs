//! The whole state of an engine as of one instant, read back through its public interface.

use super::input::Input;
use crate::fault::Fault;
use ebbtide::{Engine, EntityId, Schema, SignalId, SignalReading, Timestamp};
use std::fmt::Write as _;
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
        write_line(&mut line, &entity, (schema, signal), reading);
        file.write_all(line.as_bytes()).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn write_line(
    line: &mut String,
    entity: &str,
    (schema, signal): (&Schema, SignalId),
    reading: &SignalReading,
) {
    let def = schema.def(signal);
    let (half_lives, windows) = (def.half_life_labels(), def.window_labels());
    line.push_str("{\"entity\":");
    push_text(line, entity);
    line.push_str(",\"signal\":");
    push_text(line, def.name());
    push_object(line, "scores", half_lives.zip(reading.scores()));
    push_object(line, "counts", windows.zip(reading.counts()));
    push_object(line, "velocity", def.window_labels().zip(reading.velocities()));
    let (all_time, last_update) = (reading.all_time, reading.last_update.as_nanos());
    let end = format_args!(",\"all_time\":{all_time},\"last_update\":{last_update}}}\n");
    line.write_fmt(end).expect("text grows");
}

/// `,"key":{"label":number,…}`; a number prints in full precision.
fn push_object<'l, N: std::fmt::Debug + 'l>(
    line: &mut String,
    key: &str,
    entries: impl Iterator<Item = (&'l str, &'l N)>,
) {
    line.push_str(",\"");
    line.push_str(key);
    line.push_str("\":{");
    for (place, (label, number)) in entries.enumerate() {
        if place > 0 {
            line.push(',');
        }
        push_text(line, label);
        write!(line, ":{number:?}").expect("text grows");
    }
    line.push('}');
}

fn push_text(line: &mut String, text: &str) {
    line.push_str(&serde_json::Value::from(text).to_string());
}
