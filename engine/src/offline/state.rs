//! Everything a store holds, rebuilt in memory as an opening would, to be dumped.
//!
//! Promises: the same answers as an engine on that store gives, to the bit; the store is not
//! changed. All of it or nothing: damage anywhere is an error.
//! Fails by: [`StoreError`].

use super::held::HeldStore;
use super::readable::ReadableStore;
use crate::StoreError;
use ebbtide_shard::{EntityId, Schema, SignalId, SignalLedger, SignalReading, Timestamp};
use std::path::Path;

/// The whole state of a store that no engine has open.
///
/// ```
/// use ebbtide::offline::StoredState;
/// use ebbtide::{Ack, Engine, EntityId, Event, Schema};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let directory = folder.path().join("signals");
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// let engine = Engine::builder(&directory).schema(schema).open()?;
/// let (view, now) = (engine.schema().signal("view").unwrap(), engine.now());
/// let mut producer = engine.producer()?;
/// let ticket = producer.offer(Event::new(EntityId(42), view, now))?;
/// producer.wait(ticket, Ack::Durable, Duration::from_secs(5))?;
/// engine.close(Duration::from_secs(5))?;
///
/// let state = StoredState::read(&directory)?;
/// assert_eq!(state.newest(), Some(now));
/// let pairs: Vec<_> = state.pairs(now, |_| true).collect();
/// assert_eq!((pairs.len(), pairs[0].0, pairs[0].2.all_time), (1, EntityId(42), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StoredState {
    ledger: SignalLedger,
}

impl StoredState {
    /// Reads the store in `directory`: its checkpoint, from a private copy, and its logs.
    ///
    /// # Errors
    ///
    /// [`StoreError`] as an opening gives it, and where there is no room for the copy.
    pub fn read(directory: &Path) -> Result<Self, StoreError> {
        HeldStore::look(directory, |held| {
            let whole = ReadableStore::open(held)?.reading().whole()?;
            Ok(Self { ledger: whole.ledger })
        })
    }

    /// The schema the store was last opened with, as it was spelled then.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.ledger.schema()
    }

    /// How many pairs of entity and signal type there are.
    #[must_use]
    pub fn pair_count(&self) -> usize {
        self.ledger.pairs()
    }

    /// The time of the newest event; `None` without events.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.ledger.iter(Timestamp(0)).map(|(_, _, reading)| reading.last_update).max()
    }

    /// Every pair of the entities that are wanted with its reading as of `as_of`, in the order of a
    /// dump: by the entity's decimal digits as text, then by the signal type's name. A store knows
    /// entities as numbers only.
    pub fn pairs(
        &self,
        as_of: Timestamp,
        is_wanted: impl Fn(EntityId) -> bool,
    ) -> impl Iterator<Item = (EntityId, SignalId, SignalReading)> {
        let keys = self.ledger.iter(Timestamp(0));
        let mut keys: Vec<_> = keys
            .map(|(entity, signal, _)| (entity, signal))
            .filter(|&(entity, _)| is_wanted(entity))
            .collect();
        // Signal ids stand in the order of their names.
        keys.sort_by_cached_key(|&(entity, signal)| (entity.0.to_string(), signal));
        let read = move |(entity, signal)| {
            let hash = self.ledger.key().hash(entity);
            let reading = self.ledger.read(hash, entity, signal, as_of)?;
            Some((entity, signal, reading))
        };
        keys.into_iter().filter_map(read)
    }
}
