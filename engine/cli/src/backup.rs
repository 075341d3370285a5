//! `backup`: a copy of a store in another directory, checked before it gets its name.
//!
//! Promises: the copy is complete or absent; what it holds is said.
//! Fails by: [`Fault`]: damage when the store is, and then no copy is made of it.
//! Not here: copying (`ebbtide::offline`).

use crate::args::BackupArgs;
use crate::fault::Fault;
use crate::output::{count, print, print_json, shown, size};
use ebbtide::StoreError;
use ebbtide::offline::{self, BackedUp, BackupError};
use ebbtide_wal::StoreId;
use serde::Serialize;

/// What was copied.
#[derive(Serialize)]
struct Copied {
    data_dir: String,
    to: String,
    store: Option<String>,
    files: u64,
    bytes: u64,
    /// Pairs of entity and signal type.
    pairs: Option<u64>,
    sources: Option<u64>,
    logs: usize,
}

/// Copies the store.
///
/// # Errors
///
/// When there is no such store, it is open or damaged, or the copy cannot be made.
pub fn backup(args: &BackupArgs) -> Result<(), Fault> {
    let backed_up = offline::backup(&args.store.data_dir, &args.to).map_err(fault)?;
    let copied = Copied::of(args, &backed_up);
    if args.store.json { print_json(&copied) } else { print(&copied.text()) }
}

fn fault(error: BackupError) -> Fault {
    match error {
        BackupError::Store(open @ StoreError::AlreadyOpen { .. }) => Fault::environment(format!(
            "{open}, or let the program that has it open call `Engine::backup`"
        )),
        BackupError::Store(error) => error.into(),
        BackupError::Target(error) => error.into(),
        damaged @ BackupError::Damaged { .. } => Fault::damage(damaged),
        other => Fault::environment(other),
    }
}

impl Copied {
    fn of(args: &BackupArgs, backed_up: &BackedUp) -> Self {
        let verified = &backed_up.verified;
        Self {
            data_dir: shown(&args.store.data_dir),
            to: shown(&args.to),
            store: verified.store.map(|id| StoreId(id).to_string()),
            files: backed_up.files,
            bytes: backed_up.bytes,
            pairs: verified.rebuilt.map(|rebuilt| rebuilt.pairs),
            sources: verified.checkpoint.map(|checkpoint| checkpoint.sources),
            logs: verified.logs.len(),
        }
    }

    fn text(&self) -> String {
        let (files, bytes) = (count(self.files, "file"), size(self.bytes));
        let store = self.store.as_deref().unwrap_or_default();
        let pairs = count(self.pairs.unwrap_or_default(), "pair");
        let logs = count(self.logs as u64, "log");
        let to = &self.to;
        format!("{to}: {files} of {bytes}, read back\nstore {store}: {pairs}, {logs}; verified\n")
    }
}
