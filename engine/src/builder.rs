//! How an engine is put together.

use crate::runtime::{self, Backend, Idle, Job};
use crate::shards::Shards;
use crate::{Engine, OpenError};
use ebbtide_router::{Clock, Placement, SystemClock};
use ebbtide_shard::{PartitionKey, Schema, Shard, ShardPort, SignalLedger};
use ebbtide_wal::NoWal;
use std::sync::Arc;
use std::time::Duration;

/// How far ahead of the clock an event's time may be, unless said otherwise.
const FUTURE_SKEW_DEFAULT: Duration = Duration::from_secs(5);

/// Collects what an engine needs; [`EngineBuilder::open`] checks it and starts the shards.
///
/// ```
/// use ebbtide::{Backend, Engine, ManualClock, Schema, Timestamp};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_700_000_000)));
/// let engine = Engine::in_memory()
///     .schema(Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]")?)
///     .shards(2)
///     .backend(Backend::Threads)
///     .clock(clock.clone())
///     .future_skew_max(Duration::ZERO)
///     .memory_limit(64 << 20)
///     .open()?;
/// clock.advance_to(Timestamp::from_seconds(1_700_000_060));
/// assert_eq!(engine.now(), Timestamp::from_seconds(1_700_000_060));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EngineBuilder {
    schema: Option<Arc<Schema>>,
    shards: Option<usize>,
    cores: Option<Vec<usize>>,
    backend: Backend,
    idle: Idle,
    clock: Arc<dyn Clock>,
    future_skew_max: Duration,
    memory_bytes_max: usize,
}

impl EngineBuilder {
    pub(crate) fn new() -> Self {
        Self {
            schema: None,
            shards: None,
            cores: None,
            backend: Backend::Auto,
            idle: Idle::Park,
            clock: Arc::new(SystemClock),
            future_skew_max: FUTURE_SKEW_DEFAULT,
            memory_bytes_max: usize::MAX,
        }
    }

    /// Which signals there are. Required.
    pub fn schema(mut self, schema: impl Into<Arc<Schema>>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// How many shards, from 1 to 1024; by default one for each core of [`EngineBuilder::cores`].
    /// More shards than cores take turns on them.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Which cores the shards are pinned to, in turn, by the numbers of the operating system; by
    /// default all that this process may use.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// Which runtime to use; by default whichever the host allows.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// What idle shards do; by default they sleep.
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Which clock tells the present, for [`Engine::now`] and for the check of times ahead of it;
    /// by default the host's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How far ahead of the clock an event's time may be; by default five seconds.
    pub fn future_skew_max(mut self, skew: Duration) -> Self {
        self.future_skew_max = skew;
        self
    }

    /// How much state all shards together may hold, in bytes; by default there is no limit. A shard
    /// at its part of the limit refuses new events, after those already in its rings. Nothing is
    /// evicted, so it refuses them from then on, those of entities it already holds included.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_bytes_max = bytes;
        self
    }

    /// Starts the shards.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing is left running then.
    pub fn open(self) -> Result<Engine, OpenError> {
        let schema = self.schema.clone().ok_or(OpenError::NoSchema)?;
        let cores = self.checked_cores()?;
        let asked = self.shards.unwrap_or(cores.len());
        let placement = Placement::over(asked).ok_or(OpenError::Shards { asked })?;
        let choice =
            runtime::choose(self.backend, asked).map_err(|why| OpenError::Backend { why })?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| OpenError::Random { why: e.to_string() })?;
        let key = PartitionKey::new(bytes);

        // From here on dropping the engine stops what was started.
        let mut engine = Engine {
            schema,
            key,
            placement,
            choice,
            clock: Arc::clone(&self.clock),
            future_skew_max: self.future_skew_max,
            rejected: Arc::default(),
            sources: Arc::default(),
            has_log: false,
            shards: Shards::default(),
        };
        for shard in 0..asked {
            self.start_shard(&mut engine, shard, cores[shard % cores.len()])?;
        }
        Ok(engine)
    }

    fn start_shard(&self, engine: &mut Engine, shard: usize, core: usize) -> Result<(), OpenError> {
        let port = Arc::new(ShardPort::new(shard));
        let (schema, key) = (Arc::clone(&engine.schema), engine.key);
        let partitions = engine.placement.partitions(shard);
        let memory_bytes_max = self.memory_bytes_max / engine.placement.shards();
        let own_port = Arc::clone(&port);
        let build = move || {
            let ledger = SignalLedger::new(schema, key, partitions);
            Shard::new(own_port, ledger, NoWal::new(), memory_bytes_max)
        };
        let name = format!("ebbtide-{shard}");
        let job = Job { name, core, idle: self.idle, build: Box::new(build) };
        let thread = runtime::launch(engine.choice.backend, job)
            .map_err(|why| OpenError::Launch { shard, why })?;
        engine.shards.add(port, thread);
        Ok(())
    }

    fn checked_cores(&self) -> Result<Vec<usize>, OpenError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let cores = self.cores.clone().unwrap_or_else(|| available.clone());
        match cores.iter().find(|core| !available.contains(core)) {
            Some(&core) => Err(OpenError::Core { core, available }),
            None if cores.is_empty() => Err(OpenError::Shards { asked: 0 }),
            None => Ok(cores),
        }
    }
}
