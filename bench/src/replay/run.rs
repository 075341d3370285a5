//! The run itself: one thread reads the trace and keeps the schedule, others record.
//!
//! ```text
//! input ─batch─▶ schedule ─by entity─▶ recorders ─▶ engine
//!   ▲                                     │
//!   └────────────── refused ──────────────┘
//! ```
//!
//! Promises: all events of an entity go through one recorder in trace order, so with any number of
//! them an entity's state is the same to the bit. The engine's clock is that of the trace.

use super::args::ReplayArgs;
use super::input::Input;
use super::latency::Latencies;
use super::pace::{Rate, Schedule};
use super::producer::{Planned, Recorder, Refused};
use crate::fault::{Fault, Kind};
use crate::trace::TraceEvent;
use ebbtide::{Engine, ManualClock, OfferError, Timestamp};
use indicatif::ProgressBar;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Events in one batch on their way to the recorders.
const BATCH_EVENTS: usize = 4096;
/// Batches waiting for one recorder.
const BATCHES_WAITING: usize = 4;
/// Time for the first batch to be read before a schedule begins.
const LEAD: Duration = Duration::from_millis(50);
/// How long the last events may take to be acknowledged.
const PATIENCE: Duration = Duration::from_mins(1);

/// What came of a run.
pub(super) struct Ran {
    /// Events offered and taken.
    pub(super) applied: u64,
    /// Until the last acknowledgement.
    pub(super) seconds: f64,
    /// Of all recorders.
    pub(super) latencies: Latencies,
    /// The newest time of an event that was taken.
    pub(super) newest: Timestamp,
    /// Every event offered, if the run is to be verified.
    pub(super) kept: Vec<TraceEvent>,
}

/// Replays the whole input.
///
/// # Errors
///
/// For bad input that is not skipped, and if the engine or the trace fails.
pub(super) fn run(
    args: &ReplayArgs,
    engine: &Engine,
    clock: &ManualClock,
    input: &mut Input,
    progress: &ProgressBar,
) -> Result<Ran, Fault> {
    let lead = if args.rate == Rate::Max { Duration::ZERO } else { LEAD };
    let start = Instant::now() + lead;
    thread::scope(|scope| {
        let (refuse, refused) = mpsc::channel();
        let mut team = Team { batches: Vec::new(), threads: Vec::new(), refused };
        for _ in 0..args.producers {
            let recorder = Recorder::new(engine.producer()?, engine.shards(), start, args.ack);
            let (batches, inbox) = mpsc::sync_channel(BATCHES_WAITING);
            let refuse = refuse.clone();
            team.batches.push(batches);
            let recording = move || record(recorder, &inbox, &refuse);
            let thread = thread::Builder::new().name("recorder".into());
            team.threads
                .push(thread.spawn_scoped(scope, recording).map_err(|error| not_started(&error))?);
        }
        drop(refuse);
        let mut feed = Feed {
            schedule: Schedule::new(args.rate),
            newest: Timestamp(0),
            keep: args.verifies(),
            kept: Vec::new(),
        };
        let outcome = feed.all(input, clock, &team, progress);
        let told = !input.rejected.is_empty();
        let latencies = match (outcome, team.finish(input)) {
            // What was refused stood before the line that ended the reading.
            (Err(_), Err(earlier)) if !told && earlier.kind == Kind::Input => Err(earlier),
            (outcome, latencies) => outcome.and(latencies),
        }?;
        let seconds = start.elapsed().as_secs_f64();
        let (applied, newest) = (latencies.sent, latencies.newest);
        Ok(Ran { applied, seconds, latencies, newest, kept: feed.kept })
    })
}

fn not_started(error: &io::Error) -> Fault {
    Fault::environment(format!(
        "cannot start a recording thread: {error}; ask for fewer producers or raise `ulimit -u`"
    ))
}

/// The reading side of a run.
struct Feed {
    schedule: Schedule,
    newest: Timestamp,
    keep: bool,
    kept: Vec<TraceEvent>,
}

impl Feed {
    fn all(
        &mut self,
        input: &mut Input,
        clock: &ManualClock,
        team: &Team<'_>,
        progress: &ProgressBar,
    ) -> Result<(), Fault> {
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        loop {
            // The events before a line that ends the run are sent all the same: one of them may be
            // refused, and stands before that line.
            let read = input.read_batch(BATCH_EVENTS, &mut batch);
            if batch.is_empty() {
                return read;
            }
            let newest = batch.iter().map(|event| Timestamp(event.time_ns)).max();
            self.newest = self.newest.max(newest.unwrap_or(self.newest));
            clock.advance_to(self.newest);
            if self.keep {
                self.kept.extend_from_slice(&batch);
            }
            let planned = batch.drain(..).map(|event| {
                let at = self.schedule.next(event.time_ns);
                Planned { event, at }
            });
            let count = planned.len();
            if !team.hand_out(planned) {
                // A recorder has ended early; its reason is told when it is joined.
                return Ok(());
            }
            progress.inc(count as u64);
            team.take_refused(input)?;
            read?;
        }
    }
}

type Recording<'s> = ScopedJoinHandle<'s, Result<Latencies, Fault>>;

/// The recording threads.
struct Team<'s> {
    batches: Vec<SyncSender<Vec<Planned>>>,
    threads: Vec<Recording<'s>>,
    refused: Receiver<Refused>,
}

impl Team<'_> {
    /// Gives each event to the recorder of its entity; `false` if one does not take any more.
    fn hand_out(&self, planned: impl ExactSizeIterator<Item = Planned>) -> bool {
        let recorders = self.batches.len();
        let room = planned.len() / recorders + 1;
        let mut shares: Vec<_> = (0..recorders).map(|_| Vec::with_capacity(room)).collect();
        for one in planned {
            shares[recorder_of(one.event.entity, recorders)].push(one);
        }
        self.batches.iter().zip(shares).all(|(batches, share)| batches.send(share).is_ok())
    }

    fn take_refused(&self, input: &mut Input) -> Result<(), Fault> {
        self.refused.try_iter().try_for_each(|(event, reason)| match reason {
            OfferError::Rejected { reason, .. } => input.reject(&event, reason),
            other => Err(Fault::environment(other)),
        })
    }

    /// Waits for the last acknowledgement.
    fn finish(mut self, input: &mut Input) -> Result<Latencies, Fault> {
        self.batches.clear();
        let mut all = Latencies::new();
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(latencies)) => all.add(&latencies),
                Ok(Err(fault)) => outcome = Err(fault),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome?;
        self.take_refused(input)?;
        Ok(all)
    }
}

/// Spreads entities over recorders; multiplication by an odd number mixes ids that follow a
/// pattern.
fn recorder_of(entity: u64, recorders: usize) -> usize {
    let mixed = entity.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % recorders
}

fn record(
    mut recorder: Recorder,
    inbox: &Receiver<Vec<Planned>>,
    refuse: &Sender<Refused>,
) -> Result<Latencies, Fault> {
    for batch in inbox {
        let refused = |one| {
            // The reading side may have given up already.
            let _nobody_listens = refuse.send(one);
        };
        recorder.send(&batch, refused).map_err(Fault::environment)?;
    }
    recorder.finish(PATIENCE).map_err(Fault::environment)
}
