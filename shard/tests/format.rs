//! The format of checkpoints, as `docs/FORMAT.md` tells it.
//!
//! Promises: the tables of the documentation cover every byte of what they describe, with the
//! values the code writes there. Not here: golden bytes of whole values, and damage, which are
//! tested beside the code.

use ebbtide_shard::EntityId;
use ebbtide_shard::checkpoint::{
    FORMAT_VERSION, IdsRecord, Key, ListedPair, MetaRecord, PairList, PairRecord, Record, Round,
    SourceRecord, Tag, encode, source_id,
};
use std::path::Path;

/// Cells of the first table after `heading`.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let (_, checkpoint) = text.split_once("## The checkpoint").expect("the section is there");
    let (_, after) = checkpoint.split_once(heading).expect("the heading is there");
    after
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
            let cells = cells.expect("a row").split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// The rows follow each other without a gap, and hold these values.
fn assert_rows(rows: &[Vec<String>], bytes: &[u8], values: &[(&str, Vec<u8>)]) {
    let mut at = 0;
    for (row, (name, value)) in rows.iter().zip(values) {
        assert_eq!(row[0], at.to_string(), "{name}");
        assert_eq!(row[1], value.len().to_string(), "{name}");
        assert!(row[2].starts_with(name), "{name} stands as {}", row[2]);
        assert_eq!(&bytes[at..at + value.len()], value, "{name}");
        at += value.len();
    }
    assert_eq!((rows.len(), at), (values.len(), bytes.len()));
}

/// The same at the end of an archive.
fn assert_fixed_part<R: Record>(heading: &str, key: Key, record: &R, values: &[(&str, Vec<u8>)]) {
    let value = encode(key, record).expect("the record keeps its rules");
    let archive = &value[..value.len() - 16];
    let bytes: usize = values.iter().map(|(_, value)| value.len()).sum();
    assert_rows(&table(heading), &archive[archive.len() - bytes..], values);
    let mut hasher = blake3::Hasher::new_derive_key("ebbtide record v1");
    let digest = hasher.update(&key.to_bytes()).update(archive).finalize();
    assert_eq!(&value[archive.len()..], &digest.as_bytes()[..16]);
}

/// A list whose first item is so many bytes before it.
fn list(before: i32, count: u32) -> Vec<u8> {
    [(-before).to_le_bytes(), count.to_le_bytes()].concat()
}

#[test]
fn the_documented_keys_are_the_ones_written() {
    let keys = [
        Key::Meta,
        Key::Page { entity: EntityId(5), number: 6, round: Round::FIRST },
        Key::Source { id: 7 },
        Key::Ids { opening: 8, shard: 9, sequence: 10 },
    ];
    let rows = table("### Key");
    assert_eq!((rows.len(), Tag::ALL.len()), (keys.len(), keys.len()));
    for ((row, key), tag) in rows.iter().zip(keys).zip(Tag::ALL) {
        let bytes = key.to_bytes();
        assert_eq!((key.tag(), &row[1][..]), (tag, tag.name()));
        assert_eq!(row[0], bytes[9].to_string());
        assert_eq!((row[3].clone(), bytes[8]), ((bytes.len() - 10).to_string(), 0));
    }
}

#[test]
fn the_documented_page_is_the_one_written() {
    let pair = ListedPair {
        entity: 5,
        lsn: 1,
        last_update: 2,
        sums: [3.0, 4.0, 5.0],
        all_time: 6,
        number: 6,
        half_lives: 3,
        saturated: true,
        counts: 0,
    };
    let mut page = PairList::default();
    page.push(&pair, &[(7, 1), (60, 2)]);
    page.push(&ListedPair { entity: 7, ..pair }, &[(8, 3)]);
    let key = Key::Page { entity: EntityId(5), number: 6, round: Round::FIRST };
    let heading = "Fixed part of a page:";
    let lists = [("pairs", list(15 + 120, 2)), ("counts", list(8 + 15, 3))];
    assert_fixed_part(heading, key, &page, &lists);
    let value = encode(key, &page).unwrap();
    let sums = [3.0_f64, 4.0, 5.0].map(f64::to_le_bytes).concat();
    let fields = [
        ("entity", 5_u64.to_le_bytes().to_vec()),
        ("lsn", 1_u64.to_le_bytes().to_vec()),
        ("last update", 2_u64.to_le_bytes().to_vec()),
        ("sums", sums),
        ("all time", 6_u64.to_le_bytes().to_vec()),
        ("number", vec![6]),
        ("half-lives", vec![3]),
        ("saturated", vec![1]),
        ("counts", vec![2]),
    ];
    assert_rows(&table("Each pair of a page:"), &value[..60], &fields);
    assert_eq!(value[60..62], [7, 0], "the next one");
    assert_eq!(value[120..135], [7, 1, 0, 0, 0, 60, 2, 0, 0, 0, 8, 3, 0, 0, 0]);
}

