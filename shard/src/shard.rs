//! The shard: one core's ledger, its lanes, and the turn that moves events from one to the other.
//!
//! ```text
//! turn: mail ─▶ up to 512 events: drain ─▶ append ─▶ apply ─▶ acknowledge ─▶ requests ─▶ counters
//! ```
//!
//! Promises: events of one lane are applied in their order, each exactly once; a turn is bounded,
//! so a read waits behind at most one batch; a request sees every event applied before it.
//! Sans-I/O: no clock, no file, no executor. Whoever calls [`Shard::turn`] decides when and where.
//! Fails by: [`TurnError`], after which the shard must not be used again.

use crate::lane::{EventInbox, RequestInbox};
use crate::limits::BATCH_EVENTS_MAX;
use crate::local::LocalShard;
use crate::port::{Mail, ShardDown, ShardPort};
use crate::record;
use crate::request::{Reply, Request};
use crate::{RoutedEvent, SignalLedger};
use ebbtide_wal::{AppendError, WalWriter};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Work was done; more may wait.
    Busy,
    /// Nothing to do.
    Idle,
    /// The shard was told to close and has taken everything that was offered.
    Finished,
}

/// Why a shard cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// The log takes no more, for good. Reopen the store.
    #[error("the log failed: {0}")]
    Log(#[from] AppendError),
}

/// One core's share of an engine.
#[derive(Debug)]
pub struct Shard<W> {
    port: Arc<ShardPort>,
    ledger: SignalLedger,
    wal: W,
    memory_bytes_max: usize,
    events: Vec<EventInbox>,
    /// Which lane the next turn begins with, so that none is always last.
    first_lane: usize,
    requests: Vec<RequestInbox>,
    records: Vec<u8>,
    /// Mail taken and not yet opened. Kept here, so that a panic on the way does not throw it away
    /// before the shard is known to have failed.
    mail: VecDeque<Mail>,
    closing: bool,
}

