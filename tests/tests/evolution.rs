//! One store under schemas that change: what may change freely, what is refused, and other
//! half-lives, restarted or rebuilt, also when the process is killed on the way.
//!
//! What is right is what an engine in memory says that had the new schema from the beginning.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::{
    Ack, Engine, EntityId, Event, OpenError, Retune, Schema, SignalId, StoreError, Timestamp,
};
use ebbtide_tests::crash::{self, Pair, SCHEMA, builder, copy, event, held, record, retuned};
use ebbtide_tests::setting::PATIENCE;
use ebbtide_tests::stream::SplitMix;
use ebbtide_tests::victim::{Death, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const SEED: u64 = 23;
const EVENTS: u64 = 2_000;
const SHARE: SignalId = SignalId(2);
const VIEW: SignalId = SignalId(3);
/// Later than every event.
const LATE: Timestamp = Timestamp::from_seconds(1_900_000_000);
/// Stores whose process is killed while half-lives are exchanged, for each way of doing so.
const KILLED_STORES: u64 = 10;

type Held = BTreeMap<Pair, (u64, u64)>;

fn schema(text: &str) -> Arc<Schema> {
    Arc::new(Schema::from_toml(text).unwrap())
}

fn open(directory: &Path, schema: &Arc<Schema>, shards: usize) -> Result<Engine, OpenError> {
    builder(directory).schema(Arc::clone(schema)).shards(shards).open()
}

fn retune(directory: &Path, how: Retune) -> Result<Engine, OpenError> {
    builder(directory).schema(retuned()).shards(2).retune(how).open()
}

fn in_memory(schema: &Arc<Schema>) -> Engine {
    let clock = Arc::new(ebbtide::ManualClock::at(Timestamp::MAX));
    Engine::in_memory().schema(Arc::clone(schema)).clock(clock).shards(1).open().unwrap()
}

/// The state under a schema that was there from the beginning.
fn right(schema: &Arc<Schema>, events: u64) -> Held {
    let engine = in_memory(schema);
    record(&engine, SEED, 1..=events, Ack::Applied);
    held(&engine)
}

/// A closed store under [`SCHEMA`] with a checkpoint among its events, whose logs hold all of them.
fn store(directory: &Path) {
    let engine = open(directory, &crash::schema(), 2).unwrap();
    record(&engine, SEED, 1..=EVENTS / 2, Ack::Durable);
    engine.checkpoint().unwrap();
    record(&engine, SEED, EVENTS / 2 + 1..=EVENTS, Ack::Durable);
    engine.close(PATIENCE).unwrap();
}

fn refusal(opened: Result<Engine, OpenError>) -> StoreError {
    match opened {
        Err(OpenError::Store(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it opens"),
    }
}

#[test]
fn what_changes_freely_reads_as_if_it_had_been_so_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    store(&directory);
    let mut text = SCHEMA.to_owned();
    let mut events = EVENTS;
    let changes = [
        ("windows come", r#"["1h", "24h"]"#, r#"["5min", "1h", "24h", "7d"]"#),
        ("velocity comes", "[signals.share]", "[signals.share]\nvelocity = true"),
        ("labels", r#"["1min", "1h", "24h"]"#, r#"["60s", "60min", "1d"]"#),
        ("order of half-lives", r#"["1h", "7d"]"#, r#"["7d", "1h"]"#),
        ("windows go", r#"["60min", "168h"]"#, r#"["168h"]"#),
        (
            "a signal type comes",
            "[signals.buy]",
            "[signals.zoom]\nhalf_lives = [\"1h\"]\n[signals.buy]",
        ),
        ("velocity goes", "velocity = true\n    dedup = \"content\"", "dedup = \"content\""),
    ];
    for (round, (what, from, to)) in changes.into_iter().enumerate() {
        assert!(text.contains(from), "{what}");
        text = text.replace(from, to);
        let new = schema(&text);
        let engine = open(&directory, &new, 1 + round % 3).unwrap();
        assert_eq!(held(&engine), right(&new, events), "{what}");
        record(&engine, SEED, events + 1..=events + 500, Ack::Durable);
        events += 500;
        if round % 2 == 0 {
            engine.checkpoint().unwrap();
        }
        assert_eq!(held(&engine), right(&new, events), "{what}, and more events");
        engine.close(PATIENCE).unwrap();
    }
    let zoom = schema(&text).signal("zoom").unwrap();
    let engine = open(&directory, &schema(&text), 2).unwrap();
    let mut producer = engine.producer().unwrap();
    let ticket = producer.offer(Event::new(EntityId(1), zoom, LATE)).unwrap();
    producer.wait(ticket, Ack::Durable, PATIENCE).unwrap();
    engine.close(PATIENCE).unwrap();
    let engine = open(&directory, &schema(&text), 1).unwrap();
    let reading = engine.reader().unwrap().read(EntityId(1), zoom, LATE).unwrap().unwrap();
    assert_eq!((reading.all_time, reading.scores()), (1, &[1.0][..]));
}

#[test]
fn another_deduplication_counts_from_now_on_and_takes_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let entity = EntityId(9);
    let twice = |engine: &Engine, seconds: u64| {
        let mut producer = engine.producer().unwrap();
        for _ in 0..2 {
            let event = Event::new(entity, SHARE, Timestamp::from_seconds(seconds));
            let _ticket = producer.offer(event).unwrap();
        }
        producer.flush(Ack::Durable, PATIENCE).unwrap();
        let reading = engine.reader().unwrap().read(entity, SHARE, LATE).unwrap();
        reading.unwrap().all_time
    };
    let strict = SCHEMA.replace("[signals.share]", "[signals.share]\ndedup = \"content\"");
    let mut total = 0;
    for (round, (text, counts)) in
        [(SCHEMA, 2), (&strict, 1), (SCHEMA, 2), (&strict, 1)].into_iter().enumerate()
    {
        let engine = open(folder.path(), &schema(text), 2).unwrap();
        total += counts;
        assert_eq!(twice(&engine, 1_000 + round as u64), total, "round {round}");
        engine.checkpoint().unwrap();
        engine.close(PATIENCE).unwrap();
    }
}

#[test]
fn a_schema_that_does_not_fit_is_refused_and_the_store_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    store(&directory);
    let without_share = SCHEMA.split("[signals.share]").next().unwrap();
    let refused = refusal(open(&directory, &schema(without_share), 2));
    assert_eq!(refused.code(), "schema-mismatch");
    assert!(refused.to_string().contains("share"), "{refused}");
    // It may not even be taken away by a decision about half-lives.
    let opened = builder(&directory).schema(schema(without_share)).retune(Retune::Restart).open();
    assert_eq!(refusal(opened).code(), "schema-mismatch");
    let refused = refusal(open(&directory, &retuned(), 2));
    assert_eq!(refused.code(), "schema-mismatch");
    assert!(refused.to_string().contains("rebuild from the log"), "{refused}");
    assert!(!refused.is_damage());
    let engine = open(&directory, &crash::schema(), 1).unwrap();
    assert_eq!(held(&engine), right(&crash::schema(), EVENTS));
}

/// Two scores that may differ in rounding only.
fn close(score: f64, right: f64) -> bool {
    (score - right).abs() <= 1e-12 * right.abs()
}

#[test]
fn restarted_scores_begin_at_zero_and_everything_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    store(&directory);
    let engine = retune(&directory, Retune::Restart).unwrap();
    let (whole, later) = (in_memory(&retuned()), in_memory(&retuned()));
    record(&whole, SEED, 1..=EVENTS, Ack::Applied);
    let compare = |engine: &Engine| {
        let mut readers = [engine, &whole, &later].map(|engine| engine.reader().unwrap());
        let mut restarted = 0;
        for &(entity, signal) in held(&whole).keys() {
            let [new, whole, later] =
                readers.each_mut().map(|reader| reader.read(entity, signal, LATE).unwrap());
            let (new, whole) = (new.unwrap(), whole.unwrap());
            assert_eq!(new.counts(), whole.counts());
            assert_eq!((new.all_time, new.last_update), (whole.all_time, whole.last_update));
            for (place, &score) in new.scores().iter().enumerate() {
                if (signal, place) == (SHARE, 0) || (signal, place) == (VIEW, 1) {
                    let right = later.map_or(0.0, |later| later.scores()[place]);
                    assert!(close(score, right), "{entity} {signal:?}: {score}, not {right}");
                    restarted += 1;
                } else {
                    assert_eq!(score.to_bits(), whole.scores()[place].to_bits());
                }
            }
        }
        assert!(restarted > 50, "{restarted}");
    };
    compare(&engine);
    for engine in [&engine, &whole] {
        record(engine, SEED, EVENTS + 1..=2 * EVENTS, Ack::Applied);
    }
    let mut producer = later.producer().unwrap();
    for offset in EVENTS + 1..=2 * EVENTS {
        let event = event(SEED, offset).event;
        if [SHARE, VIEW].contains(&event.signal) {
            producer.offer_within(event, PATIENCE).unwrap();
        }
    }
    producer.flush(Ack::Applied, PATIENCE).unwrap();
    compare(&engine);
    engine.close(PATIENCE).unwrap();
    let engine = open(&directory, &retuned(), 3).unwrap();
    compare(&engine);
}

#[test]
fn rebuilt_scores_are_those_of_every_event_as_long_as_the_logs_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    store(&directory);
    let engine = retune(&directory, Retune::Rebuild).unwrap();
    assert_eq!(held(&engine), right(&retuned(), EVENTS));
    assert_eq!(engine.resume_offset(crash::SOURCE).unwrap(), Some(EVENTS));
    record(&engine, SEED, EVENTS / 2..=2 * EVENTS, Ack::Durable);
    assert_eq!(held(&engine), right(&retuned(), 2 * EVENTS), "what is sent again counts once");
    // This opening's checkpoint lets the segments of the one before go.
    engine.checkpoint().unwrap();
    engine.close(PATIENCE).unwrap();
    let back = builder(&directory).schema(crash::schema()).retune(Retune::Rebuild);
    let refused = refusal(back.open());
    assert_eq!(refused.code(), "schema-cannot-rebuild", "{refused}");
    let engine = open(&directory, &retuned(), 1).unwrap();
    assert_eq!(held(&engine), right(&retuned(), 2 * EVENTS), "unharmed");
    engine.close(PATIENCE).unwrap();
    let back = builder(&directory).schema(crash::schema()).retune(Retune::Restart);
    assert_eq!(held(&back.open().unwrap()).len(), right(&crash::schema(), 2 * EVENTS).len());
}

/// Whether the store has its old half-lives or the new ones; it is exactly one of the two states.
fn is_old(directory: &Path, old: &Held, new: &Held, what: &str) -> bool {
    match open(directory, &crash::schema(), 1) {
        Ok(engine) => {
            assert_eq!(&held(&engine), old, "{what}");
            true
        }
        Err(OpenError::Store(StoreError::Schema { .. })) => {
            assert_eq!(&held(&open(directory, &retuned(), 1).unwrap()), new, "{what}");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn killed_while_half_lives_are_exchanged_a_store_has_the_old_ones_or_the_new_ones() {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    store(&base);
    let old = right(&crash::schema(), EVENTS);
    let mut random = SplitMix(SEED);
    for how in ["restart", "rebuild"] {
        let orders = [format!("retune={how}"), "shards=2".into(), "backend=threads".into()];
        let whole = folder.path().join(how);
        copy(&base, &whole);
        let begun = Instant::now();
        let new = run(program, &whole, &orders, Death::Natural).unwrap().held;
        let length = begun.elapsed();
        let (mut olds, mut halves) = (0, 0);
        for store in 0..KILLED_STORES {
            let directory = folder.path().join(format!("{how}-{store}"));
            copy(&base, &directory);
            for _ in 0..=random.below(2) {
                let delay = length.mul_f64(random.below(1_000) as f64 / 1_000.0);
                let death = Death::AfterStart(delay);
                let said = run(program, &directory, &orders, death).unwrap();
                assert_eq!(said.refused, None, "a crash is no reason to refuse");
                halves += u64::from(directory.join("checkpoint.new").exists());
            }
            let what = format!("{how}, store {store}");
            olds += u64::from(is_old(&directory, &old, &new, &what));
            let said = run(program, &directory, &orders, Death::Natural).unwrap();
            assert_eq!(said.held, new, "{what}: killed, and done again");
        }
        println!(
            "{how}: {KILLED_STORES} stores, {olds} with the old half-lives, killed {halves} times \
             with two checkpoints there"
        );
    }
}
