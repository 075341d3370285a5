//! The flags of `replay`, as the command-line contract spells them.

use super::pace::Rate;
use ebbtide::Backend;
use std::path::PathBuf;

/// Replay a trace through a durable engine, as fast as possible or at a rate, and check every
/// answer.
///
/// Without flags: the bundled real trace (every New York departure of 2013), durable, verified.
/// With --data-dir, a replay that was interrupted goes on where it stopped.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Trace CSV, plain or zstd: `timestamp,entity,signal,weight[,id]` [default: the bundled trace]
    #[arg(long, value_name = "FILE", conflicts_with = "synthetic")]
    pub(super) trace: Option<PathBuf>,
    /// Made-up events: `events=1e6,entities=1e5,zipf=1.1,late=0.02,dup=0.01,seed=7`
    #[arg(long, value_name = "SPEC")]
    pub(super) synthetic: Option<String>,
    /// Schema TOML [default: that of the bundled trace]
    #[arg(long, value_name = "FILE")]
    pub(super) schema: Option<PathBuf>,
    /// Shards of the engine [default: one less than the cores, at least one]
    #[arg(long, value_name = "N")]
    pub(super) shards: Option<usize>,
    /// Cores to pin the shards to [default: the last ones this process may use]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) cores: Option<Vec<usize>>,
    /// Runtime of the shards: auto, uring or threads
    #[arg(long, default_value = "auto", value_parser = parse_backend)]
    pub(super) backend: Backend,
    /// Directory of the store, made if need be; one that holds part of the trace is gone on with
    /// [default: a fresh temporary directory, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Record the trace beside another one that the store holds: each of its events counts, also
    /// those that stand in both
    #[arg(long, requires = "data_dir")]
    pub(super) add: bool,
    /// max, events per second, or xN for trace time sped up N times
    #[arg(long, default_value = "max")]
    pub(super) rate: Rate,
    /// What to wait for, and measure to: applied, written or durable
    #[arg(long, default_value = "durable", value_parser = parse_ack)]
    pub(super) ack: ebbtide::Ack,
    /// Threads that record events; a store is gone on with as many as it was begun with
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) producers: u16,
    /// Instant of the answers: RFC 3339 or nanoseconds [default: the last event's time]
    #[arg(long, value_name = "TIMESTAMP", value_parser = parse_instant)]
    pub(super) as_of: Option<u64>,
    /// Write the whole state as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) dump: Option<PathBuf>,
    /// Compare every answer with the reference model; exit 1 on any difference
    #[arg(long)]
    pub(super) verify: bool,
    /// Write rejected events and unreadable lines of the whole trace, with reasons, in a form that
    /// can be replayed
    #[arg(long, value_name = "FILE")]
    pub(super) quarantine: Option<PathBuf>,
    /// Count lines that are no events, and rejected events, instead of ending at the first
    #[arg(long)]
    pub(super) skip_bad_lines: bool,
    /// Summary as one JSON object on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl ReplayArgs {
    /// Whether nothing was said about the input: the main job, which verifies.
    #[must_use]
    pub(super) fn is_bundled(&self) -> bool {
        self.trace.is_none() && self.synthetic.is_none()
    }

    /// Whether to verify.
    #[must_use]
    pub(super) fn verifies(&self) -> bool {
        self.verify || self.is_bundled()
    }
}

/// The runtime of this name.
pub(crate) fn parse_backend(text: &str) -> Result<Backend, String> {
    match text {
        "auto" => Ok(Backend::Auto),
        "uring" => Ok(Backend::Uring),
        "threads" => Ok(Backend::Threads),
        _ => Err("use auto, uring or threads".into()),
    }
}

fn parse_ack(text: &str) -> Result<ebbtide::Ack, String> {
    match text {
        "applied" => Ok(ebbtide::Ack::Applied),
        "written" => Ok(ebbtide::Ack::Written),
        "durable" => Ok(ebbtide::Ack::Durable),
        _ => Err("use applied, written or durable".into()),
    }
}

fn parse_instant(text: &str) -> Result<u64, String> {
    crate::trace::parse_timestamp(text).map_err(|fault| fault.to_string())
}
