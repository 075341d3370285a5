//! Interruption: SIGINT and SIGTERM end a command in good order.
//!
//! Promises: a command is told of the first signal, or of as many as it asked for, and ends by
//! itself; the one after that ends it at once, wherever it is. Either way its own folder is
//! removed, and it ends by the signal, as a shell that waits for it expects.

use crate::fault::Fault;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How often a folder is removed in which others still make files.
const REMOVALS_MAX: usize = 20;

/// Whether a signal has come, and what is left behind if one ends the command at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    /// Its number; 0 before.
    signal: Arc<AtomicI32>,
    folder: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Begins to watch; the command sees to the first `patience` signals itself.
    ///
    /// # Errors
    ///
    /// If the system takes no handler.
    pub(crate) fn watch(patience: usize) -> Result<Self, Fault> {
        let failed =
            |error: io::Error| Fault::environment(format!("cannot watch for signals: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
        let this = Self { signal: Arc::default(), folder: Arc::default() };
        let seen = this.clone();
        let watching = move || {
            for (index, signal) in signals.forever().enumerate() {
                seen.signal.store(signal, Ordering::Relaxed);
                if index >= patience {
                    seen.leave();
                    // If that does not end it, the command ends when its work does.
                    let _ = emulate_default_handler(signal);
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(watching).map_err(failed)?;
        Ok(this)
    }

    /// Whether one has come.
    #[must_use]
    pub(crate) fn has_come(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// What a run that it ended fails with, if one has come.
    #[must_use]
    pub(crate) fn fault(&self, message: impl FnOnce() -> String) -> Option<Fault> {
        let signal = self.signal.load(Ordering::Relaxed);
        (signal != 0).then(|| Fault::interrupted(signal, message()))
    }

    /// Ends work that only reads what is recorded.
    ///
    /// # Errors
    ///
    /// If a signal has come.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let told = || "interrupted while the state was read back; call it again".to_owned();
        self.fault(told).map_or(Ok(()), Err)
    }

    /// Names the folder that is to be removed.
    pub(crate) fn removes(&self, folder: &Path) {
        *self.folder() = Some(folder.to_owned());
    }

    fn folder(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        if let Some(folder) = &*self.folder() {
            // The threads of this process are still at work in it.
            let removed = || fs::remove_dir_all(folder).is_ok() || !folder.exists();
            let _as_well_as_can_be = (0..REMOVALS_MAX).any(|_| removed());
        }
    }
}
