//! Something goes wrong at the Nth call, for every N; and power goes again during recovery.
//!
//! Promises: one fixed life of a log, with a fault at each of its calls in turn, once and for
//! good, keeps every promise afterwards, and opens and works once the fault is over.
//! Invariants: each loop runs until the fault no longer happens, so no call is left out.
//! Fails by: a failing test that names the call.
//! Not here: random lives (`simulation`).
//! Source: the test method of `SQLite`, "fail at the Nth operation, for every N".

mod world;

use ebbtide_wal::storage::sim::{FaultPlan, SimDisk, SimFault};
use ebbtide_wal::{
    AppendError, CommitLane, Log, Lsn, Pressure, ReplayOptions, StartOptions, Started, WalWriter,
    ready, replay,
};

use world::{Crash, IDENTITY, NotOpen, SMALL, World};

/// Opens, fills several segments, takes checkpoints, rests, closes, opens and appends again.
/// Stops where the log does.
fn life(world: &mut World) {
    for round in 0..2 {
        if world.open(world.durable).is_err() {
            return;
        }
        for batch in 0..20 {
            let taken = world.append(900 + 400 * (batch % 5), 3);
            if matches!(taken, Err(AppendError::Poisoned(_))) {
                return;
            }
            if batch % 3 == 0 {
                world.settle();
            } else {
                world.step_commit();
            }
            if batch == 12 {
                world.settle();
                world.checkpoint();
            }
        }
        world.log().rest();
        world.settle();
        if round == 0 && !world.close() {
            return;
        }
    }
}

/// A life with a fault at call `at`, ended by `crash`; `None` when the fault did not happen.
fn faulty_life(fault: SimFault, at: u64, sticky: bool, crash: Crash) -> Option<(World, Lsn)> {
    let mut world = World::new(at, SMALL);
    world.disk.plan(FaultPlan { fault, at, sticky });
    life(&mut world);
    if !world.disk.fired() {
        return None;
    }
    let promised = world.crash(crash);
    Some((world, promised))
}

/// The log opens, holds what was promised, takes a record and makes it durable.
fn assert_well(world: &mut World, promised: Lsn, what: &str) {
    if let Err(error) = world.open(promised) {
        panic!("{what}: {error:?}");
    }
    let last = world.append(10, 1).expect("an open log takes a record");
    world.settle();
    assert_eq!(world.durable, last, "{what}");
}

/// Goes through every call of a life; says how many there were.
fn at_every_call(fault: SimFault, sticky: bool) -> u64 {
    for at in 1.. {
        for crash in [Crash::Kill, Crash::Power(at), Crash::Power(at + 1_000)] {
            let Some((mut world, promised)) = faulty_life(fault, at, sticky, crash) else {
                return at - 1;
            };
            assert_well(&mut world, promised, &format!("{fault:?} at {at}, {sticky}, {crash:?}"));
        }
    }
    unreachable!("a life has an end")
}

#[test]
fn a_failing_device_at_any_call_breaks_no_promise() {
    for sticky in [false, true] {
        let calls = at_every_call(SimFault::Io, sticky);
        assert!(calls > 100, "only {calls} calls: the life is too short to show anything");
    }
}

#[test]
fn a_full_disk_at_any_call_breaks_no_promise() {
    for at in 1..400 {
        for sticky in [false, true] {
            for crash in [Crash::Kill, Crash::Power(at)] {
                // Not every call needs space: those between are passed over.
                let fault = SimFault::NoSpace;
                let Some((mut world, promised)) = faulty_life(fault, at, sticky, crash) else {
                    continue;
                };
                assert_well(&mut world, promised, &format!("no space at {at}, {sticky}"));
            }
        }
    }
}

#[test]
fn a_short_write_at_any_call_breaks_no_promise() {
    for at in 1..400 {
        for sticky in [false, true] {
            let life = faulty_life(SimFault::Short, at, sticky, Crash::Power(at));
            if let Some((mut world, promised)) = life {
                assert_well(&mut world, promised, &format!("short at {at}, {sticky}"));
            }
        }
    }
}

#[test]
fn power_that_goes_at_any_call_breaks_no_promise() {
    assert!(at_every_call(SimFault::PowerOff, false) > 100);
}

#[test]
fn power_that_goes_again_at_any_call_of_recovery_breaks_no_promise() {
    let mut interrupted = 0;
    for at in 1.. {
        let Some((first, promised)) = faulty_life(SimFault::PowerOff, at, false, Crash::Kill)
        else {
            break;
        };
        drop(first);
        for again in 1.. {
            let (mut world, _) = faulty_life(SimFault::PowerOff, at, false, Crash::Kill)
                .expect("the same life again");
            let plan = FaultPlan { fault: SimFault::PowerOff, at: again, sticky: false };
            world.disk.plan(plan);
            match world.open(promised) {
                Err(NotOpen::Violated(violation)) => panic!("{at}, {again}: {violation}"),
                Ok(()) | Err(_) if !world.disk.fired() => break,
                Ok(()) | Err(_) => interrupted += 1,
            }
            let promised = world.crash(Crash::Power(at * 1_000 + again));
            assert_well(&mut world, promised, &format!("power off at {at}, again at {again}"));
        }
    }
    assert!(interrupted > 1_000, "{interrupted} recoveries were interrupted");
}

