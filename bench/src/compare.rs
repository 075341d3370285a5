//! `compare`: Ebbtide beside other ways of doing the same work, as ratios measured in one run.
//!
//! ```text
//! criteria ─▶ scenes (apply, record, reads, growth, memory) ─▶ measure: ours, reference, ours, …
//!                                                                 └─▶ rows ─▶ table, JSON
//! ```
//!
//! Promises: both sides of a row work on the same events of a fixed seed, in the same process, in turn;
//! the first turn warms up and is not counted; a ratio is the median of the ratios of the turns and comes
//! with the least and the greatest. A bar that is missed is printed as missed and is no failure: the
//! machine has its part in it.
//! Not here: what a rival is ([`crate::rivals`]).

mod apply;
mod bare_table;
mod cores;
mod criteria;
mod engines;
mod growth;
mod machine;
mod measure;
mod memory;
mod ranking;
mod reads;
mod record;
mod report;
mod tables;
mod workload;

use crate::fault::Fault;
use criteria::Criterion;
use machine::Machine;
use measure::Measured;
use report::Row;
use std::path::PathBuf;
use std::time::Instant;

/// Measure Ebbtide against its references, side by side, and print each ratio with its bar.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// Fewer turns and shorter ones, for a result within three minutes
    #[arg(long)]
    quick: bool,
    /// Write the rows and the machine as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these rows, by key
    #[arg(long, value_name = "KEYS", value_delimiter = ',', value_parser = parse_key)]
    only: Vec<&'static str>,
}

fn parse_key(text: &str) -> Result<&'static str, String> {
    let known = || criteria::ALL.iter().map(|criterion| criterion.key);
    known()
        .find(|key| *key == text)
        .ok_or_else(|| format!("the keys are {}", known().collect::<Vec<_>>().join(", ")))
}

/// How much work a comparison does.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Counted turns of a row.
    turns: usize,
    /// Events one side applies in a turn of the rows with few entities.
    events_cache: usize,
    /// Events one side applies in a turn of the rows with many entities.
    events_dram: usize,
    /// Reads of 200 candidates in a turn.
    reads: usize,
    /// Counted turns of the row that grows a ledger from nothing.
    growths: usize,
    /// Entities whose states fit a cache.
    entities_cache: u64,
    /// Entities whose states do not.
    entities_dram: u64,
    /// Entities of the memory rows.
    entities_memory: u64,
    /// Milliseconds an idle engine is watched for in a turn.
    idle_ms: u64,
}

impl Effort {
    const FULL: Self = Self {
        turns: 9,
        events_cache: 4_000_000,
        events_dram: 2_000_000,
        reads: 4_000,
        growths: 5,
        entities_cache: 10_000,
        entities_dram: 8_000_000,
        entities_memory: 1_000_000,
        idle_ms: 2_000,
    };
    const QUICK: Self = Self {
        turns: 5,
        events_cache: 1_000_000,
        events_dram: 500_000,
        reads: 1_000,
        growths: 2,
        idle_ms: 1_000,
        ..Self::FULL
    };
}

/// One run: what to measure, how hard, and what came of it.
struct Run {
    effort: Effort,
    /// Empty for all.
    only: Vec<&'static str>,
    /// Whether two threads can run at once.
    two_cores: bool,
    rows: Vec<Row>,
    begun: Instant,
}

impl Run {
    fn new(effort: Effort, only: Vec<&'static str>) -> Self {
        let two_cores = cores::all().len() > 1;
        Self { effort, only, two_cores, rows: Vec::new(), begun: Instant::now() }
    }

    /// Whether any of these rows is to be measured, and can be.
    fn wants(&self, criteria: &[Criterion]) -> bool {
        let asked = |key| self.only.is_empty() || self.only.contains(key);
        criteria.iter().any(|row| asked(&row.key) && (self.two_cores || !row.needs_two_cores))
    }

    /// Measures a row, if it is wanted: `turn` does both sides once and gives their two numbers.
    fn row(
        &mut self,
        criterion: Criterion,
        turn: impl FnMut() -> Result<(f64, f64), Fault>,
    ) -> Result<(), Fault> {
        let turns = self.effort.turns;
        self.row_of_turns(criterion, turns, turn)
    }

    /// As [`Run::row`], for a row whose turns are long, or always the same.
    fn row_of_turns(
        &mut self,
        criterion: Criterion,
        turns: usize,
        turn: impl FnMut() -> Result<(f64, f64), Fault>,
    ) -> Result<(), Fault> {
        if self.wants(&[criterion]) {
            let row = Row::new(criterion, &Measured::interleaved(turns, turn)?);
            eprintln!("{:>6.1} s  {row}", self.begun.elapsed().as_secs_f64());
            self.rows.push(row);
        }
        Ok(())
    }

    fn scenes(&mut self) -> Result<(), Fault> {
        apply::rows(self)?;
        reads::rows(self)?;
        ranking::rows(self)?;
        growth::rows(self)?;
        memory::rows(self)?;
        record::idle_row(self)
    }
}

/// Measures what `args` name and prints the table.
///
/// # Errors
///
/// [`Fault`] if the machine lacks what a row needs, or the JSON cannot be written.
pub fn compare(args: &CompareArgs) -> Result<(), Fault> {
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let mut run = Run::new(effort, args.only.clone());
    if !run.two_cores {
        eprintln!("one core: the rows that need two are left out");
    }
    let machine = Machine::look();
    run.scenes()?;
    print!("{}", report::table(&run.rows, &machine));
    match &args.json {
        Some(path) => report::write_json(path, &run.rows, &machine),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_criterion_has_a_row_that_runs() {
        let effort = Effort {
            turns: 1,
            events_cache: 2_000,
            events_dram: 2_000,
            reads: 3,
            growths: 1,
            entities_cache: 300,
            entities_dram: 1_000,
            entities_memory: 500,
            idle_ms: 20,
        };
        let mut run = Run::new(effort, Vec::new());
        run.scenes().unwrap();
        let keys: Vec<&str> = run.rows.iter().map(|row| row.key).collect();
        for criterion in criteria::ALL {
            assert_eq!(
                run.wants(&[*criterion]),
                keys.contains(&criterion.key),
                "{}",
                criterion.key
            );
        }
        let table = report::table(&run.rows, &Machine::look());
        assert!(keys.iter().all(|key| table.contains(key)), "{table}");
    }
}
