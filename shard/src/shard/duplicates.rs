//! Duplicates: events whose signal type leaves out those that were here before.
//!
//! The seam to what remembers them: nothing here knows how much is remembered, or for how long.

use crate::{EventId, RoutedEvent, SignalLedger};

/// How an event was found to be no news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicate {
    /// One with this id was here.
    ById,
    /// One with the same content was here.
    ByContent,
}

/// What is remembered of earlier events.
#[derive(Debug)]
pub(super) struct Duplicates {}

impl Duplicates {
    pub(super) fn new(_ledger: &SignalLedger) -> Self {
        Self {}
    }

    /// Whether no signal type leaves any out.
    #[inline]
    pub(super) fn are_ignored(&self) -> bool {
        true
    }

    /// Whether the event was here before; if not, it is remembered.
    #[inline]
    pub(super) fn find(&mut self, _: &RoutedEvent, _: u8, _: Option<EventId>) -> Option<Duplicate> {
        None
    }
}