#[test]
fn the_documented_pair_is_the_one_written() {
    let record = PairRecord {
        lsn: 1,
        last_update: 2,
        sums: [3.0, 4.0, 5.0],
        all_time: 6,
        half_lives: 3,
        saturated: true,
        counts: vec![(7, 1), (60, 2)],
    };
    let key = Key::Pair { entity: EntityId(5), number: 6 };
    let sums = [3.0_f64, 4.0, 5.0].map(f64::to_le_bytes).concat();
    assert_fixed_part(
        "Fixed part of a pair by itself, in format 1:",
        key,
        &record,
        &[
            ("lsn", 1_u64.to_le_bytes().to_vec()),
            ("last update", 2_u64.to_le_bytes().to_vec()),
            ("sums", sums),
            ("all time", 6_u64.to_le_bytes().to_vec()),
            ("half-lives", vec![3]),
            ("saturated", vec![1]),
            ("counts", list(60, 2)),
        ],
    );
    let value = encode(key, &record).unwrap();
    assert_eq!(value[..10], [7, 1, 0, 0, 0, 60, 2, 0, 0, 0]);
}

#[test]
fn the_documented_source_and_ids_are_the_ones_written() {
    let name = "orders".to_owned();
    let key = Key::Source { id: source_id(&name) };
    let record = SourceRecord { name, runs: vec![(0, 9), (300, 8)] };
    let text = b"orders\xff\xff".to_vec();
    let heading = "Fixed part of a source:";
    assert_fixed_part(heading, key, &record, &[("name", text), ("runs", list(28, 2))]);
    let value = encode(key, &record).unwrap();
    assert_eq!(value[10..20], [44, 1, 8, 0, 0, 0, 0, 0, 0, 0]);

    let key = Key::Ids { opening: 8, shard: 9, sequence: 10 };
    let record = IdsRecord { entries: vec![(1, 2)] };
    assert_fixed_part("Fixed part of ids:", key, &record, &[("entries", list(20, 1))]);
    let value = encode(key, &record).unwrap();
    assert_eq!((value[0], value[4], value.len()), (1, 2, 44));
}

#[test]
fn the_documented_meta_record_is_the_one_written() {
    let record = MetaRecord {
        format: FORMAT_VERSION,
        store_id: [2; 16],
        openings: 3,
        checkpoint: 4,
        schema_toml: "toml".into(),
        signal_names: vec!["view".into()],
        layout: 5,
        covered: vec![(0, 6)],
        records: 7,
        set_digest: 8,
    };
    assert_fixed_part(
        "Fixed part of the meta record:",
        Key::Meta,
        &record,
        &[
            ("format version", FORMAT_VERSION.to_le_bytes().to_vec()),
            ("store id", vec![2; 16]),
            ("openings", 3_u64.to_le_bytes().to_vec()),
            ("checkpoint", 4_u64.to_le_bytes().to_vec()),
            ("schema", b"toml\xff\xff\xff\xff".to_vec()),
            ("names", list(44 + 20, 1)),
            ("layout", 5_u32.to_le_bytes().to_vec()),
            ("covered", list(56 + 12, 1)),
            ("records", 7_u64.to_le_bytes().to_vec()),
            ("set digest", 8_u64.to_le_bytes().to_vec()),
        ],
    );
}
