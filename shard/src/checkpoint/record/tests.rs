//! Records as bytes: golden values, every kind of damage, and anything at all.

use super::*;
use crate::EntityId;
use crate::checkpoint::Round;
use crate::checkpoint::key::hex;
use crate::limits::PAGE_PAIRS_MAX;
use proptest::prelude::*;

const PAIR: Key = Key::Pair { entity: EntityId(0x0102), number: 7 };
const PAGE: Key = Key::Page { entity: EntityId(0x0102), number: 7, round: Round::FIRST };
const IDS: Key = Key::Ids { opening: 1, shard: 2, sequence: 3 };

fn pair() -> PairRecord {
    PairRecord {
        lsn: 0x0102,
        last_update: 0x0304,
        sums: [1.0, 2.0, 0.0],
        all_time: 5,
        half_lives: 2,
        saturated: false,
        counts: vec![(3, 4), (60, 5)],
    }
}

/// Two pairs, the first of them [`pair`].
fn page() -> PairList {
    let mut list = PairList::default();
    list.push_record((EntityId(0x0102), 7), &pair());
    let other = PairRecord { saturated: true, half_lives: 3, counts: vec![(7, 1)], ..pair() };
    list.push_record((EntityId(0x0102), 8), &other);
    list
}

fn source() -> (Key, SourceRecord) {
    let name = "orders".to_owned();
    (Key::Source { id: source_id(&name) }, SourceRecord { name, runs: vec![(0, 9), (4095, 7)] })
}

fn ids() -> IdsRecord {
    IdsRecord { entries: vec![(1, 2), (3, 4)] }
}

fn meta() -> MetaRecord {
    MetaRecord {
        format: 1,
        store_id: [7; 16],
        openings: 2,
        checkpoint: 3,
        schema_toml: "[signals.view]".into(),
        signal_names: vec!["view".into(), "like".into()],
        layout: 2,
        covered: vec![(0, 11), (1, 12)],
        records: 4,
        set_digest: 5,
    }
}

/// Encodes without the rules of meaning.
fn value_of<R: Record>(key: Key, record: &R) -> Vec<u8> {
    let mut value = rkyv::api::high::to_bytes_in::<_, Error>(record, Vec::new()).unwrap();
    value.extend_from_slice(&digest(key, &value));
    value
}

fn fault_of<R: Record + std::fmt::Debug>(key: Key, record: &R) -> RecordFault {
    let fault = decode::<R>(key, &value_of(key, record)).unwrap_err();
    assert_eq!(encode(key, record), Err(fault.clone()), "what cannot be read is not written");
    fault
}

#[test]
fn what_was_written_is_read_back() {
    let (source_key, source) = source();
    let value = encode(PAIR, &pair()).unwrap();
    let digest = RecordDigest::of_value(&value).unwrap();
    assert_eq!(decode(PAIR, &value), Ok((pair(), digest)));
    let (value, mut read) = (encode(PAGE, &page()).unwrap(), PairList::default());
    let digest = RecordDigest::of_value(&value).unwrap();
    assert_eq!(decode(PAGE, &value), Ok((page(), digest)));
    assert_eq!((decode_page(PAGE, &value, &mut read), &read), (Ok(digest), &page()));
    assert_eq!((decode_page(PAGE, &value, &mut read), read), (Ok(digest), page()), "once more");
    let value = encode(source_key, &source).unwrap();
    assert_eq!(decode::<SourceRecord>(source_key, &value).unwrap().0, source);
    assert_eq!(decode::<IdsRecord>(IDS, &encode(IDS, &ids()).unwrap()).unwrap().0, ids());
    assert_eq!(
        decode::<MetaRecord>(Key::Meta, &encode(Key::Meta, &meta()).unwrap()).unwrap().0,
        meta()
    );
}

