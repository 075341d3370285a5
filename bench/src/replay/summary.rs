//! What a replay tells: for a person (`text`), and as one JSON object.
//!
//! Promises: every event of the trace is counted once: `events` are those that were there before
//! (`already_there`), that were `applied`, `duplicates`, `repeated` or `rejected`.

mod text;

use super::args::ReplayArgs;
use super::input::Input;
use super::latency::{self, Latencies, Percentiles};
use super::pace::Rate;
use super::run::Ran;
use super::state::Pair;
use super::store::DataDir;
use super::verify::Verified;
use crate::fault::Fault;
use ebbtide::{Backend, Durability, Engine, Medium, RecoveryReport, Survives, Timestamp};
use serde::{Serialize, Serializer};
use std::time::Duration;

/// Entities shown of each signal.
const TOP_SHOWN: usize = 3;
/// A schedule whose events are all sent within this time of their own is kept. Far above what a
/// full ring costs, and below what moves a percentile of a run of seconds unseen.
const LAG_MAX: Duration = Duration::from_millis(50);

/// The summary of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    input: String,
    /// Events of the trace.
    events: u64,
    /// Those the store held before.
    already_there: u64,
    /// The line up to which it held them all; `null` if none.
    resumed_at: Option<u64>,
    applied: u64,
    /// Left out as repeats by id or content.
    duplicates: u64,
    /// Left out as repeats by offset: sent again behind the place where the replay went on.
    repeated: u64,
    rejected: u64,
    bad_lines: u64,
    seconds: f64,
    /// Events per second, achieved.
    rate: f64,
    /// Events per second, as scheduled; `null` for as fast as possible.
    rate_asked: Option<String>,
    /// Whether the engine, or the machine, was the limit: with a schedule, that an event was sent
    /// later than [`LAG_MAX`] after its time, and without, that a ring was full.
    saturated: bool,
    /// How late an event was sent at most; `null` without a schedule.
    lag_max_us: Option<f64>,
    ack: &'static str,
    /// Percentiles for each acknowledgement level that was measured.
    #[serde(serialize_with = "by_level")]
    latency: Vec<(&'static str, Percentiles)>,
    /// By how much sleeps of ten milliseconds were too long meanwhile: what of the latencies may be
    /// the machine's own.
    machine_stall: Percentiles,
    data_dir: String,
    /// Whether it is there after the run.
    data_dir_kept: bool,
    /// Whether the store holds events that are not of this trace.
    holds_other_events: bool,
    opening: Option<Opening>,
    durability: Option<Worth>,
    /// Written to the logs by this run, with headers and padding.
    log_bytes: u64,
    /// Of that, for each event that was logged; `null` if none was.
    bytes_per_event: Option<f64>,
    /// What the files of the logs take.
    log_file_bytes: u64,
    shards: usize,
    producers: u16,
    backend: &'static str,
    backend_why: String,
    entities: usize,
    pairs: usize,
    memory_bytes: u64,
    as_of: u64,
    /// Pairs with events after `as_of`, answered as of their last one.
    clamped: usize,
    verified: Option<Verified>,
    #[serde(skip)]
    top: Vec<String>,
}

/// What opening the store found and did.
#[derive(Debug, Serialize)]
struct Opening {
    /// Which one it was, from 1.
    number: u64,
    created: bool,
    /// Records read from the checkpoint.
    records: u64,
    /// Events read from the logs behind it.
    events: u64,
    seconds: f64,
    /// Whether every log had been closed in order.
    clean_shutdown: bool,
    /// Cut from the ends of logs; none of it was durable.
    truncated_bytes: u64,
}

/// What an acknowledgement is worth where the store lies.
#[derive(Debug, Serialize)]
struct Worth {
    file_system: String,
    /// `memory`, as on tmpfs, `device` or `elsewhere`.
    medium: &'static str,
    direct_io: bool,
    written_survives: &'static str,
    durable_survives: &'static str,
    #[serde(skip)]
    said: String,
}

/// What a summary is of.
pub(super) struct Of<'r> {
    /// The flags.
    pub(super) args: &'r ReplayArgs,
    /// The engine, still open.
    pub(super) engine: &'r Engine,
    /// Where the events came from.
    pub(super) input: &'r Input,
    /// What came of the run.
    pub(super) ran: &'r Ran,
    /// Where the store lies.
    pub(super) data_dir: &'r DataDir,
    /// Whether it holds events that are not of this trace.
    pub(super) has_others: bool,
}

