//! The shard: one core's ledger, its lanes, and the turn that moves events from one to the other.
//!
//! ```text
//! turn: mail ─▶ up to 512 events: drain ─▶ append ─▶ apply ─▶ requests ─▶ acknowledge ─▶ counters
//! ```
//!
//! Promises: events of one lane are applied in their order, each exactly once; a turn is bounded,
//! so a read waits behind at most one batch; a request sees every event applied before it.
//! Sans-I/O: no clock, no file, no executor. Whoever calls [`Shard::turn`] decides when and where,
//! moves the log on ([`Shard::wal_mut`]), and says so ([`Shard::acknowledge`]).
//! Fails by: [`TurnError`], after which the shard must not be used again.
//! Not here: how events become log and state (`intake`).

mod duplicates;
mod intake;

use crate::SignalLedger;
use crate::dedup::RecentIds;
use crate::lane::{Answered, Answering, RequestInbox};
use crate::limits::{BATCH_EVENTS_MAX, SIGNALS_MAX};
use crate::local::LocalShard;
use crate::port::{Mail, ShardDown, ShardPort};
use crate::record;
use crate::request::{Question, Reply, Request};
use crate::saving::{Saved, Saving};
use crate::source::SourceTable;
pub use duplicates::dedup_key;
use ebbtide_wal::{AppendError, Lsn, WalWriter, Watermarks};
use intake::{Intake, Lane, Took};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Work was done; more may wait.
    Busy,
    /// Nothing to do.
    Idle,
    /// Events wait, but the log takes no more for now, and there was nothing else to do. Another
    /// turn helps only after the log has moved on, or when somebody rings.
    Blocked,
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
    intake: Intake<W>,
    memory_bytes_max: usize,
    events: Vec<Lane>,
    /// Which lane the next turn begins with, so that none is always last.
    first_lane: usize,
    /// Whether the log let the last turn take nothing of the events that waited.
    blocked: bool,
    /// Whether the last turn took as many events as a turn may.
    behind: bool,
    requests: Vec<RequestInbox>,
    /// Mail taken and not yet opened. Kept here, so that a panic on the way does not throw it away
    /// before the shard is known to have failed.
    mail: VecDeque<Mail>,
    /// The checkpoint under way.
    saving: Option<Saving>,
    closing: bool,
    /// How far the log had come when that was last published.
    acknowledged: Watermarks,
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
        let acknowledged = wal.watermarks();
        Self {
            port,
            intake: Intake::new(ledger, wal),
            memory_bytes_max,
            events: Vec::new(),
            first_lane: 0,
            blocked: false,
            behind: false,
            requests: Vec::new(),
            mail: VecDeque::new(),
            saving: None,
            closing: false,
            acknowledged,
        }
    }

    /// The same shard with other stored numbers for its signal types than their places in the
    /// schema, by which they stand in the log.
    #[must_use]
    pub fn with_numbers(mut self, numbers: [u8; SIGNALS_MAX]) -> Self {
        self.intake.numbers = numbers;
        self
    }

    /// The same shard with the sources that recovery found.
    ///
    /// # Panics
    ///
    /// If the table is for other partitions than the ledger.
    #[must_use]
    pub fn with_sources(mut self, sources: SourceTable) -> Self {
        assert_eq!(sources.partitions(), self.intake.ledger.partitions(), "one shard, one range");
        self.intake.sources = sources;
        self
    }

    /// The same shard with the ids that recovery found.
    #[must_use]
    pub fn with_recent_ids(mut self, recent: RecentIds) -> Self {
        self.intake.duplicates.recent = recent;
        self
    }

    /// Says in the log which shard of how many writes it from here on: the first batch of every
    /// opening.
    ///
    /// # Errors
    ///
    /// [`TurnError`] if the log does not take it.
    ///
    /// # Panics
    ///
    /// If there are more shards than there can be.
    pub fn open_log(&mut self, shards: usize) -> Result<Lsn, TurnError> {
        let number = |n: usize| u32::try_from(n).expect("there are at most 1024 shards");
        let mut bytes = Vec::with_capacity(record::OPENED_BYTES);
        record::encode_opened(number(shards), number(self.port.shard()), &mut bytes);
        Ok(self.intake.wal.append(&bytes, 1)?)
    }

    /// The log, to be moved on between turns.
    #[must_use]
    pub fn wal_mut(&mut self) -> &mut W {
        &mut self.intake.wal
    }

    /// The log.
    #[must_use]
    pub fn wal(&self) -> &W {
        &self.intake.wal
    }

    /// The state, for a checkpoint that walks over it between turns.
    #[must_use]
    pub fn ledger_mut(&mut self) -> &mut SignalLedger {
        &mut self.intake.ledger
    }

    /// The state.
    #[must_use]
    pub fn ledger(&self) -> &SignalLedger {
        &self.intake.ledger
    }

    /// The ids remembered, of which a checkpoint takes those that are not saved.
    #[must_use]
    pub fn recent_ids_mut(&mut self) -> &mut RecentIds {
        &mut self.intake.duplicates.recent
    }

    /// How far every source has come here.
    #[must_use]
    pub fn sources(&self) -> &SourceTable {
        &self.intake.sources
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
        let mail = self.open_mail()?;
        let took = self.take_events()?;
        let requests = self.answer_requests();
        let saved = self.save();
        if took.slots > 0 || self.acknowledged != self.intake.wal.watermarks() {
            self.acknowledge();
        }
        self.port.counters().wal_file_bytes.put(self.intake.wal.file_bytes());
        let gone = self.forget_finished();
        if mail + took.slots + requests + saved + gone > 0 {
            self.publish_counters(took, requests);
            return Ok(Turn::Busy);
        }
        if self.blocked {
            self.port.counters().turns_blocked.add(1);
            return Ok(Turn::Blocked);
        }
        let finished = self.closing && !self.has_work();
        Ok(if finished { Turn::Finished } else { Turn::Idle })
    }

    /// Publishes to all lanes how far the log has come. A turn does, if there is news; call it also
    /// after the log's last steps, between [`Turn::Finished`] and [`Shard::close`].
    pub fn acknowledge(&mut self) {
        let log = self.intake.wal.watermarks();
        self.acknowledged = log;
        self.events.iter_mut().for_each(|lane| lane.inbox.acknowledge(&log));
        let counters = self.port.counters();
        counters.wal_appended.put(log.appended.get());
        counters.wal_written.put(log.written.unwrap_or(Lsn::NONE).get());
        counters.wal_written_bytes.put(self.intake.wal.written_bytes());
        counters.wal_durable.put(log.durable.unwrap_or(Lsn::NONE).get());
    }

    /// Whether a turn would find anything: the last look before sleeping. Events that the log has
    /// no room for are none of it.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let takes = |lane: &Lane| !self.blocked && lane.inbox.waiting() > 0;
        self.port.has_mail()
            || self.saving.as_ref().is_some_and(|saving| saving.has_work(self.log_durable()))
            || self.events.iter().any(|lane| takes(lane) || lane.inbox.is_finished())
            || self.requests.iter().any(|lane| lane.has_request() || lane.is_finished())
    }

    /// Whether the last turn took as many events as a turn may, so that more wait, most likely.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
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

    fn open_mail(&mut self) -> Result<usize, TurnError> {
        if !self.port.has_mail() {
            return Ok(0);
        }
        self.mail.extend(self.port.take_mail());
        let count = self.mail.len();
        while let Some(letter) = self.mail.pop_front() {
            match letter {
                Mail::Events(inbox) => self.events.push(self.intake.receive(inbox)?),
                Mail::Requests(lane) => self.requests.push(lane),
                Mail::Visit(visit) => {
                    let Intake { ledger, sources, .. } = &self.intake;
                    visit(&LocalShard::new(self.port.shard(), ledger, sources));
                }
                // What a checkpoint under way still holds counts as saved, so none takes its place.
                Mail::Checkpoint(..) if self.closing || self.saving.is_some() => {}
                Mail::Checkpoint(walk, sink) => {
                    let appended = self.intake.wal.watermarks().appended;
                    self.saving = Some(Saving::begin(appended, walk, sink));
                }
                Mail::Note(note) => {
                    // A log that can take no more notes keeps what it has, which harms nobody.
                    let _kept = self.intake.wal.note_checkpoint(note);
                }
                Mail::Close => self.closing = true,
                #[cfg(feature = "test-util")]
                Mail::Panic => panic!("a test asked shard {} to panic", self.port.shard()),
            }
        }
        Ok(count)
    }

    /// Goes a step with the checkpoint under way, and says whether there was one to go.
    fn save(&mut self) -> usize {
        let log = self.intake.wal.watermarks();
        let durable = self.log_durable();
        let Some(saving) = self.saving.as_mut().filter(|saving| saving.has_work(durable)) else {
            return 0;
        };
        let Intake { ledger, sources, duplicates, numbers, .. } = &mut self.intake;
        let state = Saved { ledger, sources, ids: &mut duplicates.recent, numbers };
        if !saving.step(state, log.appended, durable) {
            self.saving = None;
        }
        1
    }

    /// Up to where the log is durable; a shard that keeps none has nothing to wait for.
    fn log_durable(&self) -> Lsn {
        let log = self.intake.wal.watermarks();
        log.durable.unwrap_or(log.appended)
    }

    fn take_events(&mut self) -> Result<Took, TurnError> {
        let mut took = Took::default();
        (self.blocked, self.behind) = (false, false);
        let waiting: usize = self.events.iter().map(|lane| lane.inbox.waiting()).sum();
        if waiting == 0 {
            return Ok(took);
        }
        self.port.counters().queue_depth.set(waiting);
        self.port.counters().queue_depth_max.raise(waiting);
        self.first_lane = (self.first_lane + 1) % self.events.len();
        let (before, after) = self.events.split_at_mut(self.first_lane);
        for lane in after.iter_mut().chain(before) {
            // Without room in the log, events stay in their ring; producers feel it as a full one.
            self.blocked = !self.intake.take(lane, BATCH_EVENTS_MAX - took.slots, &mut took)?;
            if self.blocked {
                break;
            }
        }
        self.behind = took.slots == BATCH_EVENTS_MAX;
        self.port.set_memory_full(self.intake.memory_bytes() > self.memory_bytes_max);
        Ok(took)
    }

    fn answer_requests(&mut self) -> usize {
        let ledger = &self.intake.ledger;
        let mut answered = 0;
        for lane in &mut self.requests {
            // A reader asks one thing at a time.
            answered += usize::from(
                lane.answer_pair(|asked, answering| read(ledger, asked, answering))
                    || lane.answer(|asked| answer(ledger, asked)),
            );
        }
        answered
    }

    /// Lets go of lanes whose other end is gone, however busy the shard is with the rest.
    fn forget_finished(&mut self) -> usize {
        let finished = self.events.iter().any(|lane| lane.inbox.is_finished())
            || self.requests.iter().any(RequestInbox::is_finished);
        if !finished {
            return 0;
        }
        let lanes = self.events.len() + self.requests.len();
        self.events.retain(|lane| !lane.inbox.is_finished());
        self.requests.retain(|lane| lane.has_request() || !lane.is_finished());
        lanes - self.events.len() - self.requests.len()
    }

    fn publish_counters(&self, took: Took, requests: usize) {
        let counters = self.port.counters();
        counters.turns_busy.add(1);
        counters.events_applied.add(took.applied);
        counters.events_repeated.add(took.repeated);
        counters.duplicates_by_id.add(took.duplicates_by_id);
        counters.duplicates_by_content.add(took.duplicates_by_content);
        counters.batch_events_max.raise(took.slots);
        counters.requests_answered.add(requests);
        counters.pairs.set(self.intake.ledger.pairs());
        counters.memory_bytes.set(self.intake.memory_bytes());
        counters.producers.set(self.events.len());
        counters.readers.set(self.requests.len());
    }
}

/// However a shard ends, whoever waits for it is told.
impl<W> Drop for Shard<W> {
    fn drop(&mut self) {
        let shard = self.port.shard();
        // What was said before stays.
        self.port.set_down(ShardDown::Failed { shard, cause: "its thread ended early".into() });
    }
}

/// Apart from the turn, most of which have no question to answer.
#[inline(never)]
fn read(ledger: &SignalLedger, asked: Question, answering: Answering<'_>) -> Answered {
    let Question { entity, hash, signal, now } = asked;
    ledger.read_with((hash, entity), signal, now, |reading| answering.give(reading))
}

fn answer(ledger: &SignalLedger, request: Request) -> Reply {
    match request {
        Request::ReadRows { mut rows, now } => {
            ledger.read_rows(&rows.entities, &rows.columns, now, &mut rows.values);
            Reply::Rows(rows)
        }
        Request::Rank { mut rows, k, now } => {
            ledger.rank_rows(&mut rows, k, now);
            Reply::Rows(rows)
        }
        Request::Top { signal, half_life, k, now, mut entries } => {
            ledger.top_into((signal, half_life), k, now, &mut entries);
            Reply::Top(entries)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
