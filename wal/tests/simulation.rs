//! Random logs on a random disk: whatever happens, the promises hold.
//!
//! Promises: 10,000 records per property run; a failing case is printed with its seed and shrunk.
//! Invariants: every run ends with a healed disk and a log that works and closes in order.
//! Fails by: a failing test, with the violated promise in words.
//! Not here: faults at every single call (`faults`), damage (`damage`).
//! Source: see `world`.

mod world;

use ebbtide_wal::storage::sim::{FaultPlan, PlantedBug, SimFault};
use ebbtide_wal::{LogOptions, Lsn, WalWriter};
use proptest::prelude::*;

use world::{Crash, NotOpen, SMALL, Violation, World, read_log};

const RECORDS: u64 = 10_000;

/// A world that lives through crashes until it has appended `records` records.
fn live(world: &mut World, records: u64, fault: Option<SimFault>) -> Result<(), Violation> {
    open_until_it_works(world, Lsn::NONE)?;
    let (mut appended, mut lives) = (0, 0);
    while appended < records {
        lives += 1;
        if lives > 10_000 {
            return Err(format!("no progress: {appended} records in {lives} lives"));
        }
        if let Some(fault) = fault {
            let (at, sticky) = (1 + world.rng.below(150), world.rng.coin());
            world.disk.plan(FaultPlan { fault, at, sticky });
        }
        let before = world.log().watermarks().appended;
        for _ in 0..world.rng.below(400) {
            if world.disk.fired() && world.rng.one_in(40) {
                break;
            }
            world.act();
        }
        appended += world.log().watermarks().appended.get() - before.get();
        if world.rng.one_in(4) && !world.close() && !world.disk.fired() {
            return Err("a log without a fault must close".to_owned());
        }
        let promised = crash(world);
        open_until_it_works(world, promised)?;
    }
    finish(world)
}

fn crash(world: &mut World) -> Lsn {
    let crash = if world.rng.coin() { Crash::Kill } else { Crash::Power(world.rng.next()) };
    world.crash(crash)
}

/// Opens; sometimes the power goes during recovery, again and again.
fn open_until_it_works(world: &mut World, mut promised: Lsn) -> Result<(), Violation> {
    while world.rng.one_in(3) {
        let at = 1 + world.rng.below(60);
        world.disk.plan(FaultPlan { fault: SimFault::PowerOff, at, sticky: false });
        match world.open(promised) {
            Err(NotOpen::Violated(violation)) => return Err(violation),
            Err(other) if !world.disk.fired() => return Err(format!("{other:?}")),
            Ok(()) | Err(_) => {}
        }
        promised = crash(world);
    }
    world.open(promised).map_err(|error| match error {
        NotOpen::Violated(violation) => violation,
        other => format!("a crash must not prevent opening: {other:?}"),
    })
}

/// The disk heals: the log works, closes in order, and then every byte is under a hash.
fn finish(world: &mut World) -> Result<(), Violation> {
    world.log().retry_space();
    let last = world.append(100, 5).map_err(|error| error.to_string())?.after(4);
    world.settle();
    if world.durable != last {
        return Err(format!("durable up to {} of {last}", world.durable));
    }
    if !world.close() {
        return Err("a healthy log must close".to_owned());
    }
    let (seen, replayed) = read_log(&world.disk, world.replay_options());
    let report = replayed.map_err(|error| error.to_string())?.report;
    world.check(&seen, &report, last)?;
    let settled = report.clean_shutdown && report.unsealed_segments == 0 && report.loose_bytes == 0;
    if settled { Ok(()) } else { Err(format!("closed, and yet {report:?}")) }
}

fn run(
    seed: u64,
    options: LogOptions,
    fault: Option<SimFault>,
    bug: Option<PlantedBug>,
) -> Result<(), Violation> {
    let mut world = World::new(seed, options);
    if let Some(bug) = bug {
        world.disk.plant(bug);
    }
    live(&mut world, RECORDS, fault)
}

fn sizes() -> impl Strategy<Value = LogOptions> {
    (2_usize..12, 0_u64..40).prop_map(|(group_blocks, more_blocks)| {
        let group_bytes = group_blocks * 4096;
        let least = ebbtide_wal::limits::segment_bytes_min(group_bytes);
        let segment_bytes = least + more_blocks * 4096;
        LogOptions { group_bytes, segment_bytes, ..LogOptions::default() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn crashes_alone_break_no_promise(seed: u64, options in sizes()) {
        prop_assert_eq!(run(seed, options, None, None), Ok(()));
    }

    #[test]
    fn power_that_goes_inside_a_call_breaks_no_promise(seed: u64, options in sizes()) {
        prop_assert_eq!(run(seed, options, Some(SimFault::PowerOff), None), Ok(()));
    }

    #[test]
    fn failing_calls_break_no_promise(seed: u64, options in sizes()) {
        prop_assert_eq!(run(seed, options, Some(SimFault::Io), None), Ok(()));
    }

    #[test]
    fn missing_space_breaks_no_promise(seed: u64, options in sizes()) {
        prop_assert_eq!(run(seed, options, Some(SimFault::NoSpace), None), Ok(()));
    }

    #[test]
    fn short_writes_break_no_promise(seed: u64, options in sizes()) {
        prop_assert_eq!(run(seed, options, Some(SimFault::Short), None), Ok(()));
    }
}

/// How many of the first seeds show that something is wrong.
fn found(bug: PlantedBug, seeds: u64) -> u64 {
    (0..seeds).map(|seed| u64::from(run(seed, SMALL, None, Some(bug)).is_err())).sum()
}

#[test]
fn a_log_that_forgets_to_sync_is_found_out() {
    assert_eq!(found(PlantedBug::SyncForgotten, 5), 5);
}

#[test]
fn a_log_that_forgets_to_sync_the_directory_is_found_out() {
    assert!(found(PlantedBug::DirectorySyncForgotten, 20) >= 10);
}

#[test]
fn random_lives_come_everywhere() {
    let lived = |fault| {
        let mut world = World::new(11, SMALL);
        live(&mut world, 20 * RECORDS, fault).unwrap();
        world.lived
    };
    let quiet = lived(None);
    for count in [quiet.rotations, quiet.retired, quiet.torn_tails, quiet.skipped, quiet.clean] {
        assert!(count >= 5, "{quiet:?}");
    }
    assert_eq!((quiet.poisoned, quiet.space_faults, quiet.short_writes), (0, 0, 0));
    let dark = lived(Some(SimFault::PowerOff));
    assert!(dark.unsealed >= 5 && dark.poisoned >= 5, "{dark:?}");
    assert!(lived(Some(SimFault::Io)).poisoned >= 5);
    assert!(lived(Some(SimFault::NoSpace)).space_faults >= 5);
    assert!(lived(Some(SimFault::Short)).short_writes >= 5);
}

#[test]
fn the_same_seed_lives_the_same_life() {
    let life = |seed| {
        let mut world = World::new(seed, SMALL);
        live(&mut world, 500, Some(SimFault::PowerOff)).unwrap();
        (world.disk.names(), world.model, world.durable)
    };
    assert_eq!(life(7), life(7));
    assert_ne!(life(7), life(8));
}
