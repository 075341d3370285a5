//! The engines a whole-system test runs on: both runtimes, with one and with several shards.
//!
//! Promises: plain threads are always among them; where io_uring is not to be had, the reason is
//! printed and that part is left out. Every clock here shows the end of time, so that no event is
//! too early for it; a test about clocks brings its own.

use ebbtide::{
    Backend, Engine, EngineBuilder, EntityId, ManualClock, OpenError, Schema, Timestamp,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long anything in a test may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Shards that whole-engine tests are run with.
pub const SHARD_COUNTS: [usize; 3] = [1, 2, 4];

/// Three signal types that differ in everything a type may differ in.
pub const SCHEMA: &str = r#"
    [signals.buy]
    half_lives = ["30d"]
    windows = ["7d"]

    [signals.click]
    half_lives = ["1min", "1h", "24h"]
    windows = ["5min", "1h", "24h", "7d"]
    velocity = true

    [signals.view]
    half_lives = ["1h", "7d"]
    velocity = true
    windows = ["1h", "3h"]
"#;

/// [`SCHEMA`], read.
///
/// # Panics
///
/// Never: the text is a constant that tests read.
#[must_use]
pub fn schema() -> Arc<Schema> {
    Arc::new(Schema::from_toml(SCHEMA).expect("the schema keeps every rule"))
}

/// One kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The runtime.
    pub backend: Backend,
    /// How many shards.
    pub shards: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backend = if self.backend == Backend::Uring { "io_uring" } else { "threads" };
        write!(f, "{} shard(s) on {backend}", self.shards)
    }
}

impl Setting {
    /// A builder of such an engine over [`schema`].
    pub fn builder(self) -> EngineBuilder {
        let clock = Arc::new(ManualClock::at(Timestamp::MAX));
        let builder = Engine::in_memory().schema(schema()).clock(clock);
        builder.backend(self.backend).shards(self.shards)
    }

    /// Such an engine.
    ///
    /// # Panics
    ///
    /// If it does not open.
    #[must_use]
    pub fn open(self) -> Engine {
        self.builder().open().unwrap_or_else(|error| panic!("{self}: {error}"))
    }
}

/// The runtimes of this machine.
///
/// # Panics
///
/// If io_uring fails for another reason than that it is not to be had.
#[must_use]
pub fn backends() -> Vec<Backend> {
    let uring = Engine::in_memory().schema(schema()).shards(1).backend(Backend::Uring).open();
    match uring {
        Ok(_engine) => vec![Backend::Threads, Backend::Uring],
        Err(OpenError::Backend { why }) => {
            println!("not tested on io_uring: {why}");
            vec![Backend::Threads]
        }
        Err(error) => panic!("io_uring is to be had, but {error}"),
    }
}

/// Each runtime of this machine with `shards` shards.
#[must_use]
pub fn with_shards(shards: usize) -> Vec<Setting> {
    backends().into_iter().map(|backend| Setting { backend, shards }).collect()
}

/// Each runtime of this machine with each of [`SHARD_COUNTS`].
#[must_use]
pub fn settings() -> Vec<Setting> {
    let backends = backends();
    let all = SHARD_COUNTS
        .iter()
        .flat_map(|&shards| backends.iter().map(move |&backend| Setting { backend, shards }));
    all.collect()
}

/// One entity of each shard, in the order of the shards.
///
/// # Panics
///
/// If a shard is down, or owns none of the first thousands of entities.
#[must_use]
pub fn entity_of_each_shard(engine: &Engine) -> Vec<EntityId> {
    let first = engine.on_every_shard(|local| (0..10_000).map(EntityId).find(|&e| local.owns(e)));
    let first = first.expect("every shard runs");
    first.into_iter().map(|entity| entity.expect("entities spread over the shards")).collect()
}
