//! The running shards of an engine: their ports and their threads.
//!
//! Promises: stopping asks all shards at once, then waits for each; doing it again waits for those
//! that were late.

use crate::CloseError;
use crate::runtime::{ShardThread, Started};
use ebbtide_shard::{ShardDown, ShardPort};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shards that were started, in their order.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    ports: Vec<Arc<ShardPort>>,
    /// The core of each.
    cores: Vec<usize>,
    /// Those not joined yet, with the numbers of their shards. Whoever stops them holds the lock.
    threads: Mutex<Vec<(usize, ShardThread)>>,
}

impl Shards {
    pub(crate) fn add(&mut self, port: Arc<ShardPort>, core: usize, thread: ShardThread) {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        threads.push((port.shard(), thread));
        self.ports.push(port);
        self.cores.push(core);
    }

    /// The core that a shard runs on.
    pub(crate) fn core(&self, shard: usize) -> usize {
        self.cores[shard]
    }

    /// Waits until every shard runs, and gives what holds for all of them; otherwise says which
    /// does not, and why.
    pub(crate) fn wait_until_started(&mut self) -> Result<Started, (usize, String)> {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut direct_io = true;
        for (shard, thread) in threads {
            direct_io &= thread.wait_until_started().map_err(|why| (*shard, why))?.direct_io;
        }
        Ok(Started { direct_io })
    }

    /// Why a shard that has ended never ran.
    pub(crate) fn why_not(&mut self, shard: usize) -> Option<String> {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (_, thread) = threads.iter().find(|(number, _)| *number == shard)?;
        thread.wait_until_started().err()
    }

    pub(crate) fn ports(&self) -> &[Arc<ShardPort>] {
        &self.ports
    }

    /// Lets nothing new in and waits until every shard has taken what it has and ended.
    pub(crate) fn stop(&self, patience: Duration) -> Result<(), CloseError> {
        self.ports.iter().for_each(|port| port.begin_close());
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let join_within = |(shard, thread): (usize, ShardThread)| {
            let left = patience.saturating_sub(begun.elapsed());
            thread.join_within(left).err().map(|late| (shard, late))
        };
        *threads = std::mem::take(&mut *threads).into_iter().filter_map(join_within).collect();
        if !threads.is_empty() {
            let shards = threads.iter().map(|&(shard, _)| shard).collect();
            return Err(CloseError::Timeout { shards, patience });
        }
        let failed = |port: &Arc<ShardPort>| match port.down() {
            Some(down @ ShardDown::Failed { .. }) => Some(down.clone()),
            _ => None,
        };
        self.ports.iter().find_map(failed).map_or(Ok(()), |down| Err(CloseError::Failed(down)))
    }
}
