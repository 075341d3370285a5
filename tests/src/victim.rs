//! Starting `victim`, the host that crash tests kill, and reading what it says.
//!
//! Promises: a victim that runs longer than [`PATIENCE`] counts as hung; a line it did not finish
//! does not count; what it wrote before it was killed does.

use crate::crash::Pair;
use crate::setting::PATIENCE;
use ebbtide::{EntityId, SignalId};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

/// What a victim said in its life.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Number of events and digest of each pair it found.
    pub held: BTreeMap<Pair, (u64, u64)>,
    /// Which shard owns each entity of the source while it runs.
    pub owner: BTreeMap<EntityId, u64>,
    /// Behind which offset the source goes on; `None` if it was killed before it could tell.
    pub ready: Option<u64>,
    /// The last offset of the source that was acknowledged.
    pub source: Option<u64>,
    /// The last round of the producer without numbers that was acknowledged.
    pub plain: Option<u64>,
    /// Checkpoints it has finished.
    pub checkpoints: u64,
    /// Backups it has finished.
    pub backups: Vec<Backup>,
    /// Whether it closed the store.
    pub done: bool,
    /// Code and text of a refusal.
    pub refused: Option<(String, String)>,
    /// Any other line.
    pub other: Vec<String>,
}

/// A backup, and what was durable when it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Backup {
    /// Its number; see [`backup_directory`].
    pub number: u64,
    /// The last offset of the source that was acknowledged as durable.
    pub source: u64,
    /// Rounds of the producer without numbers that were.
    pub rounds: u64,
}

/// Where a victim on `directory` writes a backup.
#[must_use]
pub fn backup_directory(directory: &Path, number: u64) -> PathBuf {
    directory.with_extension(format!("backup-{number}"))
}

impl Said {
    fn take(&mut self, line: &str) {
        let mut words = line.splitn(2, ' ');
        let (kind, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let numbers: Vec<u64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
        match (kind, &*numbers) {
            ("held", &[entity, signal, events, digest]) => {
                let signal = SignalId(u8::try_from(signal).unwrap_or(u8::MAX));
                self.held.insert((EntityId(entity), signal), (events, digest));
            }
            ("owner", &[entity, shard]) => {
                self.owner.insert(EntityId(entity), shard);
            }
            ("ready", &[offset]) => self.ready = Some(offset),
            ("source", &[offset]) => self.source = Some(offset),
            ("plain", &[round]) => self.plain = Some(round),
            ("checkpoint", &[]) => self.checkpoints += 1,
            ("backup", &[number, source, rounds]) => {
                self.backups.push(Backup { number, source, rounds });
            }
            ("done", &[]) => self.done = true,
            ("refused", _) => {
                let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
                self.refused = Some((code.to_owned(), text.to_owned()));
            }
            _ => self.other.push(line.to_owned()),
        }
    }
}

/// When a victim dies.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// It may live to its end.
    Natural,
    /// So long after it was started.
    AfterStart(Duration),
    /// So long after it was ready to record.
    AfterReady(Duration),
    /// As soon as the source's events up to an offset were acknowledged.
    AfterSource(u64),
}

/// Runs a victim on `directory` until its end, whichever way.
///
/// # Errors
///
/// What it said, if it hung, panicked or failed.
///
/// # Panics
///
/// If it cannot be started.
pub fn run(
    program: &Path,
    directory: &Path,
    orders: &[String],
    death: Death,
) -> Result<Said, String> {
    run_heard(program, directory, orders, death, &mut |_| ())
}

/// As [`run`]; `heard` is given all that was said up to each line, once the line is there.
///
/// # Errors
///
/// As [`run`].
///
/// # Panics
///
/// As [`run`].
pub fn run_heard(
    program: &Path,
    directory: &Path,
    orders: &[String],
    death: Death,
    heard: &mut dyn FnMut(&Said),
) -> Result<Said, String> {
    let mut command = Command::new(program);
    command.arg(directory).args(orders);
    let (said, status, complaints) = watch(command, death, heard).expect("the victim starts");
    let hung = status.is_none();
    let bad = match status.and_then(|status| status.code()) {
        Some(0) => !said.done,
        Some(3) => said.refused.is_none(),
        Some(_) => true,
        // Only what was to be killed may end by a signal.
        None => matches!(death, Death::Natural),
    };
    if bad || hung || !complaints.is_empty() {
        let told = format!("{said:?}\n{complaints}");
        return Err(format!("{orders:?}: {status:?}, hung: {hung}: {told}"));
    }
    Ok(said)
}

/// What it said, how it ended (`None` if it hung), and what it wrote to its standard error.
fn watch(
    mut command: Command,
    death: Death,
    heard: &mut dyn FnMut(&Said),
) -> io::Result<(Said, Option<ExitStatus>, String)> {
    let begun = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (tell, lines) = channel();
    let reader = read_lines(child.stdout.take().expect("it is piped"), tell);
    let errors = read_all(child.stderr.take().expect("it is piped"));
    let mut said = Said::default();
    let mut dies_at = match death {
        Death::AfterStart(delay) => Some(begun + delay),
        Death::Natural | Death::AfterReady(_) | Death::AfterSource(_) => None,
    };
    let mut hung = false;
    loop {
        let until = dies_at.unwrap_or(begun + PATIENCE).saturating_duration_since(Instant::now());
        match lines.recv_timeout(until) {
            Ok(line) => {
                said.take(&line);
                heard(&said);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung |= dies_at.is_none();
                child.kill()?;
                break;
            }
        }
        match death {
            Death::AfterReady(delay) if dies_at.is_none() && said.ready.is_some() => {
                dies_at = Some(Instant::now() + delay);
            }
            Death::AfterSource(offset) if said.source >= Some(offset) => {
                dies_at = Some(Instant::now());
            }
            _ => {}
        }
    }
    let status = child.wait()?;
    // What it had written before is in the pipe still.
    for line in &lines {
        said.take(&line);
    }
    let _ended = reader.join();
    let complaints = errors.join().unwrap_or_default();
    Ok((said, (!hung).then_some(status), complaints))
}

/// Whole lines only: the last one may have been torn.
fn read_lines(from: impl Read + Send + 'static, tell: Sender<String>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        while from.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let Some(whole) = line.strip_suffix('\n') else { return };
            let _nobody_listens = tell.send(whole.to_owned());
            line.clear();
        }
    })
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        let _ended = from.read_to_string(&mut text);
        text
    })
}
