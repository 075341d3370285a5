//! `count`: how many instructions one operation of each stage takes, beside the committed numbers.
//!
//! ```text
//! stage ─▶ this program under callgrind ─▶ instructions of one round ─┐
//! bench/counts.toml ──────────────────────────────────────────────────┴▶ table, verdict
//! ```
//!
//! Promises: the number does not depend on what else the machine does: callgrind counts what is
//! executed in one round, after one that warms up, and nothing around it. A stage that takes more
//! than [`COUNT_GROWTH_PERCENT_MAX`] above the committed number is a difference, and so is a stage
//! without a number; the number changes only by `--accept`. Numbers of another instruction set are
//! not compared. Not here: time. What a cache miss costs is not seen by this.

mod baseline;
mod callgrind;
mod verdict;

use crate::fault::Fault;
use crate::limits::COUNT_GROWTH_PERCENT_MAX;
use crate::output;
use crate::stages::{self, Stage};
use baseline::Baseline;
use callgrind::Callgrind;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use verdict::{Row, Verdict};

/// Count the instructions of one operation of each stage, and compare them with the committed ones.
#[derive(Clone, Debug, clap::Args)]
pub struct CountArgs {
    /// Only these stages [default: all]
    #[arg(value_name = "STAGE", value_parser = parse_stage)]
    stages: Vec<&'static Stage>,
    /// Write what is counted as what is committed
    #[arg(long)]
    accept: bool,
    /// The committed numbers
    #[arg(long, value_name = "FILE", default_value = "bench/counts.toml")]
    baseline: PathBuf,
    /// Be what is counted: one round of a stage
    #[arg(long, value_name = "STAGE", value_parser = parse_stage, hide = true)]
    inside: Option<&'static Stage>,
    /// Print the instruction set
    #[arg(long, hide = true)]
    instruction_set: bool,
}

fn parse_stage(text: &str) -> Result<&'static Stage, String> {
    stages::all().find(|stage| stage.name == text).ok_or_else(|| {
        let names = stages::all().map(|stage| stage.name).collect::<Vec<_>>();
        format!("'{text}' is not a stage; the stages are {}", names.join(", "))
    })
}

/// Runs the command.
///
/// # Errors
///
/// [`Fault`] if a stage grew or is not in the baseline, if the baseline cannot be read or written,
/// or if nothing can be counted here.
pub fn count(args: &CountArgs) -> Result<(), Fault> {
    if args.instruction_set {
        return output::print("the instruction set", stages::instruction_set());
    }
    if let Some(stage) = args.inside {
        callgrind::be_counted(stage);
        return Ok(());
    }
    if cfg!(debug_assertions) {
        return Err(Fault::input("only an optimized build is counted; run it with --release"));
    }
    let mut baseline = Baseline::read(&args.baseline, args.accept)?;
    let callgrind = Callgrind::find()?;
    let is_whole = args.stages.is_empty();
    let set = callgrind.instruction_set();
    if baseline.instruction_set != set && !(args.accept && is_whole) {
        return Err(Fault::environment(format!(
            "{} is of {}, and under valgrind this machine has {set}: nothing was compared",
            args.baseline.display(),
            baseline.instruction_set
        )));
    }
    let chosen = if is_whole { stages::all().collect() } else { args.stages.clone() };
    let counted = count_all(&callgrind, &chosen)?;
    let rows = verdict::rows(&counted, &baseline.instructions, is_whole);
    output::print("the table", &verdict::table(&rows))?;
    if args.accept {
        set.clone_into(&mut baseline.instruction_set);
        baseline.take(counted, is_whole);
        return baseline.write(&args.baseline);
    }
    judge(&rows, args)
}

/// What one operation of each of these stages takes, in their order; as many at a time as there
/// are cores.
fn count_all(
    callgrind: &Callgrind,
    chosen: &[&'static Stage],
) -> Result<Vec<(&'static str, f64)>, Fault> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let part = |worker| {
        let stages = chosen.iter().skip(worker).step_by(workers);
        stages.map(|&stage| Ok((stage.name, callgrind.count(stage)?))).collect::<Vec<_>>()
    };
    let mut parts: Vec<_> = thread::scope(|scope| {
        let spawned: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || part(worker))).collect();
        let parts = spawned.into_iter().map(|part| part.join().expect("no stage panics here"));
        parts.map(Vec::into_iter).collect()
    });
    let places = (0..chosen.len()).map(|place| place % workers);
    places.map(|worker| parts[worker].next().expect("each part has its stages")).collect()
}

fn judge(rows: &[Row], args: &CountArgs) -> Result<(), Fault> {
    let named = |verdict| {
        let names = rows.iter().filter(|row| row.verdict() == verdict).map(|row| row.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let [grown, unknown, gone, shrunk] =
        [Verdict::Grown, Verdict::Unknown, Verdict::Gone, Verdict::Shrunk].map(named);
    let baseline = args.baseline.display();
    if !shrunk.is_empty() {
        output::say(format!("note: {shrunk} got cheaper; keep that with `count --accept`"));
    }
    let mut wrong = Vec::new();
    if !grown.is_empty() {
        wrong.push(format!("more than {COUNT_GROWTH_PERCENT_MAX} % above {baseline}: {grown}"));
    }
    if !unknown.is_empty() {
        wrong.push(format!("not in {baseline}: {unknown}"));
    }
    if !gone.is_empty() {
        wrong.push(format!("in {baseline} and no stage: {gone}"));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let accept = "mend it, or accept it on purpose with `count --accept`";
    Err(Fault::difference(format!("{}; {accept}", wrong.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_numbers_are_those_of_the_stages_there_are() {
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.toml");
        let baseline = Baseline::read(committed.as_ref(), false).unwrap();
        let mut names: Vec<_> = stages::all().map(|stage| stage.name).collect();
        names.sort_unstable();
        assert_eq!(baseline.instructions.keys().collect::<Vec<_>>(), names);
        assert!(baseline.instructions.values().all(|&count| count > 0.0));
    }

    #[test]
    fn a_stage_that_grew_is_a_difference_and_one_that_shrank_is_not() {
        let args = CountArgs {
            stages: Vec::new(),
            accept: false,
            baseline: "some.toml".into(),
            inside: None,
            instruction_set: false,
        };
        let row = |name: &str, now, before| Row { name: name.into(), now, before };
        let same = row("offer", Some(100.0), Some(98.0));
        let shrunk = row("turn", Some(50.0), Some(98.0));
        assert!(judge(&[same.clone(), shrunk], &args).is_ok());
        let rows = [
            same,
            row("encode", Some(106.0), Some(100.0)),
            row("decode", Some(10.0), None),
            row("admit", None, Some(10.0)),
        ];
        let fault = judge(&rows, &args).unwrap_err();
        assert_eq!(fault.kind, crate::fault::Kind::Difference);
        assert_eq!(
            fault.message,
            "more than 5 % above some.toml: encode; not in some.toml: decode; in some.toml and no \
             stage: admit; mend it, or accept it on purpose with `count --accept`"
        );
    }
}
