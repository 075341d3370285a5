//! Interruption: the first SIGINT or SIGTERM ends a replay in good order, a second one at once.
//!
//! Promises: what was recorded is flushed and the store closed; a temporary store is removed; the
//! program then ends by the signal, as a shell that waits for it expects.

use crate::fault::Fault;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    /// Its number; 0 before.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// If the system takes no handler.
    pub(super) fn watch() -> Result<Self, Fault> {
        let signal = Arc::new(AtomicUsize::new(0));
        for (number, value) in [(SIGINT, SIGINT.unsigned_abs()), (SIGTERM, SIGTERM.unsigned_abs())]
        {
            let has_come = Arc::new(AtomicBool::new(false));
            // Handlers run in this order, so the first signal only sets the flag of the second.
            flag::register_conditional_default(number, Arc::clone(&has_come))
                .and_then(|_| flag::register(number, has_come))
                .and_then(|_| flag::register_usize(number, Arc::clone(&signal), value as usize))
                .map_err(|error: io::Error| {
                    Fault::environment(format!("cannot watch for signals: {error}"))
                })?;
        }
        Ok(Self { signal })
    }

    /// Whether one has come.
    #[must_use]
    pub(super) fn has_come(&self) -> bool {
        self.signal.load(Ordering::Relaxed) != 0
    }

    /// What a run that it ended fails with, if one has come.
    #[must_use]
    pub(super) fn fault(&self, message: impl FnOnce() -> String) -> Option<Fault> {
        let signal = i32::try_from(self.signal.load(Ordering::Relaxed)).ok()?;
        (signal != 0).then(|| Fault::interrupted(signal, message()))
    }
}
