//! What is kept of one pair: its hot state and, in the next cache line, its counters if they are
//! few, or else what waits for its block.
//!
//! ```text
//! offset  0                        64                      128
//!         | hot state: one line    | few counters: one line |
//! ```
//!
//! Promises: almost every event touches these two lines and none else. Why side by side:
//! they lie in one page, so the second is found as soon as the first, and is asked for before it is
//! known what the first says.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::buckets::{Counters, CountersMut, FewCounters};
use super::hot::HotSignalState;
use crate::ledger::table::Slot;
use crate::limits::{BLOCK_INDEX_BITS, RESERVED_BYTES_MAX};
use crate::{EntityId, RoutedEvent, SignalId};

/// The state of one (entity, signal) pair.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub(crate) struct PairState {
    pub(crate) hot: HotSignalState,
    few: FewCounters,
}

const _: () = {
    assert!(size_of::<PairState>() == 128 && std::mem::offset_of!(PairState, few) == 64);
    // Where addresses are reserved there is room for as many pairs as can be named.
    assert!(size_of::<PairState>() << BLOCK_INDEX_BITS <= RESERVED_BYTES_MAX);
};

impl PairState {
    /// Its counters.
    #[inline(always)]
    pub(crate) const fn counters(&self) -> Counters<'_> {
        Counters { at: self.hot.buckets(), few: &self.few }
    }

    /// The same, to change.
    #[inline(always)]
    pub(crate) const fn counters_mut(&mut self) -> CountersMut<'_> {
        CountersMut { at: self.hot.buckets_mut(), few: &mut self.few }
    }
}

impl Slot for PairState {
    #[inline]
    fn of(event: &RoutedEvent) -> Self {
        let hot = HotSignalState::new(event.entity, event.signal, event.time);
        Self { hot, few: FewCounters::EMPTY }
    }

    #[inline(always)]
    fn is(&self, entity: EntityId, signal: SignalId) -> bool {
        self.hot.is(entity, signal)
    }
}
