//! What a comparison tells: a table for people, one JSON object for programs.

use super::criteria::{ALL, Better, Criterion};
use super::machine::Machine;
use super::measure::Measured;
use crate::fault::Fault;
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

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
    spread: [f64; 2],
    what: &'static str,
    against: &'static str,
}

impl Row {
    /// The row of `criterion` with what was measured.
    pub(super) fn new(criterion: Criterion, measured: &Measured) -> Self {
        let &Measured { ours, reference, ratio, spread } = measured;
        let met = criterion.is_met(ratio);
        let Criterion { key, what, against, unit, better, bar, .. } = criterion;
        Self { key, ours, reference, unit, ratio, better, bar, met, spread, what, against }
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
        f.write_str(if self.met { "met" } else { "NOT met" })
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
pub(super) fn table(rows: &[Row], machine: &Machine) -> String {
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
pub(super) fn write_json(path: &Path, rows: &[Row], machine: &Machine) -> Result<(), Fault> {
    #[derive(Serialize)]
    struct Report<'r> {
        rows: &'r [Row],
        machine: &'r Machine,
    }
    let mut json =
        serde_json::to_string_pretty(&Report { rows, machine }).map_err(Fault::environment)?;
    json.push('\n');
    fs::write(path, json)
        .map_err(|error| Fault::environment(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::criteria::{APPLY_DRAM, IDLE_CPU};
    use super::*;

    #[test]
    fn a_row_says_whether_its_bar_is_met() {
        let measured = |ratio| Measured { ours: 24.0, reference: 2.0, ratio, spread: [9.0, 15.0] };
        let met = Row::new(APPLY_DRAM, &measured(12.0));
        assert!(met.met && met.to_string().ends_with("met"), "{met}");
        assert!(Row::new(APPLY_DRAM, &measured(11.9)).to_string().ends_with("NOT met"));
        assert!(Row::new(IDLE_CPU, &measured(0.01)).met);
        assert!(!Row::new(IDLE_CPU, &measured(0.011)).met);
    }

    #[test]
    fn the_json_has_the_keys_of_the_contract() {
        let measured = Measured { ours: 1.0, reference: 2.0, ratio: 0.5, spread: [0.4, 0.6] };
        let json = serde_json::to_value(Row::new(APPLY_DRAM, &measured)).unwrap();
        for key in ["key", "ours", "reference", "unit", "ratio", "bar", "met", "spread"] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["better"], "higher");
    }
}
