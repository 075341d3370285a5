//! What a replay tells: for a person, and as one JSON object.

use super::args::ReplayArgs;
use super::input::Input;
use super::latency::Percentiles;
use super::pace::Rate;
use super::run::Ran;
use super::state::Pair;
use super::verify::Verified;
use crate::fault::Fault;
use ebbtide::{Backend, Engine, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Entities shown of each signal.
const TOP_SHOWN: usize = 3;

/// The summary of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    input: String,
    /// Events read.
    events: u64,
    applied: u64,
    duplicates: u64,
    rejected: u64,
    bad_lines: u64,
    seconds: f64,
    /// Events per second, achieved.
    rate: f64,
    /// Events per second, as scheduled; `null` for as fast as possible.
    rate_asked: Option<String>,
    /// Whether the recorders found a ring full: the engine, or the machine, was the limit.
    saturated: bool,
    ack: &'static str,
    /// Percentiles for each acknowledgement level that was measured.
    latency: BTreeMap<&'static str, Percentiles>,
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

impl Summary {
    /// Puts the summary of a run together.
    pub(super) fn new(
        args: &ReplayArgs,
        engine: &Engine,
        (input, ran): (&Input, &Ran),
        (as_of, pairs): (Timestamp, &[Pair]),
        verified: Option<Verified>,
    ) -> Self {
        let metrics = engine.metrics();
        let choice = engine.backend();
        let rejected = input.rejected.len() as u64;
        let mut entities: Vec<_> = pairs.iter().map(|pair| pair.0).collect();
        entities.dedup();
        Self {
            input: input.title.clone(),
            events: ran.applied + rejected,
            applied: metrics.events_applied(),
            duplicates: 0,
            rejected,
            bad_lines: input.bad_lines,
            seconds: ran.seconds,
            rate: ran.applied as f64 / ran.seconds,
            rate_asked: rate_asked(args.rate),
            saturated: ran.latencies.full > 0,
            ack: "applied",
            latency: BTreeMap::from([("applied", ran.latencies.percentiles())]),
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

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit a person would choose.
fn spoken(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.1} µs"),
        us if us < 1e6 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "input     {}", self.input)?;
        let (shards, backend, why) = (self.shards, self.backend, &self.backend_why);
        writeln!(f, "engine    {shards} shard(s) on {backend} ({why}), in memory")?;
        let (events, applied) = (grouped(self.events), grouped(self.applied));
        write!(f, "events    {events} read, {applied} applied, {} rejected", self.rejected)?;
        writeln!(f, ", {} bad lines", self.bad_lines)?;
        let asked = self.rate_asked.as_deref().unwrap_or("as fast as possible");
        write!(f, "rate      {:.2} million/s for {:.2} s", self.rate / 1e6, self.seconds)?;
        writeln!(f, " ({} producer(s), {asked})", self.producers)?;
        for (level, p) in &self.latency {
            let from = if self.rate_asked.is_some() { "intended time" } else { "offer" };
            write!(f, "latency   {from} to {level}: p50 {}", spoken(p.p50_us))?;
            write!(f, ", p99 {}, p99.9 {}", spoken(p.p99_us), spoken(p.p999_us))?;
            writeln!(f, ", max {}", spoken(p.max_us))?;
        }
        if self.saturated {
            let why =
                if self.rate_asked.is_some() { ": latencies include the backlog" } else { "" };
            writeln!(f, "          rings were full at times{why}")?;
        }
        let (entities, pairs) = (grouped(self.entities as u64), grouped(self.pairs as u64));
        write!(f, "state     {entities} entities, {pairs} pairs of entity and signal, ")?;
        writeln!(f, "{} KiB", grouped(self.memory_bytes / 1024))?;
        let as_of = i64::try_from(self.as_of)
            .ok()
            .map(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)));
        match as_of {
            Some(Ok(as_of)) => writeln!(f, "as of     {as_of}")?,
            _ => writeln!(f, "as of     {} ns", self.as_of)?,
        }
        if self.clamped > 0 {
            let clamped = grouped(self.clamped as u64);
            writeln!(f, "          {clamped} pairs have later events: read as of their last one")?;
        }
        for line in &self.top {
            writeln!(f, "top       {line}")?;
        }
        let Some(verified) = &self.verified else { return Ok(()) };
        let (scores, exact) = (grouped(verified.scores as u64), grouped(verified.exact as u64));
        let (again, places) = (grouped(verified.again as u64), grouped(verified.places as u64));
        write!(
            f,
            "verified  {scores} scores, {exact} counts and times against the reference model; "
        )?;
        writeln!(f, "{again} numbers again by other reads; {places} places in rankings")?;
        if verified.difference_count == 0 {
            writeln!(f, "          all equal (scores to {:.0e})", verified.largest_difference)?;
        } else {
            writeln!(f, "          {} DIFFERENCES", verified.difference_count)?;
            for difference in &verified.differences {
                writeln!(f, "          {difference}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(654_692), "654,692");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(spoken(999.94), "999.9 µs");
        assert_eq!(spoken(1500.0), "1.50 ms");
        assert_eq!(spoken(2.5e6), "2.50 s");
    }
}
