//! The trace reader against a slow reference that is right at a glance.
//!
//! The reference splits at every line feed, asks the `csv` crate for fields, `jiff` for times and
//! the standard library for numbers. It shares no code with the reader but the types of the
//! results.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Read;
use std::mem::discriminant;

use ebbtide_bench::limits::LINE_BYTES_MAX;
use ebbtide_bench::trace::{BatchEnd, Reason, TimestampFault, TraceEvent, TraceReader};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SIGNALS: [&str; 3] = ["view", "buy", "like"];
const HEADER: &str = "timestamp,entity,signal,weight,id";

/// An event, or the number of a bad line and its reason.
type Row = Result<TraceEvent, (u64, Reason)>;

// ------------------------------------------------------------------ the reference

fn reference(trace: &[u8]) -> Vec<Row> {
    let mut lines: Vec<&[u8]> = trace.split(|&byte| byte == b'\n').collect();
    lines.pop_if(|last| last.is_empty());
    let numbered = (1..).zip(lines).skip(1);
    numbered.filter_map(|(number, line)| reference_line(number, line)).collect()
}

fn reference_line(line: u64, bytes: &[u8]) -> Option<Row> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.is_empty() || bytes[0] == b'#' {
        return None;
    }
    if bytes.len() > LINE_BYTES_MAX {
        return Some(Err((line, Reason::Overlong)));
    }
    let Ok(text) = str::from_utf8(bytes) else { return Some(Err((line, Reason::NotUtf8))) };
    Some(reference_event(line, text).map_err(|reason| (line, reason)))
}

fn reference_event(line: u64, text: &str) -> Result<TraceEvent, Reason> {
    let fields = reference_fields(text).ok_or(Reason::Quote)?;
    let [timestamp, entity, signal, weight, id] = &fields[..] else {
        return Err(Reason::FieldCount { found: fields.len(), expected: 5 });
    };
    Ok(TraceEvent {
        time_ns: reference_time(timestamp)?,
        entity: match entity.parse() {
            Ok(integer) if is_digits(entity) => integer,
            _ if entity.is_empty() => return Err(Reason::EntityEmpty),
            _ => u64::from_le_bytes(hash_head(entity)),
        },
        signal: match SIGNALS.iter().position(|name| name == signal) {
            Some(index) => u8::try_from(index).unwrap(),
            None => return Err(Reason::UnknownSignal { name: signal.clone() }),
        },
        weight: reference_weight(weight)?,
        id: match id.parse() {
            Ok(integer) if is_digits(id) => Some(integer),
            _ if id.is_empty() => None,
            _ => Some(u128::from_le_bytes(hash_head(id))),
        },
        line,
    })
}

/// The fields of `text`, if it is what their writer would have written.
fn reference_fields(text: &str) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(text.as_bytes());
    let record = reader.records().next()?.ok()?;
    let mut rest = text;
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(',')?;
        }
        let quoted = format!("\"{}\"", field.replace('"', "\"\""));
        let plain = Some(field).filter(|field| !field.contains([',', '"']));
        let after_plain = plain.and_then(|field| rest.strip_prefix(field));
        let ends = |after: &&str| after.is_empty() || after.starts_with(',');
        rest = after_plain.filter(ends).or_else(|| rest.strip_prefix(&quoted))?;
    }
    rest.is_empty().then(|| record.iter().map(str::to_owned).collect())
}

fn reference_time(text: &str) -> Result<u64, Reason> {
    if is_digits(text) {
        return text.parse().map_err(|_| TimestampFault::TooLate.into());
    }
    let instant = is_rfc3339_shape(text).then(|| text.parse::<jiff::Timestamp>().ok()).flatten();
    let time_ns = instant.ok_or(TimestampFault::Unreadable)?.as_nanosecond();
    u64::try_from(time_ns).map_err(|_| match time_ns {
        ..0 => TimestampFault::BeforeEpoch.into(),
        _ => TimestampFault::TooLate.into(),
    })
}

/// Whether `text` has the letters and signs of RFC 3339; `jiff` reads much more than that.
fn is_rfc3339_shape(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let starts = ["0000-00-00T00:00:00", "0000-00-00t00:00:00", "0000-00-00 00:00:00"];
    let Some(rest) = starts.iter().find_map(|start| shape.strip_prefix(start)) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches('0');
            if !(1..=9).contains(&(fraction.len() - zone.len())) {
                return false;
            }
            zone
        }
    };
    match zone {
        "Z" | "z" => true,
        "+00:00" | "-00:00" => {
            let offset = &text[text.len() - 5..];
            offset[..2].parse::<u8>().unwrap() < 24 && offset[3..].parse::<u8>().unwrap() < 60
        }
        _ => false,
    }
}

