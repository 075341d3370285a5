//! Batches: what was written is read back, any bytes are a batch or an error, the bytes are those
//! of `docs/FORMAT.md`.

use super::*;
use crate::source::SourceName;
use crate::{EntityHash, RoutedEvent, SignalId};
use proptest::prelude::*;
use std::path::Path;

fn routed(logged: &LoggedEvent) -> RoutedEvent {
    let &LoggedEvent { entity, time, weight, .. } = logged;
    RoutedEvent { entity, time, weight, hash: EntityHash(9), signal: SignalId(0) }
}

fn encode(form: BatchForm, events: &[LoggedEvent], progress: u64) -> (Vec<u8>, u32) {
    let mut bytes = vec![0xEE; 3];
    let mut encoder = EventsEncoder::begin(form, &mut bytes);
    for event in events {
        encoder.push(&routed(event), event.number, event.offset.unwrap_or(0), event.id);
    }
    let count = encoder.finish(progress);
    (bytes, count)
}

fn an_event(n: u64) -> LoggedEvent {
    let (entity, time) = (EntityId(n), Timestamp(2 * n));
    LoggedEvent { entity, number: 200, time, weight: 1.5, offset: None, id: None }
}

fn any_event() -> impl Strategy<Value = LoggedEvent> {
    let id = prop::option::of(any::<u128>().prop_map(EventId));
    let parts = (any::<u64>(), any::<u64>(), 0.0..1e15f64, any::<u8>(), 1u64..1000, id);
    parts.prop_map(|(entity, time, weight, number, offset, id)| LoggedEvent {
        entity: EntityId(entity),
        number,
        time: Timestamp(time),
        weight,
        offset: Some(offset),
        id,
    })
}

proptest! {
    #[test]
    fn events_that_were_written_are_read_back(
        mut events in prop::collection::vec(any_event(), 1..40),
        source in prop::option::of(any::<u64>().prop_map(SourceId)),
        ids: bool,
        further in 0u64..9,
    ) {
        let mut offset = 0;
        for event in &mut events {
            offset += event.offset.unwrap_or(1);
            event.offset = source.map(|_| offset);
            event.id = event.id.filter(|_| ids);
        }
        let form = BatchForm { source, ids };
        let (bytes, count) = encode(form, &events, offset + further);
        prop_assert_eq!(form.events_within(bytes.len()), events.len());
        prop_assert_eq!(form.events_within(bytes.len() - 1), events.len() - 1);
        let batch = decode_batch(&bytes, count).unwrap();
        prop_assert_eq!(batch.progress(), source.map(|source| (source, offset + further)));
        let Batch::Events(read) = batch else { panic!("{batch:?}") };
        prop_assert_eq!(read.form(), form);
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), events);
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(
        kind in 0u8..7,
        flags in 0u8..6,
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..120),
        records in 0u32..5,
    ) {
        for whole in [bytes.clone(), [vec![kind, flags], bytes].concat()] {
            if let Ok(Batch::Events(events)) = decode_batch(&whole, records) {
                prop_assert_eq!(events.iter().len(), usize::try_from(records).unwrap());
                prop_assert!(events.iter().all(|event| event.weight >= 0.0));
            }
        }
    }

    #[test]
    fn a_batch_with_any_byte_changed_or_cut_is_a_batch_or_an_error(
        events in prop::collection::vec(any_event(), 1..5), at: usize, to: u8, cut: usize,
    ) {
        let form = BatchForm { source: Some(SourceId(7)), ids: true };
        let (mut bytes, count) = encode(form, &events, 1000);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(Batch::Events(events)) = decode_batch(&bytes, count) {
            prop_assert!(events.iter().all(|event| event.offset.is_some() || to & 1 == 0));
        }
        prop_assert!(decode_batch(&bytes[..cut % bytes.len()], count).is_err());
    }
}

#[test]
fn what_is_no_event_is_read_back_too() {
    let (mut bytes, name) = (Vec::new(), SourceName::new("a trace").unwrap());
    encode_opened(4, 3, &mut bytes);
    assert_eq!(decode_batch(&bytes, 1), Ok(Batch::Opened { shards: 4, shard: 3 }));
    encode_source(&name, &mut bytes);
    assert_eq!(decode_batch(&bytes, 1), Ok(Batch::Source { id: name.id(), name: "a trace" }));
    encode_mark(name.id(), 77, &mut bytes);
    let mark = decode_batch(&bytes, 1).unwrap();
    assert_eq!(mark, Batch::Mark { source: name.id(), offset: 77 });
    assert_eq!(mark.progress(), Some((name.id(), 77)));
    assert_eq!(decode_batch(&bytes, 2), Err(RecordError::Length { bytes: 17, records: 2 }));
}