#[test]
fn the_bytes_of_records_are_frozen() {
    let (source_key, source) = source();
    let golden = [
        (
            encode(PAIR, &pair()).unwrap(),
            &[
                "03040000003c0500000002010000000000000403000000000000000000000000f03f0000",
                "000000000040000000000000000005000000000000000200c4ffffff020000008aa00c6a",
                "dabdb9fd5d65bbc34056befd",
            ][..],
        ),
        (
            encode(PAGE, &page()).unwrap(),
            &[
                "020100000000000002010000000000000403000000000000000000000000f03f00000000",
                "000000400000000000000000050000000000000007020002020100000000000002010000",
                "000000000403000000000000000000000000f03f00000000000000400000000000000000",
                "05000000000000000803010103040000003c05000000070100000079ffffff02000000e9",
                "ffffff03000000144acbd0da409cbe850586e8fc35952e",
            ][..],
        ),
        (
            encode(source_key, &source).unwrap(),
            &[
                "00000900000000000000ff0f07000000000000006f7264657273ffffe4ffffff02000000",
                "f814f6e759a5c27bea88d76615f4f535",
            ][..],
        ),
        (
            encode(IDS, &ids()).unwrap(),
            &[
                "010000000200000000000000000000000000000003000000040000000000000000000000",
                "00000000d8ffffff02000000f213923b7b39f18d13a1be28740f2f7b",
            ][..],
        ),
        (
            encode(Key::Meta, &meta()).unwrap(),
            &[
                "5b7369676e616c732e766965775d76696577ffffffff6c696b65ffffffff000000000b00",
                "000000000000010000000c00000000000000010000000707070707070707070707070707",
                "0707020000000000000003000000000000008e000000a6ffffffacffffff020000000200",
                "0000b0ffffff02000000040000000000000005000000000000002ef41f40d425cd9494b9",
                "e722f7b1c68c",
            ][..],
        ),
    ];
    for (value, want) in golden {
        assert_eq!(hex(&value), want.concat());
    }
}

/// Every byte of a value is vouched for: archive, digest, and the key it is kept under.
#[test]
fn every_flipped_bit_is_found() {
    let value = encode(PAIR, &pair()).unwrap();
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut flipped = value.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(decode::<PairRecord>(PAIR, &flipped), Err(RecordFault::Digest));
        }
    }
    let other = Key::Pair { entity: EntityId(0x0102), number: 8 };
    assert_eq!(decode::<PairRecord>(other, &value), Err(RecordFault::Digest));
    // The archive of another kind of record, under a digest that fits.
    assert_eq!(fault_of(IDS, &pair()), RecordFault::Key);
}

#[test]
fn values_too_short_or_too_long_are_refused_before_they_are_read() {
    assert_eq!(decode::<PairRecord>(PAIR, &[0; 15]), Err(RecordFault::Length { bytes: 15 }));
    let bytes = RECORD_VALUE_BYTES_MAX + 1;
    assert_eq!(decode::<PairRecord>(PAIR, &vec![0; bytes]), Err(RecordFault::Length { bytes }));
    let long = MetaRecord { schema_toml: "x".repeat(bytes), ..meta() };
    assert!(matches!(encode(Key::Meta, &long), Err(RecordFault::Length { .. })));
}

