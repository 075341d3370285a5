//! A store whose process is killed again and again, at any moment: while it opens, recovers,
//! records, takes checkpoints or closes. Each time it is opened with other options.
//!
//! [`Known`] judges what each opening finds. When all events are recorded, every answer is that of
//! a run that nothing interrupted.
//!
//! Backups that were taken meanwhile are opened too, finished or not.
//!
//! Not found this way: a missing sync. `power_cut` and the log's own simulation are for that.

use ebbtide::Backend;
use ebbtide_tests::crash::Truth;
use ebbtide_tests::oracle::Known;
use ebbtide_tests::setting::backends;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, Said, backup_directory, run};
use ebbtide_wal::limits::segment_bytes_min;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Kills in one run of the test, unless `KILLS` says otherwise.
const KILLS: u64 = 200;
/// Events of the source in one store's life.
const EVENTS: u64 = 12_000;
/// Rounds of the producer without numbers in one store's life.
const ROUNDS: u64 = 800;
/// Kills come from so soon…
const SOONEST_NS: f64 = 10_000.0;
/// … to so late.
const LATEST_NS: f64 = 200_000_000.0;

fn pick<T: Copy>(random: &mut SplitMix, from: &[T]) -> T {
    from[usize::try_from(random.below(from.len() as u64)).expect("it is an index")]
}

/// Other options for every opening.
fn orders(random: &mut SplitMix, seed: u64, backends: &[Backend]) -> Vec<String> {
    let group = pick(random, &[8_192, 16_384, 65_536]);
    let segment = segment_bytes_min(group) * pick(random, &[1, 1, 2, 8]);
    let backend = if pick(random, backends) == Backend::Uring { "uring" } else { "threads" };
    let checkpoint_us = pick(random, &[0, 300, 3_000, 3_000, 20_000]);
    let anew = pick(random, &[0, 1 << 20]);
    let batch = pick(random, &[1, 7, 60, 400]);
    let again = pick(random, &[0, 0, 30, 5_000]);
    let backup_us = pick(random, &[0, 0, 10_000]);
    vec![
        format!("seed={seed}"),
        format!("events={EVENTS}"),
        format!("rounds={ROUNDS}"),
        format!("shards={}", 1 + random.below(4)),
        format!("backend={backend}"),
        format!("ack={}", pick(random, &["written", "durable"])),
        format!("group={group}"),
        format!("segment={segment}"),
        format!("checkpoint_us={checkpoint_us}"),
        format!("anew={anew}"),
        format!("batch={batch}"),
        format!("again={again}"),
        format!("backup_us={backup_us}"),
    ]
}

fn death(random: &mut SplitMix) -> Death {
    let part = random.below(1_000_000) as f64 / 1e6;
    let delay_ns = SOONEST_NS * (LATEST_NS / SOONEST_NS).powf(part);
    let delay = Duration::from_secs_f64(delay_ns / 1e9);
    if random.below(2) == 0 { Death::AfterStart(delay) } else { Death::AfterReady(delay) }
}