fn reference_weight(text: &str) -> Result<f64, Reason> {
    if text.is_empty() {
        return Ok(1.0);
    }
    let weight: f64 = text.parse().map_err(|_| Reason::WeightUnreadable)?;
    match weight {
        _ if !weight.is_finite() => Err(Reason::WeightNotFinite),
        _ if weight < 0.0 => Err(Reason::WeightNegative),
        _ => Ok(weight + 0.0),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn hash_head<const N: usize>(text: &str) -> [u8; N] {
    blake3::hash(text.as_bytes()).as_bytes()[..N].try_into().unwrap()
}

// ------------------------------------------------------------------ the reader

/// Deals out its bytes in chunks of the given sizes, round and round.
struct Chunks {
    bytes: std::io::Cursor<Vec<u8>>,
    sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for Chunks {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.next().unwrap_or(1).min(room.len());
        self.bytes.read(&mut room[..size])
    }
}

fn read(trace: &[u8], chunk_sizes: Vec<usize>, batch: usize) -> Vec<Row> {
    let chunks = Chunks {
        bytes: std::io::Cursor::new(trace.to_vec()),
        sizes: chunk_sizes.into_iter().cycle(),
    };
    let mut reader = TraceReader::from_bytes("trace.csv", chunks, &SIGNALS).unwrap();
    let (mut rows, mut events) = (Vec::new(), Vec::new());
    loop {
        let end = reader.read_batch(batch, &mut events).unwrap();
        assert!(events.len() <= batch);
        rows.extend(events.drain(..).map(Ok));
        match end {
            BatchEnd::Full => {}
            BatchEnd::BadLine(bad) => rows.push(Err((bad.line, bad.reason))),
            BatchEnd::EndOfTrace => return rows,
        }
    }
}

fn assert_same(seen: &[Row], expected: &[Row]) {
    assert_eq!(seen.len(), expected.len(), "{seen:?}\n{expected:?}");
    for (seen, expected) in seen.iter().zip(expected) {
        match (seen, expected) {
            (Ok(seen), Ok(expected)) => {
                assert_eq!(seen, expected);
                assert_eq!(seen.weight.to_bits(), expected.weight.to_bits());
            }
            (Err((seen_at, seen)), Err((at, expected))) => {
                assert_eq!(seen_at, at);
                // The timestamp's fault depends on what is looked at first; the field does not.
                assert_eq!(discriminant(seen), discriminant(expected), "{seen} / {expected}");
            }
            _ => panic!("{seen:?} / {expected:?}"),
        }
    }
}

// ------------------------------------------------------------------ arbitrary traces

fn pick(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(texts).prop_map(str::to_owned)
}

fn rfc3339() -> impl Strategy<Value = String> {
    let date = (prop_oneof![1965..=2560_u32, 0..=9990_u32], 0..=13_u8, 0..=32_u8);
    let time = (0..=24_u8, 0..=60_u8, 0..=61_u8);
    let marks = (select(&["T", "t", " ", "_"][..]), "(\\.[0-9]{0,10})?");
    let zones = &["Z", "z", "+00:00", "-00:00", "+05:30", "-23:59", "+24:00", "+05", "", "Z "];
    (date, time, marks, select(&zones[..])).prop_map(|(date, time, (t, fraction), zone)| {
        let ((year, month, day), (h, m, s)) = (date, time);
        format!("{year:04}-{month:02}-{day:02}{t}{h:02}:{m:02}:{s:02}{fraction}{zone}")
    })
}

fn timestamp() -> impl Strategy<Value = String> {
    let good = (0..=200_000_u64).prop_map(|minutes| {
        jiff::Timestamp::from_second(i64::try_from(minutes * 60).unwrap()).unwrap().to_string()
    });
    prop_oneof![
        3 => any::<u64>().prop_map(|time_ns| time_ns.to_string()),
        3 => good,
        3 => rfc3339(),
        1 => "0{0,30}[0-9]{0,22}",
        1 => pick(&["", "-1", "-", "+1", "now", "1.5", "1e9", " 1", "2013-01-01"]),
    ]
}

fn entity() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|entity| entity.to_string()),
        "0{0,30}[0-9]{0,22}",
        "[A-Za-z \",#é-]{0,20}",
        pick(&["", "BOS", "18446744073709551615", "18446744073709551616", "-1", "1.0", "a\rb"]),
    ]
}

