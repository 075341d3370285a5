//! Rows beside Redis: recording durably, and reading back what was stored.
//!
//! Promises: the server is this comparison's own, in a folder of its stores, and is ended with its
//! row; where there is none, or it does not come up, the row is skipped and says why. Redis has the
//! last core, as a shard has; the client the first.

use super::criteria::{Criterion, DURABLE_VS_REDIS, RESTORE};
use super::measure::{millions, wall_seconds};
use super::workload::Stream;
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use crate::rivals::{Keeping, RedisEvent, RedisServer, RedisSignals};
use ebbtide::Event;
use std::path::PathBuf;

/// Of a turn's events, one in so many is given to Redis, which needs far longer for each.
const REDIS_SHARE: usize = 10;

/// A server for one row; if it cannot be had, the row is skipped.
fn signals(
    run: &mut Run,
    criterion: Criterion,
    keeping: Keeping,
) -> Option<(PathBuf, RedisSignals)> {
    let folder = run.stores.fresh("redis");
    let server = RedisServer::start(&folder, keeping, cores::all().last().copied());
    match server.and_then(RedisSignals::new) {
        Ok(signals) => Some((folder, signals)),
        Err(error) => {
            run.skip(criterion, error.to_string());
            None
        }
    }
}

/// Redis, recording what we record.
pub(super) struct Recording(RedisSignals);

impl Recording {
    /// A server whose entities have had events at `history_ns`, if the row is wanted and can be
    /// had; it takes the first turn of `stream` to find how it is fastest.
    ///
    /// # Errors
    ///
    /// If Redis fails on the way.
    pub(super) fn start(
        run: &mut Run,
        (stream, history_ns): (&mut Stream, &[u64]),
    ) -> Result<Option<Self>, Fault> {
        if !run.wants(&[DURABLE_VS_REDIS]) {
            return Ok(None);
        }
        let signals = signals(run, DURABLE_VS_REDIS, Keeping::LogEverySecond);
        let Some((_, mut redis)) = signals else { return Ok(None) };
        redis.fill(run.effort.entities_memory, history_ns)?;
        redis.tune(&shared(&engines::unrouted(&stream.take(run.effort.events_durable))))?;
        redis.server().settle()?;
        Ok(Some(Self(redis)))
    }

    /// Millions of events that Redis applies in a second, of a turn's events.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub(super) fn rate(&mut self, events: &[Event]) -> Result<f64, Fault> {
        let some = shared(events);
        let seconds = wall_seconds(|| Ok(self.0.record(&some)?))?;
        // What the system still has to write would be written beside our next turn.
        self.0.server().settle()?;
        Ok(millions(some.len(), seconds))
    }
}

/// Redis' part of a turn's events.
fn shared(events: &[Event]) -> Vec<RedisEvent> {
    let some = &events[..events.len().div_ceil(REDIS_SHARE)];
    some.iter().map(|event| RedisEvent::new(event.entity.0, event.time.0, event.weight)).collect()
}

/// A snapshot of Redis that is loaded again and again.
pub(super) struct Snapshot {
    folder: PathBuf,
    keys: u64,
}

impl Snapshot {
    /// Of `keys` entities with events at `history_ns`, if the row is wanted and can be had.
    ///
    /// # Errors
    ///
    /// If Redis fails on the way.
    pub(super) fn take(
        run: &mut Run,
        keys: u64,
        history_ns: &[u64],
    ) -> Result<Option<Self>, Fault> {
        if !run.wants(&[RESTORE]) {
            return Ok(None);
        }
        let Some((folder, mut redis)) = signals(run, RESTORE, Keeping::Snapshot) else {
            return Ok(None);
        };
        redis.fill(keys, history_ns)?;
        redis.server().save()?;
        Ok(Some(Self { folder, keys }))
    }

    /// Millions of keys that Redis loads in a second, by its own account.
    ///
    /// # Errors
    ///
    /// If it does not load them all.
    pub(super) fn load(&self) -> Result<f64, Fault> {
        let core = cores::all().last().copied();
        let mut redis = RedisServer::start(&self.folder, Keeping::Snapshot, core)?;
        let (keys, took) = (redis.keys()?, redis.loaded_in()?);
        if keys < self.keys {
            return Err(Fault::environment(format!(
                "redis-server loaded {keys} of {} keys; see whether its disk is full",
                self.keys
            )));
        }
        Ok(keys as f64 / took.as_secs_f64() / 1e6)
    }
}
