//! How an engine is put together.

use crate::runtime::{self, Backend, BackendChoice, Idle, Job, Work};
use crate::shards::Shards;
use crate::store::{OpenStore, Pace, RecoveryProgress};
use crate::{Engine, OpenError};
use ebbtide_router::{Clock, Placement, SystemClock};
use ebbtide_shard::limits::STORED_BYTES_FEW;
use ebbtide_shard::schema::evolution::Retune;
use ebbtide_shard::{PartitionKey, Schema, Shard, ShardPort, SignalLedger};
use ebbtide_wal::{LogOptions, NoWal};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Time between checkpoints, unless said otherwise.
const CHECKPOINT_EVERY_DEFAULT: Duration = Duration::from_mins(5);
/// Bytes of one shard's log that bring on a checkpoint, unless said otherwise.
const CHECKPOINT_LOG_BYTES_DEFAULT: u64 = 512 << 20;
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
#[must_use]
pub struct EngineBuilder {
    directory: Option<PathBuf>,
    schema: Option<Arc<Schema>>,
    shards: Option<usize>,
    cores: Option<Vec<usize>>,
    backend: Backend,
    idle: Idle,
    clock: Arc<dyn Clock>,
    future_skew_max: Duration,
    memory_bytes_max: usize,
    retune: Option<Retune>,
    checkpoints: Pace,
    log: LogOptions,
    on_recovery: Box<dyn FnMut(RecoveryProgress) + Send>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, shards, cores, backend, .. } = self;
        let mut shown = f.debug_struct("EngineBuilder");
        shown.field("directory", directory).field("shards", shards).field("cores", cores);
        shown.field("backend", backend).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    pub(crate) fn new(directory: Option<&Path>) -> Self {
        let checkpoints = Pace {
            every: CHECKPOINT_EVERY_DEFAULT,
            log_bytes: CHECKPOINT_LOG_BYTES_DEFAULT,
            anew_bytes: STORED_BYTES_FEW,
        };
        Self {
            directory: directory.map(Path::to_owned),
            schema: None,
            shards: None,
            cores: None,
            backend: Backend::Auto,
            idle: Idle::Park,
            clock: Arc::new(SystemClock),
            future_skew_max: FUTURE_SKEW_DEFAULT,
            memory_bytes_max: usize::MAX,
            retune: None,
            checkpoints,
            log: LogOptions::default(),
            on_recovery: Box::new(|_| {}),
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

    /// What to do if the schema has other half-lives than the store. Unless it is said, such a
    /// store is refused: scores never change their meaning in silence.
    pub fn retune(mut self, retune: Retune) -> Self {
        self.retune = Some(retune);
        self
    }

    /// Time between checkpoints; by default five minutes. None is taken while nothing happens.
    /// [`Engine::checkpoint`] takes one at once.
    pub fn checkpoint_every(mut self, every: Duration) -> Self {
        self.checkpoints.every = every;
        self
    }

    /// Bytes of one shard's log that bring on a checkpoint before its time; by default 512 MiB. A
    /// larger log costs space and a longer opening.
    pub fn checkpoint_log_bytes(mut self, bytes: u64) -> Self {
        self.checkpoints.log_bytes = bytes;
        self
    }

    /// Bytes of pairs in the checkpoint from which on one may be written anew, to a directory of
    /// its own that takes the other's place, before half of what is stored is old; by default
    /// 1 MiB. For a while that takes space for both. Below, and with [`u64::MAX`] always, all pairs
    /// are written beside what is old, which then stays in the files.
    pub fn checkpoint_anew_bytes(mut self, bytes: u64) -> Self {
        self.checkpoints.anew_bytes = bytes;
        self
    }

    /// Sizes of the log's groups and segment files. A group bounds how much is written and synced
    /// together; what arrives meanwhile goes with the next one.
    pub fn log_options(mut self, options: LogOptions) -> Self {
        self.log = options;
        self
    }

    /// Is told, on the thread that opens, how far the reading of the store has come.
    pub fn on_recovery(mut self, told: impl FnMut(RecoveryProgress) + Send + 'static) -> Self {
        self.on_recovery = Box::new(told);
        self
    }

    /// Starts the shards; those of a store once everything that is stored was read back.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing is left running then.
    pub fn open(self) -> Result<Engine, OpenError> {
        let schema = self.schema.clone().ok_or(OpenError::NoSchema)?;
        let cores = self.checked_cores()?;
        let asked = self.shards.unwrap_or(cores.len());
        let placement = Placement::over(asked).ok_or(OpenError::Shards { asked })?;
        self.log.check()?;
        let choice = runtime::choose(self.backend, self.idle, asked)
            .map_err(|why| OpenError::Backend { why })?;
        match self.directory.clone() {
            Some(directory) => self.open_store(&directory, schema, (placement, &cores, choice)),
            None => self.open_in_memory(schema, (placement, &cores, choice)),
        }
    }

    fn open_in_memory(
        self,
        schema: Arc<Schema>,
        (placement, cores, choice): (Placement, &[usize], BackendChoice),
    ) -> Result<Engine, OpenError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| OpenError::Random { why: e.to_string() })?;
        let key = PartitionKey::new(bytes);
        // From here on dropping the engine stops what was started.
        let mut engine = self.engine((schema, key), placement, choice, false);
        let memory_bytes_max = self.memory_bytes_max / placement.shards();
        for shard in 0..placement.shards() {
            let port = Arc::new(ShardPort::new(shard));
            let (schema, own_port) = (Arc::clone(&engine.schema), Arc::clone(&port));
            let build = move || {
                let ledger = SignalLedger::new(schema, key, placement.partitions(shard));
                Shard::new(own_port, ledger, NoWal::new(), memory_bytes_max)
            };
            let work = Work::InMemory(Box::new(build));
            self.launch(&mut engine, port, cores, work)?;
        }
        let started = engine.shards.wait_until_started();
        started.map_err(|(shard, why)| OpenError::Launch { shard, why })?;
        Ok(engine)
    }

    fn open_store(
        mut self,
        directory: &Path,
        schema: Arc<Schema>,
        (placement, cores, choice): (Placement, &[usize], BackendChoice),
    ) -> Result<Engine, OpenError> {
        crate::store::check_limit(self.log.segment_bytes)?;
        let prepared = crate::store::prepare(directory, &schema, self.retune)?;
        let mut engine = self.engine((schema, prepared.key()), placement, choice, true);
        let memory_bytes_max = self.memory_bytes_max / placement.shards();
        let (mut outlets, inboxes) = prepared.outlets(placement);
        for (shard, parts) in inboxes.into_iter().enumerate() {
            let port = Arc::new(ShardPort::new(shard));
            let work = prepared.work(&port, placement, parts, memory_bytes_max);
            self.launch(&mut engine, port, cores, Work::Durable(work))?;
        }
        let restored = prepared.restore(&mut outlets, self.log, &mut self.on_recovery);
        drop(outlets);
        let mut restored = match restored {
            Err(crate::StoreError::Shard { shard, why }) => {
                let why = engine.shards.why_not(shard).unwrap_or(why);
                return Err(crate::StoreError::Shard { shard, why }.into());
            }
            restored => restored?,
        };
        let started = engine.shards.wait_until_started();
        let started = started.map_err(|(shard, why)| crate::StoreError::Shard { shard, why })?;
        restored.enter()?;
        let ports = engine.shards.ports().to_vec();
        // A log that may not grow so far is to shrink in time.
        let log_bytes = self.checkpoints.log_bytes.min(self.log.log_bytes_max / 2);
        let pace = Pace { log_bytes, ..self.checkpoints };
        let store = OpenStore::start(restored, (ports, placement), pace, started.direct_io)?;
        engine.store = Some(store);
        Ok(engine)
    }

    fn engine(
        &self,
        (schema, key): (Arc<Schema>, PartitionKey),
        placement: Placement,
        choice: BackendChoice,
        has_log: bool,
    ) -> Engine {
        Engine {
            schema,
            key,
            placement,
            choice,
            clock: Arc::clone(&self.clock),
            future_skew_max: self.future_skew_max,
            rejected: Arc::default(),
            sources: Arc::default(),
            has_log,
            shards: Shards::default(),
            store: None,
        }
    }

    fn launch(
        &self,
        engine: &mut Engine,
        port: Arc<ShardPort>,
        cores: &[usize],
        work: Work,
    ) -> Result<(), OpenError> {
        let shard = port.shard();
        let (name, core) = (format!("ebbtide-{shard}"), cores[shard % cores.len()]);
        let job = Job { name, core, idle: self.idle, work };
        let thread = runtime::launch(engine.choice.backend, job)
            .map_err(|why| OpenError::Launch { shard, why })?;
        engine.shards.add(port, core, thread);
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
