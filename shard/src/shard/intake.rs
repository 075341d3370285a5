//! Intake: the one place where events become log and state.
//!
//! ```text
//! room of the log ─bounds─▶ batch ─repeats, duplicates out─▶ encode ─▶ append ─▶ apply
//! ```
//!
//! Promises: the log is asked for room before anything is touched, so a batch is taken whole or
//! not at all; what is applied is in the log before; what a source has come to is in the log with
//! the batch that brought it there. An event that is no news is counted, and acknowledged once the
//! log has everything that was appended before it, and so the event it repeats.
//! Fails by: [`TurnError`] when the log takes nothing more for good.

use super::TurnError;
use super::duplicates::Duplicates;
use crate::lane::{EventInbox, TagKind, Waiting};
use crate::limits::{BATCH_EVENTS_MAX, SIGNALS_MAX, SOURCE_NAME_BYTES_MAX};
use crate::record::{self, BatchForm, EventsEncoder};
use crate::source::{SourceName, SourceSlot, SourceTable};
use crate::{Dedup, RoutedEvent, SignalLedger};
use ebbtide_wal::{AppendError, WalWriter};

/// A producer's lane, as the shard knows it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) inbox: EventInbox,
    form: BatchForm,
    source: Option<SourceSlot>,
}

/// What became of the events of one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    /// Slots freed in the rings.
    pub(super) slots: usize,
    pub(super) applied: usize,
    pub(super) repeated: usize,
    pub(super) duplicates_by_id: usize,
    pub(super) duplicates_by_content: usize,
}

/// The state that events build up, and the log they go through on the way.
#[derive(Debug)]
pub(super) struct Intake<W> {
    pub(super) ledger: SignalLedger,
    pub(super) sources: SourceTable,
    pub(super) duplicates: Duplicates,
    pub(super) wal: W,
    /// The stored number of each signal type.
    pub(super) numbers: [u8; SIGNALS_MAX],
    bytes: Vec<u8>,
    /// The events of a batch that are news.
    news: Vec<RoutedEvent>,
}

impl<W: WalWriter> Intake<W> {
    pub(super) fn new(ledger: SignalLedger, wal: W) -> Self {
        let largest = BatchForm { source: None, ids: true };
        let bytes = largest.header_bytes() + BATCH_EVENTS_MAX * largest.record_bytes();
        Self {
            sources: SourceTable::new(ledger.partitions()),
            duplicates: Duplicates::new(&ledger),
            ledger,
            wal,
            numbers: std::array::from_fn(|id| {
                u8::try_from(id).expect("64 signal types fit a byte")
            }),
            bytes: Vec::with_capacity(bytes),
            news: Vec::with_capacity(BATCH_EVENTS_MAX),
        }
    }

