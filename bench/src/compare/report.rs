//! What a comparison tells: a table for people, one JSON object for programs.

use super::criteria::{ALL, Better, Criterion};
use super::machine::Machine;
use super::measure::Measured;
use crate::fault::Fault;
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

/// A reference whose median is so many times worse than its best did not have the machine.
const DISTURBED_TIMES: f64 = 3.0;

/// One row with its figures.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Its name.
    pub(super) key: &'static str,
    ours: f64,
    reference: f64,
    unit: &'static str,
    ratio: f64,
    better: Better,
    bar: f64,
    met: bool,
    /// Whether the reference itself came out far worse than it can, so that the ratio says more of
    /// what else the machine did. Such a row is not met.
    disturbed: bool,
    spread: [f64; 2],
    /// The machine's own stalls while the row was measured, at its percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine_stall_us: Option<f64>,
    what: &'static str,
    against: &'static str,
}

/// A row that was asked for and could not be measured here.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    /// Its name.
    pub(super) key: &'static str,
    /// Why.
    pub(super) reason: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20}skipped: {}", self.key, self.reason)
    }
}

/// All that a comparison tells.
#[derive(Debug, Serialize)]
pub(super) struct Report<'r> {
    /// What was measured.
    pub(super) rows: &'r [Row],
    /// What was not.
    pub(super) skipped: &'r [Skipped],
    /// Where.
    pub(super) machine: &'r Machine,
}

impl Row {
    /// The row of `criterion` with what was measured.
    pub(super) fn new(criterion: Criterion, measured: &Measured) -> Self {
        let &Measured { ours, reference, ratio, spread, reference_range, stall_us } = measured;
        let disturbed = match criterion.better {
            Better::Lower => reference > DISTURBED_TIMES * reference_range[0],
            Better::Higher => reference * DISTURBED_TIMES < reference_range[1],
        };
        let met = criterion.is_met(ratio) && !disturbed;
        let Criterion { key, what, against, unit, better, bar, .. } = criterion;
        Self {
            key,
            ours,
            reference,
            unit,
            ratio,
            better,
            bar,
            met,
            disturbed,
            spread,
            machine_stall_us: stall_us,
            what,
            against,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, greatest] = self.spread.map(short);
        let sign = if self.better == Better::Higher { "≥" } else { "≤" };
        write!(f, "{:<20}", self.key)?;
        write!(f, "{:>9} {:>10}  {:<15}", short(self.ours), short(self.reference), self.unit)?;
        write!(f, "{:>8}  {:<17}", short(self.ratio), format!("{least} to {greatest}"))?;
        write!(f, "{sign} {:<7}", self.bar)?;
        f.write_str(match (self.met, self.disturbed) {
            (true, _) => "met",
            (false, false) => "NOT met",
            (false, true) => "NOT met: the reference was disturbed",
        })?;
        match self.machine_stall_us {
            Some(stall) => write!(f, "; machine's own stall {} us", short(stall)),
            None => Ok(()),
        }
    }
}

/// Three digits or a little more, for a person.
fn short(number: f64) -> String {
    match number.abs() {
        100.0.. => format!("{number:.0}"),
        10.0.. => format!("{number:.1}"),
        1.0.. => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}

/// Every row with its bar, what it means, and where it was measured.
pub(super) fn table(report: &Report<'_>) -> String {
    let &Report { rows, skipped, machine } = report;
    let (ours, reference, unit, ratio, spread) = ("ours", "reference", "unit", "ratio", "spread");
    let mut text = format!(
        "{:<20}{ours:>9} {reference:>10}  {unit:<15}{ratio:>8}  {spread:<17}{:<9}met or not\n",
        "key", "bar"
    );
    let place = |row: &&Row| ALL.iter().position(|criterion| criterion.key == row.key);
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(place);
    for row in &rows {
        let _infallible = writeln!(text, "{row}");
    }
    for row in skipped {
        let _infallible = writeln!(text, "{row}");
    }
    text.push('\n');
    for row in &rows {
        let _infallible = writeln!(text, "{:<20}{} / {}", row.key, row.what, row.against);
    }
    let met = rows.iter().filter(|row| row.met).count();
    let _infallible = writeln!(text, "\n{met} of {} bars met; {machine}", rows.len());
    text
}

/// Writes everything as JSON.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn write_json(path: &Path, report: &Report<'_>) -> Result<(), Fault> {
    let mut json = serde_json::to_string_pretty(report).map_err(Fault::environment)?;
    json.push('\n');
    fs::write(path, json)
        .map_err(|error| Fault::environment(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::criteria::{APPLY_DRAM, DURABLE_ACK_P50, DURABLE_THROUGHPUT, IDLE_CPU};
    use super::*;

    #[test]
    fn a_row_says_whether_its_bar_is_met() {
        let measured = |ratio| Measured {
            ours: 24.0,
            reference: 2.0,
            ratio,
            spread: [9.0, 15.0],
            reference_range: [1.0, 2.0],
            stall_us: None,
        };
        let met = Row::new(APPLY_DRAM, &measured(12.0));
        assert!(met.met && met.to_string().ends_with("met"), "{met}");
        assert!(Row::new(APPLY_DRAM, &measured(11.9)).to_string().ends_with("NOT met"));
        assert!(Row::new(IDLE_CPU, &measured(0.01)).met);
        assert!(!Row::new(IDLE_CPU, &measured(0.011)).met);
    }

    /// A reference that waited for ticks of the scheduler made a bar look met.
    #[test]
    fn a_row_whose_reference_was_disturbed_is_not_met() {
        let measured = |best| Measured {
            ours: 184.0,
            reference: 3_998.0,
            ratio: 0.046,
            spread: [0.04, 0.05],
            reference_range: [best, 4_000.0],
            stall_us: None,
        };
        let row = Row::new(DURABLE_ACK_P50, &measured(118.0));
        assert!(!row.met && row.disturbed && row.to_string().contains("disturbed"), "{row}");
        assert!(Row::new(DURABLE_ACK_P50, &measured(2_000.0)).met);
        // A group commit that waited so made another look met.
        let slow = Measured {
            ours: 2.85,
            reference: 0.03,
            ratio: 84.7,
            spread: [68.8, 120.0],
            reference_range: [0.03, 0.6],
            stall_us: None,
        };
        assert!(Row::new(DURABLE_THROUGHPUT, &slow).disturbed);
    }

    #[test]
    fn the_json_has_the_keys_of_the_contract() {
        let (spread, reference_range) = ([0.4, 0.6], [2.0, 2.0]);
        let stall_us = Some(12.34);
        let measured =
            Measured { ours: 1.0, reference: 2.0, ratio: 0.5, spread, reference_range, stall_us };
        let row = Row::new(APPLY_DRAM, &measured);
        assert!(row.to_string().ends_with("; machine's own stall 12.3 us"), "{row}");
        let json = serde_json::to_value(row).unwrap();
        assert_eq!(json["machine_stall_us"], 12.34);
        let still = Row::new(APPLY_DRAM, &Measured { stall_us: None, ..measured });
        assert!(serde_json::to_value(still).unwrap().get("machine_stall_us").is_none());
        for key in ["key", "ours", "reference", "unit", "ratio", "bar", "met", "spread"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["better"], "higher");
    }
}
