//! The trait by which state is built from events, kept in a checkpoint, and brought back.

use crate::checkpoint::{Chunk, RecordFault};
use crate::{RestoredPair, RoutedEvent, Walk};
use ebbtide_wal::Lsn;

/// State that a shard builds up from its events, in their order.
///
/// [`crate::SignalLedger`] is one. What it derives must depend on nothing but the events it was
/// given: recovery gives them again and expects the same bits.
pub trait Materializer {
    /// Takes one event in.
    fn on_event(&mut self, event: &RoutedEvent);

    /// Goes one bounded step of a checkpoint, between events: some of what changed since it was
    /// last saved, or of everything, as the walk says. `lsn` is the last record appended to the
    /// log, which the state includes; `numbers` are the stored numbers of the signal types, by
    /// their ids. `None` once the walk is over.
    ///
    /// A walk from beginning to end writes out all that was unsaved when it began, whatever is
    /// taken in meanwhile. What it gives counts as saved: a chunk must reach the storage, or the
    /// store be opened again.
    ///
    /// # Panics
    ///
    /// If a signal type has no number.
    fn checkpoint(&mut self, walk: &mut Walk, lsn: Lsn, numbers: &[u8]) -> Option<Chunk>;

    /// Puts back what a checkpoint wrote out, to the bit. Of what was written out of a pair in
    /// several rounds the latest counts, in whatever order it comes; says `false` if a later one is
    /// here already.
    ///
    /// # Errors
    ///
    /// [`RecordFault::HalfLives`] if it was written under another schema, [`RecordFault::Twice`] if
    /// something else of the same round is here.
    ///
    /// # Panics
    ///
    /// If the pair has had events since, or does not belong here.
    fn restore(&mut self, pair: &RestoredPair) -> Result<bool, RecordFault>;
}
