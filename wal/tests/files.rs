//! Logs in real files, through system calls and through `io_uring`, killed with SIGKILL.
//!
//! Promises: both storages write the same format and read each other's logs; a killed process
//! loses nothing that it saw written.
//! Invariants: what a record holds follows from its number, so the parent needs no other oracle
//! than the numbers its child printed.
//! Fails by: a failing test. Without `io_uring` its half says why it was skipped.
//! Not here: power loss (`simulation`, `faults`).
//! Source: `db_crashtest.py` of `RocksDB`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ebbtide_wal::limits::FIRST_SEGMENT_BYTES_MAX;
use ebbtide_wal::storage::sim::Rng;
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::storage::{FileName, Storage};
use ebbtide_wal::{
    CheckpointNote, IoThreads, Log, LogIdentity, LogOptions, Lsn, RecoveryReport, ReplayOptions,
    StartOptions, Started, StoreId, WalWriter, ready, replay,
};

const IDENTITY: LogIdentity = LogIdentity { store: StoreId([0xf1; 16]), shard: 1 };
const SIZES: LogOptions =
    LogOptions { group_bytes: 65536, segment_bytes: 1 << 20, log_bytes_max: u64::MAX };
const LONG: Duration = Duration::from_mins(1);

/// The 24 bytes of record `lsn`.
fn record(lsn: Lsn) -> [u8; 24] {
    let mut rng = Rng::new(lsn.get());
    let mut bytes = [0; 24];
    for part in bytes.chunks_mut(8) {
        part.copy_from_slice(&rng.next().to_le_bytes());
    }
    bytes
}

/// Appends as many of the next records as fit, at most `count`.
fn append(log: &mut Log, count: u32) -> bool {
    let first = log.watermarks().appended.next();
    let bytes: Vec<u8> = (0..count).flat_map(|i| record(first.after(u64::from(i)))).collect();
    if log.room() < bytes.len() {
        return false;
    }
    log.append(&bytes, count).expect("there is room") == first
}