#[test]
fn a_pair_that_means_nothing_is_refused() {
    let sum = |index: usize, sum: f64| {
        let mut record = pair();
        record.sums[index] = sum;
        fault_of(PAIR, &record)
    };
    assert_eq!(sum(0, f64::NAN), RecordFault::Sum { index: 0 });
    assert_eq!(sum(1, f64::INFINITY), RecordFault::Sum { index: 1 });
    assert_eq!(sum(1, -1.0), RecordFault::Sum { index: 1 });
    assert_eq!(sum(0, -0.0), RecordFault::Sum { index: 0 });
    assert_eq!(sum(2, 1.0), RecordFault::Sum { index: 2 });
    let counts =
        |counts: &[(u8, u32)]| fault_of(PAIR, &PairRecord { counts: counts.to_vec(), ..pair() });
    assert_eq!(counts(&[(3, 0)]), RecordFault::Bucket { position: 3 });
    assert_eq!(counts(&[(228, 1)]), RecordFault::Bucket { position: 228 });
    assert_eq!(counts(&[(4, 1), (3, 1)]), RecordFault::Bucket { position: 3 });
    assert_eq!(counts(&[(3, 1), (3, 1)]), RecordFault::Bucket { position: 3 });
    assert_eq!(counts(&[(3, 6)]), RecordFault::AllTime { all_time: 5 });
    assert_eq!(counts(&[(60, 3), (227, 3)]), RecordFault::AllTime { all_time: 5 });
    let none = PairRecord { all_time: 0, counts: Vec::new(), ..pair() };
    assert_eq!(fault_of(PAIR, &none), RecordFault::AllTime { all_time: 0 });
    for count in [0, 4] {
        let other = PairRecord { half_lives: count, ..pair() };
        assert_eq!(fault_of(PAIR, &other), RecordFault::HalfLives { count });
    }
}

#[test]
fn a_page_that_means_nothing_is_refused() {
    let changed = |change: fn(&mut PairList)| {
        let mut list = page();
        change(&mut list);
        fault_of(PAGE, &list)
    };
    assert_eq!(changed(PairList::clear), RecordFault::Page);
    assert_eq!(changed(|list| list.pairs.swap(0, 1)), RecordFault::Page);
    assert_eq!(changed(|list| list.pairs[1].number = 7), RecordFault::Page);
    assert_eq!(changed(|list| list.pairs[0].entity -= 1), RecordFault::Page);
    assert_eq!(changed(|list| list.pairs[1].counts += 1), RecordFault::Page);
    assert_eq!(changed(|list| _ = list.counts.pop()), RecordFault::Page);
    assert_eq!(changed(|list| list.pairs[1].sums[2] = -1.0), RecordFault::Sum { index: 2 });
    assert_eq!(changed(|list| list.counts[2].1 = 0), RecordFault::Bucket { position: 7 });
    let all_time = RecordFault::AllTime { all_time: 0 };
    assert_eq!(changed(|list| list.pairs[1].all_time = 0), all_time);
    let many = |count: u64| {
        let mut list = PairList::default();
        (0..count).for_each(|n| list.push_record((EntityId(0x0102 + n), 7), &pair()));
        list
    };
    let most = PAGE_PAIRS_MAX as u64;
    assert_eq!(fault_of(PAGE, &many(most + 1)), RecordFault::Page);
    let value = encode(PAGE, &many(most)).unwrap();
    assert_eq!(decode::<PairList>(PAGE, &value).unwrap().0, many(most));
    assert_eq!(fault_of(PAIR, &page()), RecordFault::Key);
}

#[test]
fn a_source_that_means_nothing_is_refused() {
    let (key, record) = source();
    let other = Key::Source { id: 1 };
    assert_eq!(fault_of(other, &record), RecordFault::SourceName { bytes: 6 });
    let name = "x".repeat(256);
    let long = SourceRecord { name: name.clone(), ..record.clone() };
    let long_key = Key::Source { id: source_id(&name) };
    assert_eq!(fault_of(long_key, &long), RecordFault::SourceName { bytes: 256 });
    for runs in [vec![], vec![(1, 1)], vec![(0, 1), (0, 2)], vec![(0, 1), (4096, 1)]] {
        assert_eq!(fault_of(key, &SourceRecord { runs, ..record.clone() }), RecordFault::Runs);
    }
}

#[test]
fn ids_that_are_none_or_too_many_are_refused() {
    for count in [0, 4097] {
        let record = IdsRecord { entries: vec![(0, 0); count] };
        assert_eq!(fault_of(IDS, &record), RecordFault::Ids { count });
    }
    let full = IdsRecord { entries: vec![(u32::MAX, u128::MAX); 4096] };
    assert_eq!(decode::<IdsRecord>(IDS, &encode(IDS, &full).unwrap()).unwrap().0, full);
}

