//! `ebbtide inspect` on logs that were written, closed, torn, damaged and shuffled for the purpose,
//! and on a store that an engine made.

mod call;

use call::{Ended, ebbtide};
use ebbtide::{Ack, Engine, EntityId, Event, EventId, Schema, SourceEvent};
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{
    CheckpointNote, IoThreads, Log, LogIdentity, LogOptions, Lsn, ReplayOptions, StartOptions,
    Started, StoreId, WalWriter, ready, replay,
};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const STORE: StoreId = StoreId([0xab; 16]);
const SIZES: LogOptions =
    LogOptions { group_bytes: 65_536, segment_bytes: 1 << 20, log_bytes_max: u64::MAX };
const LONG: Duration = Duration::from_mins(1);
const RECORD: [u8; 25] = [7; 25];

/// A store's directory with logs in it.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().expect("a temporary folder can be had"));
        fs::create_dir(store.0.path().join("log")).expect("it is writable");
        store
    }

    fn log(&self, number: u32) -> PathBuf {
        self.0.path().join(format!("log/{number:04}"))
    }

    fn segment(&self, number: u32, seq: u64) -> PathBuf {
        self.log(number).join(format!("seg-{seq:016x}.wal"))
    }

    /// Opens a log, appends `batches` of 100 records each, and gives it, driven by threads.
    fn append(&self, number: u32, batches: usize) -> (Log, IoThreads) {
        let storage = Threads::open(&self.log(number)).expect("it can be opened");
        let identity = LogIdentity { store: STORE, shard: number };
        let found = ready(replay(&storage, identity, ReplayOptions::default(), |_| Ok(())));
        let found = found.expect("a log of ours is whole");
        let options = StartOptions { log: SIZES, seed: [9; 32], lsn_first_min: Lsn::NONE };
        let Started { mut log, commit, upkeep } =
            ready(found.start(&storage, options)).expect("it starts");
        let mut io = IoThreads::start("test", commit, upkeep, || {}).expect("there are threads");
        for _ in 0..batches {
            assert!(io.pump_until(&mut log, LONG, |log| log.room() >= 100 * RECORD.len()));
            log.append(&RECORD.repeat(100), 100).expect("there is room");
        }
        let last = log.watermarks().appended;
        let durable = |log: &Log| batches == 0 || log.watermarks().durable == Some(last);
        assert!(io.pump_until(&mut log, LONG, durable));
        (log, io)
    }

    /// The same, closed in order.
    fn write(&self, number: u32, batches: usize) {
        close(self.append(number, batches));
    }

    fn inspect(&self, rest: &[&str]) -> Ended {
        inspect(self.0.path(), rest)
    }
}

fn close((mut log, mut io): (Log, IoThreads)) {
    log.close();
    assert!(io.pump_until(&mut log, LONG, Log::is_closed));
    io.stop();
}

fn inspect(data_dir: &Path, rest: &[&str]) -> Ended {
    let data_dir = data_dir.to_str().expect("tests use plain names");
    ebbtide(["inspect", "--data-dir", data_dir].iter().chain(rest))
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.clone(), fs::read(path).expect("a file")));
        }
    }
    all.sort();
    all
}

#[test]
fn logs_that_were_closed_in_order_are_shown_whole_and_left_as_they_are() {
    let store = Store::new();
    store.write(0, 3);
    store.write(1, 1);
    store.write(1, 600);
    let before = files(store.0.path());
    let report = store.inspect(&["--json"]).json();
    let logs = report["log"].as_array().unwrap();
    assert_eq!(logs.len(), 2);
    for (log, records) in logs.iter().zip([300, 60_100]) {
        assert_eq!(log["store"], STORE.to_string());
        assert!(log["error"].is_null() && log["frames"].is_null(), "{log}");
        let end = &log["end"];
        assert_eq!((end["records"].as_u64(), end["last"].as_u64()), (Some(records), Some(records)));
        assert_eq!(end["clean_shutdown"], true);
        let segments = log["segments"].as_array().unwrap();
        let sum: u64 = segments.iter().map(|s| s["records"].as_u64().unwrap()).sum();
        assert_eq!(sum, records);
        // One follows the other, and all but the last are sealed.
        for pair in segments.windows(2) {
            assert_eq!(pair[0]["sealed"], true);
            assert_eq!(pair[0]["lsn_last"].as_u64().unwrap() + 1, pair[1]["lsn_first"]);
        }
        assert_eq!(segments.last().unwrap()["sealed"], false);
    }
    let table = store.inspect(&[]);
    assert!(table.done().contains("\nlog 1\n"), "{}", table.out);
    assert!(table.out.contains("closed in order"), "{}", table.out);
    let lines = table.out.lines().skip(1);
    assert!(lines.clone().all(|line| line.chars().count() <= 80), "{}", table.out);
    assert!(files(store.0.path()) == before, "looking changed a file");
}

