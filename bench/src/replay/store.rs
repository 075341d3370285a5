//! The store a replay records into: a directory that was named and is kept, or one of its own.
//!
//! Promises: a directory of its own is removed when the replay ends, whichever way short of
//! `kill -9`. Fails by: the engine's own errors, as [`Fault`]s.

use super::args::ReplayArgs;
use crate::fault::Fault;
use ebbtide::{Engine, ManualClock, Schema};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How the directory of a replay that names none begins.
const OWN_PREFIX: &str = "ebbtide-replay-";

/// Where a store lies.
#[derive(Debug)]
pub(super) enum DataDir {
    /// Named by its user, and kept.
    Kept(PathBuf),
    /// The replay's own, removed with this value.
    Own(TempDir),
}

impl DataDir {
    /// The directory that the flags name, or a fresh one.
    ///
    /// # Errors
    ///
    /// If what is named is no directory, or no fresh one can be made.
    pub(super) fn of(args: &ReplayArgs) -> Result<Self, Fault> {
        if let Some(path) = &args.data_dir {
            if fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
                return Err(Fault::input(format!(
                    "--data-dir {} is no directory; name one, or one that is to be made",
                    path.display()
                )));
            }
            return Ok(Self::Kept(path.clone()));
        }
        let own = tempfile::Builder::new().prefix(OWN_PREFIX).tempdir();
        own.map(Self::Own).map_err(|error| {
            let place = std::env::temp_dir();
            Fault::environment(format!(
                "cannot make a directory in {}: {error}; set TMPDIR, or name one with --data-dir",
                place.display()
            ))
        })
    }

    /// Its path.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Own(folder) => folder.path(),
        }
    }

    /// Whether it stays when the replay has ended.
    #[must_use]
    pub(super) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// Removes it, unless it is kept.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub(super) fn leave(self) -> Result<(), Fault> {
        let path = self.path().to_owned();
        match self {
            Self::Kept(_) => Ok(()),
            Self::Own(folder) => folder.close().map_err(|error| {
                let path = path.display();
                Fault::environment(format!("cannot remove {path}: {error}; remove it by hand"))
            }),
        }
    }
}

/// Opens the store in `directory`.
///
/// # Errors
///
/// As the engine has it.
pub(super) fn open(
    args: &ReplayArgs,
    directory: &Path,
    schema: &Arc<Schema>,
    clock: &Arc<ManualClock>,
) -> Result<Engine, Fault> {
    let available: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let asked = args.shards.or(args.cores.as_ref().map(Vec::len));
    let shards = asked.unwrap_or_else(|| available.len().saturating_sub(1).max(1));
    let cores = args.cores.clone().unwrap_or_else(|| {
        // The last cores, so that the recorders have the first ones to themselves if there are any.
        available.iter().copied().skip(available.len().saturating_sub(shards)).collect()
    });
    let clock = Arc::clone(clock) as Arc<dyn ebbtide::Clock>;
    let builder = Engine::builder(directory).schema(Arc::clone(schema)).shards(shards);
    let builder = builder.cores(cores).backend(args.backend);
    Ok(builder.clock(clock).future_skew_max(Duration::ZERO).open()?)
}
