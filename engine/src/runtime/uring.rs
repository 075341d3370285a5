//! Shards on glommio executors: one pinned thread with an io_uring each.

use super::log_io::{Answer, Lanes, LogIo, NoLog};
use super::pulse::Pulse;
use super::shard_loop::{self, Pace};
use super::threads::start_log;
use super::{DurableWork, Job, Recovered, Run, Work};
use ebbtide_shard::Shard;
use ebbtide_wal::storage::dma::Dma;
use ebbtide_wal::{IoTasks, Log};
use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};
use std::io;
use std::time::Duration;

/// A log's tasks are looked at this often even beside a shard that spins. Much less, and glommio's
/// preemption timer fires before any task was run, see [`super::pulse`]: with 50 µs that was so at
/// every second opening on two busy cores.
const LOG_LATENCY: Duration = Duration::from_micros(500);

struct UringPace;

impl Pace for UringPace {
    async fn breathe(&self) {
        glommio::executor().yield_if_needed().await;
    }

    async fn sleep(&self, length: Duration) {
        glommio::timer::sleep(length).await;
    }
}

/// Starts an executor for `run`; gives back how to join it.
pub(super) fn spawn(run: Run) -> Result<Box<dyn FnOnce() + Send>, String> {
    let Run { job: Job { name, core, idle, work }, starting, ending } = run;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&name.clone())
        .spawn(move || async move {
            let _pulse = match Pulse::of_this_task(&name).await {
                Ok(pulse) => pulse,
                Err(error) => {
                    let _nobody_waits = starting.send(Err(error.to_string()));
                    return;
                }
            };
            // A shard that cannot be built has not started.
            match work {
                Work::InMemory(build) => {
                    let shard = build();
                    if starting.send(Ok(())).is_ok() {
                        shard_loop::drive(shard, NoLog, idle, UringPace).await;
                    }
                }
                Work::Durable(work) => match start(&name, work).await {
                    Ok(Some((shard, log))) => {
                        if starting.send(Ok(())).is_ok() {
                            shard_loop::drive(shard, log, idle, UringPace).await;
                        }
                    }
                    Ok(None) => {}
                    Err(why) => {
                        let _nobody_waits = starting.send(Err(why));
                    }
                },
            }
            drop(ending);
        })
        .map_err(|error| error.to_string())?;
    Ok(Box::new(move || {
        // A panic was caught in the loop and told as the shard's failure.
        let _told = executor.join();
    }))
}

/// Rebuilds a shard and starts its log; `None` if the opening was given up meanwhile.
async fn start(name: &str, work: DurableWork) -> Result<Option<(Shard<Log>, LogIo)>, String> {
    let DurableWork { port, directory, lock, recover } = work;
    let answer = Answer::to(&port);
    let Some(recovered) = recover()? else { return Ok(None) };
    let storage = match Dma::open(&directory).await {
        Ok(storage) => storage,
        // A file system that refuses direct I/O: the log does without, on threads.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return start_log(name, (&directory, lock), recovered, answer).map(Some);
        }
        Err(error) => return Err(format!("its log cannot be opened: {error}")),
    };
    let Recovered { replayed, options, make } = recovered;
    let started = replayed.start(&storage, options).await.map_err(|e| e.to_string())?;
    let wake = answer.clone();
    let (io, lanes) = IoTasks::new(started.commit, started.upkeep, move || wake.tell());
    let queue = glommio::executor().create_task_queue(
        Shares::default(),
        Latency::Matters(LOG_LATENCY),
        "log",
    );
    let mut ends = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let task = glommio::spawn_local_into(lane, queue).map_err(|e| e.to_string())?;
        ends.push(task.detach());
    }
    let ended = Box::pin(async move {
        for end in ends {
            let _gone = end.await;
        }
    });
    Ok(Some((make(started.log)?, LogIo::new(Lanes::Tasks(io, ended), answer, lock))))
}