#[test]
fn frames_are_shown_when_asked_for_and_add_up_to_the_log() {
    let store = Store::new();
    store.write(0, 3);
    let report = store.inspect(&["--json", "--frames"]).json();
    let frames = report["log"][0]["frames"].as_array().unwrap();
    let records: u64 = frames.iter().map(|frame| frame["lsn_count"].as_u64().unwrap()).sum();
    assert_eq!(records, 300);
    assert_eq!(frames[0]["offset"], 4096);
    assert_eq!(frames.last().unwrap()["kind"], "shutdown");
    for pair in frames.windows(2) {
        let end = |key: &str| pair[0][key].as_u64().unwrap();
        assert_eq!(end("offset") + end("bytes"), pair[1]["offset"]);
    }
    let table = store.inspect(&["--frames"]);
    assert!(table.done().contains("shutdown"), "{}", table.out);
}

#[test]
fn one_log_is_shown_when_asked_for() {
    let store = Store::new();
    store.write(0, 1);
    store.write(7, 2);
    let report = store.inspect(&["--json", "--log", "7"]).json();
    assert_eq!(report["log"].as_array().unwrap().len(), 1);
    assert_eq!(report["log"][0]["number"], 7);
    store.inspect(&["--log", "3"]).failed(2, &["no log 3", "there is 0, 7"]);
}

#[test]
fn a_log_that_lost_its_beginning_to_a_checkpoint_is_whole() {
    let store = Store::new();
    let (mut log, mut io) = store.append(0, 1200);
    let covered = log.watermarks().durable.unwrap();
    log.note_checkpoint(CheckpointNote { covered, digest: [1; 32] }).unwrap();
    assert!(io.pump_until(&mut log, LONG, |log| log.stats().retired > 0));
    close((log, io));
    let ended = store.inspect(&["--json"]);
    ended.done();
    let end = &ended.json()["log"][0]["end"];
    assert_eq!(end["checkpoint_covers"], covered.get());
    assert!(end["begins_after"].as_u64() > Some(0), "{end}");
    assert_eq!(end["last"], covered.get());
}

#[test]
fn a_torn_tail_is_told_and_is_no_damage() {
    let store = Store::new();
    let (log, io) = store.append(0, 2);
    // Its owner is gone without closing; half of a write is left at the end.
    io.stop();
    drop(log);
    let path = store.segment(0, 1);
    let report = store.inspect(&["--json", "--frames"]).json();
    let last = report["log"][0]["frames"].as_array().unwrap().last().unwrap().clone();
    let (offset, bytes) = (last["offset"].as_u64().unwrap(), last["bytes"].as_u64().unwrap());
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut frame = vec![0; usize::try_from(bytes).unwrap()];
    file.read_exact_at(&mut frame, offset).unwrap();
    file.write_all_at(&frame[..512], offset + bytes).unwrap();

    let ended = store.inspect(&["--json"]);
    ended.done();
    let end = &ended.json()["log"][0]["end"];
    assert_eq!(end["clean_shutdown"], false);
    assert!(end["torn_bytes"].as_u64() > Some(0), "{end}");
    assert!(store.inspect(&[]).done().contains("torn tail"));
}

