//! `verify`: is everything there that a store promised, and is it what was stored?
//!
//! Promises: nothing of the store changes; everything that was checked is printed, and everything
//! that is wrong, the first of it on standard error too.
//! Fails by: [`Fault`]: damage when something is wrong.
//! Not here: the checks (`ebbtide::offline`).

use crate::args::VerifyArgs;
use crate::fault::Fault;
use crate::limits::COLUMNS_MAX;
use crate::output::{count, print, print_json, printable, shown, size, wrap};
use ebbtide::offline::{
    self, CheckpointVerified, Finding, LogVerified, Rebuilt, Verification, VerifyStep,
};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Column at which what was found begins.
const INDENT: usize = 13;

/// Checks the store and prints what was found.
///
/// # Errors
///
/// When there is no such store, it is open or cannot be read, or something is wrong with it.
pub fn verify(args: &VerifyArgs) -> Result<(), Fault> {
    let data_dir = &args.store.data_dir;
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let verified = offline::verify(data_dir, &mut |step| tell(terminal, &name_of(step)));
    tell(terminal, "");
    let (found, seconds) = (verified?, begun.elapsed().as_secs_f64());
    if args.store.json {
        let data_dir = data_dir.to_string_lossy().into_owned();
        print_json(&Outcome::of(data_dir, &found, seconds))?;
    } else {
        print(&page(&shown(data_dir), &found, seconds))?;
    }
    verdict(&found)
}

/// Shows a terminal what is being done, in place of what was shown before.
fn tell(terminal: bool, doing: &str) {
    if terminal {
        // If nobody sees it, the outcome still tells.
        let _unseen = write!(std::io::stderr(), "\r\u{1b}[K{doing}");
    }
}

fn name_of(step: VerifyStep) -> String {
    match step {
        VerifyStep::Seal => "files of the checkpoint ...".into(),
        VerifyStep::Records => "records of the checkpoint ...".into(),
        VerifyStep::Log(number) => format!("log {number} ..."),
        VerifyStep::Rebuild => "pairs, rebuilt from the logs ...".into(),
        _ => "...".into(),
    }
}

fn verdict(found: &Verification) -> Result<(), Fault> {
    let Some(first) = found.findings.first() else { return Ok(()) };
    let others = match found.findings_count - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    Err(Fault::damage(format!("{first}{others}")))
}

/// All of it for programs.
#[derive(Serialize)]
struct Outcome {
    data_dir: String,
    store: Option<String>,
    whole: bool,
    seconds: f64,
    checkpoint: Option<Checkpoint>,
    logs: Vec<Log>,
    rebuilt: Option<Pairs>,
    stranger_files: u64,
    findings_count: u64,
    findings: Vec<Wrong>,
}

#[derive(Serialize)]
struct Checkpoint {
    sealed: bool,
    bytes: u64,
    pairs: u64,
    sources: u64,
    ids: u64,
}

#[derive(Serialize)]
struct Log {
    number: u32,
    whole: bool,
    segments: u64,
    frames: u64,
    events: u64,
    bytes: u64,
    begins_after: u64,
    last: u64,
    checkpoint_covers: Option<u64>,
    clean_shutdown: bool,
    torn_bytes: u64,
    unused_bytes: u64,
    stranger_files: u64,
}

#[derive(Serialize)]
struct Pairs {
    all: u64,
    whole: u64,
    in_part: u64,
    restarted_scores: u64,
}

/// Something that is wrong.
#[derive(Serialize)]
struct Wrong {
    code: &'static str,
    message: String,
    path: Option<String>,
    offset: Option<u64>,
    lsn: Option<u64>,
    record: Option<String>,
    entity: Option<u64>,
}

impl Outcome {
    fn of(data_dir: String, found: &Verification, seconds: f64) -> Self {
        Self {
            data_dir,
            store: found.store.map(hex),
            whole: found.is_whole(),
            seconds,
            checkpoint: found.checkpoint.map(|held| Checkpoint {
                sealed: held.sealed,
                bytes: held.bytes,
                pairs: held.pairs,
                sources: held.sources,
                ids: held.ids,
            }),
            logs: found.logs.iter().map(Log::of).collect(),
            rebuilt: found.rebuilt.map(|rebuilt| Pairs {
                all: rebuilt.pairs,
                whole: rebuilt.whole,
                in_part: rebuilt.in_part,
                restarted_scores: rebuilt.restarted,
            }),
            stranger_files: found.strangers,
            findings_count: found.findings_count,
            findings: found.findings.iter().map(Wrong::of).collect(),
        }
    }
}