/// Reads a log and checks every record against its number.
async fn open<S: Storage>(storage: &S, restored: Lsn, made: bool) -> (RecoveryReport, Started<S>) {
    let options = ReplayOptions { restored, must_exist: made, ..ReplayOptions::default() };
    let mut next = None;
    let found = replay(storage, IDENTITY, options, |batch| {
        assert_eq!(next.replace(batch.last().next()).unwrap_or(batch.first), batch.first);
        for (at, bytes) in batch.records.chunks(24).enumerate() {
            assert_eq!(bytes, record(batch.first.after(at as u64)));
        }
        Ok(())
    });
    let found = found.await.expect("a killed log is healthy");
    let (report, mut seed) = (found.report, [0; 32]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    seed[..16].copy_from_slice(&now.expect("after 1970").as_nanos().to_le_bytes());
    let options = StartOptions { log: SIZES, seed, lsn_first_min: Lsn::NONE };
    (report, found.start(storage, options).await.expect("it starts"))
}

#[test]
fn threads_write_a_log_that_is_read_back_whole() {
    let home = tempfile::tempdir().unwrap();
    let storage = Threads::open(&home.path().join("log")).unwrap();
    let mut last = Lsn::NONE;
    for round in 0..3 {
        let (report, Started { mut log, commit, upkeep }) =
            ready(open(&storage, Lsn::NONE, round > 0));
        assert_eq!(report.last, last);
        assert_eq!(report.clean_shutdown, round > 0);
        assert_eq!((report.unsealed_segments, report.loose_bytes), (0, 0));
        let mut io = IoThreads::start("test", commit, upkeep, || {}).unwrap();
        for _ in 0..400 {
            assert!(io.pump_until(&mut log, LONG, |log| log.room() >= 24 * 300));
            assert!(append(&mut log, 300));
        }
        last = log.watermarks().appended;
        assert!(io.pump_until(&mut log, LONG, |log| log.watermarks().durable == Some(last)));
        assert!(log.stats().rotations > 1);
        log.close();
        assert!(io.pump_until(&mut log, LONG, Log::is_closed));
        io.stop();
    }
}

/// Whoever opens a store waits until its first segment is zeroed, which took 18 ms for 32 MiB.
#[test]
fn a_log_is_opened_with_a_short_segment_and_goes_on_in_whole_ones() {
    const WHOLE: u64 = 4 * FIRST_SEGMENT_BYTES_MAX;
    let home = tempfile::tempdir().unwrap();
    let storage = Threads::open(home.path()).unwrap();
    let found = ready(replay(&storage, IDENTITY, ReplayOptions::default(), |_| Ok(()))).unwrap();
    let log = LogOptions { segment_bytes: WHOLE, ..LogOptions::default() };
    let options = StartOptions { log, seed: [7; 32], lsn_first_min: Lsn::NONE };
    let Started { mut log, commit, upkeep } = ready(found.start(&storage, options)).unwrap();
    let bytes = |segment| {
        let path = home.path().join(FileName::Segment(segment).to_string());
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    assert_eq!([bytes(1), bytes(2)], [FIRST_SEGMENT_BYTES_MAX, 0]);
    let mut io = IoThreads::start("test", commit, upkeep, || {}).unwrap();
    while log.stats().rotations == 0 {
        assert!(io.pump_until(&mut log, LONG, |log| log.room() >= 24 * 10_000));
        assert!(append(&mut log, 10_000));
    }
    assert_eq!(bytes(2), WHOLE);
    io.stop();
}

#[test]
fn what_a_kill_left_of_the_look_for_direct_io_does_no_harm() {
    let home = tempfile::tempdir().unwrap();
    drop(std::fs::File::create(home.path().join("new-ffffffffffffffff.tmp")).unwrap());
    let looking = Threads::open_existing(home.path()).unwrap();
    let found = ready(replay(&looking, IDENTITY, ReplayOptions::default(), |_| Ok(()))).unwrap();
    // Opened to write, the storage looks again, and removes what it finds.
    let storage = Threads::open(home.path()).unwrap();
    let options = StartOptions { log: SIZES, seed: [7; 32], lsn_first_min: Lsn::NONE };
    ready(found.start(&storage, options)).map(drop).expect("it starts");
}

#[test]
fn a_panicking_lane_poisons_the_log() {
    let home = tempfile::tempdir().unwrap();
    let storage = Threads::open(home.path()).unwrap();
    let (_, Started { mut log, commit, upkeep }) = ready(open(&storage, Lsn::NONE, false));
    let armed = std::sync::atomic::AtomicBool::new(true);
    let armed = std::sync::Arc::new(armed);
    let wake = move || {
        let first = armed.swap(false, std::sync::atomic::Ordering::Relaxed);
        assert!(!first, "planted: the lane's thread ends");
    };
    let mut io = IoThreads::start("test", commit, upkeep, wake).unwrap();
    let poisoned = |log: &mut Log, io: &mut IoThreads| {
        append(log, 1);
        io.pump_until(log, Duration::from_millis(10), |_| false);
        log.poison().is_some()
    };
    assert!((0..1000).any(|_| poisoned(&mut log, &mut io)), "the panic went unnoticed");
    assert!(log.append(b"x", 1).is_err());
}

/// How a child writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Threads,
    Uring,
}

/// What a child does forever, one step at a time.
struct Work {
    rng: Rng,
    told: Lsn,
}

impl Work {
    /// Appends, takes a checkpoint now and then, and says what is written.
    fn step(&mut self, log: &mut Log) {
        let count = 1 + u32::try_from(self.rng.below(200)).expect("small");
        append(log, count);
        let marks = log.watermarks();
        if marks.written > Some(self.told) {
            self.told = marks.written.expect("a log writes");
            say(&format!("w {}", self.told));
        }
        if self.rng.one_in(200) {
            let covered = marks.durable.expect("a log syncs");
            // The checkpoint is durable before the log is told of it; here it is a printed line.
            say(&format!("c {covered}"));
            let _ = log.note_checkpoint(CheckpointNote { covered, digest: [0; 32] });
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("a reader");
}

#[test]
#[ignore = "the child of the kill tests, started by them"]
fn child_that_appends_until_it_is_killed() {
    let variable = |name| std::env::var(name).expect("set by the parent");
    let directory = variable("WAL_CHILD_DIRECTORY");
    let number = |name| variable(name).parse::<u64>().expect("a number");
    let (restored, round) = (Lsn::new(number("WAL_CHILD_RESTORED")), number("WAL_CHILD_ROUND"));
    let mut work = Work { rng: Rng::new(round), told: Lsn::NONE };
    if variable("WAL_CHILD_BACKEND") == "Uring" {
        uring::append_forever(Path::new(&directory), restored, round, work);
        return;
    }
    let storage = Threads::open(Path::new(&directory)).unwrap();
    let (_, Started { mut log, commit, upkeep }) = ready(open(&storage, restored, round > 0));
    let mut io = IoThreads::start("child", commit, upkeep, || {}).unwrap();
    loop {
        work.step(&mut log);
        io.pump(&mut log);
        assert!(log.poison().is_none());
    }
}

/// Runs a child for a while, kills it, and gives what it said last.
fn run_child(directory: &Path, restored: Lsn, round: u64, backend: Backend) -> (Lsn, Lsn) {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["child_that_appends_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env("WAL_CHILD_DIRECTORY", directory)
        .env("WAL_CHILD_RESTORED", restored.to_string())
        .env("WAL_CHILD_ROUND", round.to_string())
        .env("WAL_CHILD_BACKEND", format!("{backend:?}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut written, mut checkpoint) = (Lsn::NONE, restored);
    let mut hear = |line: &str| match line.trim_end().split_once(' ') {
        Some(("w", lsn)) => written = Lsn::new(lsn.parse().expect("a number")),
        Some(("c", lsn)) => checkpoint = Lsn::new(lsn.parse().expect("a number")),
        _ => {}
    };
    // Some children die before they begin, most in the middle of their work.
    let lines = if round % 7 == 3 { 0 } else { Rng::new(round).below(400) };
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "the child ended by itself");
        hear(&line);
    }
    std::thread::sleep(Duration::from_micros(Rng::new(round ^ 1).below(3_000)));
    child.kill().expect("still there");
    for line in said.lines().map_while(Result::ok) {
        hear(&line);
    }
    child.wait().expect("it is dead");
    (written, checkpoint)
}

fn kill_again_and_again(rounds: u64, backend: impl Fn(u64) -> Backend) {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("log");
    let (mut restored, mut total) = (Lsn::NONE, Lsn::NONE);
    for round in 0..rounds {
        let (written, checkpoint) = run_child(&directory, restored, round, backend(round));
        restored = checkpoint;
        if !directory.exists() {
            continue;
        }
        let storage = Threads::open_existing(&directory).expect("the child made it");
        let options = ReplayOptions {
            restored,
            must_exist: restored > Lsn::NONE,
            ..ReplayOptions::default()
        };
        let mut records = 0;
        let found = ready(replay(&storage, IDENTITY, options, |batch| {
            for (at, bytes) in batch.records.chunks(24).enumerate() {
                assert_eq!(bytes, record(batch.first.after(at as u64)));
                records += 1;
            }
            Ok(())
        }));
        let report = found.expect("a killed log is healthy").report;
        assert!(report.last >= written.max(total), "round {round}: {written} was written");
        assert_eq!(report.records, records);
        total = report.last;
    }
    assert!(total > Lsn::new(1_000), "the children did nothing: {total}");
}

#[test]
fn a_killed_process_loses_nothing_it_saw_written() {
    kill_again_and_again(12, |_| Backend::Threads);
}

#[test]
fn either_storage_reads_what_the_other_wrote_before_it_was_killed() {
    let turn = |round: u64| if round.is_multiple_of(2) { Backend::Uring } else { Backend::Threads };
    match uring::works() {
        Ok(()) => kill_again_and_again(12, turn),
        Err(reason) => println!("skipped: {reason}"),
    }
}

#[cfg(feature = "uring")]
mod uring {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::{Poll, Waker};

    use ebbtide_wal::IoTasks;
    use ebbtide_wal::storage::dma::Dma;

    use super::*;

    /// Why `io_uring` cannot be used here, if so.
    pub(crate) fn works() -> Result<(), String> {
        let executor = glommio::LocalExecutorBuilder::default().spawn(|| async {});
        let executor = executor.map_err(|error| error.to_string())?;
        executor.join().map_err(|error| format!("no executor: {error}"))
    }

    fn run<F: Future<Output = ()> + 'static>(work: impl FnOnce() -> F + Send + 'static) {
        let executor = glommio::LocalExecutorBuilder::default().spawn(work).expect("works");
        executor.join().expect("the work ends well");
    }

    /// Rung after every answer. Waiting for it lets the executor look for completions; a task
    /// that only yields keeps it from that until its preemption timer.
    #[derive(Clone, Default)]
    struct Bell(Rc<RefCell<Option<Waker>>>);

    impl Bell {
        fn ring(&self) {
            if let Some(waiting) = self.0.take() {
                waiting.wake();
            }
        }

        async fn wait(&self) {
            let mut slept = false;
            poll_fn(|context| {
                if std::mem::replace(&mut slept, true) {
                    return Poll::Ready(());
                }
                self.0.replace(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
        }
    }

    /// Pumps until `done` says so.
    async fn until(
        io: &mut IoTasks,
        log: &mut Log,
        bell: &Bell,
        mut done: impl FnMut(&Log) -> bool,
    ) {
        while !done(log) {
            if !io.pump(log) && !io.is_idle() {
                bell.wait().await;
            }
            assert!(log.poison().is_none(), "{:?}", log.poison());
        }
    }

    pub(crate) fn append_forever(directory: &Path, restored: Lsn, round: u64, mut work: Work) {
        let directory = directory.to_owned();
        run(move || async move {
            let storage = Dma::open(&directory).await.expect("a directory");
            let (_, Started { mut log, commit, upkeep }) =
                open(&storage, restored, round > 0).await;
            let bell = Bell::default();
            let rung = bell.clone();
            let (mut io, lanes) = IoTasks::new(commit, upkeep, move || rung.ring());
            let _lanes = lanes.map(glommio::spawn_local);
            loop {
                work.step(&mut log);
                until(&mut io, &mut log, &bell, |log| log.room() > 0).await;
                io.pump(&mut log);
                bell.wait().await;
            }
        });
    }

    #[test]
    fn uring_writes_a_log_that_is_read_back_whole() {
        if let Err(reason) = works() {
            println!("skipped: {reason}");
            return;
        }
        run(|| async {
            let home = tempfile::tempdir().expect("a directory");
            let storage = Dma::open(&home.path().join("log")).await.expect("a directory");
            let mut last = Lsn::NONE;
            for round in 0..3 {
                let (report, Started { mut log, commit, upkeep }) =
                    open(&storage, Lsn::NONE, round > 0).await;
                assert_eq!((report.last, report.clean_shutdown), (last, round > 0));
                let bell = Bell::default();
                let rung = bell.clone();
                let (mut io, lanes) = IoTasks::new(commit, upkeep, move || rung.ring());
                let lanes = lanes.map(glommio::spawn_local);
                for _ in 0..400 {
                    until(&mut io, &mut log, &bell, |log| log.room() >= 24 * 300).await;
                    assert!(append(&mut log, 300));
                }
                last = log.watermarks().appended;
                until(&mut io, &mut log, &bell, |log| log.watermarks().durable == Some(last)).await;
                assert!(log.stats().rotations > 1);
                log.close();
                until(&mut io, &mut log, &bell, Log::is_closed).await;
                drop(io);
                for lane in lanes {
                    lane.await;
                }
            }
        });
    }
}

#[cfg(not(feature = "uring"))]
mod uring {
    use super::*;

    pub(crate) fn works() -> Result<(), String> {
        Err("built without the feature `uring`".to_owned())
    }

    pub(crate) fn append_forever(_: &Path, _: Lsn, _: u64, _: Work) {
        panic!("built without the feature `uring`");
    }
}