    /// Bytes of state held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.ledger.memory_bytes() + self.duplicates.recent.memory_bytes()
    }

    /// Takes in a lane; what it carries is known from now on.
    pub(super) fn receive(&mut self, inbox: EventInbox) -> Result<Lane, TurnError> {
        let source = inbox.kind().source.as_ref();
        let form = BatchForm { source: source.map(SourceName::id), ids: inbox.kind().ids };
        let source = source.map(|name| {
            self.sources.open(name).expect("a source is checked before its lane is opened")
        });
        if let Some(source) = source {
            let _or_with_its_first_event = self.introduce(source)?;
        }
        Ok(Lane { inbox, form, source })
    }

    /// Names a source in the log, once for each opening. Says whether the log knows it now.
    fn introduce(&mut self, source: SourceSlot) -> Result<bool, TurnError> {
        if self.sources.is_introduced(source) {
            return Ok(true);
        }
        if !self.has_room(record::SOURCE_BYTES + SOURCE_NAME_BYTES_MAX)? {
            return Ok(false);
        }
        record::encode_source(self.sources.name(source), &mut self.bytes);
        self.wal.append(&self.bytes, 1)?;
        self.sources.set_introduced(source);
        Ok(true)
    }

    /// Whether the log takes a batch of so many bytes now.
    fn has_room(&mut self, bytes: usize) -> Result<bool, TurnError> {
        let room = self.wal.room();
        if room >= bytes {
            return Ok(true);
        }
        // A log that takes nothing more at all has no room either: what it says of a batch that is
        // too long for it tells the two apart.
        self.bytes.clear();
        self.bytes.resize(room + 1, 0);
        match self.wal.append(&self.bytes, 1) {
            Err(AppendError::BackPressure(_)) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => unreachable!("a log takes no batch that is longer than its room"),
        }
    }

    /// Takes up to `most` events of a lane. Says whether the log let it.
    pub(super) fn take(
        &mut self,
        lane: &mut Lane,
        most: usize,
        took: &mut Took,
    ) -> Result<bool, TurnError> {
        let Lane { inbox, form, source } = lane;
        if inbox.waiting() == 0 || most == 0 {
            return Ok(true);
        }
        let introduced = source.map_or(Ok(true), |source| self.introduce(source))?;
        if !introduced || !self.has_room(form.header_bytes() + form.record_bytes())? {
            return Ok(false);
        }
        let most = most.min(form.events_within(self.wal.room()));
        let plain = !inbox.kind().is_tagged() && self.duplicates.are_ignored();
        let (form, source) = (*form, *source);
        took.slots += inbox.take(most, |waiting| -> Result<_, TurnError> {
            if plain {
                took.applied += self.take_all(waiting)?;
            } else {
                self.take_news(waiting, (form, source), took)?;
            }
            let log = self.wal.watermarks();
            Ok(log.durable.map(|_| log.appended))
        })?;
        Ok(true)
    }

    /// Every event is news, and carries nothing: it need not be copied.
    fn take_all(&mut self, waiting: Waiting<'_>) -> Result<usize, TurnError> {
        let mut batch = EventsEncoder::begin(BatchForm::default(), &mut self.bytes);
        for event in waiting.events.into_iter().flatten() {
            batch.push(event, self.numbers[event.signal.index()], 0, None);
        }
        let count = batch.finish(0);
        self.wal.append(&self.bytes, count)?;
        for run in waiting.events {
            self.ledger.apply_batch(run);
        }
        Ok(waiting.events.into_iter().map(<[_]>::len).sum())
    }

    /// Leaves out what is no event and no news.
    fn take_news(
        &mut self,
        waiting: Waiting<'_>,
        (form, source): (BatchForm, Option<SourceSlot>),
        took: &mut Took,
    ) -> Result<(), TurnError> {
        let floor = |sources: &SourceTable| source.map_or(0, |slot| sources.floor(slot));
        let before = floor(&self.sources);
        self.news.clear();
        let mut batch = EventsEncoder::begin(form, &mut self.bytes);
        for (event, tag) in waiting.tagged() {
            let number = self.numbers[event.signal.index()];
            if tag.kind == TagKind::Mark {
                if let Some(slot) = source {
                    self.sources.note(slot, tag.offset);
                }
                continue;
            }
            let partition = event.hash.partition();
            if source.is_some_and(|slot| !self.sources.take(slot, partition, tag.offset)) {
                took.repeated += 1;
                continue;
            }
            match self.duplicates.find(event, number, tag.id()) {
                Some(Dedup::Id) => took.duplicates_by_id += 1,
                Some(_) => took.duplicates_by_content += 1,
                None => {
                    batch.push(event, number, tag.offset, tag.id());
                    self.news.push(*event);
                }
            }
        }
        let progress = floor(&self.sources);
        let count = batch.finish(progress);
        if count > 0 {
            self.wal.append(&self.bytes, count)?;
            self.ledger.apply_batch(&self.news);
            took.applied += self.news.len();
        } else if let Some(id) = form.source.filter(|_| progress > before) {
            record::encode_mark(id, progress, &mut self.bytes);
            self.wal.append(&self.bytes, 1)?;
        }
        Ok(())
    }
}