#[test]
fn a_meta_record_that_means_nothing_is_refused() {
    let meta_fault = |record: MetaRecord| fault_of(Key::Meta, &record);
    for found in [0, FORMAT_VERSION + 1] {
        let fault = RecordFault::Format { found };
        assert_eq!(meta_fault(MetaRecord { format: found, ..meta() }), fault);
    }
    let names = |names: &[&str]| {
        let signal_names = names.iter().map(|&name| name.to_owned()).collect();
        meta_fault(MetaRecord { signal_names, ..meta() })
    };
    assert_eq!(names(&["a", "a"]), RecordFault::SignalName { number: 1 });
    assert_eq!(names(&[""]), RecordFault::SignalName { number: 0 });
    let many: Vec<_> = (0..257).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(names(&many), RecordFault::SignalName { number: 256 });
    for covered in [vec![(1, 1), (0, 1)], vec![(0, 1), (0, 1)], vec![(1025, 1)]] {
        assert_eq!(meta_fault(MetaRecord { covered, ..meta() }), RecordFault::Logs);
    }
    assert_eq!(meta_fault(MetaRecord { layout: 1025, ..meta() }), RecordFault::Logs);
}

fn any_of<R: Record>(key: Key, bytes: &[u8]) -> Result<(R, RecordDigest), RecordFault> {
    assert_eq!(decode::<R>(key, bytes).err(), Some(RecordFault::Digest));
    let mut value = bytes.to_vec();
    value.extend_from_slice(&digest(key, bytes));
    decode(key, &value)
}

proptest! {
    /// Also when the digest is right: a fault, or a record that keeps the rules.
    #[test]
    fn any_bytes_are_a_record_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 16..200)) {
        let (source_key, _) = source();
        let pair = any_of::<PairRecord>(PAIR, &bytes);
        let _ = pair.map(|(record, _)| encode(PAIR, &record).unwrap());
        let page = any_of::<PairList>(PAGE, &bytes);
        let _ = page.map(|(list, _)| encode(PAGE, &list).unwrap());
        let _ = any_of::<SourceRecord>(source_key, &bytes);
        let _ = any_of::<IdsRecord>(IDS, &bytes).map(|(record, _)| encode(IDS, &record).unwrap());
        let _ = any_of::<MetaRecord>(Key::Meta, &bytes);
    }

    /// A record with some bytes changed, under a digest that fits.
    #[test]
    fn a_changed_archive_is_a_record_or_a_fault(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let changed = |mut value: Vec<u8>| {
            value.truncate(value.len() - 16);
            for (at, byte) in &changes {
                let at = at.index(value.len());
                value[at] = *byte;
            }
            value
        };
        let read = |key, archive: &[u8]| {
            let mut value = archive.to_vec();
            value.extend_from_slice(&digest(key, archive));
            value
        };
        let archive = changed(encode(PAIR, &pair()).unwrap());
        let _ = decode::<PairRecord>(PAIR, &read(PAIR, &archive));
        let archive = changed(encode(PAGE, &page()).unwrap());
        let mut list = PairList::default();
        let _ = decode_page(PAGE, &read(PAGE, &archive), &mut list);
        let (source_key, source) = source();
        let archive = changed(encode(source_key, &source).unwrap());
        let _ = decode::<SourceRecord>(source_key, &read(source_key, &archive));
        let archive = changed(encode(IDS, &ids()).unwrap());
        let _ = decode::<IdsRecord>(IDS, &read(IDS, &archive));
        let archive = changed(encode(Key::Meta, &meta()).unwrap());
        let _ = decode::<MetaRecord>(Key::Meta, &read(Key::Meta, &archive));
    }
}
