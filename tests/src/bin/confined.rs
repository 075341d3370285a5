//! A small host that takes a right away from itself, opens an engine and does a little work: what
//! the tests of restricted environments run as a child process.
//!
//! Prints one line: the runtime in use and why, or why the engine did not open.
//! Exit codes: 0 it worked, 1 an answer was wrong, 2 usage, 3 the engine did not open, 4 the right
//! could not be taken away, so that nothing was learnt.

use ebbtide::{Ack, Backend, Engine, EntityId, Event, OpenError, SignalId};
use ebbtide_tests::setting::{PATIENCE, schema};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: confined auto|uring|threads SHARDS [dir=PATH] [memlock=KIB] [nofile=N] \
                     [fsize=KIB] [no-io-uring[=ERRNO]]";
/// Entities that events are recorded of.
const ENTITIES: u64 = 100;
/// The number of the system call `io_uring_setup`, the same on every architecture.
const IO_URING_SETUP: i64 = 425;
/// What a container's filter answers most often: not permitted.
const EPERM: u32 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((backend, shards)) = engine_of(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    for restriction in &arguments[2..] {
        if let Err(error) = restrict(restriction) {
            println!("`{restriction}` is not to be had here: {error}");
            return ExitCode::from(4);
        }
    }
    let directory = arguments.iter().find_map(|argument| argument.strip_prefix("dir="));
    let builder = directory.map_or_else(Engine::in_memory, Engine::builder);
    let engine = match builder.schema(schema()).backend(backend).shards(shards).open() {
        Ok(engine) => engine,
        Err(OpenError::Store(error)) => {
            println!("{}: {error}", error.code());
            return ExitCode::from(3);
        }
        Err(error) => {
            println!("{error}");
            return ExitCode::from(3);
        }
    };
    println!("{}", engine.backend());
    let ack = if directory.is_some() { Ack::Durable } else { Ack::Applied };
    match work(&engine, ack) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("it opened, but {error}");
            ExitCode::from(1)
        }
    }
}

fn engine_of(arguments: &[String]) -> Option<(Backend, usize)> {
    let backend = match arguments.first()?.as_str() {
        "auto" => Backend::Auto,
        "uring" => Backend::Uring,
        "threads" => Backend::Threads,
        _ => return None,
    };
    Some((backend, arguments.get(1)?.parse().ok()?))
}

fn restrict(restriction: &str) -> Result<(), Box<dyn Error>> {
    let (what, number) = restriction.split_once('=').unwrap_or((restriction, ""));
    match what {
        "dir" => Ok(()),
        "no-io-uring" if number.is_empty() => forbid_io_uring(EPERM),
        "no-io-uring" => forbid_io_uring(number.parse()?),
        "memlock" => limit(Resource::Memlock, number.parse::<u64>()? * 1024),
        "fsize" => limit(Resource::Fsize, number.parse::<u64>()? * 1024),
        "nofile" => limit(Resource::Nofile, number.parse()?),
        _ => Err(USAGE.into()),
    }
}

fn limit(resource: Resource, to: u64) -> Result<(), Box<dyn Error>> {
    if getrlimit(resource).maximum.is_some_and(|maximum| maximum < to) {
        return Err("the limit is lower already".into());
    }
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

/// Answers `io_uring_setup` with an error from now on, in this thread and those it starts.
fn forbid_io_uring(errno: u32) -> Result<(), Box<dyn Error>> {
    let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let (otherwise, matched) = (SeccompAction::Allow, SeccompAction::Errno(errno));
    let arch = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Records an event for each of some entities and reads each back.
fn work(engine: &Engine, ack: Ack) -> Result<(), Box<dyn Error>> {
    let now = engine.now();
    let before = totals(engine)?;
    let mut producer = engine.producer()?;
    for entity in (0..ENTITIES).map(EntityId) {
        let _ticket = producer.offer(Event::new(entity, SignalId(0), now))?;
    }
    producer.flush(ack, PATIENCE)?;
    for (entity, (before, after)) in before.into_iter().zip(totals(engine)?).enumerate() {
        if after != before + 1 {
            return Err(format!("entity {entity} had {before} events and has {after}").into());
        }
    }
    Ok(engine.close(PATIENCE)?)
}

fn totals(engine: &Engine) -> Result<Vec<u64>, Box<dyn Error>> {
    let (now, mut reader) = (engine.now(), engine.reader()?);
    let mut total = |entity| {
        let reading = reader.read(EntityId(entity), SignalId(0), now)?;
        Ok(reading.map_or(0, |reading| reading.all_time))
    };
    (0..ENTITIES).map(&mut total).collect()
}