#[test]
fn a_full_disk_pushes_back_and_resumes_by_itself() {
    let mut world = World::new(1, SMALL);
    world.open(Lsn::NONE).expect("an empty disk");
    // Room for the active segment and the one made ahead, and no more.
    world.disk.limit_space(Some(2 * SMALL.segment_bytes));
    let refused = loop {
        world.settle();
        if let Err(error) = world.append(3000, 1) {
            break error;
        }
    };
    assert_eq!(refused, AppendError::BackPressure(Pressure::Space));
    assert!(world.log().space_fault().is_some());
    let kept = world.log().watermarks();
    assert_eq!(kept.durable, Some(kept.appended), "nothing was taken that has no place");

    world.log().retry_space();
    world.settle();
    assert_eq!(world.log().watermarks(), kept, "still no space");

    world.disk.limit_space(None);
    world.log().retry_space();
    world.settle();
    assert!(world.append(3000, 1).is_ok());
}

#[test]
fn a_checkpoint_frees_the_space_that_a_full_log_waits_for() {
    let mut world = World::new(1, SMALL);
    world.open(Lsn::NONE).expect("an empty disk");
    world.disk.limit_space(Some(3 * SMALL.segment_bytes));
    loop {
        world.settle();
        if world.log().segments().len() == 3 {
            break;
        }
        world.append(3000, 1).expect("three segments fit");
    }
    world.checkpoint();
    world.settle();
    assert_eq!(world.log().segments().len(), 1, "two segments retired");
    for _ in 0..40 {
        world.append(3000, 1).expect("there is space again");
        world.settle();
        world.checkpoint();
        world.settle();
    }
}

#[test]
fn a_store_opens_on_a_disk_that_a_whole_segment_no_longer_fits() {
    let mut world = World::new(1, SMALL);
    world.open(Lsn::NONE).expect("an empty disk");
    world.append(100, 1).expect("room");
    world.settle();
    let promised = world.crash(Crash::Kill);
    let used: usize = world.disk.names().iter().map(|name| world.disk.bytes(*name).len()).sum();
    for name in world.disk.names() {
        if matches!(name, ebbtide_wal::storage::FileName::Spare(_)) {
            world.disk.lose(name);
        }
    }
    world.disk.limit_space(Some(used as u64 - SMALL.segment_bytes + 25_000));
    assert_well(&mut world, promised, "a small segment is better than none");
}

/// Performs the next request of a log, and gives it the answer.
fn step(log: &mut Log, commit: &mut CommitLane<SimDisk>) {
    let request = log.next_commit().expect("it has something to do");
    log.commit_done(ready(commit.perform(request)));
}

/// A log on a disk of its own.
fn started() -> (SimDisk, Log, CommitLane<SimDisk>) {
    let disk = SimDisk::new(7);
    let found = ready(replay(&disk, IDENTITY, ReplayOptions::default(), |_| Ok(())));
    let found = found.expect("an empty disk");
    let options = StartOptions { log: SMALL, seed: [1; 32], lsn_first_min: Lsn::NONE };
    let Started { log, commit, .. } = ready(found.start(&disk, options)).expect("an empty disk");
    (disk, log, commit)
}

/// A second sync after one that failed would prove nothing.
#[test]
fn a_sync_that_was_done_ahead_is_the_answer_to_the_next_request_and_to_no_other() {
    let written = || {
        let (disk, mut log, mut commit) = started();
        log.append(b"record", 1).unwrap();
        step(&mut log, &mut commit);
        (disk, log, commit)
    };
    let sync_fails = |disk: &SimDisk| {
        disk.plan(FaultPlan { fault: SimFault::Io, at: 1, sticky: false });
    };
    let (disk, mut log, mut commit) = written();
    sync_fails(&disk);
    ready(commit.sync_ahead());
    let calls = disk.calls();
    ready(commit.sync_ahead());
    step(&mut log, &mut commit);
    assert!(disk.fired() && disk.calls() == calls, "it was tried once");
    assert!(log.poison().is_some());

    let (disk, mut log, mut commit) = written();
    ready(commit.sync_ahead());
    let calls = disk.calls();
    step(&mut log, &mut commit);
    assert_eq!((log.watermarks().durable, disk.calls()), (Some(Lsn::FIRST), calls));
    // What comes next is not durable by that.
    log.append(b"another", 1).unwrap();
    step(&mut log, &mut commit);
    sync_fails(&disk);
    step(&mut log, &mut commit);
    assert!(log.poison().is_some() && log.watermarks().durable == Some(Lsn::FIRST));
}

#[test]
fn nothing_is_synced_ahead_of_a_write_that_came_back_short() {
    let (disk, mut log, mut commit) = started();
    log.append(&[1; 5000], 1).unwrap();
    disk.plan(FaultPlan { fault: SimFault::Short, at: 1, sticky: false });
    let done = ready(commit.perform(log.next_commit().unwrap()));
    let calls = disk.calls();
    ready(commit.sync_ahead());
    assert!(disk.fired() && disk.calls() == calls);
    log.commit_done(done);
}