impl<W: WalWriter> Shard<W> {
    /// A shard over `ledger` that appends to `wal` and refuses new events above `memory_bytes_max`.
    #[must_use]
    pub fn new(
        port: Arc<ShardPort>,
        ledger: SignalLedger,
        wal: W,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            port,
            ledger,
            wal,
            memory_bytes_max,
            events: Vec::new(),
            first_lane: 0,
            requests: Vec::new(),
            records: Vec::with_capacity(BATCH_EVENTS_MAX * record::RECORD_BYTES),
            mail: VecDeque::new(),
            closing: false,
        }
    }

    /// The shard, seen from outside.
    #[must_use]
    pub fn port(&self) -> &Arc<ShardPort> {
        &self.port
    }

    /// Does one bounded round of work.
    ///
    /// # Errors
    ///
    /// [`TurnError`] when the shard cannot go on; then [`Shard::fail`] it.
    pub fn turn(&mut self) -> Result<Turn, TurnError> {
        let mail = self.open_mail();
        let events = self.take_events()?;
        let requests = self.answer_requests();
        let gone = self.forget_finished();
        if mail + events + requests + gone > 0 {
            self.publish_counters(events, requests);
            return Ok(Turn::Busy);
        }
        let finished = self.closing && !self.has_work();
        Ok(if finished { Turn::Finished } else { Turn::Idle })
    }

    /// Whether a turn would find anything: the last look before sleeping.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.port.has_mail()
            || self.events.iter().any(|lane| lane.waiting() > 0 || lane.is_finished())
            || self.requests.iter().any(|lane| lane.has_request() || lane.is_finished())
    }

    /// Notes that the shard goes to sleep.
    pub fn count_park(&self) {
        self.port.counters().parks.add(1);
    }

    /// Ends the shard in good order.
    pub fn close(self) {
        self.port.set_down(ShardDown::Closed { shard: self.port.shard() });
    }

    /// Ends the shard because of `cause`. Everyone who waits for it is told.
    pub fn fail(self, cause: &str) {
        self.port.set_down(ShardDown::Failed { shard: self.port.shard(), cause: cause.into() });
    }

    fn open_mail(&mut self) -> usize {
        self.mail.extend(self.port.take_mail());
        let count = self.mail.len();
        while let Some(letter) = self.mail.pop_front() {
            match letter {
                Mail::Events(lane) => self.events.push(lane),
                Mail::Requests(lane) => self.requests.push(lane),
                Mail::Visit(visit) => visit(&LocalShard::new(self.port.shard(), &self.ledger)),
                Mail::Close => self.closing = true,
                #[cfg(feature = "test-util")]
                Mail::Panic => panic!("a test asked shard {} to panic", self.port.shard()),
            }
        }
        count
    }

    fn take_events(&mut self) -> Result<usize, TurnError> {
        let waiting: usize = self.events.iter().map(EventInbox::waiting).sum();
        if waiting == 0 {
            return Ok(0);
        }
        self.port.counters().queue_depth.set(waiting);
        self.port.counters().queue_depth_max.raise(waiting);
        self.first_lane = (self.first_lane + 1) % self.events.len();
        let (before, after) = self.events.split_at_mut(self.first_lane);
        let mut taken = 0;
        for lane in after.iter_mut().chain(before) {
            let (ledger, wal, records) = (&mut self.ledger, &mut self.wal, &mut self.records);
            let took =
                lane.take(BATCH_EVENTS_MAX - taken, |runs| apply(runs, ledger, wal, records));
            match took {
                Ok(count) => taken += count,
                // The events stay in their ring; producers feel it as a full one.
                Err(AppendError::BackPressure(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.port.set_memory_full(self.ledger.memory_bytes() > self.memory_bytes_max);
        Ok(taken)
    }

    fn answer_requests(&mut self) -> usize {
        let ledger = &self.ledger;
        let answer = |request| answer(ledger, request);
        self.requests.iter_mut().map(|lane| usize::from(lane.answer(answer))).sum()
    }

    /// Lets go of lanes whose other end is gone, however busy the shard is with the rest.
    fn forget_finished(&mut self) -> usize {
        let lanes = self.events.len() + self.requests.len();
        self.events.retain(|lane| lane.waiting() > 0 || !lane.is_finished());
        self.requests.retain(|lane| lane.has_request() || !lane.is_finished());
        lanes - self.events.len() - self.requests.len()
    }

    fn publish_counters(&self, events: usize, requests: usize) {
        let counters = self.port.counters();
        counters.turns_busy.add(1);
        counters.events_applied.add(events);
        counters.batch_events_max.raise(events);
        counters.requests_answered.add(requests);
        counters.pairs.set(self.ledger.pairs());
        counters.memory_bytes.set(self.ledger.memory_bytes());
        counters.producers.set(self.events.len());
        counters.readers.set(self.requests.len());
    }
}

/// Appends a batch to the log, then applies it: the one place where events become state.
fn apply<W: WalWriter>(
    runs: [&[RoutedEvent]; 2],
    ledger: &mut SignalLedger,
    wal: &mut W,
    records: &mut Vec<u8>,
) -> Result<(), AppendError> {
    records.clear();
    runs.iter().copied().flatten().for_each(|event| record::encode(event, records));
    let count = u32::try_from(records.len() / record::RECORD_BYTES).unwrap_or(u32::MAX);
    if count > 0 {
        wal.append(records, count)?;
        for run in runs {
            ledger.apply_batch(run);
        }
    }
    Ok(())
}

fn answer(ledger: &SignalLedger, request: Request) -> Reply {
    match request {
        Request::Read { entity, hash, signal, now } => {
            Reply::Reading(ledger.read(hash, entity, signal, now))
        }
        Request::ReadRows { mut rows, now } => {
            let columns = &rows.columns;
            let values = rows.values.chunks_exact_mut(columns.len().max(1));
            for (&entity, row) in rows.entities.iter().zip(values) {
                ledger.read_row(entity, columns, now, row);
            }
            Reply::Rows(rows)
        }
        Request::Top { signal, half_life, now } => {
            Reply::Top(ledger.top_candidates(signal, half_life, now))
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
