//! A store whose power is cut, on a real file system, at any write: what was acknowledged as
//! durable is there, whatever the disk kept of what was not flushed.
//!
//! One disk, two lives of a store on it, the second with another number of shards and on the other
//! runtime, both closed in order; then many power cuts, each at another place in the order of all
//! writes of both.
//!
//! Not tested where a mount, FUSE or `qemu-storage-daemon` is not to be had; the log's own
//! simulation needs none of these.

use ebbtide::Backend;
use ebbtide_tests::alone::alone;
use ebbtide_tests::crash::Truth;
use ebbtide_tests::cut_disk::CutDisk;
use ebbtide_tests::oracle::Known;
use ebbtide_tests::setting::backends;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, Said, run, run_heard};
use ebbtide_wal::limits::segment_bytes_min;
use std::path::Path;
use std::time::SystemTime;

/// Cuts in one run of the test, unless `CUTS` says otherwise.
const CUTS: u64 = 30;
/// Events of the source in each of the two lives.
const EVENTS: u64 = 1_500;
/// Rounds of the producer without numbers in each.
const ROUNDS: u64 = 60;

/// What had been said when so many writes had been.
struct Mark {
    writes: u64,
    said: Said,
}

fn orders(seed: u64, lives: u64, shards: u64, backend: Backend) -> Vec<String> {
    let backend = if backend == Backend::Uring { "uring" } else { "threads" };
    let group = 8_192;
    vec![
        format!("seed={seed}"),
        format!("events={}", lives * EVENTS),
        format!("rounds={}", lives * ROUNDS),
        format!("shards={shards}"),
        format!("backend={backend}"),
        "ack=durable".to_owned(),
        format!("group={group}"),
        format!("segment={}", segment_bytes_min(group)),
        "checkpoint_us=3000".to_owned(),
        "batch=20".to_owned(),
    ]
}

/// Records one life, and notes what was said after how many writes.
fn live(disk: &CutDisk, orders: &[String]) -> Vec<Mark> {
    let mut marks = Vec::new();
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let mut heard = |said: &Said| {
        if said.ready.is_some() {
            marks.push(Mark { writes: disk.writes(), said: said.clone() });
        }
    };
    let directory = disk.mounted().join("store");
    run_heard(program, &directory, orders, Death::Natural, &mut heard).expect("it lives");
    marks
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_power_cut_at_any_write_takes_nothing_durable() {
    let test = "a_power_cut_at_any_write_takes_nothing_durable";
    let Some(place) = alone(test, "mount -t tmpfs none $PLACE") else { return };
    let disk = match CutDisk::start(&place) {
        Ok(disk) => disk,
        Err(missing) => return println!("not tested: {missing}"),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seed = number("SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let mut random = SplitMix(seed);
    let both = backends();
    let before = disk.writes();
    let mut marks = live(&disk, &orders(seed, 1, 2, both[0]));
    let whole = marks.len();
    marks.extend(live(&disk, &orders(seed, 2, 3, both[both.len() - 1])));
    disk.unmount();
    let writes = disk.writes();
    println!("{} writes, {} acknowledgements; SEED={seed}", writes - before, marks.len());

    let truth = Truth::of(seed, 2 * EVENTS, 2 * ROUNDS);
    let cuts = number("CUTS").unwrap_or(CUTS);
    let mut after: Vec<u64> =
        (0..cuts).map(|_| before + random.below(writes - before + 1)).collect();
    // Right behind an acknowledgement the least is on the disk beside what must be.
    let some = marks.iter().step_by(marks.len() / usize::try_from(cuts).unwrap_or(1) + 1);
    after.extend(some.map(|mark| mark.writes));
    after.sort_unstable();
    let mut opened = 0;
    disk.cut(&after, &mut random, &mut |cut, folder, random| {
        let known = known_at(&truth, &marks, whole, cut);
        let backend = if random.below(2) == 0 { "threads" } else { "auto" };
        let orders = [format!("shards={}", 1 + random.below(3)), format!("backend={backend}")];
        let judged = look(&folder.join("store"), &orders, known);
        opened += 1;
        if let Err(fault) = judged {
            panic!("cut {opened} after {cut} of {writes} writes: {fault}; SEED={seed}");
        }
    });
    println!("{opened} cuts");
}

/// What must be there after so many writes.
fn known_at(truth: &Truth, marks: &[Mark], whole: usize, cut: u64) -> Known {
    let mut known = Known::new(truth.clone());
    let reached = marks.partition_point(|mark| mark.writes <= cut);
    if let Some(Mark { said, .. }) = reached.checked_sub(1).map(|last| &marks[last]) {
        known.source = said.source.or(said.ready).unwrap_or(0);
        known.rounds = said.plain.map_or(0, |round| round + 1);
        if reached > whole {
            known.rounds = known.rounds.max(ROUNDS);
        }
        known.owner = said.owner.iter().map(|(&entity, &shard)| (entity.0, shard)).collect();
    }
    known
}

fn look(store: &Path, orders: &[String], mut known: Known) -> Result<(), String> {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let said = run(program, store, orders, Death::Natural)?;
    known.judge(&said)?;
    // It was closed; the next opening finds the same.
    let again = run(program, store, orders, Death::Natural)?;
    if again.held != said.held {
        return Err("the second opening finds another state".into());
    }
    Ok(())
}
