//! The trait by which state is built from events.

use crate::RoutedEvent;

/// State that a shard builds up from its events, in their order.
///
/// [`crate::SignalLedger`] is one. What it derives must depend on nothing but the events it was
/// given: recovery gives them again and expects the same bits.
pub trait Materializer {
    /// Takes one event in.
    fn on_event(&mut self, event: &RoutedEvent);
}
