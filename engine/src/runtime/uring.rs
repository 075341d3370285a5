//! Shards on glommio executors: one pinned thread with an io_uring each.

use super::affinity::Affinity;
use super::log_io::{Answer, Lanes, LogIo, NoLog};
use super::shard_loop::{self, Pace};
use super::threads::start_log;
use super::{DurableWork, Job, Recovered, Run, Started, Work};
use ebbtide_shard::Shard;
use ebbtide_wal::storage::dma::Dma;
use ebbtide_wal::{IoTasks, Log};
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a busy shard lets its log's tasks go on.
const WITH_LOG: BreathEvery =
    BreathEvery { keeping_up: Duration::from_micros(50), behind: Duration::from_micros(150) };
/// A shard without a log has nothing beside it on its executor.
const ALONE: BreathEvery =
    BreathEvery { keeping_up: Duration::from_millis(100), behind: Duration::from_millis(100) };
/// Memory for direct I/O that an executor touches and pins when it starts. Frames of up to half of
/// it lie there, longer ones in memory of their own. It would take 10 MiB, which took it 10 ms.
const IO_BYTES: usize = 1 << 20;
/// The shortest sleep that is one: the executor looks at its I/O and comes straight back.
const BREATH: Duration = Duration::from_micros(1);
/// How long an executor looks for events before it sleeps: long enough for a [`BREATH`] to end.
const SPIN_BEFORE_SLEEP: Duration = Duration::from_micros(20);
/// No task is ever interrupted: the shard breathes by itself. And none may be: an executor whose
/// preemption timer fires between arming it and running its tasks runs none of them and goes to
/// sleep, and nothing wakes it (glommio 0.9.0, `run_task_queues` and `run`).
const PREEMPT_EVERY: Duration = Duration::from_hours(1);

/// How often a busy shard breathes. Each time costs some ten microseconds, in which a shard that is
/// behind gets further behind. A write needs three: less often, and the log writes more at once,
/// but what waits is durable later: 20 M events/s, half of them within 1.4 ms, for 15.5 M/s and
/// 0.9 ms. A log without room stops the shard, which then lets it go on at once.
#[derive(Clone, Copy)]
struct BreathEvery {
    keeping_up: Duration,
    behind: Duration,
}

struct UringPace {
    every: BreathEvery,
    breathed: Cell<Instant>,
}

impl UringPace {
    fn new(every: BreathEvery) -> Self {
        Self { every, breathed: Cell::new(Instant::now()) }
    }
}

impl Pace for UringPace {
    async fn breathe(&self, behind: bool) {
        let every = if behind { self.every.behind } else { self.every.keeping_up };
        if self.breathed.get().elapsed() >= every {
            glommio::timer::sleep(BREATH).await;
            self.breathed.set(Instant::now());
        }
    }

    async fn sleep(&self, length: Duration) {
        glommio::timer::sleep(length).await;
    }
}

/// Starts an executor for `run`; gives back how to join it.
pub(super) fn spawn(run: Run) -> Result<Box<dyn FnOnce() + Send>, String> {
    let Run { job: Job { name, core, idle, work }, starting, ending } = run;
    let helpers = Affinity::of_caller();
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&name.clone())
        .io_memory(IO_BYTES)
        .preempt_timer(PREEMPT_EVERY)
        .spin_before_park(SPIN_BEFORE_SLEEP)
        .spawn(move || async move {
            // A shard that cannot be built has not started.
            match work {
                Work::InMemory(build) => {
                    let shard = build();
                    if starting.send(Ok(Started { direct_io: false })).is_ok() {
                        shard_loop::drive(shard, NoLog, idle, UringPace::new(ALONE)).await;
                    }
                }
                Work::Durable(work) => match start(&name, work, &helpers).await {
                    Ok(Some((shard, log))) => {
                        let every = if log.is_on_threads() { ALONE } else { WITH_LOG };
                        if starting.send(Ok(log.started())).is_ok() {
                            shard_loop::drive(shard, log, idle, UringPace::new(every)).await;
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
async fn start(
    name: &str,
    work: DurableWork,
    helpers: &Affinity,
) -> Result<Option<(Shard<Log>, LogIo)>, String> {
    let DurableWork { port, directory, lock, recover } = work;
    let answer = Answer::to(&port);
    let Some(recovered) = recover()? else { return Ok(None) };
    let Some(storage) = storage(&directory).await? else {
        return start_log((name, helpers), (&directory, lock), recovered, answer).map(Some);
    };
    let Recovered { replayed, options, make } = recovered;
    let started = replayed.start(&storage, options).await.map_err(|e| e.to_string())?;
    let wake = answer.clone();
    let (io, lanes) = IoTasks::new(started.commit, started.upkeep, move || wake.tell());
    let ends: Vec<_> = lanes.map(|lane| glommio::spawn_local(lane).detach()).into();
    let ended = Box::pin(async move {
        for end in ends {
            let _gone = end.await;
        }
    });
    let io = LogIo::new(Lanes::Tasks(io, ended), answer, lock, true);
    Ok(Some((make(started.log)?, io)))
}

/// Where the log of a shard lies for io_uring, if that can perform its I/O.
async fn storage(directory: &Path) -> Result<Option<Dma>, String> {
    match Dma::open(directory).await {
        Ok(storage) => Ok(Some(storage)),
        // A file system that refuses direct I/O: the log does without.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(format!("its log cannot be opened: {error}")),
    }
}
