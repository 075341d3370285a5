//! A small host that records into a store until it is killed: what crash tests run as a child
//! process. It says line by line what it found and what was acknowledged.
//!
//! ```text
//! victim DIR [seed=N] [events=N] [rounds=N] [shards=N] [backend=threads|uring|auto]
//!            [retune=restart|rebuild] [ack=written|durable]
//!            [group=BYTES] [segment=BYTES] [checkpoint_us=N] [batch=N] [again=N]
//!
//! held ENTITY SIGNAL EVENTS DIGEST    a pair as it was found
//! owner ENTITY SHARD                  who owns an entity from now on
//! ready OFFSET                        the source goes on behind this offset
//! source OFFSET                       every event of the source up to here is acknowledged
//! plain ROUND                         every event of these rounds is acknowledged
//! done                                everything was recorded and the store is closed
//! refused CODE TEXT                   the store does not open; exit code 3
//! ```
//!
//! Exit codes: 0 done, 2 usage, 3 the store was refused, 1 anything else, with a line about it.

use ebbtide::{Ack, Backend, CheckpointError, Engine, EntityId, LogOptions, OpenError, Retune};
use ebbtide_tests::crash::{
    ENTITIES, PLAIN_ENTITIES, PLAIN_FIRST, SOURCE, builder, event, held, plain_event, retuned,
};
use ebbtide_tests::setting::PATIENCE;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
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
        };
        for argument in arguments {
            match argument.split_once('=')? {
                ("backend", "threads") => orders.backend = Backend::Threads,
                ("backend", "uring") => orders.backend = Backend::Uring,
                ("backend", "auto") => orders.backend = Backend::Auto,
                ("retune", "restart") => orders.retune = Some(Retune::Restart),
                ("retune", "rebuild") => orders.retune = Some(Retune::Rebuild),
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
        builder.shards(shards).open()
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
        if let Some(plain) = entity.0.checked_sub(PLAIN_FIRST) {
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
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pace = Duration::from_micros(orders.number("checkpoint_us", 0));
        let checkpoints = scope.spawn({
            let done = &done;
            move || checkpoints(engine, pace, done)
        });
        let plain = scope.spawn(|| record_plain(engine, orders, counts));
        let source = record_source(engine, orders);
        let plain = plain.join().unwrap_or_else(|_| Err("the plain producer panicked".into()));
        done.store(true, Ordering::Relaxed);
        let checkpoints = checkpoints.join().unwrap_or_else(|_| Err("checkpoints panicked".into()));
        source.and(plain).and(checkpoints)
    })
}

fn checkpoints(engine: &Engine, pace: Duration, done: &AtomicBool) -> Outcome {
    while !pace.is_zero() && !done.load(Ordering::Relaxed) {
        thread::sleep(pace);
        match engine.checkpoint() {
            Ok(_) | Err(CheckpointError::Closing) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn record_source(engine: &Engine, orders: &Orders) -> Outcome {
    let (seed, last) = (orders.number("seed", 1), orders.number("events", 0));
    if last == 0 {
        return Ok(());
    }
    let mut producer = engine.producer_for(SOURCE)?;
    // Some are sent again; they must not count again.
    let first = producer.resume_offset().saturating_sub(orders.number("again", 0)) + 1;
    let batch = orders.number("batch", 100).max(1);
    for offset in first..=last {
        let _ticket = producer.offer_within(event(seed, offset), PATIENCE)?;
        if offset.is_multiple_of(batch) || offset == last {
            producer.flush(orders.ack, PATIENCE)?;
            println!("source {offset}");
        }
    }
    Ok(())
}

fn record_plain(engine: &Engine, orders: &Orders, counts: &[u64]) -> Outcome {
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
        println!("plain {round}");
    }
    Ok(())
}
