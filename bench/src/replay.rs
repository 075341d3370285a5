//! `replay`: a trace through the engine, at a pace, with every answer checked.
//!
//! ```text
//! args ─▶ input ─▶ run (schedule, recorders, latencies) ─▶ state ─▶ dump
//!                                                            └────▶ verify ─▶ summary
//! ```

mod args;
mod input;
mod latency;
mod pace;
mod producer;
mod run;
mod state;
mod summary;
mod verify;

pub use args::ReplayArgs;
pub(crate) use args::parse_backend;

use crate::fault::Fault;
use ebbtide::{Engine, EntityId, ManualClock, Schema, SignalId, Timestamp};
use ebbtide_shard::model::ReferenceModel;
use indicatif::{ProgressBar, ProgressStyle};
use input::Input;
use run::Ran;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;
use summary::Summary;
use verify::Comparison;

/// How long the engine may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// Replays as `args` say and prints the summary.
///
/// # Errors
///
/// [`Fault`], with the exit code of the contract.
pub fn replay(args: &ReplayArgs) -> Result<(), Fault> {
    let schema = Arc::new(input::schema(args)?);
    let mut input = Input::open(args, &schema)?;
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let engine = open(args, &schema, &clock)?;

    let progress = progress(args);
    let ran = run::run(args, &engine, &clock, &mut input, &progress);
    progress.finish_and_clear();
    // Also after a failure: what was set aside before it is kept.
    input.finish()?;
    let ran = ran?;

    let as_of = args.as_of.map_or(ran.newest, Timestamp);
    let pairs = state::pairs(&engine, as_of)?;
    if let Some(path) = &args.dump {
        state::dump(path, &pairs, &input, &schema)?;
    }
    let verified = if args.verifies() {
        let model = &model(&ran, &input, &schema);
        let (engine, pairs, input) = (&engine, &pairs[..], &input);
        Some(Comparison { engine, pairs, model, input, as_of }.run()?)
    } else {
        None
    };

    let summary = Summary::new(args, &engine, (&input, &ran), (as_of, &pairs), verified);
    tell(args, &summary)?;
    engine.close(CLOSE_PATIENCE).map_err(Fault::environment)?;
    summary.verdict()
}

/// Prints the summary. A reader who has seen enough, as `head` has, is no failure.
fn tell(args: &ReplayArgs, summary: &Summary) -> Result<(), Fault> {
    let text = if args.json {
        let object = serde_json::to_string(summary).map_err(Fault::environment)?;
        format!("{object}\n")
    } else {
        summary.to_string()
    };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fault::environment(format!(
            "cannot write the summary to standard output: {error}; send it elsewhere"
        ))),
        _ => Ok(()),
    }
}

fn open(
    args: &ReplayArgs,
    schema: &Arc<Schema>,
    clock: &Arc<ManualClock>,
) -> Result<Engine, Fault> {
    let available: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let asked = args.shards.or(args.cores.as_ref().map(Vec::len));
    let shards = asked.unwrap_or_else(|| available.len().saturating_sub(1).max(1));
    let cores = args.cores.clone().unwrap_or_else(|| {
        // The last cores, so that the recorders have the first ones to themselves if there are any.
        available.iter().copied().skip(available.len().saturating_sub(shards)).collect()
    });
    let clock = Arc::clone(clock) as Arc<dyn ebbtide::Clock>;
    let builder = Engine::in_memory().schema(Arc::clone(schema)).shards(shards).cores(cores);
    Ok(builder.backend(args.backend).clock(clock).future_skew_max(Duration::ZERO).open()?)
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

fn model(ran: &Ran, input: &Input, schema: &Arc<Schema>) -> ReferenceModel {
    let mut model = ReferenceModel::new(Arc::clone(schema));
    for event in ran.kept.iter().filter(|event| !input.rejected.contains(&event.line)) {
        let (entity, signal) = (EntityId(event.entity), SignalId(event.signal));
        model.record(entity, signal, Timestamp(event.time_ns), event.weight);
    }
    model
}
