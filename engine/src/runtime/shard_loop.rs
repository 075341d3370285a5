//! The loop around a shard's turn: log answers, work, rest, sleep, end. The same on every runtime.

use super::Idle;
use super::log_io::LogDriver;
use ebbtide_shard::limits::{IDLE_TURNS_BEFORE_PARK, LOOKS_PER_IDLE_TURN};
use ebbtide_shard::{Shard, Turn};
use ebbtide_wal::WalWriter;
use futures_lite::FutureExt as _;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// What a runtime lends to the loop.
pub(super) trait Pace {
    /// Lets other work of this thread go on, if it has any; less often while the shard is `behind`
    /// what it is offered.
    fn breathe(&self, behind: bool) -> impl Future<Output = ()>;
    /// Returns after so long.
    fn sleep(&self, length: Duration) -> impl Future<Output = ()>;
}

/// Drives `shard` and its log to their end.
pub(super) async fn drive<W: WalWriter, D: LogDriver<W>>(
    mut shard: Shard<W>,
    mut log: D,
    idle: Idle,
    pace: impl Pace,
) {
    let life = live(&mut shard, &mut log, idle, &pace);
    // After a panic the shard's memory is not the truth any more: nothing of it is used again.
    let end = AssertUnwindSafe(life).catch_unwind().await;
    let end = end.unwrap_or_else(|panic| Err(format!("it panicked: {}", message(&*panic))));
    // The files are at rest before anyone is told that the shard is gone: whoever waits for its
    // end may open the same log again.
    log.stop().await;
    match end {
        Ok(()) => shard.close(),
        Err(cause) => shard.fail(&cause),
    }
}

/// Turns until the shard has taken everything, then ends the log in order.
async fn live<W: WalWriter>(
    shard: &mut Shard<W>,
    log: &mut impl LogDriver<W>,
    idle: Idle,
    pace: &impl Pace,
) -> Result<(), String> {
    let mut idle_turns = 0;
    loop {
        log.pump(shard.wal_mut());
        if let Some(cause) = log.failure(shard.wal_mut()) {
            return Err(cause);
        }
        match shard.turn().map_err(|error| error.to_string())? {
            Turn::Busy => {
                idle_turns = 0;
                pace.breathe(shard.is_behind()).await;
            }
            Turn::Idle if idle_turns < IDLE_TURNS_BEFORE_PARK => {
                idle_turns += 1;
                look_for_work(shard, log);
            }
            Turn::Idle if idle == Idle::Spin && !log.is_overdue() => {
                idle_turns = 0;
                log.look_around(shard.wal_mut());
            }
            Turn::Idle | Turn::Blocked => {
                idle_turns = 0;
                park(shard, log, pace).await;
            }
            Turn::Finished => return close_log(shard, log, pace).await,
        }
    }
}

