//! A small host that records into a store until it is killed: what crash tests run as a child
//! process. It says line by line what it found and what was acknowledged.
//!
//! ```text
//! victim DIR [seed=N] [events=N] [rounds=N] [shards=N] [backend=threads|uring|auto]
//!            [retune=restart|rebuild] [ack=written|durable]
//!            [group=BYTES] [segment=BYTES] [checkpoint_us=N] [anew=BYTES] [batch=N]
//!            [again=N] [backup_us=N] [linger=1] [stream=acceptance]
//!
//! held ENTITY SIGNAL EVENTS DIGEST    a pair as it was found
//! owner ENTITY SHARD                  who owns an entity from now on
//! ready OFFSET                        the source goes on behind this offset
//! source OFFSET                       every event of the source up to here is acknowledged
//! plain ROUND                         every event of these rounds is acknowledged
//! checkpoint                          one is finished
//! backup NUMBER OFFSET ROUNDS         one is finished; so much was durable when it was asked for
//! done                                everything was recorded and the store is closed
//! refused CODE TEXT                   the store does not open; exit code 3
//! ```
//!
//! With `linger` it goes on taking checkpoints, once everything is recorded, until it is killed.
//!
//! Exit codes: 0 done, 2 usage, 3 the store was refused, 1 anything else, with a line about it.

use ebbtide::{
    Ack, Backend, Engine, EntityId, Event, LogOptions, OpenError, Retune, SourceEvent, StoreError,
};
use ebbtide_tests::crash::{
    ENTITIES, PLAIN_ENTITIES, PLAIN_FIRST, SOURCE, builder, event, held, plain_event, retuned,
};
use ebbtide_tests::setting::{PATIENCE, schema};
use ebbtide_tests::stream::{Stream, acceptance};
use ebbtide_tests::victim::backup_directory;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const USAGE: &str = "usage: victim DIR [KEY=VALUE]…; see the first lines of the source";

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

struct Orders {
    directory: PathBuf,
    numbers: BTreeMap<String, u64>,
    backend: Backend,
    ack: Ack,
    /// Whether the store gets other half-lives.
    retune: Option<Retune>,
    /// Events of the acceptance run, instead of those of `crash`.
    acceptance: Vec<Event>,
}

impl Orders {
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let directory = PathBuf::from(arguments.next()?);
        let mut orders = Self {
            directory,
            numbers: BTreeMap::new(),
            backend: Backend::Auto,
            ack: Ack::Durable,
            retune: None,
            acceptance: Vec::new(),
        };
        for argument in arguments {
            match argument.split_once('=')? {
                ("backend", "threads") => orders.backend = Backend::Threads,
                ("backend", "uring") => orders.backend = Backend::Uring,
                ("backend", "auto") => orders.backend = Backend::Auto,
                ("retune", "restart") => orders.retune = Some(Retune::Restart),
                ("retune", "rebuild") => orders.retune = Some(Retune::Rebuild),
                ("stream", "acceptance") => {
                    orders.acceptance = Stream::of(acceptance::SEED, acceptance::EVENTS);
                }
                ("ack", "written") => orders.ack = Ack::Written,
                ("ack", "durable") => orders.ack = Ack::Durable,
                (name, number) => {
                    orders.numbers.insert(name.to_owned(), number.parse().ok()?);
                }
            }
        }
        Some(orders)
    }

    fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.numbers.get(name).copied().unwrap_or(otherwise)
    }

    fn open(&self) -> Result<Engine, OpenError> {
        let sizes = LogOptions::default();
        let group_bytes = usize::try_from(self.number("group", sizes.group_bytes as u64));
        let sizes = LogOptions {
            group_bytes: group_bytes.unwrap_or(sizes.group_bytes),
            segment_bytes: self.number("segment", sizes.segment_bytes),
            ..sizes
        };
        let shards = usize::try_from(self.number("shards", 1)).unwrap_or(1);
        let mut builder = builder(&self.directory).backend(self.backend).log_options(sizes);
        if let Some(retune) = self.retune {
            builder = builder.schema(retuned()).retune(retune);
        }
        if !self.acceptance.is_empty() {
            builder = builder.schema(schema());
        }
        if let Some(&bytes) = self.numbers.get("anew") {
            builder = builder.checkpoint_anew_bytes(bytes);
        }
        builder.shards(shards).open()
    }

    /// Notes how far something has come, if that is durable.
    fn note(&self, progress: &AtomicU64, number: u64) {
        if self.ack == Ack::Durable {
            progress.store(number, Ordering::SeqCst);
        }
    }

    fn event(&self, offset: u64) -> SourceEvent {
        let at = usize::try_from(offset - 1).unwrap_or(usize::MAX);
        match self.acceptance.get(at) {
            Some(&event) => SourceEvent::new(offset, event),
            None => event(self.number("seed", 1), offset),
        }
    }
}

fn main() -> ExitCode {
    let Some(orders) = Orders::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let engine = match orders.open() {
        Ok(engine) => engine,
        Err(error) => {
            let code = if let OpenError::Store(error) = &error { error.code() } else { "other" };
            println!("refused {code} {error}");
            return ExitCode::from(3);
        }
    };
    let recorded = tell_state(&engine).and_then(|counts| record(&engine, &orders, &counts));
    match recorded.and_then(|()| Ok(engine.close(PATIENCE)?)) {
        Ok(()) => {
            println!("done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed {error}");
            ExitCode::from(1)
        }
    }
}

