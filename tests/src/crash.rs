//! What crash tests record and what has to be there afterwards: a source of numbered events, a
//! producer without numbers, and the exact answers after each of their events.
//!
//! Promises: the same seed gives the same events. Repeats by id and by content are among them, near
//! and far, late events too. [`Truth`] is computed by a ledger that nothing interrupts.
//! Not here: processes and how they end (`victim`, and the tests that start it).

use crate::setting::PATIENCE;
use crate::stream::SplitMix;
use ebbtide::{
    Ack, Engine, EngineBuilder, EntityId, Event, EventId, ManualClock, Schema, SignalId,
    SignalReading, SourceEvent, Timestamp,
};
use ebbtide_shard::{Materializer as _, PartitionKey, RoutedEvent, SignalLedger};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// Signal types that differ in half-lives, windows and in what a repeat is.
pub const SCHEMA: &str = r#"
    [signals.buy]
    half_lives = ["30d"]
    windows = ["7d"]
    dedup = "id"

    [signals.click]
    half_lives = ["1min", "1h", "24h"]
    windows = ["5min", "1h", "24h", "7d"]
    velocity = true
    dedup = "content"

    [signals.share]
    half_lives = ["12h"]
    windows = ["60min", "168h"]

    [signals.view]
    half_lives = ["1h", "7d"]
    windows = ["1h", "24h"]
    velocity = true
"#;

/// Entities of the source.
pub const ENTITIES: u64 = 40;
/// Entities of the producer without numbers begin here.
pub const PLAIN_FIRST: u64 = 1_000;
/// And there are so many.
pub const PLAIN_ENTITIES: u64 = 8;
/// The source's name.
pub const SOURCE: &str = "crash";

const BUY: SignalId = SignalId(0);
const CLICK: SignalId = SignalId(1);
const VIEW: SignalId = SignalId(3);
const START_S: u64 = 1_700_000_000;
/// A pair.
pub type Pair = (EntityId, SignalId);

/// [`SCHEMA`], read.
///
/// # Panics
///
/// Never: the text is a constant that tests read.
#[must_use]
pub fn schema() -> Arc<Schema> {
    Arc::new(Schema::from_toml(SCHEMA).expect("the schema keeps every rule"))
}

/// [`SCHEMA`] with other half-lives: of `view` one stays, at another place, and one is new; that of
/// `share` is new.
///
/// # Panics
///
/// Never: the text is a constant that tests read.
#[must_use]
pub fn retuned() -> Arc<Schema> {
    let text = SCHEMA.replace(r#"["1h", "7d"]"#, r#"["7d", "2h"]"#);
    let text = text.replace(r#"["12h"]"#, r#"["6h"]"#);
    Arc::new(Schema::from_toml(&text).expect("the schema keeps every rule"))
}

/// An engine on a directory whose clock never minds an event.
pub fn builder(directory: &Path) -> EngineBuilder {
    let clock = Arc::new(ManualClock::at(Timestamp::MAX));
    // So that few pairs are enough for it.
    Engine::builder(directory).schema(schema()).clock(clock).checkpoint_anew_bytes(0)
}

/// Records the source's events of a range, and waits until they have come as far as `ack`.
///
/// # Panics
///
/// If they do not.
pub fn record(engine: &Engine, seed: u64, range: std::ops::RangeInclusive<u64>, ack: Ack) {
    let mut producer = engine.producer_for(SOURCE).expect("every shard runs");
    for offset in range {
        let _ticket = producer.offer_within(event(seed, offset), PATIENCE).expect("there is room");
    }
    producer.flush(ack, PATIENCE).expect("the events come so far");
}

/// Copies a directory with all that is in it.
///
/// # Panics
///
/// If that fails, other than by files that go away meanwhile.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new directory");
    fs::set_permissions(to, Permissions::from_mode(0o700)).expect("it is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has one").is_dir() {
            copy(&entry.path(), &target);
        } else {
            let copied = fs::copy(entry.path(), &target);
            let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            assert!(copied.as_ref().err().is_none_or(is_gone), "{copied:?}");
        }
    }
}

