//! A store whose process is killed again and again, at any moment: while it opens, recovers,
//! records, takes checkpoints or closes. Each time it is opened with other options.
//!
//! [`Known`] judges what each opening finds. When all events are recorded, every answer is that of
//! a run that nothing interrupted.
//!
//! Not found this way: a missing sync. `power_cut` and the log's own simulation are for that.

use ebbtide::Backend;
use ebbtide_tests::crash::Truth;
use ebbtide_tests::oracle::Known;
use ebbtide_tests::setting::backends;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, run};
use ebbtide_wal::limits::segment_bytes_min;
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
    let batch = pick(random, &[1, 7, 60, 400]);
    let again = pick(random, &[0, 0, 30, 5_000]);
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
        format!("batch={batch}"),
        format!("again={again}"),
    ]
}

fn death(random: &mut SplitMix) -> Death {
    let part = random.below(1_000_000) as f64 / 1e6;
    let delay_ns = SOONEST_NS * (LATEST_NS / SOONEST_NS).powf(part);
    let delay = Duration::from_secs_f64(delay_ns / 1e9);
    if random.below(2) == 0 { Death::AfterStart(delay) } else { Death::AfterReady(delay) }
}

/// One store's life: killed until it is complete, or `kills` have been. Says how many were.
fn live(program: &Path, seed: u64, kills: u64) -> u64 {
    let backends = backends();
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("store");
    let mut random = SplitMix(seed);
    let mut known = Known::new(Truth::of(seed, EVENTS, ROUNDS));
    for kill in 0..=kills {
        let death = if kill == kills { Death::Natural } else { death(&mut random) };
        let orders = orders(&mut random, seed, &backends);
        let said = run(program, &directory, &orders, death);
        let judged = said.and_then(|said| known.judge(&said).map(|()| said.done));
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
            return kill;
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
    let mut left = number("KILLS").unwrap_or(KILLS);
    while left > 0 {
        let kills = live(program, seed, left);
        println!(
            "store {seed}: {kills} kills; SEED={seed} cargo test -p ebbtide-tests --test kill"
        );
        left -= kills.min(left);
        seed += 1;
    }
}
