//! The engine: opens, hands out producers and readers, closes. It owns nothing hot.

use crate::runtime::{Affinity, BackendChoice};
use crate::shards::Shards;
use crate::sources::Sources;
use crate::store::OpenStore;
use crate::{
    AsyncReader, CheckpointError, CloseError, Durability, EngineBuilder, EngineMetrics, Health,
    Producer, Reader, RecoveryReport, StoreError, VisitError,
};
use ebbtide_router::{Admission, Clock, EventRouter, Placement, RejectionCounters, RequestRouter};
use ebbtide_shard::checkpoint::CheckpointDone;
use ebbtide_shard::port::Mail;
use ebbtide_shard::{EntityId, LocalShard, PartitionKey, Schema, ShardDown, ShardPort, Timestamp};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long dropping an engine waits for its shards. `close` says how long it may take.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// How long closing waits for the checkpoint's storage at least.
const STORE_PATIENCE_MIN: Duration = Duration::from_secs(1);

/// A running engine. Share it behind an `Arc`, or keep it and hand out its producers and readers:
/// these outlive nothing but themselves and report a closed engine as an error.
///
/// ```
/// use ebbtide::{Engine, Event, EntityId, Schema, Ack};
/// use std::time::Duration;
///
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]")?;
/// let engine = Engine::in_memory().schema(schema).shards(2).open()?;
/// let view = engine.schema().signal("view").unwrap();
///
/// let mut producer = engine.producer()?;
/// let ticket = producer.offer(Event::new(EntityId(42), view, engine.now()))?;
/// producer.wait(ticket, Ack::Applied, Duration::from_secs(1))?;
///
/// let reading = engine.reader()?.read(EntityId(42), view, engine.now())?.unwrap();
/// assert_eq!(reading.counts(), [1]);
/// engine.close(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    pub(crate) schema: Arc<Schema>,
    pub(crate) key: PartitionKey,
    pub(crate) placement: Placement,
    pub(crate) choice: BackendChoice,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) future_skew_max: Duration,
    pub(crate) rejected: Arc<RejectionCounters>,
    pub(crate) sources: Arc<Sources>,
    /// Whether events are written to a log; without one they live in memory only.
    pub(crate) has_log: bool,
    pub(crate) shards: Shards,
    /// Where everything is kept, if it is.
    pub(crate) store: Option<OpenStore>,
}

/// Threads share an engine: each opens its own producers and readers.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Engine>();
};

impl Engine {
    /// Starts to put together an engine that lives in memory only: closing it, or a crash, loses
    /// all.
    pub fn in_memory() -> EngineBuilder {
        EngineBuilder::new(None)
    }

