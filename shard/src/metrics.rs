//! A shard's counters: written by the shard alone, read by anyone.
//!
//! Promises: counters only rise; gauges hold the value of the last turn. Updated per turn, never
//! per event, so nothing here costs the hot path.

use crate::primitives::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident),+ $(,)?) => {
        /// What a shard counts while it runs. On cache lines of its own: the shard writes it every
        /// turn, and producers read what stands beside it for every event.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct ShardCounters {
            $(pub(crate) $name: Counter,)+
        }

        impl Default for ShardCounters {
            fn default() -> Self {
                Self { $($name: Counter(AtomicU64::new(0)),)+ }
            }
        }

        impl ShardCounters {
            /// Copies every counter.
            #[must_use]
            pub fn snapshot(&self) -> ShardMetrics {
                ShardMetrics { $($name: self.$name.get(),)+ }
            }
        }

        /// A shard's counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ShardMetrics {
            $($(#[$doc])+ pub $name: u64,)+
        }
    };
}

counters! {
    /// Events applied.
    events_applied,
    /// Events of a source that were here before, by their offset: left out.
    events_repeated,
    /// Events left out because one with their id was here before.
    duplicates_by_id,
    /// Events left out because one of the same content was here before.
    duplicates_by_content,
    /// Number of the last record handed to the log.
    wal_appended,
    /// Number of the last record that survives the end of the process; 0 without a log.
    wal_written,
    /// Number of the last record that survives power loss; 0 without a log.
    wal_durable,
    /// Turns in which events waited and the log took nothing.
    turns_blocked,
    /// Requests of readers answered.
    requests_answered,
    /// Turns that found work.
    turns_busy,
    /// Times the shard went to sleep.
    parks,
    /// Events taken in the largest batch so far.
    batch_events_max,
    /// Events seen waiting in the rings at the start of the last turn that took some.
    queue_depth,
    /// The most events ever seen waiting.
    queue_depth_max,
    /// Bytes of the log's files.
    wal_file_bytes,
    /// Bytes written to the log since it was opened: frames, with their headers and padding.
    wal_written_bytes,
    /// Pairs of entity and signal type held.
    pairs,
    /// Bytes of state held.
    memory_bytes,
    /// Producers connected.
    producers,
    /// Readers connected.
    readers,
}

/// A number one thread writes and any thread reads.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: usize) {
        self.put(value as u64);
    }

    pub(crate) fn put(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, more: usize) {
        self.0.store(self.get() + more as u64, Ordering::Relaxed);
    }

    pub(crate) fn raise(&self, to: usize) {
        if to as u64 > self.get() {
            self.set(to);
        }
    }
}