impl Log {
    fn of(log: &LogVerified) -> Self {
        Self {
            number: log.number,
            whole: log.whole,
            segments: log.segments,
            frames: log.frames,
            events: log.events,
            bytes: log.bytes,
            begins_after: log.begins_after.get(),
            last: log.last.get(),
            checkpoint_covers: log.covered.map(ebbtide_wal::Lsn::get),
            clean_shutdown: log.clean_shutdown,
            torn_bytes: log.torn_bytes,
            unused_bytes: log.unused_bytes,
            stranger_files: log.strangers,
        }
    }
}

impl Wrong {
    fn of(finding: &Finding) -> Self {
        Self {
            code: finding.code(),
            message: finding.to_string(),
            path: finding.path().map(|path| path.to_string_lossy().into_owned()),
            offset: finding.offset(),
            lsn: finding.lsn(),
            record: finding.record().map(str::to_owned),
            entity: finding.entity().map(|entity| entity.0),
        }
    }
}

fn hex(id: [u8; 16]) -> String {
    ebbtide_wal::StoreId(id).to_string()
}

/// All of it for people.
fn page(name: &str, found: &Verification, seconds: f64) -> String {
    let mut page = match found.store {
        Some(id) => format!("store {} in {name}\n\n", hex(id)),
        None => format!("a store in {name}\n\n"),
    };
    let mut line = |title: &str, text: &str| {
        let _infallible = write!(page, "{title:<INDENT$}");
        wrap(&mut page, text, INDENT, COLUMNS_MAX);
    };
    match &found.checkpoint {
        Some(held) => line("checkpoint", &of_checkpoint(held)),
        None => line("checkpoint", "could not be opened"),
    }
    for log in &found.logs {
        line(&format!("log {}", log.number), &of_log(log));
    }
    match &found.rebuilt {
        Some(rebuilt) => line("pairs", &of_pairs(rebuilt)),
        None => line("pairs", "not compared with the logs, since something is wrong"),
    }
    if found.strangers > 0 {
        line("other files", &format!("{}, left alone", count(found.strangers, "file")));
    }
    for finding in &found.findings {
        line("WRONG", &printable(&finding.to_string()));
    }
    let kept = found.findings.len() as u64;
    let wrong = match found.findings_count {
        0 => "nothing is wrong".to_owned(),
        all if all > kept => {
            format!("{} are wrong, the first {kept} are shown", count(all, "thing"))
        }
        1 => "1 thing is wrong".to_owned(),
        all => format!("{all} things are wrong"),
    };
    let _infallible = writeln!(page, "\n{wrong}, {seconds:.2} s");
    page
}

fn of_checkpoint(held: &CheckpointVerified) -> String {
    let seal = if held.sealed { "sealed" } else { "no seal vouches for it" };
    format!(
        "{seal}; {} in {}, {}, {} of ids",
        count(held.pairs, "pair"),
        size(held.bytes),
        count(held.sources, "source"),
        count(held.ids, "record"),
    )
}

fn of_log(log: &LogVerified) -> String {
    if !log.whole {
        return format!(
            "DAMAGED; {} in {} can be read",
            count(log.events, "event"),
            count(log.frames, "frame")
        );
    }
    let mut text = format!(
        "{} and {} in {} of {}",
        count(log.events, "event"),
        count(log.frames, "frame"),
        count(log.segments, "segment"),
        size(log.bytes),
    );
    if log.begins_after.get() > 0 {
        let _infallible = write!(text, ", behind record {}", log.begins_after);
    }
    text.push_str(if log.clean_shutdown { "; closed in order" } else { "; not closed in order" });
    if log.torn_bytes > 0 {
        let _infallible =
            write!(text, "; a torn tail of {}, none of it durable", size(log.torn_bytes));
    }
    if log.unused_bytes > 0 {
        let _infallible = write!(text, "; {} hold no data", size(log.unused_bytes));
    }
    text
}

fn of_pairs(rebuilt: &Rebuilt) -> String {
    let Rebuilt { pairs, whole, in_part, restarted, .. } = *rebuilt;
    let mut text = format!("{}; {whole} rebuilt from the logs, to the bit", count(pairs, "pair"));
    if in_part > 0 {
        let _infallible = write!(text, "; of {in_part} the logs hold some events");
    }
    let gone = pairs - whole - in_part;
    if gone > 0 {
        let _infallible = write!(text, "; of {gone} they hold none any more");
    }
    if restarted > 0 {
        let _infallible =
            write!(text, "; {} restarted with a new half-life", count(restarted, "score"));
    }
    text
}
