//! Shards on plain threads: for hosts where io_uring is not to be had.

use super::shard_loop::{self, Pace};
use super::{Job, Run, TICK};
use crate::block_on::block_on_ticking;
use std::future::{pending, ready};
use std::thread;

struct ThreadPace;

impl Pace for ThreadPace {
    fn breathe(&self) -> impl Future<Output = ()> {
        ready(())
    }

    fn tick(&self) -> impl Future<Output = ()> {
        // The thread looks around every TICK by itself.
        pending()
    }
}

/// Starts a thread for `run`; gives back how to join it.
pub(super) fn spawn(run: Run) -> Result<Box<dyn FnOnce() + Send>, String> {
    let Run { job: Job { name, core, idle, build }, started, ending } = run;
    let body = move || {
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
        // A shard that cannot be built has not started.
        let shard = build();
        if pinned && started.send(()).is_ok() {
            block_on_ticking(shard_loop::drive(shard, idle, ThreadPace), TICK);
        }
        drop(ending);
    };
    let thread = thread::Builder::new().name(name).spawn(body).map_err(|e| e.to_string())?;
    Ok(Box::new(move || {
        // A panic was caught in the loop and told as the shard's failure.
        let _told = thread.join();
    }))
}
