//! `compare`: Ebbtide beside other ways of doing the same work, as ratios measured in one run.
//!
//! ```text
//! criteria ─▶ scenes (apply, record, reads, …, durable, reopening) ─▶ measure: ours, reference, …
//!                                                                       └─▶ rows ─▶ table, JSON
//! ```
//!
//! Promises: both sides of a row work on the same events of a fixed seed, in the same process, in
//! turn; the first turn warms up and is not counted; a ratio is the median of the ratios of the
//! turns and comes with the least and the greatest. A bar that is missed is printed as missed and
//! is no failure: the machine has its part in it. Not here: what a rival is ([`crate::rivals`]).

mod apply;
mod bare_table;
mod criteria;
mod device;
mod durable;
mod engines;
mod growth;
pub(crate) mod log;
mod machine;
mod measure;
mod memory;
mod open_loop;
mod ranking;
pub(crate) mod reads;
mod record;
mod redis;
mod reopening;
mod report;
mod stores;
pub(crate) mod tables;
pub(crate) mod workload;

use crate::cores;
use crate::fault::Fault;
use crate::interrupt::Interrupt;
use crate::output;
use criteria::Criterion;
use machine::Machine;
use measure::{Measured, Sides};
use report::{Report, Row, Skipped};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use stores::Stores;

/// Measure Ebbtide against its references, side by side, and print each ratio with its bar.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// Fewer turns and shorter ones, for a result within three minutes
    #[arg(long)]
    quick: bool,
    /// Write the rows and the machine as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where stores go, in a fresh folder that is removed afterwards [default: the folder for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Runtime of the shards that have a store: auto, uring or threads
    #[arg(long, default_value = "auto", value_parser = crate::replay::parse_backend)]
    backend: ebbtide::Backend,
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
    /// Events recorded durably in a turn.
    events_durable: usize,
    /// Bytes the bare device is given in a turn.
    device_bytes: usize,
    /// Events in a turn that wait for one another.
    acks: usize,
    /// Events of a turn at a steady rate.
    events_open: usize,
    /// Pairs in the store that is opened again.
    pairs_stored: u64,
    /// Counted turns of the rows that take checkpoints or open a store.
    turns_stored: usize,
    /// Events offered at most while a checkpoint is taken.
    events_tail: usize,
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
        events_durable: 4_000_000,
        device_bytes: 128 << 20,
        acks: 10_000,
        events_open: 20_000,
        pairs_stored: 1_000_000,
        turns_stored: 5,
        events_tail: 500_000,
    };
    const QUICK: Self = Self {
        turns: 5,
        events_cache: 1_000_000,
        events_dram: 500_000,
        reads: 1_000,
        growths: 2,
        // A quarter of the full number: still far larger than any cache, and made in time.
        entities_dram: 2_000_000,
        idle_ms: 1_000,
        events_durable: 1_000_000,
        device_bytes: 32 << 20,
        acks: 2_000,
        events_open: 5_000,
        pairs_stored: 200_000,
        turns_stored: 3,
        events_tail: 100_000,
        ..Self::FULL
    };
}

/// One run: what to measure, how hard, and what came of it.
struct Run {
    effort: Effort,
    /// Empty for all.
    only: Vec<&'static str>,
    /// Where stores go.
    stores: Arc<Stores>,
    /// Whether two threads can run at once.
    two_cores: bool,
    rows: Vec<Row>,
    skipped: Vec<Skipped>,
    begun: Instant,
}

impl Run {
    fn new(effort: Effort, only: Vec<&'static str>, stores: Stores) -> Self {
        let (two_cores, stores) = (cores::all().len() > 1, Arc::new(stores));
        let (rows, skipped, begun) = (Vec::new(), Vec::new(), Instant::now());
        Self { effort, only, stores, two_cores, rows, skipped, begun }
    }

    /// Whether any of these rows is to be measured, and can be.
    fn wants(&self, criteria: &[Criterion]) -> bool {
        criteria.iter().any(|row| self.asks(row) && (self.two_cores || !row.needs_two_cores))
    }

    fn asks(&self, row: &Criterion) -> bool {
        self.only.is_empty() || self.only.contains(&row.key)
    }

    /// Leaves a row out, if it is asked for, and says why.
    fn skip(&mut self, criterion: Criterion, reason: String) {
        if self.asks(&criterion) {
            let skipped = Skipped { key: criterion.key, reason };
            output::say(&skipped);
            self.skipped.push(skipped);
        }
    }