#[test]
fn what_cannot_have_been_written_is_refused_by_name() {
    let refusal = |bytes: &[u8], records| decode_batch(bytes, records).unwrap_err();
    assert_eq!(refusal(&[], 0), RecordError::Length { bytes: 0, records: 0 });
    assert_eq!(refusal(&[9, 9], 1), RecordError::Kind { kind: 9 });
    assert_eq!(refusal(&[EVENTS, 4], 1), RecordError::Flags { flags: 4 });
    assert_eq!(refusal(&[EVENTS, 0], 0), RecordError::Length { bytes: 2, records: 0 });
    let mut bytes = Vec::new();
    for (shards, shard) in [(4, 4), (0, 0), (1025, 3)] {
        encode_opened(shards, shard, &mut bytes);
        assert_eq!(refusal(&bytes, 1), RecordError::Layout { shards, shard });
    }
    encode_mark(SourceId(5), 0, &mut bytes);
    assert_eq!(refusal(&bytes, 1), RecordError::Offset { offset: 0 });
    encode_source(&SourceName::new("trace").unwrap(), &mut bytes);
    *bytes.last_mut().unwrap() = b'X';
    assert!(matches!(refusal(&bytes, 1), RecordError::SourceName { .. }));

    let form = BatchForm { source: Some(SourceId(5)), ids: true };
    let events = [4, 3].map(|offset| LoggedEvent { offset: Some(offset), ..an_event(1) });
    let (bytes, count) = encode(form, &events, 9);
    assert_eq!(refusal(&bytes, count), RecordError::Offset { offset: 3 });
    let (bytes, count) = encode(form, &events[..1], 3);
    assert_eq!(refusal(&bytes, count), RecordError::Offset { offset: 4 }, "past the progress");
    let (mut bytes, count) = encode(form, &events[..1], 4);
    *bytes.last_mut().unwrap() = 1;
    assert_eq!(refusal(&bytes, count), RecordError::Id);
    let negative = LoggedEvent { weight: -1.0, ..an_event(1) };
    let (bytes, count) = encode(BatchForm::default(), &[negative], 0);
    assert!(matches!(refusal(&bytes, count), RecordError::Weight(_)));
}

#[test]
fn the_bytes_of_an_event_are_frozen() {
    let event = LoggedEvent {
        entity: EntityId(0x0102),
        number: 7,
        time: Timestamp(0x0304),
        weight: 1.0,
        ..an_event(0)
    };
    let (bytes, _) = encode(BatchForm::default(), &[event], 0);
    let mut want = [0; 2 + EVENT_BYTES];
    want[0] = 4;
    want[2..4].copy_from_slice(&[2, 1]);
    want[10..12].copy_from_slice(&[4, 3]);
    want[24..26].copy_from_slice(&[0xF0, 0x3F]);
    want[26] = 7;
    assert_eq!(bytes, want);
}

/// Rows of the first table after `heading` in the documentation: offset, length, field.
fn table(heading: &str) -> Vec<(usize, Option<usize>, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once(heading).expect("the heading is there");
    let rows = after.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let mut cell = || cells.next().unwrap().to_owned();
            (cell().parse().unwrap(), cell().parse().ok(), cell())
        })
        .collect()
}

/// The rows follow each other without a gap and hold these values, up to the end of the bytes.
fn assert_table(heading: &str, bytes: &[u8], values: &[&[u8]]) {
    let rows = table(heading);
    assert_eq!(rows.len(), values.len(), "{heading}");
    let mut end = 0;
    for ((offset, length, field), value) in rows.iter().zip(values) {
        assert_eq!(*offset, end, "{heading} {field}");
        end = length.map_or(bytes.len(), |length| offset + length);
        assert_eq!(&bytes[*offset..end], *value, "{heading} {field}");
    }
    assert_eq!(end, bytes.len(), "{heading} describes every byte");
}

#[test]
fn the_documented_batches_are_the_ones_written() {
    let (mut bytes, name) = (Vec::new(), SourceName::new("a trace").unwrap());
    let id = name.id().0.to_le_bytes();
    encode_opened(0x11, 0x10, &mut bytes);
    assert_table("Opened:", &bytes, &[&[1], &[0x11, 0, 0, 0], &[0x10, 0, 0, 0]]);
    encode_source(&name, &mut bytes);
    assert_table("Source:", &bytes, &[&[2], &id, b"a trace"]);
    encode_mark(name.id(), 0x22, &mut bytes);
    assert_table("Mark:", &bytes, &[&[3], &id, &0x22_u64.to_le_bytes()]);

    let form = BatchForm { source: Some(name.id()), ids: true };
    let (offset, event_id) = (Some(0x33), Some(EventId(0x44)));
    let event = LoggedEvent { offset, id: event_id, ..an_event(5) };
    let (bytes, _) = encode(form, &[event], 0x55);
    let (header, record) = bytes.split_at(form.header_bytes());
    assert_table("Events, before the first:", header, &[&[4], &[3], &id, &0x55_u64.to_le_bytes()]);
    let words = [5, 10, 1.5f64.to_bits(), 0x33].map(u64::to_le_bytes);
    let [entity, time, weight, offset] = &words;
    let event_id = 0x44_u128.to_le_bytes();
    let values: [&[u8]; 7] = [entity, time, weight, &[200], offset, &[1], &event_id];
    assert_table("Each event:", record, &values);
}