/// Looks for work some times. A look is a small part of a turn that finds none, unless there are
/// many lanes: what comes meanwhile is seen so much sooner.
fn look_for_work<W: WalWriter>(shard: &Shard<W>, log: &impl LogDriver<W>) {
    for _ in 0..LOOKS_PER_IDLE_TURN {
        if shard.has_work() || log.has_answer() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// Sleeps until there is work, the log has an answer, or it is time to look around.
async fn park<W: WalWriter>(shard: &mut Shard<W>, log: &mut impl LogDriver<W>, pace: &impl Pace) {
    shard.count_park();
    let patience = log.patience(shard.wal_mut());
    let rung = poll_fn(|cx| {
        shard.port().doorbell().poll_work(cx, || shard.has_work() || log.has_answer())
    });
    let rung = async {
        rung.await;
        true
    };
    let slept = async {
        pace.sleep(patience).await;
        false
    };
    if !futures_lite::future::or(rung, slept).await {
        log.look_around(shard.wal_mut());
    }
}

/// Lets the log end in order, and acknowledges what became durable on the way.
async fn close_log<W: WalWriter>(
    shard: &mut Shard<W>,
    log: &mut impl LogDriver<W>,
    pace: &impl Pace,
) -> Result<(), String> {
    log.close(shard.wal_mut());
    loop {
        log.pump(shard.wal_mut());
        if let Some(cause) = log.failure(shard.wal_mut()) {
            return Err(cause);
        }
        shard.acknowledge();
        // The answer that was just taken may have been the last: nothing would end a sleep then.
        if log.close(shard.wal_mut()) {
            return Ok(());
        }
        let patience = log.patience(shard.wal_mut());
        let rung = poll_fn(|cx| shard.port().doorbell().poll_work(cx, || log.has_answer()));
        futures_lite::future::or(rung, pace.sleep(patience)).await;
        log.look_around(shard.wal_mut());
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use ebbtide_router::Placement;
    use ebbtide_shard::{PartitionKey, Schema, ShardPort, SignalLedger};
    use ebbtide_wal::NoWal;
    use std::cell::Cell;
    use std::future::ready;
    use std::sync::Arc;

    /// A log that gets on or does not, and fails after so many looks at it; the answers it has
    /// come after so many questions for them each.
    struct Stub {
        is_overdue: bool,
        looks_left: u32,
        asked: Cell<u32>,
        answers_after: u32,
    }

    impl LogDriver<NoWal> for Stub {
        fn pump(&mut self, _: &mut NoWal) {
            self.looks_left -= 1;
        }

        fn failure(&self, _: &NoWal) -> Option<String> {
            (self.looks_left == 0).then(|| "enough".to_owned())
        }

        fn has_answer(&self) -> bool {
            self.asked.set(self.asked.get() + 1);
            self.asked.get().is_multiple_of(self.answers_after)
        }

        fn is_overdue(&self) -> bool {
            self.is_overdue
        }

        fn patience(&self, _: &NoWal) -> Duration {
            Duration::ZERO
        }

        fn look_around(&mut self, _: &mut NoWal) {}

        fn close(&mut self, _: &mut NoWal) -> bool {
            true
        }

        async fn stop(self) {}
    }

    struct AtOnce;

    impl Pace for AtOnce {
        fn breathe(&self, _: bool) -> impl Future<Output = ()> {
            ready(())
        }

        fn sleep(&self, _: Duration) -> impl Future<Output = ()> {
            ready(())
        }
    }

    /// How often an idle shard sleeps in a thousand turns, and how often it asks its log for an
    /// answer.
    fn sleeps_and_asks(idle: Idle, is_overdue: bool, answers_after: u32) -> (u64, u32) {
        let schema = Arc::new(
            Schema::builder()
                .signal("view", |view| view.half_lives([Duration::from_hours(1)]))
                .build()
                .unwrap(),
        );
        let (key, port) = (PartitionKey::new([1; 16]), Arc::new(ShardPort::new(0)));
        let partitions = Placement::over(1).unwrap().partitions(0);
        let ledger = SignalLedger::new(schema, key, partitions);
        let mut shard = Shard::new(Arc::clone(&port), ledger, NoWal::new(), usize::MAX);
        let mut log = Stub { is_overdue, looks_left: 1_000, asked: Cell::new(0), answers_after };
        assert_eq!(block_on(live(&mut shard, &mut log, idle, &AtOnce)), Err("enough".to_owned()));
        (port.counters().snapshot().parks, log.asked.get())
    }

    fn sleeps(idle: Idle, is_overdue: bool) -> u64 {
        sleeps_and_asks(idle, is_overdue, u32::MAX).0
    }

    #[test]
    fn an_idle_shard_looks_between_its_turns_until_there_is_something() {
        let idle_turns = 999 - 999 / (IDLE_TURNS_BEFORE_PARK + 1);
        let asks = |answers_after| sleeps_and_asks(Idle::Spin, false, answers_after).1;
        assert_eq!(asks(u32::MAX), idle_turns * LOOKS_PER_IDLE_TURN);
        assert_eq!(asks(3), idle_turns * 3);
        assert_eq!(asks(1), idle_turns);
    }

    #[test]
    fn a_shard_that_spins_sleeps_only_while_its_log_does_not_get_on() {
        let each = u64::from(IDLE_TURNS_BEFORE_PARK) + 1;
        assert_eq!(sleeps(Idle::Spin, false), 0);
        assert_eq!(sleeps(Idle::Spin, true), 999 / each);
        assert_eq!(sleeps(Idle::Park, false), 999 / each);
    }
}
