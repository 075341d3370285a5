//! A store whose process is killed again and again, at any moment: while it opens, recovers,
//! records, takes checkpoints or closes. Each time it is opened with other options.
//!
//! Held against [`Truth`] after every kill: each pair's answers are, to the bit, those after some
//! prefix of its events; what was acknowledged is in it; the prefixes of one shard fit together, so
//! no event is missing before one that is there; nothing that was there once is ever lost. When all
//! events are recorded, every answer is that of a run that nothing interrupted.
//!
//! Not found this way: a missing sync. The log's own simulation is for that.

use ebbtide::Backend;
use ebbtide_tests::crash::{ENTITIES, PLAIN_ENTITIES, Pair, Truth};
use ebbtide_tests::setting::backends;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, Said, run};
use ebbtide_wal::limits::segment_bytes_min;
use std::collections::BTreeMap;
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

/// What is known of a store between two openings.
struct Known {
    truth: Truth,
    /// Events of each pair at the last opening that came to its end.
    counts: BTreeMap<Pair, u64>,
    /// Which shard owned an entity since that opening.
    owner: BTreeMap<u64, u64>,
    source: u64,
    rounds: u64,
}

impl Known {
    fn new(seed: u64) -> Self {
        let truth = Truth::of(seed, EVENTS, ROUNDS);
        Self { truth, counts: BTreeMap::new(), owner: BTreeMap::new(), source: 0, rounds: 0 }
    }

    /// Judges what an opening found, if the victim came to tell all of it.
    fn judge(&mut self, said: &Said) -> Result<(), String> {
        if let Some((code, text)) = &said.refused {
            return Err(format!("a crash is no reason to refuse: {code}: {text}"));
        }
        let Some(ready) = said.ready else { return Ok(()) };
        if ready < self.source {
            return Err(format!("{} was acknowledged and {ready} is there", self.source));
        }
        for (pair, &(events, digest)) in &said.held {
            self.judge_pair(*pair, events, digest)?;
        }
        self.judge_floors(said, ready)?;
        self.judge_prefixes(said)?;
        self.counts = said.held.iter().map(|(&pair, &(events, _))| (pair, events)).collect();
        self.owner = said.owner.iter().map(|(&entity, &shard)| (entity.0, shard)).collect();
        self.source = said.source.unwrap_or(0).max(self.source);
        self.rounds = said.plain.map_or(0, |round| round + 1).max(self.rounds);
        Ok(())
    }

    /// Its answers are those after a prefix of its events.
    fn judge_pair(&self, pair: Pair, events: u64, digest: u64) -> Result<(), String> {
        let steps = self.truth.steps.get(&pair).ok_or(format!("{pair:?} is nobody's"))?;
        let step = events.checked_sub(1).and_then(|last| steps.get(usize::try_from(last).ok()?));
        let step = step.ok_or(format!("{pair:?} has {events} events of {}", steps.len()))?;
        if step.digest != digest {
            return Err(format!("{pair:?}: other answers than after its first {events} events"));
        }
        let before = self.counts.get(&pair).copied().unwrap_or(0);
        if events < before {
            return Err(format!("{pair:?} had {before} events once and has {events}"));
        }
        Ok(())
    }

    /// What was acknowledged, or is said to be there, is there.
    fn judge_floors(&self, said: &Said, ready: u64) -> Result<(), String> {
        for (pair, steps) in &self.truth.steps {
            let is_plain = pair.0.0 >= ENTITIES;
            let floor = if is_plain { self.rounds * PLAIN_ENTITIES } else { ready };
            let least = steps.partition_point(|step| step.offset <= floor) as u64;
            let there = said.held.get(pair).map_or(0, |held| held.0);
            if there < least {
                return Err(format!("{pair:?} has {there} events, {least} are up to {floor}"));
            }
        }
        Ok(())
    }

    /// On each shard of the killed engine there is an offset up to which it had everything.
    fn judge_prefixes(&self, said: &Said) -> Result<(), String> {
        let mut bounds: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (pair, steps) in &self.truth.steps {
            let Some(shard) = self.owner.get(&pair.0.0) else { continue };
            let now = said.held.get(pair).map_or(0, |held| held.0);
            let at = |index: u64| steps.get(usize::try_from(index).ok()?).map(|s| s.offset);
            let (from, to) = bounds.entry(*shard).or_insert((0, u64::MAX));
            if now > self.counts.get(pair).copied().unwrap_or(0) {
                *from = at(now - 1).unwrap_or(u64::MAX).max(*from);
            }
            *to = at(now).unwrap_or(u64::MAX).min(*to);
        }
        match bounds.iter().find(|(_, (from, to))| from >= to) {
            Some((shard, (from, to))) => {
                Err(format!("shard {shard} had event {from} and lacks {to} before it"))
            }
            None => Ok(()),
        }
    }
}

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
    let mut known = Known::new(seed);
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
