//! Decaying signals kept by Redis: what its script does with events, and what it keeps of them.
//!
//! Promises: an event is counted when the server has answered for it. A time is kept as `f64`
//! seconds, to a fourth of a microsecond, which is what Lua has.

use super::client::{RedisError, Reply};
use super::server::RedisServer;
use crate::limits::HALF_LIVES_MAX;
use std::time::Instant;

const RECORD: &str = include_str!("record.lua");
const COPY: &str = include_str!("copy.lua");
/// Bytes of an event on its way.
const EVENT_BYTES: usize = 24;
/// Events on their way at most, so that the server never waits for the next call.
const EVENTS_SENT_MAX: usize = 4096;
/// Events of one call that are tried.
const CALLS_TRIED: [usize; 4] = [16, 64, 256, 1024];
/// Entities of one call that copies.
const COPIES: u64 = 1024;
/// Bytes of a state before its buckets.
const HEAD_BYTES: usize = 40;

/// An event as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct RedisEvent([u8; EVENT_BYTES]);

impl RedisEvent {
    /// Of an entity at a time.
    #[must_use]
    pub fn new(entity: u64, time_ns: u64, weight: f64) -> Self {
        let mut bytes = [0; EVENT_BYTES];
        bytes[..8].copy_from_slice(&entity.to_le_bytes());
        bytes[8..16].copy_from_slice(&(time_ns as f64 / 1e9).to_le_bytes());
        bytes[16..].copy_from_slice(&weight.to_le_bytes());
        Self(bytes)
    }
}

/// What Redis keeps of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisState {
    /// Time of the latest event, in seconds.
    pub last_update: f64,
    /// Decayed sums as of then.
    pub scores: [f64; HALF_LIVES_MAX],
    /// Events ever.
    pub all_time: u32,
    /// Minutes since the epoch with their events, newest first.
    pub minutes: Vec<(u32, u32)>,
    /// Hours with theirs.
    pub hours: Vec<(u32, u32)>,
}

/// Signals with half-lives of 1 h, 24 h and 7 d, and their windows.
#[derive(Debug)]
pub struct RedisSignals {
    server: RedisServer,
    record: Vec<u8>,
    copy: Vec<u8>,
    events_per_call: usize,
}

impl RedisSignals {
    /// Signals in a server that runs.
    ///
    /// # Errors
    ///
    /// If it takes no scripts.
    pub fn new(mut server: RedisServer) -> Result<Self, RedisError> {
        let mut load =
            |script: &str| server.client().call(&[b"SCRIPT", b"LOAD", script.as_bytes()])?.text();
        let (record, copy) = (load(RECORD)?, load(COPY)?);
        Ok(Self { server, record, copy, events_per_call: CALLS_TRIED[1] })
    }

    /// The server below.
    pub fn server(&mut self) -> &mut RedisServer {
        &mut self.server
    }

    /// Records events and waits until all are applied.
    ///
    /// # Errors
    ///
    /// If the server fails, or has not applied them all.
    pub fn record(&mut self, events: &[RedisEvent]) -> Result<(), RedisError> {
        let (mut sent, mut applied) = (0, 0);
        for some in events.chunks(self.events_per_call) {
            let call = some.iter().flat_map(|event| event.0).collect::<Vec<u8>>();
            self.server.client().send(&[b"EVALSHA", &self.record, b"0", &call])?;
            sent += some.len();
            while sent - applied >= EVENTS_SENT_MAX {
                applied += self.applied()?;
            }
        }
        while applied < sent {
            applied += self.applied()?;
        }
        Ok(())
    }

    fn applied(&mut self) -> Result<usize, RedisError> {
        let events = self.server.client().reply()?.integer()?;
        let some = usize::try_from(events).ok().filter(|events| *events > 0);
        some.ok_or_else(|| RedisError::Strange(format!("{events} events were applied")))
    }

    /// Gives each of `entities` entities an event at each of `times_ns`, in that order.
    ///
    /// # Errors
    ///
    /// If the server fails.
    pub fn fill(&mut self, entities: u64, times_ns: &[u64]) -> Result<(), RedisError> {
        let history: Vec<_> = times_ns.iter().map(|time| RedisEvent::new(0, *time, 1.0)).collect();
        self.record(&history)?;
        let mut first = 1;
        while first < entities {
            let end = entities.min(first + COPIES);
            let [from, to] = [first, end].map(|entity| entity.to_string());
            let words = [b"EVALSHA", &*self.copy, b"0", from.as_bytes(), to.as_bytes()];
            self.server.client().call(&words)?.integer()?;
            first = end;
        }
        Ok(())
    }

    /// Finds how many events of one call suit this server best, with a part of `events` each.
    ///
    /// # Errors
    ///
    /// If the server fails.
    pub fn tune(&mut self, events: &[RedisEvent]) -> Result<(), RedisError> {
        let mut best: Option<(f64, usize)> = None;
        let part = events.len().div_ceil(CALLS_TRIED.len()).max(1);
        for (size, some) in CALLS_TRIED.into_iter().zip(events.chunks(part)) {
            self.events_per_call = size;
            let begun = Instant::now();
            self.record(some)?;
            let each = begun.elapsed().as_secs_f64() / some.len() as f64;
            if best.is_none_or(|(least, _)| each < least) {
                best = Some((each, size));
            }
        }
        self.events_per_call = best.map_or(CALLS_TRIED[1], |(_, size)| size);
        Ok(())
    }

    /// What it keeps of an entity.
    ///
    /// # Errors
    ///
    /// If the server fails, or its state is none.
    pub fn state(&mut self, entity: u64) -> Result<Option<RedisState>, RedisError> {
        match self.server.client().call(&[b"GET", &entity.to_le_bytes()])? {
            Reply::Nothing => Ok(None),
            other => {
                let state = RedisState::of(&other.text()?);
                let strange = || RedisError::Strange(format!("the state of entity {entity}"));
                state.map(Some).ok_or_else(strange)
            }
        }
    }
}

impl RedisState {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (head, _) = bytes.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| head[at..].first_chunk().copied().map(f64::from_le_bytes);
        let [last_update, a, b, c] = [number(0)?, number(8)?, number(16)?, number(24)?];
        let [all_time, hours_at] = [32, 36].map(|at| word(&head[at..]));
        let hours_at = usize::try_from(hours_at?).ok()?.checked_sub(1)?;
        let list = |part: Option<&[u8]>| {
            let buckets = part?.chunks_exact(8);
            buckets
                .map(|bucket| Some((word(bucket)?, word(&bucket[4..])?)))
                .collect::<Option<Vec<_>>>()
        };
        Some(Self {
            last_update,
            scores: [a, b, c],
            all_time: all_time?,
            minutes: list(bytes.get(HEAD_BYTES..hours_at))?,
            hours: list(bytes.get(hours_at..))?,
        })
    }

    /// The sum of the buckets of the last `span`, as of bucket `now`.
    #[must_use]
    pub fn count(buckets: &[(u32, u32)], now: u32, span: u32) -> u64 {
        let inside = |&&(id, _): &&(u32, u32)| id <= now && id + span > now;
        buckets.iter().filter(inside).map(|(_, count)| u64::from(*count)).sum()
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
