//! The running shards of an engine: their ports and their threads.
//!
//! Promises: stopping asks all shards at once, then waits for each; doing it again does nothing.

use crate::CloseError;
use crate::runtime::ShardThread;
use ebbtide_shard::{ShardDown, ShardPort};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shards that were started, in their order.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    ports: Vec<Arc<ShardPort>>,
    /// Taken by whoever stops them first.
    threads: Mutex<Vec<ShardThread>>,
}

impl Shards {
    pub(crate) fn add(&mut self, port: Arc<ShardPort>, thread: ShardThread) {
        self.ports.push(port);
        self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    pub(crate) fn ports(&self) -> &[Arc<ShardPort>] {
        &self.ports
    }

    /// Lets nothing new in and waits until every shard has taken what it has and ended.
    pub(crate) fn stop(&self, patience: Duration) -> Result<(), CloseError> {
        self.ports.iter().for_each(|port| port.begin_close());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let begun = Instant::now();
        let mut late = Vec::new();
        for (shard, thread) in threads.into_iter().enumerate() {
            // A thread that is late is left to itself: to wait for it longer is not ours to decide.
            if thread.join_within(patience.saturating_sub(begun.elapsed())).is_err() {
                late.push(shard);
            }
        }
        if !late.is_empty() {
            return Err(CloseError::Timeout { shards: late, patience });
        }
        let failed = |port: &Arc<ShardPort>| match port.down() {
            Some(down @ ShardDown::Failed { .. }) => Some(down.clone()),
            _ => None,
        };
        self.ports.iter().find_map(failed).map_or(Ok(()), |down| Err(CloseError::Failed(down)))
    }
}
