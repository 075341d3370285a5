//! The acceptance run: 5,500 fixed events over 50 entities and 3 signal types, every answer held
//! against the reference model, and the exact bits of all answers against one golden digest.
//!
//! The digest is the same on both runtimes, with any number of shards, in every run and on every
//! machine. If it changes, stored state and replays change with it: find out why before the new
//! one is written here.

use blake3::Hasher;
use ebbtide::{Ack, Backend, Engine, Event, Producer, SignalId, SignalReading, Timestamp};
use ebbtide_tests::crash::{SOURCE, builder, copy};
use ebbtide_tests::setting::{PATIENCE, Setting, schema, settings};
use ebbtide_tests::stream::acceptance::{EVENTS, SEED};
use ebbtide_tests::stream::{ENTITIES, SIGNALS, SplitMix, Stream, newest};
use ebbtide_tests::truth::{assert_agrees, model, state};
use ebbtide_tests::victim::{Death, run};
use std::path::Path;
use std::time::Duration;

/// Answers are looked at after so many events: before and after each gap of years, and at the end.
const STOPS: [usize; 5] = [400, 900, 3_000, 4_400, EVENTS];
/// BLAKE3 of every answer, as [`Answers`] writes them down.
const GOLDEN: &str = "c4268dfe1d9a028eae9844e8697ece89157b04f82112f01346a191031f01fe79";

/// The digest of answers.
struct Answers(Hasher);

impl Answers {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn reading(&mut self, reading: &SignalReading) {
        self.number(reading.as_of.as_nanos());
        self.number(reading.last_update.as_nanos());
        self.number(reading.all_time);
        reading.scores().iter().for_each(|score| self.number(score.to_bits()));
        reading.counts().iter().for_each(|&count| self.number(count));
        reading.velocities().iter().for_each(|velocity| self.number(velocity.to_bits()));
    }

    fn state(&mut self, engine: &Engine, now: Timestamp) {
        for ((entity, signal), reading) in &state(engine, now) {
            self.number(entity.0);
            self.number(u64::from(signal.0));
            self.reading(reading);
        }
    }

    fn rankings(&mut self, engine: &Engine, now: Timestamp) {
        let mut reader = engine.reader().expect("every shard runs");
        for (signal, def) in engine.schema().signals() {
            for half_life in 0..def.half_lives().len() {
                let best = reader.top_k(signal, half_life, 20, now).expect("every shard runs");
                for place in best {
                    self.number(place.entity.0);
                    self.number(place.score.to_bits());
                }
            }
        }
    }
}

/// Instants to ask for: the newest event's, soon after, each window's end later, the far future,
/// and the past.
fn instants(newest: Timestamp) -> impl Iterator<Item = Timestamp> {
    const DAY: u64 = 86_400;
    let later = [0, 61, 3_601, DAY, 8 * DAY, 400 * DAY, 60 * 365 * DAY];
    let later = later.map(|seconds| newest.plus(Duration::from_secs(seconds)));
    later.into_iter().chain([Timestamp(0)])
}

fn record(producer: &mut Producer, events: &[Event]) {
    for &event in events {
        let _ticket = producer.offer_within(event, PATIENCE).expect("the shard makes room");
    }
    producer.flush(Ack::Applied, PATIENCE).expect("everything is applied");
}

#[test]
fn the_acceptance_run_gives_the_golden_answers_and_the_model_agrees() {
    let events = Stream::of(SEED, EVENTS);
    for setting in settings() {
        let engine = setting.open();
        let mut producer = engine.producer().unwrap();
        let mut answers = Answers(Hasher::new());
        let mut recorded = 0;
        for stop in STOPS {
            record(&mut producer, &events[recorded..stop]);
            recorded = stop;
            let model = model(engine.schema(), &events[..stop]);
            for now in instants(newest(&events[..stop])) {
                assert_agrees(&engine, &model, now);
                answers.state(&engine, now);
                answers.rankings(&engine, now);
            }
        }
        assert_eq!(engine.metrics().events_applied(), EVENTS as u64);
        assert_eq!(engine.metrics().pairs(), ENTITIES * SIGNALS);
        engine.close(PATIENCE).unwrap();
        assert_eq!(answers.0.finalize().to_string(), GOLDEN, "{setting}");
    }
}

