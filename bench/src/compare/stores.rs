//! Stores on a disk, for the rows that need a log or a checkpoint: where they lie, and engines on
//! them.
//!
//! Promises: everything lies in a fresh folder that is removed when the comparison ends.

use super::engines::{PATIENCE, offer, unrouted};
use super::tables::history;
use crate::cores;
use crate::fault::Fault;
use crate::output;
use ebbtide::{
    Ack, Backend, Engine, Event, Idle, ManualClock, Medium, Producer, Schema, Timestamp,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longer than any run: checkpoints are taken when a row asks for one.
const NO_CHECKPOINTS: Duration = Duration::from_hours(24);

/// Where stores lie, and what runs their shards.
pub(super) struct Stores {
    root: tempfile::TempDir,
    backend: Backend,
    made: AtomicU32,
    /// What runs the shards, and why, once there were any.
    runtime: OnceLock<String>,
}

impl Stores {
    /// A fresh folder in `parent`, or where temporary files go.
    ///
    /// # Errors
    ///
    /// If there can be none.
    pub(super) fn within(parent: Option<&Path>, backend: Backend) -> Result<Self, Fault> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let root = tempfile::Builder::new().prefix("ebbtide-compare-").tempdir_in(&parent);
        let root = root.map_err(|error| {
            let place = parent.display();
            Fault::environment(format!(
                "cannot make a folder for stores in {place}: {error}; name another with --data-dir"
            ))
        })?;
        Ok(Self { root, backend, made: AtomicU32::new(0), runtime: OnceLock::new() })
    }

    /// The folder of all stores.
    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path that was not given before.
    pub(super) fn fresh(&self, name: &str) -> PathBuf {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.root.path().join(format!("{name}-{number}"))
    }

    /// An engine of one shard on the last core, on the store in `folder`; its clock is past every
    /// event, and it takes checkpoints when it is told to.
    ///
    /// # Errors
    ///
    /// If it does not open.
    pub(super) fn open(&self, folder: &Path, schema: Arc<Schema>) -> Result<Engine, Fault> {
        self.open_idle(folder, (schema, Idle::Park))
    }

    /// The same, with what an idle shard does.
    ///
    /// # Errors
    ///
    /// If it does not open.
    pub(super) fn open_idle(
        &self,
        folder: &Path,
        (schema, idle): (Arc<Schema>, Idle),
    ) -> Result<Engine, Fault> {
        let clock = Arc::new(ManualClock::at(Timestamp::MAX));
        let builder = Engine::builder(folder).schema(schema).shards(1).clock(clock);
        let builder = builder.backend(self.backend).cores(cores::all().last().copied()).idle(idle);
        let builder = builder.checkpoint_every(NO_CHECKPOINTS).checkpoint_log_bytes(u64::MAX);
        let engine = builder.open()?;
        self.runtime.get_or_init(|| {
            warn_of(&engine);
            engine.backend().to_string()
        });
        Ok(engine)
    }

    /// What ran the shards of stores, and why.
    pub(super) fn runtime(&self) -> Option<String> {
        self.runtime.get().cloned()
    }

    /// A new store with the history of `entities` entities in it, which ends at `end_ns`.
    ///
    /// # Errors
    ///
    /// If the engine does not open, or stops.
    pub(super) fn with_history(
        &self,
        folder: &Path,
        schema: Arc<Schema>,
        (entities, end_ns): (u64, u64),
    ) -> Result<Engine, Fault> {
        let engine = self.open(folder, schema)?;
        let mut producer = engine.producer()?;
        for batch in history(entities, end_ns) {
            offer(&mut producer, &unrouted(&batch))?;
        }
        producer.flush(Ack::Durable, PATIENCE).map_err(Fault::environment)?;
        Ok(engine)
    }
}

/// Says so if the stores lie where no device is asked for anything.
fn warn_of(engine: &Engine) {
    if let Some(durability) = engine.durability().filter(|found| found.medium != Medium::Device) {
        output::say(format_args!(
            "warning: the stores lie on {}, so the durable rows say nothing of a device; name a \
             folder on one with --data-dir",
            durability.file_system
        ));
    }
}

/// Offers events as fast as they are taken and waits until all are durable.
///
/// # Errors
///
/// If the engine takes no more.
pub(super) fn record_durably(producer: &mut Producer, events: &[Event]) -> Result<(), Fault> {
    offer(producer, events)?;
    producer.flush(Ack::Durable, PATIENCE).map_err(Fault::environment)
}

/// Fails a row whose file cannot be used.
pub(super) fn failed(folder: &Path) -> impl Fn(std::io::Error) -> Fault + '_ {
    move |error| {
        Fault::environment(format!(
            "a file in {} cannot be used: {error}; name another folder with --data-dir",
            folder.display()
        ))
    }
}
