//! `replay`: a trace through a durable engine, at a pace, with every answer checked.
//!
//! ```text
//! args ─▶ input ─▶ store ─▶ resume ─▶ run (schedule, recorders, latencies) ─▶ state
//! state ─▶ dump
//!   └────▶ verify ─▶ summary
//! ```
//!
//! Promises: a replay that ended at any moment and is started again on its store ends as if it had
//! never been interrupted, with any number of shards and on either runtime.

mod args;
mod identity;
mod input;
mod latency;
mod pace;
mod producer;
mod resume;
mod run;
mod state;
mod store;
mod summary;
mod verify;

pub use args::ReplayArgs;
pub(crate) use args::parse_backend;

use crate::fault::{Fault, Kind};
use crate::interrupt::Interrupt;
use crate::output;
use ebbtide::{EntityId, Event, ManualClock, Schema, SignalId, Timestamp};
use ebbtide_shard::model::ReferenceModel;
use indicatif::{ProgressBar, ProgressStyle};
use input::Input;
use run::{Ran, Run};
use state::Dump;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use store::DataDir;
use summary::{Of, Summary};
use verify::Comparison;

/// How long the engine may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// Replays as `args` say and prints the summary.
///
/// # Errors
///
/// [`Fault`], with the exit code of the contract.
pub fn replay(args: &ReplayArgs) -> Result<(), Fault> {
    // It ends in good order at the first signal.
    let interrupt = Interrupt::watch(1)?;
    replay_until(args, &interrupt).map_err(|fault| match fault.kind {
        Kind::Interrupted(_) => fault,
        // What a signal broke off tells nothing.
        _ => interrupt.fault(|| "interrupted before the replay had begun".into()).unwrap_or(fault),
    })
}

fn replay_until(args: &ReplayArgs, interrupt: &Interrupt) -> Result<(), Fault> {
    let schema = Arc::new(input::schema(args)?);
    let mut input = Input::open(args, &schema, interrupt)?;
    let dump = args.dump.as_deref().map(Dump::begin).transpose()?;
    let data_dir = DataDir::of(args)?;
    if !data_dir.is_kept() {
        interrupt.removes(data_dir.path());
    }
    let places = (&data_dir, dump);
    let outcome = through_store(args, &schema, &mut input, places, interrupt);
    let left = data_dir.leave();
    let summary = outcome?;
    tell(args, &summary)?;
    summary.verdict().and(left)
}

/// Opens the store, replays into it, and closes it whatever came of that.
fn through_store(
    args: &ReplayArgs,
    schema: &Arc<Schema>,
    input: &mut Input,
    places: (&DataDir, Option<Dump<'_>>),
    interrupt: &Interrupt,
) -> Result<Summary, Fault> {
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let engine = store::open(args, places.0.path(), schema, &clock)?;
    let progress = progress(args);
    let run = Run { args, engine: &engine, clock: &clock, interrupt, progress: &progress };
    let outcome = through_engine(&run, input, places);
    let closed = engine.close(CLOSE_PATIENCE).map_err(Fault::environment);
    outcome.and_then(|summary| closed.map(|()| summary))
}

fn through_engine(
    run: &Run<'_>,
    input: &mut Input,
    (data_dir, dump): (&DataDir, Option<Dump<'_>>),
) -> Result<Summary, Fault> {
    let &Run { args, engine, .. } = run;
    let resumed = resume::open(args, engine, &input.identity)?;
    let has_others = resumed.has_others;
    let ran = run.all(input, resumed);
    run.progress.finish_and_clear();
    // Also after a failure: what was set aside before it is kept.
    input.finish()?;
    let ran = ran?;
    let events = ran.there + ran.latencies.sent;
    let message = || {
        let way = if data_dir.is_kept() {
            "call it again with the same arguments to go on"
        } else {
            "nothing of them is kept; name a --data-dir to be able to go on"
        };
        format!("interrupted after {events} events; {way}")
    };
    if let Some(fault) = run.interrupt.fault(message) {
        return Err(fault);
    }

    let newest = if has_others { state::newest(engine)?.max(ran.newest) } else { ran.newest };
    let as_of = args.as_of.map_or(newest, Timestamp);
    let pairs = state::pairs(engine, as_of)?;
    if let Some(dump) = dump {
        if has_others {
            output::say(
                "warning: the store holds other events beside this trace, so where only they \
                 name an entity by a text, the dump has the digits of its hash",
            );
        }
        dump.write(&pairs, input, engine.schema(), run.interrupt)?;
    }
    let verified = if args.verifies() {
        let model = &model(&ran, input, engine.schema());
        let (pairs, input, interrupt) = (&pairs[..], &*input, run.interrupt);
        Some(Comparison { engine, pairs, model, input, interrupt, as_of }.run()?)
    } else {
        None
    };
    let of = Of { args, engine, input, ran: &ran, data_dir, has_others };
    Ok(Summary::new(&of, (as_of, &pairs), verified))
}

/// Prints the summary.
fn tell(args: &ReplayArgs, summary: &Summary) -> Result<(), Fault> {
    let text = if args.json {
        let object = serde_json::to_string(summary).map_err(Fault::environment)?;
        format!("{object}\n")
    } else {
        summary.to_string()
    };
    output::print("the summary", &text)
}

fn progress(args: &ReplayArgs) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} events, {per_sec} {elapsed}");
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// What is right: every event that was not refused, those included that were there before.
fn model(ran: &Ran, input: &Input, schema: &Arc<Schema>) -> ReferenceModel {
    let mut model = ReferenceModel::new(Arc::clone(schema));
    for event in ran.kept.iter().filter(|event| !input.rejected.contains(&event.line)) {
        let (entity, signal) = (EntityId(event.entity), SignalId(event.signal));
        let recorded = Event::new(entity, signal, Timestamp(event.time_ns));
        let _counts = model.record_with_id(recorded.with_weight(event.weight), event.id);
    }
    model
}