    /// Measures a row, if it is wanted: `turn` does both sides once and gives their two numbers.
    fn row<S: Into<Sides>>(
        &mut self,
        criterion: Criterion,
        turn: impl FnMut() -> Result<S, Fault>,
    ) -> Result<(), Fault> {
        let turns = self.effort.turns;
        self.row_of_turns(criterion, turns, turn)
    }

    /// As [`Run::row`], for a row whose turns are long, or always the same.
    fn row_of_turns<S: Into<Sides>>(
        &mut self,
        criterion: Criterion,
        turns: usize,
        mut turn: impl FnMut() -> Result<S, Fault>,
    ) -> Result<(), Fault> {
        self.rows_of_turns([criterion], turns, || Ok([turn()?]))
    }

    /// As [`Run::row_of_turns`], for rows that one turn measures together.
    fn rows_of_turns<S: Into<Sides>, const ROWS: usize>(
        &mut self,
        criteria: [Criterion; ROWS],
        turns: usize,
        turn: impl FnMut() -> Result<[S; ROWS], Fault>,
    ) -> Result<(), Fault> {
        if self.wants(&criteria) {
            let measured = Measured::interleaved(turns, turn)?;
            for (criterion, measured) in criteria.into_iter().zip(&measured) {
                if self.wants(&[criterion]) {
                    let row = Row::new(criterion, measured);
                    output::say(format_args!(
                        "{:>6.1} s  {row}",
                        self.begun.elapsed().as_secs_f64()
                    ));
                    self.rows.push(row);
                }
            }
        }
        Ok(())
    }

    fn scenes(&mut self) -> Result<(), Fault> {
        if !self.two_cores {
            for criterion in criteria::ALL.iter().filter(|row| row.needs_two_cores) {
                self.skip(*criterion, "it needs two cores, and this process may use one".into());
            }
        }
        apply::rows(self)?;
        reads::rows(self)?;
        ranking::rows(self)?;
        growth::rows(self)?;
        memory::rows(self)?;
        record::idle_row(self)?;
        log::rows(self)?;
        durable::rows(self)?;
        reopening::rows(self)
    }
}

/// Measures what `args` name and prints the table.
///
/// # Errors
///
/// [`Fault`] if the machine lacks what a row needs, or the JSON cannot be written.
pub fn compare(args: &CompareArgs) -> Result<(), Fault> {
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    // A turn takes as long as it takes, so a signal ends it where it is.
    let interrupt = Interrupt::watch(0)?;
    let stores = Stores::within(args.data_dir.as_deref(), args.backend)?;
    interrupt.removes(stores.root());
    let mut machine = Machine::look(stores.root());
    machine.entities = [effort.entities_cache, effort.entities_dram];
    let mut run = Run::new(effort, args.only.clone(), stores);
    // What a signal broke off, whose stores are gone under it, tells nothing.
    let interrupted = |fault| interrupt.fault(|| "interrupted".into()).unwrap_or(fault);
    run.scenes().map_err(interrupted)?;
    machine.backend = run.stores.runtime();
    let report = Report { rows: &run.rows, skipped: &run.skipped, machine: &machine };
    if let Some(path) = &args.json {
        report::write_json(path, &report)?;
    }
    output::print("the table", &report::table(&report))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Effort {
        /// As little as shows that a row works.
        pub(super) const LEAST: Self = Self {
            turns: 1,
            events_cache: 2_000,
            events_dram: 2_000,
            reads: 3,
            growths: 1,
            entities_cache: 300,
            entities_dram: 1_000,
            entities_memory: 500,
            idle_ms: 20,
            events_durable: 2_000,
            device_bytes: 256 * 1024,
            acks: 3,
            events_open: 100,
            pairs_stored: 300,
            turns_stored: 1,
            events_tail: 2_000,
        };
    }

    #[test]
    fn every_criterion_has_a_row_that_runs() {
        let stores = Stores::within(None, ebbtide::Backend::Auto).unwrap();
        let machine = Machine::look(stores.root());
        let mut run = Run::new(Effort::LEAST, Vec::new(), stores);
        run.scenes().unwrap();
        let (rows, skipped) = (&run.rows, &run.skipped);
        let measured = rows.iter().map(|row| row.key);
        let keys: Vec<&str> = measured.chain(skipped.iter().map(|row| row.key)).collect();
        assert_eq!(keys.len(), criteria::ALL.len(), "{keys:?}");
        for criterion in criteria::ALL {
            assert!(keys.contains(&criterion.key), "{}", criterion.key);
        }
        let table = report::table(&Report { rows, skipped, machine: &machine });
        assert!(keys.iter().all(|key| table.contains(key)), "{table}");
    }
}
