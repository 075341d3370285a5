//! Stores in surroundings that a host may meet: file systems that keep less than others, that are
//! nearly full or read-only, files of other users.
//!
//! Each test runs in a process and on mounts of its own, so nothing of this machine is changed;
//! where mounts are not to be had, it says so and passes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::{
    Ack, Backend, CheckpointError, Durability, Engine, EntityId, Event, Health, LogOptions, Medium,
    OpenError, SignalId, SourceProducer, StoreError, Survives, Timestamp, WaitError,
};
use ebbtide_tests::alone::alone;
use ebbtide_tests::crash::{SOURCE, Truth, builder, event, held, record};
use ebbtide_tests::oracle::Known;
use ebbtide_tests::setting::{PATIENCE, backends};
use ebbtide_tests::victim::{Death, run};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SEED: u64 = 11;
const EVENTS: u64 = 400;
const VIEW: SignalId = SignalId(3);

/// Small segments, so that a log soon asks for the next one.
const SEGMENT_BYTES: u64 = 32 * 1024;

const TMPFS: &str = "mount -t tmpfs -o size=160m none $PLACE";
const EXT4: &str = "truncate -s 200M $PLACE.image && mkfs.ext4 -q $PLACE.image && \
                    mount -o loop $PLACE.image $PLACE";