/// Says what is there; gives back how many events each entity without numbers has.
fn tell_state(engine: &Engine) -> Result<Vec<u64>, Box<dyn Error + Send + Sync>> {
    let mut counts = vec![0; usize::try_from(PLAIN_ENTITIES)?];
    for ((entity, signal), (events, digest)) in held(engine) {
        println!("held {} {} {events} {digest}", entity.0, signal.0);
        let plain = entity.0.checked_sub(PLAIN_FIRST).filter(|&plain| plain < PLAIN_ENTITIES);
        if let Some(plain) = plain {
            counts[usize::try_from(plain)?] = events;
        }
    }
    let owned = engine.on_every_shard(|local| {
        let owned = (0..ENTITIES).map(EntityId).filter(|&entity| local.owns(entity));
        (local.shard(), owned.collect::<Vec<_>>())
    })?;
    for (shard, entities) in owned {
        for entity in &entities {
            println!("owner {} {shard}", entity.0);
        }
    }
    println!("ready {}", engine.resume_offset(SOURCE)?.unwrap_or(0));
    Ok(counts)
}

/// Records what is missing, with checkpoints meanwhile.
fn record(engine: &Engine, orders: &Orders, counts: &[u64]) -> Outcome {
    let progress = Progress::default();
    thread::scope(|scope| {
        let checkpoints = scope.spawn(|| checkpoints(engine, orders, &progress));
        let backups = scope.spawn(|| backups(engine, orders, &progress));
        let plain = scope.spawn(|| record_plain(engine, orders, counts, &progress));
        let source = record_source(engine, orders, &progress);
        let plain = plain.join().unwrap_or_else(|_| Err("the plain producer panicked".into()));
        while orders.number("linger", 0) > 0 {
            thread::park();
        }
        progress.done.store(true, Ordering::Relaxed);
        let checkpoints = checkpoints.join().unwrap_or_else(|_| Err("checkpoints panicked".into()));
        let backups = backups.join().unwrap_or_else(|_| Err("backups panicked".into()));
        source.and(plain).and(checkpoints).and(backups)
    })
}

/// How far the recording has come.
#[derive(Default)]
struct Progress {
    /// Offset of the source, and rounds of the other producer, that are durable.
    source: AtomicU64,
    rounds: AtomicU64,
    done: AtomicBool,
}

/// Does something again and again, with pauses of an ordered length; never if it is zero.
fn again_and_again(
    orders: &Orders,
    pause: &str,
    progress: &Progress,
    mut something: impl FnMut() -> Outcome,
) -> Outcome {
    let pause = Duration::from_micros(orders.number(pause, 0));
    while !pause.is_zero() && !progress.done.load(Ordering::Relaxed) {
        thread::sleep(pause);
        something()?;
    }
    Ok(())
}

fn backups(engine: &Engine, orders: &Orders, progress: &Progress) -> Outcome {
    let mut number = 0;
    again_and_again(orders, "backup_us", progress, || {
        let source = progress.source.load(Ordering::SeqCst);
        let rounds = progress.rounds.load(Ordering::SeqCst);
        match engine.backup(backup_directory(&orders.directory, number)) {
            Ok(()) => println!("backup {number} {source} {rounds}"),
            Err(StoreError::Busy { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        number += 1;
        Ok(())
    })
}

fn checkpoints(engine: &Engine, orders: &Orders, progress: &Progress) -> Outcome {
    again_and_again(orders, "checkpoint_us", progress, || {
        engine.checkpoint()?;
        println!("checkpoint");
        Ok(())
    })
}

fn record_source(engine: &Engine, orders: &Orders, progress: &Progress) -> Outcome {
    let last = orders.number("events", 0);
    if last == 0 {
        return Ok(());
    }
    let mut producer = engine.producer_for(SOURCE)?;
    // Some are sent again; they must not count again.
    let first = producer.resume_offset().saturating_sub(orders.number("again", 0)) + 1;
    let batch = orders.number("batch", 100).max(1);
    for offset in first..=last {
        let _ticket = producer.offer_within(orders.event(offset), PATIENCE)?;
        if offset.is_multiple_of(batch) || offset == last {
            producer.flush(orders.ack, PATIENCE)?;
            orders.note(&progress.source, offset);
            println!("source {offset}");
        }
    }
    // Also if there was nothing left to record.
    println!("source {last}");
    Ok(())
}

fn record_plain(engine: &Engine, orders: &Orders, counts: &[u64], progress: &Progress) -> Outcome {
    let (seed, rounds) = (orders.number("seed", 1), orders.number("rounds", 0));
    let mut producer = engine.producer()?;
    for round in counts.iter().copied().min().unwrap_or(0)..rounds {
        let mut last = None;
        for (entity, &count) in (0..).zip(counts) {
            if round >= count {
                let event = plain_event(seed, entity, round);
                last = Some(producer.offer_within(event, PATIENCE)?);
            }
        }
        if let Some(ticket) = last {
            producer.wait(ticket, orders.ack, PATIENCE)?;
        }
        producer.flush(orders.ack, PATIENCE)?;
        orders.note(&progress.rounds, round + 1);
        println!("plain {round}");
    }
    Ok(())
}
