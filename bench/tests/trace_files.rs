//! Traces as files: plain and zstd, whole and damaged, and the one that is bundled.

use std::fs;
use std::path::{Path, PathBuf};

use ebbtide_bench::trace::{
    BUNDLED_SCHEMA, BadLine, BatchEnd, Reason, TraceError, TraceEvent, TraceReader,
};

const SIGNALS: [&str; 2] = ["flight", "delay"];
const PLAIN: &[u8] = b"timestamp,entity,signal,weight\n1,BOS,flight,1\n2,7,delay,\n";

fn read_all(reader: &mut TraceReader) -> Result<(Vec<TraceEvent>, Vec<BadLine>), TraceError> {
    let (mut events, mut bad_lines) = (Vec::new(), Vec::new());
    loop {
        match reader.read_batch(1000, &mut events)? {
            BatchEnd::Full => {}
            BatchEnd::BadLine(bad) => bad_lines.push(bad),
            BatchEnd::EndOfTrace => return Ok((events, bad_lines)),
        }
    }
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("memory takes any bytes")
}

fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a temporary folder is writable");
    path
}

#[test]
fn plain_and_zstd_give_the_same_events_whatever_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = PLAIN.split_at(40);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], &zstd(PLAIN)[..]].concat();
    let expected = {
        let path = written(&folder, "plain.csv", PLAIN);
        read_all(&mut TraceReader::open(&path, &SIGNALS).unwrap()).unwrap()
    };
    assert_eq!(expected.0.len(), 2);
    for (name, bytes) in [
        ("by_name.csv.zst", zstd(PLAIN)),
        ("by_magic.csv", zstd(PLAIN)),
        ("frames.csv.zst", [zstd(first), zstd(second)].concat()),
        ("skippable.csv", skippable),
    ] {
        let path = written(&folder, name, &bytes);
        let seen = read_all(&mut TraceReader::open(&path, &SIGNALS).unwrap()).unwrap();
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn a_cut_zstd_trace_gives_the_rows_before_the_cut_and_then_says_so() {
    let mut text = PLAIN[..31].to_vec();
    let mut state = 1_u64;
    for _ in 0..100_000 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        text.extend(format!("{state},{},flight,1\n", state >> 40).bytes());
    }
    let mut bytes = zstd(&text);
    bytes.truncate(bytes.len() / 2);
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "cut.csv.zst", &bytes);
    let mut reader = TraceReader::open(&path, &SIGNALS).unwrap();
    let mut events = Vec::new();
    let error = loop {
        match reader.read_batch(1000, &mut events) {
            Ok(end) => assert_eq!(end, BatchEnd::Full),
            Err(error) => break error,
        }
    };
    assert!((40_000..60_000).contains(&events.len()), "{}", events.len());
    let TraceError::Damaged { line, .. } = error else { panic!("{error}") };
    assert_eq!(usize::try_from(line).unwrap(), events.len() + 1);
    assert!(error.is_bad_input());
    assert!(error.to_string().contains("cut.csv.zst is not whole"), "{error}");
}

#[test]
fn a_trace_without_its_header_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |bytes: &[u8]| {
        let path = written(&folder, "t.csv", bytes);
        let error = TraceReader::open(&path, &SIGNALS).err().expect("a refusal");
        assert!(error.is_bad_input());
        error.to_string()
    };
    for header in [
        "timestamp,entity,signal",
        "entity,timestamp,signal,weight",
        "timestamp,entity,signal,weight,id,more",
        "timestamp;entity;signal;weight",
        "Timestamp,entity,signal,weight",
        "1,a,flight,1",
        "\"timestamp,entity,signal,weight",
    ] {
        let message = refusal(format!("\n# note\n{header}\n").as_bytes());
        assert!(message.contains("t.csv:3: expected the header `timestamp,"), "{message}");
        assert!(message.contains(&format!("{header:?}")), "{message}");
    }
    assert!(refusal(b"").contains("is empty"));
    assert!(refusal(b"\n# only this\n").contains("is empty"));
    let long = refusal(&vec![b'x'; 1_000_000]);
    assert!(long.len() < 400, "{long}");
}

#[test]
fn quoted_headers_ids_and_byte_order_marks_are_fine() {
    let bytes: &[u8] = b"\xef\xbb\xbf\r\n\"timestamp\",entity,signal,\"weight\",id\r\n5,a,delay,,9";
    let mut reader = TraceReader::from_bytes("t", bytes, &SIGNALS).unwrap();
    assert!(reader.has_ids());
    let (events, bad_lines) = read_all(&mut reader).unwrap();
    assert_eq!(bad_lines, []);
    let [event] = events[..] else { panic!("{events:?}") };
    assert_eq!((event.time_ns, event.signal, event.weight.to_bits()), (5, 1, 1_f64.to_bits()));
    assert_eq!((event.id, event.line), (Some(9), 3));
    assert_eq!(reader.into_names().spelling(event.entity), "a");
}

#[test]
fn a_missing_file_and_a_folder_are_bad_input() {
    let missing = TraceReader::open(Path::new("/nowhere.csv"), &SIGNALS).err().unwrap();
    assert!(missing.is_bad_input() && missing.to_string().contains("/nowhere.csv"), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let error = TraceReader::open(folder.path(), &SIGNALS).err().unwrap();
    assert!(matches!(error, TraceError::Open { .. }) && error.is_bad_input(), "{error}");
}

#[test]
fn a_bad_line_costs_none_of_the_rows_around_it() {
    let trace: &[u8] = b"timestamp,entity,signal,weight\n1,a,flight,1\nsoon,a,flight,1\n\
                         2,a,flight,1\n3,a,fly,1\n";
    let mut reader = TraceReader::from_bytes("day.csv", trace, &SIGNALS).unwrap();
    let mut events = Vec::new();
    let BatchEnd::BadLine(bad) = reader.read_batch(100, &mut events).unwrap() else {
        panic!("line 3 is bad")
    };
    assert_eq!((events.len(), bad.line, &*bad.raw_text()), (1, 3, "soon,a,flight,1"));
    let BatchEnd::BadLine(bad) = reader.read_batch(100, &mut events).unwrap() else {
        panic!("line 5 is bad")
    };
    assert_eq!((events.len(), events[1].line), (2, 4));
    assert_eq!(bad.reason, Reason::UnknownSignal { name: "fly".into() });
    assert_eq!(
        bad.to_string(),
        "day.csv:5: unknown signal \"fly\"; add it to the schema, or correct the line"
    );
    assert_eq!(reader.read_batch(100, &mut events).unwrap(), BatchEnd::EndOfTrace);
    assert_eq!(reader.read_batch(100, &mut events).unwrap(), BatchEnd::EndOfTrace);
    assert_eq!(reader.read_batch(0, &mut events).unwrap(), BatchEnd::Full);
}

#[test]
fn the_bundled_trace_is_whole() {
    let mut reader = TraceReader::bundled(&SIGNALS).unwrap();
    let (events, bad_lines) = read_all(&mut reader).unwrap();
    assert_eq!((events.len(), bad_lines.len()), (654_692, 0));
    assert_eq!(reader.names().text_count(), 104);
    let late = events.windows(2).filter(|pair| pair[1].time_ns < pair[0].time_ns).count();
    assert!(late > 100_000, "lateness is real: {late}");
    for signal in SIGNALS {
        assert!(BUNDLED_SCHEMA.contains(&format!("[signals.{signal}]")));
    }
}