fn random(seed: u64, n: u64) -> SplitMix {
    let mut random = SplitMix(seed ^ n.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    random.draw();
    random
}

/// The source's event at an offset.
#[must_use]
pub fn event(seed: u64, offset: u64) -> SourceEvent {
    let mut random = random(seed, offset);
    let few = random.below(2) == 0;
    let entity = EntityId(random.below(if few { 4 } else { ENTITIES }));
    let signal = SignalId(u8::try_from(random.below(4)).unwrap_or(0));
    let late_s = match random.below(20) {
        0 => random.below(20 * 86_400),
        1..4 => random.below(6 * 3_600),
        _ => 0,
    };
    let time_s = match signal {
        CLICK => START_S + 3_600 * random.below(60),
        _ => START_S + offset * 40 - late_s,
    };
    let weight = match random.below(8) {
        0 => 0.0,
        1..4 => random.below(3) as f64 + 0.1,
        _ => 1.0,
    };
    let event = Event::new(entity, signal, Timestamp::from_seconds(time_s)).with_weight(weight);
    let numbered = SourceEvent::new(offset, event);
    match signal {
        BUY if random.below(10) > 0 => numbered.with_id(EventId(u128::from(random.below(500)))),
        _ => numbered,
    }
}

/// The event of the producer without numbers for one of its entities in one of its rounds.
#[must_use]
pub fn plain_event(seed: u64, entity: u64, round: u64) -> Event {
    let mut random = random(!seed, entity << 32 | round);
    let time_s = START_S + round * 600 - random.below(7_200);
    let weight = random.below(1_000) as f64 / 7.0;
    Event::new(EntityId(PLAIN_FIRST + entity), VIEW, Timestamp::from_seconds(time_s))
        .with_weight(weight)
}

/// The exact answers for a pair, in short: equal bits give equal digests.
#[must_use]
pub fn digest(readings: &[SignalReading]) -> u64 {
    let mut random = SplitMix(1);
    let mut take = |number: u64| random = SplitMix(random.draw() ^ number);
    for reading in readings {
        take(reading.as_of.as_nanos());
        take(reading.last_update.as_nanos());
        take(reading.all_time);
        take(u64::from(reading.saturated));
        reading.scores().iter().for_each(|score| take(score.to_bits()));
        reading.counts().iter().for_each(|&count| take(count));
        reading.velocities().iter().for_each(|velocity| take(velocity.to_bits()));
    }
    random.draw()
}

/// When readings are taken: as of the pair's last event, soon after it, and much later.
#[must_use]
pub fn instants() -> [Timestamp; 3] {
    [0, START_S + 100_000, START_S + 400 * 86_400].map(Timestamp::from_seconds)
}

/// What an engine holds of each pair: number of events and digest.
///
/// # Panics
///
/// If a shard is down or two shards hold one pair.
#[must_use]
pub fn held(engine: &Engine) -> BTreeMap<Pair, (u64, u64)> {
    let look = |local: &ebbtide::LocalShard<'_>| {
        let pairs: Vec<Pair> = local.pairs(Timestamp(0)).map(|(e, s, _)| (e, s)).collect();
        let read = |(entity, signal)| {
            let at = |now| local.read(entity, signal, now).expect("the shard has just named it");
            let readings = instants().map(at);
            ((entity, signal), (readings[0].all_time, digest(&readings)))
        };
        pairs.into_iter().map(read).collect::<Vec<_>>()
    };
    let mut held = BTreeMap::new();
    for (pair, state) in
        engine.on_every_shard(look).expect("every shard runs").into_iter().flatten()
    {
        assert_eq!(held.insert(pair, state), None, "{pair:?} is on one shard only");
    }
    held
}

/// One event that counts: where it stands, and the exact answers after it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Offset in the source, or round and entity counted together, from 1.
    pub offset: u64,
    /// The answers' digest.
    pub digest: u64,
}

