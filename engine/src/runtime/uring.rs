//! Shards on glommio executors: one pinned thread with an io_uring each.

use super::shard_loop::{self, Pace};
use super::{Job, Run, TICK};
use glommio::{LocalExecutorBuilder, Placement};

struct UringPace;

impl Pace for UringPace {
    async fn breathe(&self) {
        glommio::executor().yield_if_needed().await;
    }

    async fn tick(&self) {
        glommio::timer::sleep(TICK).await;
    }
}

/// Starts an executor for `run`; gives back how to join it.
pub(super) fn spawn(run: Run) -> Result<Box<dyn FnOnce() + Send>, String> {
    let Run { job: Job { name, core, idle, build }, started, ending } = run;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&name)
        .spawn(move || async move {
            // A shard that cannot be built has not started.
            let shard = build();
            if started.send(()).is_ok() {
                shard_loop::drive(shard, idle, UringPace).await;
            }
            drop(ending);
        })
        .map_err(|error| error.to_string())?;
    Ok(Box::new(move || {
        // A panic was caught in the loop and told as the shard's failure.
        let _told = executor.join();
    }))
}