    /// Starts to put together an engine that keeps everything in `directory`, which is made if
    /// there is none. What was acknowledged as durable is there again after any crash; any number
    /// of shards opens any store.
    ///
    /// ```
    /// use ebbtide::{Ack, Engine, EntityId, Event, Schema};
    /// use std::time::Duration;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let directory = folder.path().join("signals");
    /// let schema = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]";
    /// let engine = Engine::builder(&directory).schema(Schema::from_toml(schema)?).open()?;
    /// let view = engine.schema().signal("view").unwrap();
    /// let mut producer = engine.producer()?;
    /// let ticket = producer.offer(Event::new(EntityId(42), view, engine.now()))?;
    /// producer.wait(ticket, Ack::Durable, Duration::from_secs(5))?;
    /// engine.close(Duration::from_secs(5))?;
    ///
    /// let schema = Schema::from_toml(schema)?;
    /// let again = Engine::builder(&directory).schema(schema).shards(3).open()?;
    /// let reading = again.reader()?.read(EntityId(42), view, again.now())?.unwrap();
    /// assert_eq!(reading.all_time, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(directory: impl AsRef<Path>) -> EngineBuilder {
        EngineBuilder::new(Some(directory.as_ref()))
    }

    /// What opening the store found and did; `None` for an engine that lives in memory.
    #[must_use]
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.store.as_ref().map(OpenStore::report)
    }

    /// What an acknowledgement is worth where the store lies: not every file system keeps what it
    /// is told to sync. `None` for an engine that lives in memory.
    ///
    /// ```
    /// use ebbtide::{Engine, Schema, Survives};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let directory = folder.path().join("signals");
    /// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]")?;
    /// let engine = Engine::builder(&directory).schema(schema).open()?;
    /// let durability = engine.durability().unwrap();
    /// if durability.durable() < Survives::PowerCut {
    ///     eprintln!("a power cut may lose everything: {durability}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn durability(&self) -> Option<&Durability> {
        self.store.as_ref().map(OpenStore::durability)
    }

    /// Takes a checkpoint of everything applied by now and waits until it is durable. What it
    /// covers leaves the logs, so the next opening is shorter. Events go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]; nothing is lost then, the logs keep what no checkpoint covers.
    pub fn checkpoint(&self) -> Result<CheckpointDone, CheckpointError> {
        self.store.as_ref().ok_or(CheckpointError::InMemory)?.checkpointer().checkpoint()
    }

    /// Writes a copy of the store to `directory`, which must be empty or not there, while events go
    /// on, and reads the copy back. It holds everything that was durable when the call began.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; what is in `directory` is then no store.
    pub fn backup(&self, directory: impl AsRef<Path>) -> Result<(), StoreError> {
        let store = self.store.as_ref().ok_or(StoreError::Closed)?;
        store.checkpointer().backup(directory.as_ref())
    }

    /// Which signals there are.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.ports().len()
    }

    /// The runtime in use, and why.
    #[must_use]
    pub fn backend(&self) -> &BackendChoice {
        &self.choice
    }

    /// The present, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A handle for one recording thread.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    pub fn producer(&self) -> Result<Producer, ShardDown> {
        let (ports, placement) = (self.shards.ports(), self.placement);
        let events = EventRouter::open(ports, placement, self.key, self.admission())?;
        Ok(Producer::new(events, self.has_log))
    }

    /// The gate of one more producer.
    pub(crate) fn admission(&self) -> Admission {
        let (schema, clock) = (Arc::clone(&self.schema), Arc::clone(&self.clock));
        Admission::new(schema, clock, self.future_skew_max, Arc::clone(&self.rejected))
    }

    /// A handle for one reading thread. Open it on that thread: if it may run on another core than
    /// a shard it looks for the shard's answer for up to 50 us before it sleeps.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    pub fn reader(&self) -> Result<Reader, ShardDown> {
        let cores = Affinity::of_caller();
        let runs_beside = |shard| cores.has_another_than(self.shards.core(shard));
        self.async_reader().map(|reader| Reader::new(reader, runs_beside))
    }

    /// A handle for one reading task of any executor.
    ///
    /// # Errors
    ///
    /// If a shard is down.
    pub fn async_reader(&self) -> Result<AsyncReader, ShardDown> {
        let requests = RequestRouter::open(self.shards.ports(), self.placement, self.key)?;
        Ok(AsyncReader::new(requests, Arc::clone(&self.schema), Arc::clone(&self.clock)))
    }

    /// Runs `look` on the core that owns `entity`, between two turns, and gives back its result.
    /// The shard does nothing else meanwhile, so be brief; and never call this from inside `look`,
    /// which would wait for itself. It waits for the result on the caller's thread.
    ///
    /// ```
    /// use ebbtide::{Engine, EntityId, Schema, Timestamp};
    /// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
    /// # let engine = Engine::in_memory().schema(schema).shards(2).open()?;
    /// let user = EntityId(42);
    /// let pairs = engine.on_shard(user, move |local| {
    ///     assert!(local.owns(user));
    ///     local.pairs(Timestamp(0)).count()
    /// })?;
    /// assert_eq!(pairs, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`VisitError`] if the shard is down or `look` panics, which harms nobody else.
    pub fn on_shard<R: Send + 'static>(
        &self,
        entity: EntityId,
        look: impl FnOnce(&LocalShard<'_>) -> R + Send + 'static,
    ) -> Result<R, VisitError> {
        visit(&self.shards.ports()[self.placement.shard(self.key.hash(entity))], look)
    }

    /// Runs `look` on every shard, one after the other, and gives back the results in the order of
    /// the shards. Each shard does nothing else meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Engine::on_shard`], at the first shard that fails.
    pub fn on_every_shard<R: Send + 'static>(
        &self,
        look: impl Fn(&LocalShard<'_>) -> R + Send + Sync + 'static,
    ) -> Result<Vec<R>, VisitError> {
        let look = Arc::new(look);
        let visit_one = |port: &Arc<ShardPort>| {
            let look = Arc::clone(&look);
            visit(port, move |local| look(local))
        };
        self.shards.ports().iter().map(visit_one).collect()
    }

    /// Counters of every shard, as of its last turn that found work, and of the edge. Disturbs no
    /// shard.
    #[must_use]
    pub fn metrics(&self) -> EngineMetrics {
        EngineMetrics {
            shards: self.shards.ports().iter().map(|port| port.counters().snapshot()).collect(),
            rejected: self.rejected.snapshot(),
            checkpoints: self.store.as_ref().map(|store| store.checkpointer().metrics()),
        }
    }

    /// Whether every shard runs.
    #[must_use]
    pub fn health(&self) -> Health {
        let down: Vec<_> =
            self.shards.ports().iter().filter_map(|port| port.down().cloned()).collect();
        let checkpoints = self.store.as_ref().map(|store| store.checkpointer().metrics());
        match checkpoints.and_then(|checkpoints| checkpoints.failure) {
            _ if !down.is_empty() => Health::Failed(down),
            Some(why) => Health::Degraded { why },
            None => Health::Ok,
        }
    }

    /// Lets nothing new in, applies everything accepted before, and ends the shards. An event that
    /// is accepted in the same moment may be left out; whoever waits for it is told. Dropping the
    /// engine does the same with a patience of two seconds and nobody to tell.
    ///
    /// # Errors
    ///
    /// [`CloseError`] if shards have not ended within `patience`, or one had failed before.
    pub fn close(&self, patience: Duration) -> Result<(), CloseError> {
        let begun = Instant::now();
        let ended = self.shards.stop(patience);
        if matches!(ended, Err(CloseError::Timeout { .. })) {
            return ended;
        }
        let Some(store) = &self.store else { return ended };
        // At least a moment, also if the shards took all of the patience.
        let left = patience.saturating_sub(begun.elapsed()).max(STORE_PATIENCE_MIN);
        let closed = store.close(left);
        ended.and(closed.map_err(|error| CloseError::Store { why: error.to_string() }))
    }

    /// Makes the shard that owns `entity` panic.
    #[cfg(feature = "test-util")]
    pub fn panic_shard_of(&self, entity: EntityId) {
        let port = &self.shards.ports()[self.placement.shard(self.key.hash(entity))];
        let _already_down = port.post(Mail::Panic);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _nobody_to_tell = self.close(DROP_PATIENCE);
    }
}

/// Runs `look` on the shard behind `port`.
pub(crate) fn visit<R: Send + 'static>(
    port: &ShardPort,
    look: impl FnOnce(&LocalShard<'_>) -> R + Send + 'static,
) -> Result<R, VisitError> {
    let (tell, told) = mpsc::channel();
    let shard = port.shard();
    let visit = move |local: &LocalShard<'_>| {
        // Looking changes nothing, so a panic on the way leaves nothing half done.
        let seen = catch_unwind(AssertUnwindSafe(|| look(local)));
        let seen = seen.map_err(|panic| crate::runtime::panic_message(&*panic).to_owned());
        let _caller_has_gone = tell.send(seen);
    };
    port.post(Mail::Visit(Box::new(visit)))?;
    match told.recv() {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(message)) => Err(VisitError::Panicked { shard, message }),
        Err(mpsc::RecvError) => Err(port.why_down().into()),
    }
}