/// The answers after each event that counts, by pair.
#[derive(Clone, Debug)]
pub struct Truth {
    /// By pair, in the order of the events.
    pub steps: BTreeMap<Pair, Vec<Step>>,
}

impl Truth {
    /// Of so many events of the source, and rounds of the producer without numbers.
    #[must_use]
    pub fn of(seed: u64, events: u64, rounds: u64) -> Self {
        let key = PartitionKey::new([3; 16]);
        let mut ledger = SignalLedger::new(schema(), key, 0..ebbtide_shard::limits::PARTITIONS);
        let mut truth = Self { steps: BTreeMap::new() };
        let mut known = BTreeSet::new();
        for offset in 1..=events {
            let event = event(seed, offset);
            if is_new(&mut known, &event) {
                truth.step(&mut ledger, event.event, offset);
            }
        }
        for round in 0..rounds {
            for entity in 0..PLAIN_ENTITIES {
                let offset = round * PLAIN_ENTITIES + entity + 1;
                truth.step(&mut ledger, plain_event(seed, entity, round), offset);
            }
        }
        truth
    }

    fn step(&mut self, ledger: &mut SignalLedger, event: Event, offset: u64) {
        let Event { entity, signal, time, weight } = event;
        let hash = ledger.key().hash(entity);
        ledger.on_event(&RoutedEvent { entity, time, weight, hash, signal });
        let read = |now| ledger.read(hash, entity, signal, now).expect("it has an event");
        let digest = digest(&instants().map(read));
        self.steps.entry((entity, signal)).or_default().push(Step { offset, digest });
    }

    /// The whole state after the last event, as [`held`] shows an engine's.
    #[must_use]
    pub fn last(&self) -> BTreeMap<Pair, (u64, u64)> {
        let last = |steps: &Vec<Step>| (steps.len() as u64, steps.last().map_or(0, |s| s.digest));
        self.steps.iter().map(|(&pair, steps)| (pair, last(steps))).collect()
    }
}

/// Whether an event counts, after those before it.
fn is_new(known: &mut BTreeSet<(u64, u8, u128, u64)>, event: &SourceEvent) -> bool {
    let Event { entity, signal, time, weight } = event.event;
    match (signal, event.id) {
        (BUY, Some(id)) => known.insert((entity.0, signal.0, id.0, 0)),
        (CLICK, _) => known.insert((entity.0, signal.0, u128::from(time.0), weight.to_bits())),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_has_repeats_of_both_kinds_and_events_that_count() {
        let truth = Truth::of(7, 6_000, 5);
        let counted = |signal: u8| -> usize {
            let of = truth.steps.iter().filter(|((e, s), _)| s.0 == signal && e.0 < ENTITIES);
            of.map(|(_, steps)| steps.len()).sum()
        };
        let sent = |signal: u8| {
            (1..=6_000).filter(|&offset| event(7, offset).event.signal.0 == signal).count()
        };
        assert!(counted(0) + 50 < sent(0) && counted(1) + 50 < sent(1), "repeats");
        assert!(counted(0) > 500 && counted(1) > 500, "and others");
        assert_eq!((counted(2), counted(3)), (sent(2), sent(3)));
    }

    #[test]
    fn an_engine_that_nothing_interrupts_holds_the_truth() {
        let clock = Arc::new(ManualClock::at(Timestamp::MAX));
        let engine = Engine::in_memory().schema(schema()).clock(clock).shards(1).open().unwrap();
        let mut producer = engine.producer_for(SOURCE).unwrap();
        for offset in 1..=3_000 {
            producer.offer_within(event(5, offset), crate::setting::PATIENCE).unwrap();
        }
        producer.flush(ebbtide::Ack::Applied, crate::setting::PATIENCE).unwrap();
        assert_eq!(held(&engine), Truth::of(5, 3_000, 0).last());
    }
}
