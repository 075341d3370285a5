//! Frozen stores: what was recorded into them, what they must answer for ever, how they are packed.
//!
//! ```text
//! fixtures/vN/NAME.answers     text, one line for each pair and source
//! fixtures/vN/NAME/…           the store's directory, each file compressed
//! ```
//!
//! Promises: the same store gives the same text, whatever number of shards reads it; an unpacked
//! store is private to its owner, whatever the umask. The program `write-fixtures` makes them once
//! for a format; a change of the format gets a folder of its own and leaves the old ones alone.

use ebbtide::{
    Ack, Engine, EngineBuilder, EntityId, Event, EventId, LogOptions, ManualClock, Schema,
    SourceEvent, Timestamp,
};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use crate::setting::PATIENCE;

/// Of the frozen stores.
pub const SCHEMA: &str = r#"
    [signals.buy]
    half_lives = ["30d"]
    windows = ["7d"]
    dedup = "id"

    [signals.click]
    half_lives = ["1min", "1h", "24h"]
    windows = ["5min", "1h", "24h"]
    velocity = true

    [signals.view]
    half_lives = ["1h"]
    windows = ["1h"]
    dedup = "content"
"#;
/// The instant the answers are as of.
pub const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
/// The source of the stores' numbered events.
pub const SOURCE: &str = "orders.csv";
/// The formats of checkpoints there were: folders of the fixtures, the present one last.
pub const FORMATS: [&str; 4] = ["v1", "v2", "v3", PRESENT];
/// The present format.
pub const PRESENT: &str = "v4";
/// The frozen stores: name, shards they were written with, and whether they were closed in order.
pub const STORES: [(&str, usize, bool); 2] = [("closed", 1, true), ("killed", 4, false)];

/// Numbered events in a store.
const NUMBERED: u64 = 600;
/// Events of a plain producer, the even ones with an id.
const PLAIN: u64 = 200;

/// A builder of an engine on a frozen store. Small segments, so that a few events fill several.
///
/// # Panics
///
/// Never: the schema is a constant that tests read.
pub fn builder(directory: &Path, shards: usize) -> EngineBuilder {
    let schema = Schema::from_toml(SCHEMA).expect("the schema keeps every rule");
    let log = LogOptions { group_bytes: 8 << 10, segment_bytes: 24 << 10, ..LogOptions::default() };
    let clock = Arc::new(ManualClock::at(NOW));
    Engine::builder(directory).schema(schema).shards(shards).clock(clock).log_options(log)
}

/// The n-th event.
fn event(n: u64) -> Event {
    let signal = ebbtide::SignalId(u8::try_from(n % 3).expect("it is below 3"));
    let time = Timestamp(NOW.0 - (n * n % 5_000) * 1_000_000_000);
    Event::new(EntityId(n * 7 % 61), signal, time).with_weight((1 + n % 5) as f64 / 2.0)
}

/// The id of the n-th plain event; every other one has none.
fn id(n: u64) -> Option<EventId> {
    n.is_multiple_of(2).then_some(EventId(u128::from(n) << 64))
}

/// Records everything a frozen store holds, in four parts, with a checkpoint after the second and
/// one after the third.
///
/// # Panics
///
/// If the engine does not take it.
pub fn record(engine: &Engine) {
    for part in 0..4 {
        let (numbered, plain) = (NUMBERED / 4, PLAIN / 4);
        record_numbered(engine, part * numbered + 1..=(part + 1) * numbered);
        record_plain(engine, part * plain + 1..=(part + 1) * plain);
        if part == 1 || part == 2 {
            engine.checkpoint().expect("a checkpoint");
        }
    }
}

fn record_numbered(engine: &Engine, range: RangeInclusive<u64>) {
    let mut producer = engine.producer_for(SOURCE).expect("the source is free");
    for n in range {
        producer.offer_within(SourceEvent::new(n, event(n)), PATIENCE).expect("it is taken");
        if n.is_multiple_of(10) {
            producer.flush(Ack::Durable, PATIENCE).expect("it is durable");
        }
    }
    producer.flush(Ack::Durable, PATIENCE).expect("it is durable");
}

fn record_plain(engine: &Engine, range: RangeInclusive<u64>) {
    let mut producer = engine.producer().expect("the shards run");
    for n in range {
        offer_plain(&mut producer, n);
    }
    producer.flush(Ack::Durable, PATIENCE).expect("it is durable");
}

/// Offers the n-th plain event, with its id if it has one.
fn offer_plain(producer: &mut ebbtide::Producer, n: u64) {
    let offered = match id(n) {
        Some(id) => producer.offer_with_id(event(n), id),
        None => producer.offer(event(n)),
    };
    offered.expect("the ring is larger than all events");
}

/// Whether the n-th plain event is known by its id or content; any other would count again.
fn is_known_again(n: u64) -> bool {
    match n % 3 {
        0 => id(n).is_some(),
        1 => false,
        _ => true,
    }
}

/// Records everything again that is known when it comes again, as a host does that cannot tell how
/// far it had come.
///
/// # Panics
///
/// If the engine does not take it.
pub fn record_again(engine: &Engine) {
    record_numbered(engine, 1..=NUMBERED);
    let mut producer = engine.producer().expect("the shards run");
    (1..=PLAIN).filter(|&n| is_known_again(n)).for_each(|n| offer_plain(&mut producer, n));
    producer.flush(Ack::Durable, PATIENCE).expect("it is durable");
}

/// Everything the engine answers, one line for each pair and source, scores as bits.
///
/// # Panics
///
/// If a shard is down.
#[must_use]
pub fn answers(engine: &Engine) -> String {
    let pairs = engine.on_every_shard(|local| local.pairs(NOW).collect::<Vec<_>>());
    let mut lines: Vec<String> = pairs
        .expect("every shard runs")
        .into_iter()
        .flatten()
        .map(|(entity, signal, reading)| {
            let name = engine.schema().def(signal).name();
            let scores: Vec<_> =
                reading.scores().iter().map(|score| format!("{:016x}", score.to_bits())).collect();
            let (counts, last) = (reading.counts(), reading.last_update.0);
            let (scores, all_time) = (scores.join(" "), reading.all_time);
            format!("{:>4} {name} {scores} {counts:?} {all_time} {last}", entity.0)
        })
        .collect();
    lines.sort();
    let mut text = lines.join("\n") + "\n";
    for (source, offset) in engine.sources().expect("every shard runs") {
        let _infallible = writeln!(text, "source {source} resumes after {offset}");
    }
    text
}

/// Packs a store's directory.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn pack(store: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    each_entry(store, |path, name| {
        if path.is_dir() {
            return pack(path, &to.join(name));
        }
        let packed = File::create(to.join(format!("{name}.zst")))?;
        zstd::stream::copy_encode(File::open(path)?, packed, 19)
    })
}

/// Unpacks a packed store into a directory that it makes.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn unpack(packed: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    each_entry(packed, |path, name| {
        if path.is_dir() {
            return unpack(path, &to.join(name));
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let plain = name.strip_suffix(".zst").unwrap_or(name);
        zstd::stream::copy_decode(File::open(path)?, options.open(to.join(plain))?)
    })
}

fn each_entry(folder: &Path, mut act: impl FnMut(&Path, &str) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        act(&path, &name)?;
    }
    Ok(())
}