/// Judges the backups of one process, and removes them.
fn judge_backups(program: &Path, store: &Path, said: &Said, truth: &Truth) -> Result<(), String> {
    // Some could not keep up with the logs and were given up.
    let numbers = 0..said.backups.len() as u64 + 50;
    for (number, directory) in numbers.map(|number| (number, backup_directory(store, number))) {
        if !directory.exists() {
            continue;
        }
        let known = said.backups.iter().find(|backup| backup.number == number);
        let begun = fs::read_dir(&directory).is_ok_and(|mut found| found.next().is_some());
        let whole = directory.join("MANIFEST").exists();
        if begun {
            let found = run(program, &directory, &["shards=2".to_owned()], Death::Natural)?;
            let mut judge = Known::new(truth.clone());
            let (source, rounds) = known.map_or((0, 0), |known| (known.source, known.rounds));
            (judge.source, judge.rounds) = (source, rounds);
            let code = found.refused.as_ref().map(|(code, _)| code.as_str());
            match (whole, code) {
                (true, _) => judge.judge(&found).map_err(|fault| format!("{known:?}: {fault}"))?,
                (false, Some("store-not-a-store")) if known.is_none() => {}
                _ => return Err(format!("backup {number}, {known:?}, opens as {found:?}")),
            }
        }
        fs::remove_dir_all(&directory).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// One store's life: killed until it is complete, or `kills` have been. Says how many were, and how
/// many of them while a checkpoint was written anew.
fn live(program: &Path, seed: u64, kills: u64) -> (u64, u64) {
    let backends = backends();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("store");
    let mut random = SplitMix(seed);
    let mut known = Known::new(Truth::of(seed, EVENTS, ROUNDS));
    let mut while_anew = 0;
    for kill in 0..=kills {
        let death = if kill == kills { Death::Natural } else { death(&mut random) };
        let orders = orders(&mut random, seed, &backends);
        let said = run(program, &directory, &orders, death);
        while_anew += u64::from(directory.join("checkpoint.new").exists());
        let judged = said.and_then(|said| {
            known.judge(&said)?;
            judge_backups(program, &directory, &said, &known.truth).map(|()| said.done)
        });
        let done = match judged {
            Ok(done) => done,
            Err(fault) => panic!(
                "kill {kill} of store {seed}: {fault}\nwith {orders:?}, {death:?}; it is kept in \
                 {}\nagain: SEED={seed} cargo test -p ebbtide-tests --test kill",
                folder.keep().display()
            ),
        };
        if done {
            let said = run(program, &directory, &orders, Death::Natural).expect("it opens");
            assert_eq!(said.held, known.truth.last(), "store {seed}: every event once");
            return (kill, while_anew);
        }
    }
    unreachable!("the last one was not killed")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn killed_at_any_moment_a_store_has_what_was_acknowledged_once_and_to_the_bit() {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let mut seed = number("SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let kills = number("KILLS").unwrap_or(KILLS);
    let (mut left, mut all_while_anew) = (kills, 0);
    while left > 0 {
        let (kills, while_anew) = live(program, seed, left);
        all_while_anew += while_anew;
        println!(
            "store {seed}: {kills} kills, {while_anew} while a checkpoint was written anew; \
             SEED={seed} cargo test -p ebbtide-tests --test kill"
        );
        left -= kills.min(left);
        seed += 1;
    }
    assert!(kills < KILLS || all_while_anew > 0, "none while a checkpoint was written anew");
}

/// Two shards at full speed, one checkpoint after the other without a pause, killed in the middle.
#[test]
fn killed_under_full_load_while_checkpoints_follow_each_other_a_store_is_exact() {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    for backend in backends() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        let name = if backend == Backend::Uring { "uring" } else { "threads" };
        let sizes = ["group=65536", "segment=262144", "checkpoint_us=1", "batch=5000", "shards=2"];
        let mut orders: Vec<String> = sizes.map(str::to_owned).into();
        orders.push(format!("backend={name}"));
        let without_end = ["events=100000000".to_owned(), "rounds=100000000".to_owned()];
        let recording = [&orders[..], &without_end].concat();
        let mut lives = Vec::new();
        for length in [1_000, 300, 600].map(Duration::from_millis) {
            lives.push(run(program, &store, &recording, Death::AfterReady(length)));
        }
        lives.push(run(program, &store, &orders, Death::Natural));
        let lives: Vec<Said> = lives.into_iter().map(|said| said.expect("it opens")).collect();

        // What was on its way at the last kill may be there too.
        let source = lives.iter().filter_map(|said| said.source).max().unwrap_or(0) + 20_000;
        let rounds = lives.iter().filter_map(|said| said.plain).max().unwrap_or(0) + 2;
        let mut known = Known::new(Truth::of(1, source, rounds));
        for said in &lives {
            known.judge(said).expect("a crash breaks no promise");
        }
        let checkpoints: u64 = lives.iter().map(|said| said.checkpoints).sum();
        println!("{name}: {checkpoints} checkpoints, {} events acknowledged", known.source);
        assert!(checkpoints >= 3 && known.source > 0, "{name}: it was no load");
    }
}
