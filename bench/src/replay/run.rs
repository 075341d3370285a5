//! The run itself: one thread reads the trace and keeps the schedule, others record.
//!
//! ```text
//! input ─batch─▶ what is new ─▶ schedule ─by entity─▶ recorders ─▶ engine
//!   ▲                                                     │
//!   └────────────────────── refused ──────────────────────┘
//! ```
//!
//! Promises: all events of an entity go through one recorder in trace order, so with any number of
//! them an entity's state is the same to the bit. What the store holds is read and not sent again;
//! the schedule begins behind it. The engine's clock is that of the trace.

use super::args::ReplayArgs;
use super::input::Input;
use super::latency::Latencies;
use super::pace::{Rate, Schedule};
use super::producer::{Planned, Recorder, Refused};
use super::resume::Resumed;
use crate::fault::{Fault, Kind};
use crate::interrupt::Interrupt;
use crate::stalls::Stalls;
use crate::trace::TraceEvent;
use ebbtide::{Ack, Engine, ManualClock, SourceProducer, Timestamp};
use ebbtide_shard::checked_weight;
use indicatif::ProgressBar;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Events in one batch on their way to the recorders.
const BATCH_EVENTS: usize = 4096;
/// Batches waiting for one recorder.
const BATCHES_WAITING: usize = 4;
/// Time for the recorders to be there before a schedule begins.
const LEAD: Duration = Duration::from_millis(50);

/// What came of a run.
pub(super) struct Ran {
    /// Events of the trace, those that were refused included.
    pub(super) events: u64,
    /// Those that were there before.
    pub(super) there: u64,
    /// The line up to which all were there.
    pub(super) resumed_at: u64,
    /// Until the last acknowledgement.
    pub(super) seconds: f64,
    /// Of all recorders.
    pub(super) latencies: Latencies,
    /// The machine's own, meanwhile.
    pub(super) stalls: Stalls,
    /// The newest time of an event that was taken, now or before.
    pub(super) newest: Timestamp,
    /// Every event, if the run is to be verified.
    pub(super) kept: Vec<TraceEvent>,
}

/// What a run works with.
pub(super) struct Run<'r> {
    /// The flags.
    pub(super) args: &'r ReplayArgs,
    /// Where to record.
    pub(super) engine: &'r Engine,
    /// Its clock.
    pub(super) clock: &'r ManualClock,
    /// When to stop.
    pub(super) interrupt: &'r Interrupt,
    /// What a person sees meanwhile.
    pub(super) progress: &'r ProgressBar,
}

impl Run<'_> {
    /// Replays what the store does not hold yet; when interrupted, as far as that.
    ///
    /// # Errors
    ///
    /// For bad input that is not skipped, and if the engine or the trace fails.
    pub(super) fn all(&self, input: &mut Input, resumed: Resumed) -> Result<Ran, Fault> {
        let Resumed { producers, offsets, .. } = resumed;
        let resumed_at = offsets.iter().copied().min().unwrap_or(0);
        let held_to = offsets.iter().copied().max().unwrap_or(0);
        if let Some(last) = input.known_last_line() {
            refuse_less(held_to, last)?;
        }
        let mut feed = Feed::new(self, offsets);
        let first = feed.read(input);
        let lead = if self.args.rate == Rate::Max { Duration::ZERO } else { LEAD };
        let start = Instant::now() + lead;
        let mut stalls = Stalls::default();
        let latencies = stalls.beside(|| {
            thread::scope(|scope| {
                let team = Team::start(scope, self, producers, start)?;
                let outcome = feed.hand_on(first, input, &team);
                let told = !input.rejected.is_empty();
                match (outcome, team.finish(input, self.args.ack)) {
                    // What was refused stood before the line that ended the reading.
                    (Err(_), Err(earlier)) if !told && earlier.kind == Kind::Input => Err(earlier),
                    (outcome, latencies) => outcome.and(latencies),
                }
            })
        })?;
        if !self.interrupt.has_come() {
            refuse_less(held_to, input.last_line())?;
        }
        let newest = latencies.newest.max(feed.newest_there);
        let (events, there, kept) = (feed.events, feed.there, feed.kept);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Ran { events, there, resumed_at, seconds, latencies, stalls, newest, kept })
    }
}

/// A trace that ends before what the store holds of it is not all of it.
fn refuse_less(held_to: u64, last: u64) -> Result<(), Fault> {
    if held_to <= last {
        return Ok(());
    }
    Err(Fault::input(format!(
        "the store holds this trace up to {held_to}, and here it ends with {last}; give all of \
         it, or replay into an empty directory"
    )))
}

fn not_started(error: &io::Error) -> Fault {
    Fault::environment(format!(
        "cannot start a recording thread: {error}; ask for fewer producers or raise `ulimit -u`"
    ))
}

/// The reading side of a run.
struct Feed<'r> {
    run: &'r Run<'r>,
    schedule: Schedule,
    /// By recorder, the line up to which all its events are there.
    offsets: Vec<u64>,
    newest: Timestamp,
    events: u64,
    there: u64,
    newest_there: Timestamp,
    kept: Vec<TraceEvent>,
}

