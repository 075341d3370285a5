//! Shards on plain threads: for hosts without io_uring, and for shards that spin.

use super::affinity::Affinity;
use super::log_io::{Answer, Lanes, LogIo, NoLog, TICK};
use super::shard_loop::{self, Pace};
use super::{DurableWork, Job, Recovered, Run, Started, Work};
use crate::block_on::{Alarm, block_on_with_alarm};
use crate::store::StoreLock;
use ebbtide_shard::Shard;
use ebbtide_wal::storage::threads::Threads;
use ebbtide_wal::{IoThreads, Log, ready};
use std::future::{Future, ready as done};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The thread looks again at a sleeping shard when its alarm says so.
struct ThreadPace(Alarm);

impl Pace for ThreadPace {
    fn breathe(&self, _behind: bool) -> impl Future<Output = ()> {
        done(())
    }

    fn sleep(&self, length: Duration) -> impl Future<Output = ()> {
        self.0.sleep(length)
    }
}

/// Starts a thread for `run`; gives back how to join it.
pub(super) fn spawn(run: Run) -> Result<Box<dyn FnOnce() + Send>, String> {
    let Run { job: Job { name, core, idle, work }, starting, ending } = run;
    let (thread_name, helpers) = (name.clone(), Affinity::of_caller());
    let body = move || {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            let _nobody_waits = starting.send(Err(format!("it cannot be pinned to core {core}")));
            return;
        }
        // A shard that cannot be built has not started.
        match work {
            Work::InMemory(build) => {
                let shard = build();
                if starting.send(Ok(Started { direct_io: false })).is_ok() {
                    drive(|pace| shard_loop::drive(shard, NoLog, idle, pace));
                }
            }
            Work::Durable(work) => match start(&name, work, &helpers) {
                Ok(Some((shard, log))) => {
                    if starting.send(Ok(log.started())).is_ok() {
                        drive(|pace| shard_loop::drive(shard, log, idle, pace));
                    }
                }
                Ok(None) => {}
                Err(why) => {
                    let _nobody_waits = starting.send(Err(why));
                }
            },
        }
        drop(ending);
    };
    let thread = thread::Builder::new().name(thread_name).spawn(body).map_err(|e| e.to_string())?;
    Ok(Box::new(move || {
        // A panic was caught in the loop and told as the shard's failure.
        let _told = thread.join();
    }))
}

fn drive<F: Future<Output = ()>>(shard: impl FnOnce(ThreadPace) -> F) {
    let alarm = Alarm::default();
    block_on_with_alarm(shard(ThreadPace(alarm.clone())), &alarm, TICK);
}

/// Rebuilds a shard and starts its log; `None` if the opening was given up meanwhile.
fn start(
    name: &str,
    work: DurableWork,
    helpers: &Affinity,
) -> Result<Option<(Shard<Log>, LogIo)>, String> {
    let DurableWork { port, directory, lock, recover } = work;
    let answer = Answer::to(&port);
    let Some(recovered) = recover()? else { return Ok(None) };
    start_log((name, helpers), (&directory, lock), recovered, answer).map(Some)
}

/// Starts a recovered shard's log on two threads of its own, which run where `helpers` may.
pub(super) fn start_log(
    (name, helpers): (&str, &Affinity),
    (directory, lock): (&Path, Arc<StoreLock>),
    recovered: Recovered,
    answer: Answer,
) -> Result<(Shard<Log>, LogIo), String> {
    let Recovered { replayed, options, make } = recovered;
    let storage = Threads::open(directory).map_err(|e| format!("its log cannot be opened: {e}"))?;
    let started = ready(replayed.start(&storage, options)).map_err(|e| e.to_string())?;
    let wake = answer.clone();
    let (commit, upkeep) = (started.commit, started.upkeep);
    let io = helpers.lend(|| IoThreads::start(name, commit, upkeep, move || wake.tell()));
    let io = io.map_err(|e| format!("its log has no threads: {e}"))?;
    let io = LogIo::new(Lanes::Threads(io), answer, lock, storage.direct());
    Ok((make(started.log)?, io))
}