#[test]
fn a_flipped_bit_is_damage_and_hides_neither_what_precedes_it_nor_other_logs() {
    let store = Store::new();
    store.write(0, 600);
    store.write(1, 1);
    let path = store.segment(0, 1);
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = 512 * 1024 + 200;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();

    let ended = store.inspect(&["--json"]);
    ended.failed(1, &["log/0000: log segment 1 is damaged at offset", "backup"]);
    let report = ended.json();
    let log = &report["log"][0];
    assert_eq!(log["error"]["code"], "log-damaged");
    assert!(log["end"].is_null() && log["segments"][0]["frames"].as_u64() > Some(0), "{log}");
    assert_eq!(report["log"][1]["end"]["records"], 100);
    let table = store.inspect(&[]);
    assert!(table.failed(1, &[]).out.contains("DAMAGED"), "{}", table.out);
}

#[test]
fn a_header_that_cannot_be_read_hides_no_other_segment() {
    let store = Store::new();
    store.write(0, 600);
    OpenOptions::new().write(true).open(store.segment(0, 1)).unwrap().set_len(100).unwrap();
    let ended = store.inspect(&["--json"]);
    ended.failed(1, &["log/0000: ", "segment 1", "shorter than a segment header"]);
    let log = &ended.json()["log"][0];
    assert!(log["segments"][0]["error"].as_str().unwrap().contains("shorter"), "{log}");
    assert!(log["segments"][1]["lsn_first"].as_u64() > Some(1), "{log}");
}

#[test]
fn a_log_in_another_ones_place_is_told() {
    let store = Store::new();
    store.write(0, 1);
    store.write(1, 1);
    let aside = store.0.path().join("aside");
    fs::rename(store.log(0), &aside).unwrap();
    fs::rename(store.log(1), store.log(0)).unwrap();
    fs::rename(aside, store.log(1)).unwrap();
    store.inspect(&[]).failed(1, &["log/0000: ", "shard 1", "(and 1 more)"]);
}

#[test]
fn a_missing_segment_is_damage() {
    let store = Store::new();
    store.write(0, 1200);
    fs::remove_file(store.segment(0, 2)).unwrap();
    store.inspect(&[]).failed(1, &["log segment 2 is missing"]);
}

#[test]
fn a_store_in_use_is_not_looked_at() {
    let store = Store::new();
    let lock = File::create(store.0.path().join("LOCK")).unwrap();
    lock.try_lock().unwrap();
    store.inspect(&[]).failed(3, &["open already", "close it there first"]);
}

#[test]
fn what_is_no_store_is_a_matter_of_input() {
    let home = tempfile::tempdir().unwrap();
    inspect(home.path(), &[]).failed(2, &["holds no store"]);
    inspect(&home.path().join("none\u{1b}[2J"), &[]).failed(2, &["none\\u{1b}[2J", "no store"]);
    let store = Store::new();
    assert!(store.inspect(&[]).done().ends_with("/log: 0\n"));
    fs::create_dir(store.log(0)).unwrap();
    assert!(store.inspect(&[]).done().contains("holds no segment"));
}

#[test]
fn files_that_no_log_made_are_counted_and_never_opened() {
    let store = Store::new();
    store.write(0, 1);
    fs::write(store.log(0).join("evil\u{1b}[2J"), "").unwrap();
    let table = store.inspect(&[]);
    assert!(table.done().contains("1 file that no log made"), "{}", table.out);
    // A pipe would block whoever opens it.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        store.segment(0, 9),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    store.inspect(&[]).failed(1, &["seg-0000000000000009.wal", "not a regular file"]);
}

/// A store that an engine made, with two signal types, a source and ids; gives its directory.
fn engine_store(home: &TempDir) -> PathBuf {
    let path = home.path().join("store");
    let text = "[signals.buy]\nhalf_lives = [\"30d\"]\nwindows = [\"7d\"]\ndedup = \"id\"\n\
                [signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]";
    let builder = Engine::builder(&path).schema(Schema::from_toml(text).expect("a schema"));
    let engine = builder.shards(2).open().expect("it opens");
    let (buy, now) = (engine.schema().signal("buy").expect("it is there"), engine.now());
    let mut source = engine.producer_for("orders\u{1b}[2J").expect("the source is free");
    for offset in 1..=40 {
        let event = Event::new(EntityId(offset), buy, now);
        let event = SourceEvent::new(offset, event).with_id(EventId(offset.into()));
        source.offer_within(event, LONG).expect("there is room");
    }
    source.flush(Ack::Durable, LONG).expect("it is durable");
    engine.checkpoint().expect("a checkpoint");
    drop(source);
    engine.close(LONG).expect("it closes");
    path
}