/// What was read: events to send, and how the reading ended there.
struct Read {
    new: Vec<TraceEvent>,
    /// `None` if there is more.
    end: Option<Result<(), Fault>>,
}

impl<'r> Feed<'r> {
    fn new(run: &'r Run<'r>, offsets: Vec<u64>) -> Self {
        Self {
            run,
            schedule: Schedule::new(run.args.rate),
            offsets,
            newest: Timestamp(0),
            events: 0,
            there: 0,
            newest_there: Timestamp(0),
            kept: Vec::new(),
        }
    }

    /// Reads on until there is something new.
    fn read(&mut self, input: &mut Input) -> Read {
        let mut new = Vec::with_capacity(BATCH_EVENTS);
        while new.is_empty() {
            if self.run.interrupt.has_come() {
                return Read { new, end: Some(Ok(())) };
            }
            // The events before a line that ends the run are sent all the same: one of them may be
            // refused, and stands before that line.
            let read = input.read_batch(BATCH_EVENTS, &mut new);
            let is_broken_off = read.is_err() && self.run.interrupt.has_come();
            let read = if is_broken_off { Ok(()) } else { read };
            let is_end = new.is_empty() || is_broken_off;
            let taken = self.take(&mut new, input);
            if is_end || taken.is_err() || read.is_err() {
                return Read { new, end: Some(taken.and(read)) };
            }
        }
        Read { new, end: None }
    }

    /// Counts the events of a batch and leaves in it those that are new.
    fn take(&mut self, batch: &mut Vec<TraceEvent>, input: &mut Input) -> Result<(), Fault> {
        self.events += batch.len() as u64;
        self.run.progress.inc(batch.len() as u64);
        let newest = batch.iter().map(|event| Timestamp(event.time_ns)).max();
        self.newest = self.newest.max(newest.unwrap_or(self.newest));
        self.run.clock.advance_to(self.newest);
        if self.run.args.verifies() {
            self.kept.extend_from_slice(batch);
        }
        let mut outcome = Ok(());
        batch.retain(|event| {
            let recorder = recorder_of(event.entity, self.offsets.len());
            let is_new = event.line > self.offsets[recorder];
            if !is_new && outcome.is_ok() {
                outcome = self.pass_over(event, input);
            }
            is_new
        });
        outcome
    }

    /// Judges an event at or before the resume point as the engine did when it was offered.
    fn pass_over(&mut self, event: &TraceEvent, input: &mut Input) -> Result<(), Fault> {
        match checked_weight(event.weight) {
            Ok(_) => {
                self.there += 1;
                self.newest_there = self.newest_there.max(Timestamp(event.time_ns));
                Ok(())
            }
            Err(reason) => input.reject(event, reason),
        }
    }

    /// Gives everything that is read, from `read` on, to the recorders.
    fn hand_on(&mut self, read: Read, input: &mut Input, team: &Team<'_>) -> Result<(), Fault> {
        let mut read = read;
        loop {
            let planned = read.new.drain(..).map(|event| {
                let at = self.schedule.next(event.time_ns);
                Planned { event, at }
            });
            if !team.hand_out(planned) {
                // A recorder has ended early; its reason is told when it is joined.
                return Ok(());
            }
            team.take_refused(input)?;
            if let Some(end) = read.end {
                return end;
            }
            read = self.read(input);
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

impl<'s> Team<'s> {
    /// Starts a recorder for each of `producers`.
    fn start(
        scope: &'s Scope<'s, '_>,
        run: &Run<'_>,
        producers: Vec<SourceProducer>,
        start: Instant,
    ) -> Result<Self, Fault> {
        let (refuse, refused) = mpsc::channel();
        let mut team = Self { batches: Vec::new(), threads: Vec::new(), refused };
        for producer in producers {
            let (shards, at) = (run.engine.shards(), (start, run.args.ack));
            let recorder = Recorder::new(producer, shards, at, run.interrupt);
            let (batches, inbox) = mpsc::sync_channel(BATCHES_WAITING);
            let refuse = refuse.clone();
            team.batches.push(batches);
            let recording = move || record(recorder, &inbox, &refuse);
            let thread = thread::Builder::new().name("recorder".into());
            let thread = thread.spawn_scoped(scope, recording);
            team.threads.push(thread.map_err(|error| not_started(&error))?);
        }
        Ok(team)
    }

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
        self.refused.try_iter().try_for_each(|(event, reason)| input.reject(&event, reason))
    }

    /// Waits for the last acknowledgement.
    fn finish(mut self, input: &mut Input, ack: Ack) -> Result<Latencies, Fault> {
        self.batches.clear();
        let mut all = Latencies::new(ack);
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
/// pattern. A store that is gone on with relies on it: a change would repeat events.
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
        recorder.send(&batch, refused)?;
    }
    recorder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorder_of_an_entity_is_frozen() {
        let of = |entity: u64| [2, 3, 64].map(|recorders| recorder_of(entity, recorders));
        assert_eq!(
            [of(0), of(1), of(2), of(u64::MAX)],
            [[0, 0, 0], [1, 0, 57], [0, 2, 50], [0, 0, 6]]
        );
    }
}