fn open(directory: &Path, backend: Backend) -> Result<Engine, OpenError> {
    let group_bytes = 8 * 1024;
    let log = LogOptions { group_bytes, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
    builder(directory).shards(2).backend(backend).log_options(log).open()
}

/// What an engine says of a store there, once its process could have ended.
fn said_on_each_runtime(place: &Path) -> Vec<Durability> {
    let said = backends().into_iter().map(|backend| {
        let directory = place.join(format!("{backend:?}"));
        let engine = open(&directory, backend).unwrap();
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        let said = engine.durability().unwrap().clone();
        println!("{backend:?}: {said}");
        engine.close(PATIENCE).unwrap();
        let again = open(&directory, Backend::Threads).unwrap();
        assert_eq!(held(&again), Truth::of(SEED, EVENTS, 0).last());
        said
    });
    said.collect()
}

#[test]
fn on_tmpfs_the_engine_says_that_durable_survives_the_process_only() {
    let name = "on_tmpfs_the_engine_says_that_durable_survives_the_process_only";
    let Some(place) = alone(name, TMPFS) else { return };
    for said in said_on_each_runtime(&place) {
        assert_eq!((&*said.file_system, said.medium), ("tmpfs", Medium::Memory));
        assert!(!said.direct_io);
        assert_eq!(said.durable(), Survives::ProcessEnd);
        assert!(said.to_string().contains("files in memory"), "{said}");
    }
}

#[test]
fn on_ext4_durable_survives_a_power_cut_and_written_a_kernel_panic() {
    let name = "on_ext4_durable_survives_a_power_cut_and_written_a_kernel_panic";
    let Some(place) = alone(name, EXT4) else { return };
    for said in said_on_each_runtime(&place) {
        assert_eq!((&*said.file_system, said.medium), ("ext4", Medium::Device));
        assert_eq!(said.durable(), Survives::PowerCut);
        let written = if said.direct_io { Survives::KernelPanic } else { Survives::ProcessEnd };
        assert_eq!(said.written(), written);
    }
}

#[test]
fn on_overlay_no_more_is_promised_than_what_holds_whatever_is_below() {
    let name = "on_overlay_no_more_is_promised_than_what_holds_whatever_is_below";
    let prepare = "mount -t tmpfs -o size=256m none $PLACE && cd $PLACE && \
                   mkdir lower upper work over && mount -t overlay none \
                   -o lowerdir=lower,upperdir=upper,workdir=work over && cd /";
    let Some(place) = alone(name, prepare) else { return };
    for said in said_on_each_runtime(&place.join("over")) {
        assert_eq!((&*said.file_system, said.medium), ("overlay", Medium::Elsewhere));
        assert_eq!((said.written(), said.durable()), (Survives::ProcessEnd, Survives::ProcessEnd));
    }
}

/// Takes all the space there is; gives the file that has it.
fn fill(place: &Path) -> PathBuf {
    let path = place.join("ballast");
    let mut file = File::create(&path).unwrap();
    for bytes in [1 << 20, 4_096, 1] {
        let part = vec![1; bytes];
        while file.write_all(&part).is_ok() {}
    }
    // Blocks that were promised and not yet taken count only now.
    let _full = file.sync_all();
    path
}

/// Takes the room of a file system but for so many bytes, once logs have let go of what they hold
/// and the database has merged its tables. Never more than that: a database whose write finds no
/// room writes no more.
fn fill_but(place: &Path, room_bytes: u64) -> PathBuf {
    let free_bytes = || {
        let found = rustix::fs::statvfs(place).unwrap();
        found.f_bavail * found.f_frsize
    };
    let (begun, mut free, mut before) = (Instant::now(), free_bytes(), 0);
    while free != before {
        assert!(begun.elapsed() < PATIENCE, "it goes on writing");
        thread::sleep(Duration::from_millis(500));
        (free, before) = (free_bytes(), free);
    }
    assert!(free > room_bytes, "{free} bytes are free");
    let path = place.join("ballast");
    fs::write(&path, vec![1; usize::try_from(free - room_bytes).unwrap()]).unwrap();
    path
}

/// Offers events until none is taken any more; gives the last that was.
fn offer_until_full(producer: &mut SourceProducer, mut last: u64) -> u64 {
    loop {
        match producer.offer_within(event(SEED, last + 1), Duration::from_millis(300)) {
            Ok(_ticket) => last += 1,
            Err(error) if error.is_retryable() => return last,
            Err(error) => panic!("{error}"),
        }
        assert!(last < 200_000, "the logs take more than there is room for");
    }
}

/// A disk runs full under a running engine, and gets room again.
fn runs_full_and_goes_on(place: &Path) {
    for backend in backends() {
        let directory = place.join(format!("{backend:?}"));
        let engine = open(&directory, backend).unwrap();
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        engine.checkpoint().unwrap();
        let ballast = fill(place);
        let mut producer = engine.producer_for(SOURCE).unwrap();
        let last = offer_until_full(&mut producer, EVENTS);
        let waited = producer.flush(Ack::Durable, Duration::from_millis(100));
        assert!(matches!(waited, Err(WaitError::Timeout { .. })), "{backend:?}: {waited:?}");
        assert_eq!(engine.health(), Health::Ok, "{backend:?}: a full disk is no failure");
        let blocked: u64 = engine.metrics().shards.iter().map(|shard| shard.turns_blocked).sum();
        assert!(blocked > 0, "{backend:?}");
        let refused = engine.checkpoint();
        println!("{backend:?}: full after {last} events; a checkpoint: {refused:?}");
        match refused {
            Ok(_) => assert_eq!(engine.health(), Health::Ok),
            Err(CheckpointError::Save(cause)) => {
                assert_eq!(engine.health(), Health::Degraded { why: cause.to_string() });
            }
            Err(error) => panic!("{error}"),
        }
        fs::remove_file(ballast).unwrap();
        producer.flush(Ack::Durable, PATIENCE).expect("it goes on by itself");
        drop(producer);
        record(&engine, SEED, last + 1..=last + EVENTS, Ack::Durable);
        assert_eq!(held(&engine), Truth::of(SEED, last + EVENTS, 0).last(), "{backend:?}");
        let closed = engine.close(PATIENCE);
        println!("{backend:?}: closed: {closed:?}");
        let again = open(&directory, Backend::Threads).unwrap();
        assert_eq!(held(&again), Truth::of(SEED, last + EVENTS, 0).last(), "{backend:?}");
        assert_eq!(again.health(), Health::Ok);
        again.checkpoint().unwrap();
        again.close(PATIENCE).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn a_full_tmpfs_pushes_back_and_loses_nothing() {
    let Some(place) = alone("a_full_tmpfs_pushes_back_and_loses_nothing", TMPFS) else { return };
    runs_full_and_goes_on(&place);
}

/// Pairs that all change between checkpoints.
const PAIRS: u64 = 200_000;

/// An event of each of the first pairs, in the log before this returns.
fn change(engine: &Engine, pairs: u64, time_s: u64) {
    let mut producer = engine.producer().unwrap();
    let time = Timestamp::from_seconds(1_700_000_000 + time_s);
    for entity in (0..pairs).map(EntityId) {
        producer.offer_within(Event::new(entity, VIEW, time), PATIENCE).unwrap();
    }
    producer.flush(Ack::Durable, PATIENCE).unwrap();
}

/// There is room for some pairs, and not for all.
#[test]
fn a_checkpoint_without_room_to_be_written_anew_is_written_beside_what_is_old() {
    const ROOM: u64 = 5 << 20;
    let name = "a_checkpoint_without_room_to_be_written_anew_is_written_beside_what_is_old";
    let Some(place) = alone(name, TMPFS) else { return };
    let directory = place.join("store");
    let engine = open(&directory, Backend::Threads).unwrap();
    for time_s in 1..=2 {
        change(&engine, PAIRS, time_s);
        engine.checkpoint().unwrap();
    }
    change(&engine, PAIRS / 100, 3);
    let ballast = fill_but(&place, ROOM);
    engine.checkpoint().unwrap();
    let metrics = engine.metrics().checkpoints.unwrap();
    let refused = metrics.not_anew.unwrap();
    assert!(refused.contains("checkpoint.new") && refused.contains("free some space"), "{refused}");
    assert!(!directory.join("checkpoint.new").exists());
    fs::remove_file(&ballast).unwrap();
    for time_s in 4..=5 {
        change(&engine, PAIRS, time_s);
        engine.checkpoint().unwrap();
    }
    let metrics = engine.metrics().checkpoints.unwrap();
    assert!(metrics.anew > 0 && metrics.not_anew.is_none(), "{metrics:?}");
    engine.close(PATIENCE).unwrap();
    let again = open(&directory, Backend::Threads).unwrap();
    let mut reader = again.reader().unwrap();
    for entity in (0..PAIRS).step_by(97) {
        let found = reader.read(EntityId(entity), VIEW, Timestamp::MAX).unwrap().unwrap();
        assert_eq!(found.all_time, if entity < PAIRS / 100 { 5 } else { 4 });
    }
}

#[test]
fn a_checkpoint_that_is_mounted_is_written_beside_what_is_old() {
    let name = "a_checkpoint_that_is_mounted_is_written_beside_what_is_old";
    let Some(place) = alone(name, TMPFS) else { return };
    let directory = place.join("store");
    let open = || open(&directory, Backend::Threads).unwrap();
    open().close(PATIENCE).unwrap();
    let checkpoint = directory.join("checkpoint");
    let mounted = Command::new("mount").arg("--bind").args([&checkpoint, &checkpoint]).status();
    assert!(mounted.unwrap().success());
    let engine = open();
    for time_s in 1..=4 {
        change(&engine, 100, time_s);
        engine.checkpoint().unwrap();
    }
    let metrics = engine.metrics().checkpoints.unwrap();
    assert_eq!((metrics.finished, metrics.anew), (4, 0));
    assert!(metrics.not_anew.unwrap().contains("exchanging"));
    engine.close(PATIENCE).unwrap();
    assert_eq!(held(&open()).len(), 100);
}

#[test]
fn a_full_ext4_pushes_back_and_loses_nothing() {
    let Some(place) = alone("a_full_ext4_pushes_back_and_loses_nothing", EXT4) else { return };
    runs_full_and_goes_on(&place);
}

/// A process is killed that waits for room, and the store is opened again while there is none.
fn killed_while_full(place: &Path) {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    for backend in backends() {
        let directory = place.join(format!("{backend:?}"));
        let name = if backend == Backend::Uring { "uring" } else { "threads" };
        let orders = |events: u64| {
            vec![
                format!("seed={SEED}"),
                format!("events={events}"),
                format!("backend={name}"),
                format!("segment={SEGMENT_BYTES}"),
                "group=8192".to_owned(),
                "shards=2".to_owned(),
                "batch=50".to_owned(),
            ]
        };
        let (killed, ballast) = thread::scope(|scope| {
            let death = Death::AfterReady(Duration::from_secs(3));
            let orders = orders(u64::MAX);
            let victim = scope.spawn({
                let directory = &directory;
                move || run(program, directory, &orders, death).unwrap()
            });
            thread::sleep(Duration::from_millis(500));
            let ballast = fill(place);
            (victim.join().unwrap(), ballast)
        });
        let acknowledged = killed.source.unwrap();
        let last = acknowledged + 20_000;
        let mut known = Known::new(Truth::of(SEED, last, 0));
        known.judge(&killed).unwrap();
        // It does not open where there is no room at all, and says what it needed.
        let said = run(program, &directory, &orders(0), Death::Natural).unwrap();
        println!("{name}: {acknowledged} acknowledged; opened on a full disk: {:?}", said.refused);
        match said.refused {
            Some((_, text)) => assert!(text.contains("No space left on device"), "{text}"),
            None => known.judge(&said).unwrap(),
        }
        fs::remove_file(ballast).unwrap();
        let said = run(program, &directory, &orders(last), Death::Natural).unwrap();
        known.judge(&said).unwrap();
        let said = run(program, &directory, &orders(0), Death::Natural).unwrap();
        assert_eq!(said.held, known.truth.last(), "{name}");
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn killed_on_a_full_tmpfs_a_store_is_whole_once_there_is_room() {
    let name = "killed_on_a_full_tmpfs_a_store_is_whole_once_there_is_room";
    let Some(place) = alone(name, TMPFS) else { return };
    killed_while_full(&place);
}

#[test]
fn killed_on_a_full_ext4_a_store_is_whole_once_there_is_room() {
    let name = "killed_on_a_full_ext4_a_store_is_whole_once_there_is_room";
    let Some(place) = alone(name, EXT4) else { return };
    killed_while_full(&place);
}

#[test]
fn on_a_read_only_file_system_a_store_is_refused_and_unharmed() {
    let name = "on_a_read_only_file_system_a_store_is_refused_and_unharmed";
    let Some(place) = alone(name, TMPFS) else { return };
    let directory = place.join("store");
    let engine = open(&directory, Backend::Threads).unwrap();
    record(&engine, SEED, 1..=EVENTS, Ack::Durable);
    engine.close(PATIENCE).unwrap();
    let remount = |mode: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,bind,{mode}")]).arg(&place);
        assert!(mount.status().unwrap().success());
    };
    remount("ro");
    for directory in [&directory, &place.join("new")] {
        match open(directory, Backend::Auto) {
            Err(OpenError::Store(error @ StoreError::Io { .. })) => {
                let said = error.to_string();
                assert!(said.contains("Read-only file system"), "{said}");
                assert_eq!(error.code(), "store-io");
            }
            other => panic!("{other:?}"),
        }
    }
    remount("rw");
    let engine = open(&directory, Backend::Auto).unwrap();
    assert_eq!(held(&engine), Truth::of(SEED, EVENTS, 0).last());
}

#[test]
fn another_process_is_refused_a_store_that_is_open_and_told_who_has_it() {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let folder = tempfile::tempdir().unwrap();
    let (directory, other) = (folder.path().join("store"), folder.path().join("other"));
    let engine = open(&directory, Backend::Auto).unwrap();
    record(&engine, SEED, 1..=EVENTS, Ack::Durable);
    let said = run(program, &directory, &["events=9".to_owned()], Death::Natural).unwrap();
    let (code, text) = said.refused.unwrap();
    assert_eq!(code, "store-already-open");
    let pid = std::process::id().to_string();
    // Some containers hide the list of locks.
    assert!(text.contains(&pid) || fs::read_to_string("/proc/locks").unwrap().is_empty(), "{text}");
    // Neither is a copy written over a store, this one or another.
    let second = open(&other, Backend::Auto).unwrap();
    for taken in [&directory, &other] {
        let refused = engine.backup(taken).unwrap_err();
        assert_eq!(refused.code(), "store-not-a-store", "{refused}");
    }
    second.close(PATIENCE).unwrap();
    assert_eq!(held(&engine), Truth::of(SEED, EVENTS, 0).last());
    engine.close(PATIENCE).unwrap();
}

/// A supervisor starts a host again as soon as it was killed. The kernel lets go of the lock only
/// when it has taken the process apart, which took up to 60 ms, and the new one was refused.
#[test]
fn a_host_that_is_started_as_soon_as_it_was_killed_has_its_store() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let mut host = Command::new(env!("CARGO_BIN_EXE_victim"))
            .arg(folder.path())
            .args([&*format!("events={}", round * EVENTS), "linger=1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(host.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with("ready")));
        host.kill().unwrap();
        open(folder.path(), Backend::Auto).unwrap().close(PATIENCE).unwrap();
        host.wait().unwrap();
    }
}
