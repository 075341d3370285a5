//! The shared map: one concurrent map of atomic states, which every thread writes to.
//!
//! ```text
//! map (entity, signal) ─▶ Box<State>   scores, last update, all-time count,
//!                                          60 minute and 168 hour buckets: all atomics
//! ```
//!
//! Promises: `record` and `read` take `&self` from any number of threads. Every event is counted
//! and decayed once, whatever the interleaving; `state` says how, and names the two coincidences
//! that it lets pass. An event of a known entity takes its shard's lock for reading only, and
//! allocates nothing.
//!
//! Choices, each made in the rival's favour:
//! * foldhash instead of the default `SipHash`;
//! * many more lock shards than the default of four a core, so that two threads seldom meet in
//!   one, even for reading;
//! * states in boxes: a table of pointers grows without moving a kilobyte an entry, and its
//!   empty slots cost 24 bytes and not 960;
//! * no deduplication, no log, no durability.

mod ring;
mod state;

use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::limits::{HALF_LIVES_MAX, RIVAL_LOCK_SHARDS};
pub use state::Reading;
use state::State;

/// An entity and one of its signals.
type Key = (u64, u8);

/// The decay rates of one signal.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    /// λ = ln 2 / half-life, in 1/ns; zero beyond `count`.
    per_ns: [f64; HALF_LIVES_MAX],
    count: usize,
}

/// A concurrent map of decaying signals.
#[derive(Debug)]
pub struct SharedMap {
    states: DashMap<Key, Box<State>, RandomState>,
    rates: Box<[Rates]>,
}

impl SharedMap {
    /// A map for signals with the given half-lives, with room for `capacity` states.
    ///
    /// # Panics
    ///
    /// When a signal has more than [`HALF_LIVES_MAX`] half-lives, or one of zero.
    #[must_use]
    pub fn with_capacity(capacity: usize, half_lives: &[&[Duration]]) -> Self {
        let rates = half_lives.iter().map(|half_lives| Rates::new(half_lives)).collect();
        let states = DashMap::with_capacity_and_hasher_and_shard_amount(
            capacity,
            RandomState::default(),
            RIVAL_LOCK_SHARDS,
        );
        Self { states, rates }
    }

    /// The same with as many lock shards as the map has by itself, four for each core: for few
    /// states, beside which [`RIVAL_LOCK_SHARDS`] of them would weigh.
    ///
    /// # Panics
    ///
    /// As [`SharedMap::with_capacity`].
    #[must_use]
    pub fn small(half_lives: &[&[Duration]]) -> Self {
        let rates = half_lives.iter().map(|half_lives| Rates::new(half_lives)).collect();
        Self { states: DashMap::with_hasher(RandomState::default()), rates }
    }

    /// Counts an event and adds its weight to the scores.
    ///
    /// # Panics
    ///
    /// When there is no such signal.
    #[inline]
    pub fn record(&self, entity: u64, signal: u8, time_ns: u64, weight: f64) {
        let rates = &self.rates[usize::from(signal)];
        if let Some(state) = self.states.get(&(entity, signal)) {
            return state.record(rates, time_ns, weight);
        }
        // The lock of `get` is released here; another thread may insert in between.
        let state = self.states.entry((entity, signal)).or_insert_with(|| State::new(time_ns));
        state.downgrade().record(rates, time_ns, weight);
    }

    /// What the events of `entity` amount to as of `now_ns`, or as of its last update if that is
    /// later.
    ///
    /// # Panics
    ///
    /// When there is no such signal.
    #[inline]
    #[must_use]
    pub fn read(&self, entity: u64, signal: u8, now_ns: u64) -> Option<Reading> {
        let rates = &self.rates[usize::from(signal)];
        self.states.get(&(entity, signal)).map(|state| state.read(rates, now_ns))
    }

    /// How many (entity, signal) pairs have a state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is no state yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The memory it holds: states, table slots used and unused with their control bytes, and
    /// lock shards. The allocator's own overhead is not in it.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        /// Control bytes behind the last slot of a table, one group of the widest search.
        const TABLE_TAIL_BYTES: usize = 16;
        let slot_bytes = size_of::<(Key, Box<State>)>() + 1;
        let shards = self.states.shards();
        let tables = shards.iter().map(|shard| {
            let table = shard.read();
            match table.capacity() {
                0 => 0, // one table of no slots is shared by all
                _ => table.buckets() * slot_bytes + TABLE_TAIL_BYTES,
            }
        });
        let tables_bytes: usize = tables.sum();
        self.len() * size_of::<State>() + tables_bytes + size_of_val(shards) + size_of::<Self>()
    }
}

impl Rates {
    fn new(half_lives: &[Duration]) -> Self {
        assert!(half_lives.len() <= HALF_LIVES_MAX, "at most {HALF_LIVES_MAX} half-lives");
        assert!(half_lives.iter().all(|half_life| !half_life.is_zero()), "a half-life of zero");
        let mut per_ns = [0.0; HALF_LIVES_MAX];
        for (rate, half_life) in per_ns.iter_mut().zip(half_lives) {
            *rate = std::f64::consts::LN_2 / half_life.as_nanos() as f64;
        }
        Self { per_ns, count: half_lives.len() }
    }
}

#[cfg(test)]
mod tests;
