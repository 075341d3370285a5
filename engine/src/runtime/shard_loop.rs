//! The loop around a shard's turn: work, rest, sleep, end. The same on every runtime.

use super::Idle;
use ebbtide_shard::limits::IDLE_TURNS_BEFORE_PARK;
use ebbtide_shard::{Shard, Turn};
use ebbtide_wal::WalWriter;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a runtime lends to the loop.
pub(super) trait Pace {
    /// Lets other work of this thread go on, if it has any.
    fn breathe(&self) -> impl Future<Output = ()>;
    /// Returns when a sleeping shard should look around unasked.
    fn tick(&self) -> impl Future<Output = ()>;
}

/// Drives `shard` to its end.
pub(super) async fn drive<W: WalWriter>(mut shard: Shard<W>, idle: Idle, pace: impl Pace) {
    let mut idle_turns = 0;
    loop {
        match catch_unwind(AssertUnwindSafe(|| shard.turn())) {
            Ok(Ok(Turn::Busy)) => {
                idle_turns = 0;
                pace.breathe().await;
            }
            Ok(Ok(Turn::Idle)) if idle == Idle::Spin || idle_turns < IDLE_TURNS_BEFORE_PARK => {
                idle_turns += 1;
                std::hint::spin_loop();
                if idle_turns.is_multiple_of(IDLE_TURNS_BEFORE_PARK) {
                    pace.breathe().await;
                }
            }
            Ok(Ok(Turn::Idle | Turn::Blocked)) => {
                idle_turns = 0;
                shard.count_park();
                let rung = poll_fn(|cx| shard.port().doorbell().poll_work(cx, || shard.has_work()));
                futures_lite::future::or(rung, pace.tick()).await;
            }
            Ok(Ok(Turn::Finished)) => return shard.close(),
            Ok(Err(error)) => return shard.fail(&error.to_string()),
            // The shard's memory is not the truth any more: nothing of it is used again.
            Err(panic) => return shard.fail(&format!("it panicked: {}", message(&*panic))),
        }
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
