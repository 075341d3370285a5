//! One line of a dump: everything known of one (entity, signal) pair, as JSON.
//!
//! Promises: keys stand in one order, labels as the schema spells them; a number prints in the
//! fewest digits that read back as the same `f64` or `u64`, so equal readings are equal bytes.
//! Which text stands for an entity and the order of the lines are left to the caller: an engine
//! knows numbers only. A dump is sorted by the text, then by the signal's name, both as bytes.

use crate::{SignalReading, SignalTypeDef};
use std::fmt::{Debug, Write as _};

/// Appends the line of `reading`, its end included, to `line`: the reading is of a pair of the
/// entity that `entity` stands for and of the signal type `def`.
///
/// ```
/// use ebbtide::{Engine, EntityId, Event, Schema, Timestamp, dump};
/// use std::time::Duration;
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// let engine = Engine::in_memory().schema(schema).shards(1).open()?;
/// let view = engine.schema().signal("view").unwrap();
/// let noon = Timestamp::from_seconds(43_200);
/// let mut producer = engine.producer()?;
/// producer.offer(Event::new(EntityId(42), view, noon).with_weight(1.25))?;
/// producer.flush(ebbtide::Ack::Applied, Duration::from_secs(1))?;
///
/// let reading = engine.reader()?.read(EntityId(42), view, noon)?.unwrap();
/// let mut line = String::new();
/// dump::push_line(&mut line, "42", engine.schema().def(view), &reading);
/// assert_eq!(
///     line,
///     "{\"entity\":\"42\",\"signal\":\"view\",\"scores\":{\"1h\":1.25},\"counts\":{\"24h\":1},\
///      \"velocity\":{},\"all_time\":1,\"last_update\":43200000000000}\n"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn push_line(line: &mut String, entity: &str, def: &SignalTypeDef, reading: &SignalReading) {
    line.push_str("{\"entity\":");
    push_text(line, entity);
    line.push_str(",\"signal\":");
    push_text(line, def.name());
    push_object(line, "scores", def.half_life_labels().zip(reading.scores()));
    push_object(line, "counts", def.window_labels().zip(reading.counts()));
    push_object(line, "velocity", def.window_labels().zip(reading.velocities()));
    push(line, format_args!(",\"all_time\":{}", reading.all_time));
    push(line, format_args!(",\"last_update\":{}}}\n", reading.last_update.as_nanos()));
}

/// `,"key":{"label":number,…}`.
fn push_object<'l, N: Debug + 'l>(
    line: &mut String,
    key: &str,
    entries: impl Iterator<Item = (&'l str, &'l N)>,
) {
    push(line, format_args!(",\"{key}\":{{"));
    for (place, (label, number)) in entries.enumerate() {
        if place > 0 {
            line.push(',');
        }
        push_text(line, label);
        push(line, format_args!(":{number:?}"));
    }
    line.push('}');
}

/// Text as JSON has it, RFC 8259 section 7.
fn push_text(line: &mut String, text: &str) {
    line.push('"');
    for char in text.chars() {
        match char {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\u{8}' => line.push_str("\\b"),
            '\u{c}' => line.push_str("\\f"),
            '\0'..'\u{20}' => push(line, format_args!("\\u{:04x}", u32::from(char))),
            _ => line.push(char),
        }
    }
    line.push('"');
}

fn push(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("text grows");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back_whatever_is_in_it() {
        let mut every = String::from("\"\\/ \u{7f}\u{80}é\u{2028}\u{10ffff}");
        every.extend('\0'..'\u{20}');
        let mut line = String::new();
        push_text(&mut line, &every);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), every);
        assert_eq!(serde_json::to_string(&every).unwrap(), line, "as everybody writes it");
    }

    #[test]
    fn numbers_read_back_as_the_same_bits() {
        for number in [0.0, 1.0 / 3.0, 5e-324, f64::MAX, 1e21, 0.1 + 0.2, 1e-7, 123_456_789.0] {
            let mut line = String::new();
            push_object(&mut line, "scores", [("1h", &number)].into_iter());
            let text =
                line.strip_prefix(",\"scores\":{\"1h\":").unwrap().strip_suffix('}').unwrap();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), f64::to_bits(number), "{text}");
            assert!(serde_json::from_str::<serde_json::Number>(text).is_ok(), "{text}");
        }
    }
}