impl Summary {
    /// Puts the summary of a run together.
    pub(super) fn new(
        of: &Of<'_>,
        (as_of, pairs): (Timestamp, &[Pair]),
        verified: Option<Verified>,
    ) -> Self {
        let &Of { args, engine, input, ran, data_dir, has_others } = of;
        let metrics = engine.metrics();
        let sum = |of: fn(&ebbtide::ShardMetrics) -> u64| metrics.shards.iter().map(of).sum();
        let choice = engine.backend();
        let mut entities: Vec<_> = pairs.iter().map(|pair| pair.0).collect();
        entities.dedup();
        let (applied, log_bytes) = (metrics.events_applied(), sum(|shard| shard.wal_written_bytes));
        Self {
            input: input.title.clone(),
            events: ran.events,
            already_there: ran.there,
            resumed_at: (ran.resumed_at > 0).then_some(ran.resumed_at),
            applied,
            duplicates: sum(|shard| shard.duplicates_by_id + shard.duplicates_by_content),
            repeated: sum(|shard| shard.events_repeated),
            rejected: input.rejected.len() as u64,
            bad_lines: input.bad_lines,
            seconds: ran.seconds,
            rate: if ran.seconds > 0.0 { ran.latencies.sent as f64 / ran.seconds } else { 0.0 },
            rate_asked: rate_asked(args.rate),
            saturated: is_saturated(args.rate, &ran.latencies),
            lag_max_us: (args.rate != Rate::Max)
                .then_some(ran.latencies.lag_max.as_secs_f64() * 1e6),
            ack: latency::name(args.ack),
            latency: ran.latencies.percentiles(),
            machine_stall: Percentiles::of(ran.stalls.histogram_ns()),
            data_dir: data_dir.path().display().to_string(),
            data_dir_kept: data_dir.is_kept(),
            holds_other_events: has_others,
            opening: engine.recovery().map(Opening::of),
            durability: engine.durability().map(Worth::of),
            log_bytes,
            bytes_per_event: (applied > 0).then(|| log_bytes as f64 / applied as f64),
            log_file_bytes: sum(|shard| shard.wal_file_bytes),
            shards: engine.shards(),
            producers: args.producers,
            backend: if choice.backend == Backend::Uring { "uring" } else { "threads" },
            backend_why: choice.why.clone(),
            entities: entities.len(),
            pairs: pairs.len(),
            memory_bytes: metrics.memory_bytes(),
            as_of: as_of.as_nanos(),
            clamped: pairs.iter().filter(|pair| pair.2.as_of > as_of).count(),
            verified,
            top: top(engine, input, pairs),
        }
    }

    /// The outcome for the exit code.
    ///
    /// # Errors
    ///
    /// If an answer differs from the model's.
    pub(super) fn verdict(&self) -> Result<(), Fault> {
        match &self.verified {
            Some(verified) if verified.difference_count > 0 => {
                let count = verified.difference_count;
                let first = verified.differences.first().map_or("", String::as_str);
                Err(Fault::difference(format!(
                    "{count} answers differ from the reference model; the first: {first}"
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Opening {
    fn of(report: &RecoveryReport) -> Self {
        Self {
            number: report.opening,
            created: report.created,
            records: report.records_restored,
            events: report.events_read,
            seconds: (report.restore_duration + report.replay_duration).as_secs_f64(),
            clean_shutdown: report.clean_shutdown(),
            truncated_bytes: report.truncated_bytes(),
        }
    }
}

impl Worth {
    fn of(durability: &Durability) -> Self {
        let survives = |survives| match survives {
            Survives::ProcessEnd => "process_end",
            Survives::KernelPanic => "kernel_panic",
            Survives::PowerCut => "power_cut",
            _ => "unknown",
        };
        Self {
            file_system: durability.file_system.clone(),
            medium: match durability.medium {
                Medium::Memory => "memory",
                Medium::Device => "device",
                _ => "elsewhere",
            },
            direct_io: durability.direct_io,
            written_survives: survives(durability.written()),
            durable_survives: survives(durability.durable()),
            said: durability.to_string(),
        }
    }
}

/// An object with a member for each level.
fn by_level<S: Serializer>(
    levels: &[(&'static str, Percentiles)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(levels.iter().map(|(level, percentiles)| (level, percentiles)))
}

fn is_saturated(rate: Rate, latencies: &Latencies) -> bool {
    match rate {
        Rate::Max => latencies.full > 0,
        Rate::PerSecond(_) | Rate::Times(_) => latencies.lag_max > LAG_MAX,
    }
}

fn rate_asked(rate: Rate) -> Option<String> {
    match rate {
        Rate::Max => None,
        Rate::PerSecond(rate) => Some(rate.to_string()),
        Rate::Times(times) => Some(format!("x{times}")),
    }
}

/// The first few entities of each signal type by its primary score.
fn top(engine: &Engine, input: &Input, pairs: &[Pair]) -> Vec<String> {
    let mut lines = Vec::new();
    for (signal, def) in engine.schema().signals() {
        let mut best: Vec<_> = pairs.iter().filter(|pair| pair.1 == signal).collect();
        best.sort_unstable_by(|a, b| {
            b.2.scores()[0].total_cmp(&a.2.scores()[0]).then(a.0.cmp(&b.0))
        });
        let shown = best.iter().take(TOP_SHOWN).map(|(entity, _, reading)| {
            format!("{} {:.2}", input.spelling(entity.0), reading.scores()[0])
        });
        let shown: Vec<_> = shown.collect();
        let label = def.half_life_labels().next().unwrap_or_default();
        lines.push(format!("{} by {label}: {}", def.name(), shown.join(", ")));
    }
    lines
}
