//! Duplicates: events of signal types that leave out what was here before.
//!
//! Promises: an event of a signal type without deduplication costs one look at 64 bytes.
//! Not here: how much is remembered, and for how long ([`crate::dedup`]).

use crate::dedup::{RecentIds, content_key};
use crate::limits::SIGNALS_MAX;
use crate::{Dedup, EventId, PartitionKey, RoutedEvent, SignalLedger};

/// What is remembered of earlier events, and of which signal types.
pub(super) struct Duplicates {
    by: [Dedup; SIGNALS_MAX],
    has_dedup: bool,
    key: PartitionKey,
    pub(super) recent: RecentIds,
}

impl Duplicates {
    pub(super) fn new(ledger: &SignalLedger) -> Self {
        let mut by = [Dedup::None; SIGNALS_MAX];
        for (by, (_, def)) in by.iter_mut().zip(ledger.schema().signals()) {
            *by = def.dedup();
        }
        let has_dedup = ledger.schema().has_dedup();
        Self { by, has_dedup, key: *ledger.key(), recent: RecentIds::new() }
    }

    /// Whether no signal type leaves anything out.
    pub(super) fn are_ignored(&self) -> bool {
        !self.has_dedup
    }

    /// How the event is known to have been here before; if it was not, it is remembered.
    #[inline]
    pub(super) fn find(
        &mut self,
        event: &RoutedEvent,
        number: u8,
        id: Option<EventId>,
    ) -> Option<Dedup> {
        let by = self.by[event.signal.index()];
        let key = dedup_key(by, &self.key, event, (number, id))?;
        (!self.recent.is_new(key, event.hash)).then_some(by)
    }
}

/// What a shard remembers of an event whose signal type has this stored number, if anything: the
/// same when it is recorded and when it is replayed.
#[must_use]
#[inline]
pub fn dedup_key(
    by: Dedup,
    key: &PartitionKey,
    event: &RoutedEvent,
    (number, id): (u8, Option<EventId>),
) -> Option<u128> {
    let &RoutedEvent { entity, time, weight, .. } = event;
    match by {
        Dedup::None => None,
        Dedup::Id => id.map(|id| key.id_key(entity, number, id.0)),
        Dedup::Content => Some(content_key(entity, number, time, weight)),
    }
}

impl std::fmt::Debug for Duplicates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duplicates").field("remembered", &self.recent.len()).finish_non_exhaustive()
    }
}
