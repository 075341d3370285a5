//! What the rest of the engine holds of a shard: its doorbell, its mailbox, its fate, its counters.
//!
//! Promises: everything here may be used from any thread at any time, also after the shard is gone;
//! mail posted to a shard that is gone comes back to be dropped, so nobody waits for it in vain.

use crate::Walk;
use crate::doorbell::Doorbell;
use crate::lane::{EventInbox, RequestInbox};
use crate::local::LocalShard;
use crate::metrics::ShardCounters;
use crate::primitives::{AtomicBool, AtomicU8, Mutex, Ordering, fence, lock};
use crate::saving::SaveSink;
use ebbtide_wal::CheckpointNote;
use std::sync::{Arc, OnceLock};

/// A shard answers no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardDown {
    /// The engine was closed. Open a new one.
    #[error("shard {shard} is closed")]
    Closed {
        /// Which shard.
        shard: usize,
    },
    /// The shard failed; its memory is gone, other shards go on. Close the engine and open it
    /// again.
    #[error("shard {shard} failed and its state is gone; reopen the engine: {cause}")]
    Failed {
        /// Which shard.
        shard: usize,
        /// What failed.
        cause: Arc<str>,
    },
}

/// A message to a shard, outside the rings.
pub enum Mail {
    /// A producer's ring to drain from now on.
    Events(EventInbox),
    /// A reader's ring to answer from now on.
    Requests(RequestInbox),
    /// Something to do with the shard's state at hand.
    Visit(Box<dyn FnOnce(&LocalShard<'_>) + Send>),
    /// Hand out what the walk finds.
    Checkpoint(Walk, Box<dyn SaveSink>),
    /// A checkpoint became durable: the log need not keep what it covers.
    Note(CheckpointNote),
    /// Take what is in the rings, then end.
    Close,
    /// Panic, so that a test can see what becomes of everyone else.
    #[cfg(feature = "test-util")]
    Panic,
}

/// Whether a shard takes new events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    Open,
    /// It holds as much as it may.
    MemoryFull,
    /// It is closing, closed or failed.
    Closed,
}

const OPEN: u8 = 0;
const MEMORY_FULL: u8 = 1;
const CLOSED: u8 = 2;

/// One shard, seen from outside.
#[derive(Debug)]
pub struct ShardPort {
    shard: usize,
    doorbell: Doorbell,
    mailbox: Mailbox,
    down: OnceLock<ShardDown>,
    gate: AtomicU8,
    counters: ShardCounters,
}

impl ShardPort {
    /// The port of the shard with this number.
    #[must_use]
    pub fn new(shard: usize) -> Self {
        Self {
            shard,
            doorbell: Doorbell::default(),
            mailbox: Mailbox::default(),
            down: OnceLock::new(),
            gate: AtomicU8::new(OPEN),
            counters: ShardCounters::default(),
        }
    }

    /// The shard's number.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Wakes the shard if it sleeps.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    /// The shard's counters.
    #[must_use]
    pub fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    /// Why the shard answers no more, if so.
    #[must_use]
    pub fn down(&self) -> Option<&ShardDown> {
        self.down.get()
    }

    /// The same as an error, for a caller who has seen the shard's end of a ring go away.
    #[must_use]
    pub fn why_down(&self) -> ShardDown {
        self.down.get().cloned().unwrap_or(ShardDown::Closed { shard: self.shard })
    }

    /// Whether the shard takes new events: what a producer asks before each.
    #[must_use]
    #[inline]
    pub fn gate(&self) -> Gate {
        match self.gate.load(Ordering::Relaxed) {
            OPEN => Gate::Open,
            MEMORY_FULL => Gate::MemoryFull,
            _ => Gate::Closed,
        }
    }

    /// Tells the shard to take what is in its rings and end; nothing new is let in from now on.
    ///
    /// A producer that pushes, rings and then still finds the gate open knows its event will be
    /// taken: the fence here and the one in the doorbell order its push before the shard's last
    /// look.
    pub fn begin_close(&self) {
        self.gate.store(CLOSED, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let _already_gone = self.post(Mail::Close);
    }

    /// Leaves a message and wakes the shard.
    ///
    /// # Errors
    ///
    /// If the shard is gone; the message is dropped.
    pub fn post(&self, mail: Mail) -> Result<(), ShardDown> {
        if !self.mailbox.put(mail) {
            return Err(self.why_down());
        }
        self.doorbell.ring();
        Ok(())
    }

    pub(crate) fn set_memory_full(&self, full: bool) {
        let (from, to) = if full { (OPEN, MEMORY_FULL) } else { (MEMORY_FULL, OPEN) };
        if self.gate.load(Ordering::Relaxed) == from {
            // A gate that closes meanwhile stays closed.
            let _closed =
                self.gate.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.mailbox.full.load(Ordering::Acquire)
    }

    pub(crate) fn take_mail(&self) -> Vec<Mail> {
        if self.has_mail() { self.mailbox.take() } else { Vec::new() }
    }

    /// Says for good that the shard answers no more. The first reason stays.
    pub(crate) fn set_down(&self, down: ShardDown) {
        self.gate.store(CLOSED, Ordering::Relaxed);
        let _first_reason_stays = self.down.set(down);
        drop(self.mailbox.shut());
    }
}

#[derive(Debug)]
struct Mailbox {
    full: AtomicBool,
    /// `None` once shut.
    mail: Mutex<Option<Vec<Mail>>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { full: AtomicBool::new(false), mail: Mutex::new(Some(Vec::new())) }
    }
}

impl Mailbox {
    fn put(&self, mail: Mail) -> bool {
        match lock(&self.mail).as_mut() {
            Some(waiting) => {
                waiting.push(mail);
                self.full.store(true, Ordering::Release);
                true
            }
            None => false,
        }
    }

    fn take(&self) -> Vec<Mail> {
        let mut mail = lock(&self.mail);
        self.full.store(false, Ordering::Relaxed);
        mail.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn shut(&self) -> Option<Vec<Mail>> {
        lock(&self.mail).take()
    }
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Events(_) => "Events",
            Self::Requests(_) => "Requests",
            Self::Visit(_) => "Visit",
            Self::Checkpoint(..) => "Checkpoint",
            Self::Note(_) => "Note",
            Self::Close => "Close",
            #[cfg(feature = "test-util")]
            Self::Panic => "Panic",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn mail_to_a_shard_that_is_gone_is_refused_with_the_reason() {
        let port = ShardPort::new(3);
        port.post(Mail::Close).unwrap();
        assert!(port.has_mail());
        assert_eq!(port.take_mail().len(), 1);
        assert!(!port.has_mail());
        let failed = ShardDown::Failed { shard: 3, cause: "out of luck".into() };
        port.set_down(failed.clone());
        port.set_down(ShardDown::Closed { shard: 3 });
        assert_eq!(port.post(Mail::Close), Err(failed));
    }
}
