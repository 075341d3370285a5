//! The stages that events and reads go through, each by itself, on data that are always the same.
//!
//! ```text
//! set up ─▶ prepare ─▶ run ─▶ prepare ─▶ run ─▶ …        only what `run` does is measured
//! ```
//!
//! Promises: a round does the same operations in every run of the program: seeds are fixed, time
//! is a field of events, one thread does it all. All goes through what the packages give to each
//! other and to hosts. Not here: how a round is measured: criterion times it (`benches/stages.rs`),
//! [`mod@crate::count`] counts its instructions.

mod checkpoint;
mod entry;
mod ledger;
mod log;

use crate::compare::tables::{Decays, apply_batches, batches, history, ledgers};
use crate::compare::workload::{START_NS, Stream, one_each};
use ebbtide_shard::limits::EVENT_RING_SLOTS;
use ebbtide_shard::wide::{Width, width};
use ebbtide_shard::{RoutedEvent, SignalLedger, Timestamp};

/// Entities that a ledger knows from its history.
const ENTITIES: u64 = 10_000;
/// Events of a round: as many as a ring holds.
const EVENTS: usize = EVENT_RING_SLOTS;
/// Questions of a round that each ask for many entities.
const QUESTIONS: usize = 64;

/// One stage.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Its name, which never changes: a baseline knows it by that.
    pub name: &'static str,
    /// What one operation is.
    pub operation: &'static str,
    /// How many operations a round has.
    pub operations: usize,
    set_up: fn() -> Box<dyn Rounds>,
}

impl Stage {
    /// Makes all that its rounds work on.
    #[must_use]
    pub fn set_up(&self) -> Box<dyn Rounds> {
        (self.set_up)()
    }
}

/// The rounds of one stage, in turn: prepare, run, prepare, run.
pub trait Rounds {
    /// Makes what the next round uses up.
    fn prepare(&mut self);
    /// Does the operations.
    fn run(&mut self);
}

/// Every stage, in the order in which an event and then a read meet them.
pub fn all() -> impl Iterator<Item = &'static Stage> {
    [entry::STAGES, log::STAGES, ledger::STAGES, checkpoint::STAGES].into_iter().flatten()
}

/// Which of the ways through `ebbtide-shard` this processor lets it take.
#[must_use]
pub fn instruction_set() -> &'static str {
    match width() {
        Width::Widest => "x86_64 with AVX-512",
        Width::Wide => "x86_64 with AVX2",
        Width::Plain => std::env::consts::ARCH,
    }
}

/// Rounds over a state.
struct Over<S> {
    state: S,
    prepare: fn(&mut S),
    run: fn(&mut S),
}

impl<S> Rounds for Over<S> {
    fn prepare(&mut self) {
        (self.prepare)(&mut self.state);
    }

    fn run(&mut self) {
        (self.run)(&mut self.state);
    }
}

fn rounds<S: 'static>(state: S, prepare: fn(&mut S), run: fn(&mut S)) -> Box<dyn Rounds> {
    Box::new(Over { state, prepare, run })
}

/// The same where a round uses nothing up.
fn repeated<S: 'static>(state: S, run: fn(&mut S)) -> Box<dyn Rounds> {
    rounds(state, |_| (), run)
}

/// A ledger of all partitions that has seen nothing.
fn empty_ledger() -> SignalLedger {
    ledgers(1, Decays::Three).expect("the schema is ours").remove(0)
}

/// A ledger that knows its entities.
fn ledger() -> SignalLedger {
    let mut ledger = empty_ledger();
    history(ENTITIES, START_NS).for_each(|batch| apply_batches(&mut ledger, &batch));
    ledger
}

/// A ledger whose entities all have an event at `time_ns` besides their history.
fn ledger_at(time_ns: u64) -> SignalLedger {
    let mut ledger = ledger();
    batches(one_each(ENTITIES, time_ns)).for_each(|batch| ledger.apply_batch(&batch));
    ledger
}

/// Events of those entities in the order of their times, behind that history: 10,000 a second.
struct Arrivals {
    stream: Stream,
    newest_ns: u64,
}

impl Arrivals {
    fn new() -> Self {
        Self { stream: Stream::new((ENTITIES, 0.0), START_NS, 21), newest_ns: START_NS }
    }

    /// The events of the next round.
    fn take(&mut self) -> Vec<RoutedEvent> {
        let mut events = self.stream.take(EVENTS);
        for event in &mut events {
            self.newest_ns += 100_000;
            event.time = Timestamp(self.newest_ns);
        }
        events
    }
}

#[cfg(test)]
mod tests;
