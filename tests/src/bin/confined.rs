//! A small host that takes a right away from itself, opens an engine and does a little work: what
//! the tests of restricted environments run as a child process.
//!
//! Prints one line: the runtime in use and why, or why the engine did not open.
//! Exit codes: 0 it worked, 1 an answer was wrong, 2 usage, 3 the engine did not open, 4 the right
//! could not be taken away, so that nothing was learnt.

use ebbtide::{Ack, Backend, Engine, EntityId, Event, SignalId};
use ebbtide_tests::setting::{PATIENCE, schema};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: confined auto|uring|threads SHARDS [memlock=KIB] [no-io-uring]";
/// The number of the system call `io_uring_setup`, the same on every architecture.
const IO_URING_SETUP: i64 = 425;
/// What a container's filter answers: not permitted.
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
    let opened = Engine::in_memory().schema(schema()).backend(backend).shards(shards).open();
    let engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            println!("{error}");
            return ExitCode::from(3);
        }
    };
    println!("{}", engine.backend());
    match work(&engine) {
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
    if restriction == "no-io-uring" {
        return forbid_io_uring();
    }
    let kib = restriction.strip_prefix("memlock=").ok_or(USAGE)?;
    let bytes = kib.parse::<u64>()? * 1024;
    let maximum = getrlimit(Resource::Memlock).maximum;
    if maximum.is_some_and(|maximum| maximum < bytes) {
        return Err("the limit is lower already".into());
    }
    Ok(setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: Some(bytes) })?)
}

/// Answers `io_uring_setup` with EPERM from now on, in this thread and those it starts.
fn forbid_io_uring() -> Result<(), Box<dyn Error>> {
    let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let (otherwise, matched) = (SeccompAction::Allow, SeccompAction::Errno(EPERM));
    let arch = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, matched, arch)?.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Records an event for each of some entities and reads each back.
fn work(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let now = engine.now();
    let mut producer = engine.producer()?;
    for entity in (0..100).map(EntityId) {
        let _ticket = producer.offer(Event::new(entity, SignalId(0), now))?;
    }
    producer.flush(Ack::Applied, PATIENCE)?;
    let mut reader = engine.reader()?;
    for entity in (0..100).map(EntityId) {
        let reading = reader.read(entity, SignalId(0), now)?;
        if reading.is_none_or(|reading| reading.all_time != 1) {
            return Err(format!("entity {entity} reads {reading:?}").into());
        }
    }
    Ok(engine.close(PATIENCE)?)
}