#[test]
fn manifest_and_checkpoint_are_shown_with_the_logs() {
    let home = tempfile::tempdir().expect("a temporary folder can be had");
    let store = engine_store(&home);
    let before = files(&store);
    let shown = inspect(&store, &["--json"]);
    shown.done();
    let json = shown.json();
    let (manifest, held) = (&json["manifest"], &json["checkpoint"]);
    assert_eq!((&manifest["format"], &manifest["store"]), (&1.into(), &held["store"]), "{json}");
    assert_eq!(json["log"][0]["store"], manifest["store"]);
    let numbers = ["openings", "finished", "layout"].map(|key| held[key].as_u64());
    assert_eq!(numbers, [Some(2), Some(1), Some(2)], "{held}");
    assert_eq!(held["sealed"], true);
    assert_eq!(held["signals"][0]["name"], "buy");
    assert_eq!(held["signals"][1]["definition"], "view: half-lives 1h; windows 1h");
    assert_eq!(held["sources"][0]["highest"], 40);
    let remembered = held["ids"].as_array().expect("a list").iter();
    assert_eq!(
        remembered.map(|ids| ids["remembered"].as_u64().expect("a number")).sum::<u64>(),
        40
    );
    let keyspace = |name: &str| {
        let all = held["keyspaces"].as_array().expect("a list").iter();
        all.clone().find(|one| one["name"] == name).expect("there are four")["records"].as_u64()
    };
    assert_eq!([keyspace("meta"), keyspace("src")], [Some(1), Some(1)]);
    // All pairs in one page, or those of each shard by themselves.
    assert!(keyspace("sig").is_some_and(|pages| (1..=2).contains(&pages)), "{held}");
    assert_eq!(["pairs", "earlier"].map(|key| held[key].as_u64()), [Some(40), Some(0)]);
    assert_eq!(held["covered"].as_array().map(Vec::len), Some(2));

    let page = inspect(&store, &[]);
    let pairs = "40 pairs, and 0 earlier states of them";
    for part in ["manifest\n", "checkpoint\n", pairs, "keyspace sig: ", "log 1 is covered"] {
        assert!(page.done().contains(part), "{part} in {}", page.out);
    }
    assert!(!page.out.contains('\u{1b}'), "a name steers the terminal");
    let one = inspect(&store, &["--json", "--log", "1"]).json();
    assert!(
        one["manifest"].is_null() && one["checkpoint"].is_null() && one["log"][0]["number"] == 1
    );
    assert!(files(&store) == before, "looking changed a file");
}

#[test]
fn a_damaged_manifest_or_checkpoint_hides_no_other_part() {
    let home = tempfile::tempdir().expect("a temporary folder can be had");
    let store = engine_store(&home);
    let manifest = store.join("MANIFEST");
    let whole = fs::read(&manifest).expect("it is there");
    fs::write(&manifest, &whole[1..]).expect("it is writable");
    let shown = inspect(&store, &["--json"]);
    let json = shown.failed(1, &["MANIFEST", "damaged"]).json();
    assert!(json["manifest"].is_null(), "{json}");
    assert_eq!(json["checkpoint"]["pairs"], 40);
    fs::write(&manifest, &whole).expect("it is writable");

    let current = store.join("checkpoint/keyspaces/1/current");
    fs::write(&current, "nothing").expect("it is writable");
    let shown = inspect(&store, &["--json"]);
    let json = shown.failed(1, &["checkpoint"]).json();
    assert!(json["checkpoint"].is_null(), "{json}");
    assert!(json["manifest"].is_object() && json["log"][1]["error"].is_null(), "{json}");
}