/// Orders for a process that records the run up to `stop` and is killed.
fn orders(random: &mut SplitMix, Setting { backend, shards }: Setting, stop: usize) -> Vec<String> {
    let backend = if backend == Backend::Uring { "uring" } else { "threads" };
    let checkpoint_us = [0, 1_000, 20_000][usize::try_from(random.below(3)).unwrap_or(0)];
    let again = [0, 700][usize::try_from(random.below(2)).unwrap_or(0)];
    vec![
        "stream=acceptance".to_owned(),
        format!("events={stop}"),
        format!("shards={shards}"),
        format!("backend={backend}"),
        "ack=durable".to_owned(),
        "batch=150".to_owned(),
        "group=8192".to_owned(),
        "segment=32768".to_owned(),
        format!("checkpoint_us={checkpoint_us}"),
        format!("again={again}"),
        "linger=1".to_owned(),
    ]
}

/// The same run on a store, by processes of which none ends in order: each is killed somewhere, and
/// the next goes on with other shards on the other runtime. The answers are looked at in copies.
#[test]
fn the_acceptance_run_gives_the_golden_answers_through_crashes() {
    let program = Path::new(env!("CARGO_BIN_EXE_victim"));
    let folder = tempfile::tempdir().unwrap();
    let (store, image) = (folder.path().join("store"), folder.path().join("image"));
    let events = Stream::of(SEED, EVENTS);
    let settings = settings();
    let mut answers: Vec<_> = settings.iter().map(|_| Answers(Hasher::new())).collect();
    let mut random = SplitMix(SEED);
    for stop in STOPS {
        for kill in 0..4 {
            let at = usize::try_from(random.below(settings.len() as u64)).unwrap();
            let orders = orders(&mut random, settings[at], stop);
            let death = match kill {
                3 => Death::AfterSource(stop as u64),
                _ => Death::AfterReady(Duration::from_micros(random.below(40_000))),
            };
            let said = run(program, &store, &orders, death).unwrap();
            assert_eq!(said.refused, None, "{orders:?}");
        }
        let model = model(&schema(), &events[..stop]);
        for (&setting, answers) in settings.iter().zip(&mut answers) {
            copy(&store, &image);
            let Setting { backend, shards } = setting;
            let builder = builder(&image).schema(schema()).backend(backend).shards(shards);
            let engine = builder.open().unwrap();
            assert_eq!(engine.resume_offset(SOURCE).unwrap(), Some(stop as u64), "{setting}");
            for now in instants(newest(&events[..stop])) {
                answers.state(&engine, now);
                answers.rankings(&engine, now);
            }
            assert_agrees(&engine, &model, newest(&events[..stop]));
            drop(engine);
            std::fs::remove_dir_all(&image).unwrap();
        }
    }
    for (setting, answers) in settings.iter().zip(answers) {
        assert_eq!(answers.0.finalize().to_string(), GOLDEN, "{setting}");
    }
}

#[test]
fn the_digest_sees_one_event_more_and_the_last_bit_of_a_weight() {
    let digest = |events: &[Event]| {
        let engine = settings()[0].open();
        record(&mut engine.producer().unwrap(), events);
        let mut answers = Answers(Hasher::new());
        answers.state(&engine, newest(events));
        answers.0.finalize()
    };
    let events = Stream::of(SEED, 200);
    let known = digest(&events);
    assert_eq!(digest(&events), known, "another run");
    assert_ne!(digest(&events[..199]), known);
    let mut nudged = events.clone();
    let heavy = nudged.iter_mut().filter(|event| event.signal == SignalId(0));
    let heaviest = heavy.max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap();
    heaviest.weight = heaviest.weight.next_down();
    assert_ne!(digest(&nudged), known);
}