fn weight() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>().prop_map(|weight| weight.to_string()),
        any::<u64>().prop_map(|weight| weight.to_string()),
        "[-+]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{0,3})?",
        pick(&["", "1", "0", "-0", "-0.0", "nan", "-inf", "infinity", "1e999", " 1", "1,5"]),
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u128>().prop_map(|id| id.to_string()),
        "0{0,30}[0-9]{0,45}",
        "[a-f0-9-]{0,36}",
        pick(&["", "", "\"", "340282366920938463463374607431768211456"]),
    ]
}

/// A line of five fields, some in quotes, before anything is broken.
fn line() -> impl Strategy<Value = String> {
    let signal = pick(&["view", "buy", "like", "view", "buy", "", "vie", "views", "View"]);
    let fields = (timestamp(), entity(), signal, weight(), id());
    (fields, any::<[bool; 5]>()).prop_map(|((t, e, s, w, i), in_quotes)| {
        let spell = |(field, in_quotes): (String, bool)| {
            if in_quotes || field.contains([',', '"']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            }
        };
        [t, e, s, w, i].into_iter().zip(in_quotes).map(spell).collect::<Vec<_>>().join(",")
    })
}

/// Lines as they come: good, broken in one place, or rubbish altogether.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let bytes = select(&b",\"\r#-+.: 0T\xff\0\xc3\x80\n"[..]);
    let broken = (line(), any::<prop::sample::Index>(), bytes.clone(), any::<bool>());
    let broken = broken.prop_map(|(line, place, byte, is_insert)| {
        let mut line = line.into_bytes();
        let place = place.index(line.len());
        line.splice(place..place + usize::from(!is_insert), [byte]);
        line
    });
    prop_oneof![
        5 => line().prop_map(String::into_bytes),
        5 => broken,
        1 => vec(any::<u8>(), 0..40),
        1 => vec(bytes, 0..12),
        1 => select(&["", "#", "# a comment,\"", "1,a,view,1"][..]).prop_map(Vec::from),
    ]
}

fn any_trace() -> impl Strategy<Value = Vec<u8>> {
    let ends = select(&["\n", "\r\n", "\n\n"][..]);
    let lines = vec((any_line(), ends), 0..20);
    (any::<bool>(), lines, any::<bool>()).prop_map(|(has_mark, lines, ends_with_line_end)| {
        let mut trace = if has_mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        trace.extend(HEADER.bytes());
        trace.push(b'\n');
        for (line, end) in lines {
            trace.extend(line);
            trace.extend(end.bytes());
        }
        if !ends_with_line_end {
            trace.push(b'#');
            trace.extend(b"last");
        }
        trace
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn reader_and_reference_agree_on_any_bytes(
        trace in any_trace(),
        chunk_sizes in vec(1..200_usize, 1..10),
        batch in 1..9_usize,
    ) {
        assert_same(&read(&trace, chunk_sizes, batch), &reference(&trace));
    }
}

#[test]
fn most_generated_lines_are_events() {
    // The property above would hold of rubbish alone; this says that it does not test only that.
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let lines = (0..3000).map(|_| line().new_tree(&mut runner).unwrap().current());
    let is_event = |line: &String| matches!(reference_line(1, line.as_bytes()), Some(Ok(_)));
    let share = lines.filter(is_event).count() as f64 / 3000.0;
    assert!((0.1..0.9).contains(&share), "{share}");
}

#[test]
fn block_boundaries_may_fall_anywhere() {
    let mut body = Vec::new();
    for row in 0..9_000_u64 {
        body.extend(format!("{row},\"entity, {}\",buy,0.5,{row}\r\n", row % 977).bytes());
        if row % 1_000 == 500 {
            let length = LINE_BYTES_MAX - 4 + usize::try_from(row / 1_000).unwrap();
            body.extend(b"7,a,view,1,".iter().chain(&vec![b'x'; length - 11]));
            body.push(b'\n');
        }
        if row % 4_000 == 2_000 {
            body.extend(vec![b'y'; 300_000 * usize::try_from(row / 2_000).unwrap()]);
            body.push(b'\n');
        }
    }
    let trace =
        |shift: usize| [format!("{HEADER}\n#{}\n", "-".repeat(shift)).as_bytes(), &body].concat();
    let expected = reference(&trace(0));
    assert!(expected.iter().filter(|row| row.is_err()).count() > 5);
    for shift in 0..50 {
        assert_same(&read(&trace(shift), vec![usize::MAX, 1, 77_777], 4096), &expected);
    }
}
