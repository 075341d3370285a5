//! What is counted beside what is committed.
//!
//! Promises: pure arithmetic; every stage of either side has one row and one verdict.

use crate::limits::COUNT_GROWTH_PERCENT_MAX;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One stage, counted and committed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Instructions of one operation, if there is such a stage.
    pub(super) now: Option<f64>,
    /// The committed ones, if there are any.
    pub(super) before: Option<f64>,
}

/// What is to be said of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As committed, within the bound.
    Same,
    /// More than the bound above.
    Grown,
    /// More than the bound below.
    Shrunk,
    /// Not committed.
    Unknown,
    /// Committed, and no stage.
    Gone,
}

impl Row {
    /// How much more it is than what is committed.
    fn change_percent(&self) -> Option<f64> {
        let (now, before) = (self.now?, self.before?);
        Some((now - before) * 100.0 / before)
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.change_percent() {
            Some(change) if change > COUNT_GROWTH_PERCENT_MAX => Verdict::Grown,
            Some(change) if change < -COUNT_GROWTH_PERCENT_MAX => Verdict::Shrunk,
            Some(_) => Verdict::Same,
            None if self.now.is_some() => Verdict::Unknown,
            None => Verdict::Gone,
        }
    }
}

/// A row for each stage that was counted, and if that `is_whole`, for each committed one.
pub(super) fn rows(
    counted: &[(&'static str, f64)],
    committed: &BTreeMap<String, f64>,
    is_whole: bool,
) -> Vec<Row> {
    let row = |&(name, now): &(&'static str, f64)| {
        let before = committed.get(name).copied();
        Row { name: name.to_owned(), now: Some(now), before }
    };
    let is_gone = |name: &String| is_whole && counted.iter().all(|(counted, _)| counted != name);
    let gone = committed.iter().filter(|(name, _)| is_gone(name));
    let gone =
        gone.map(|(name, &before)| Row { name: name.clone(), now: None, before: Some(before) });
    counted.iter().map(row).chain(gone).collect()
}

/// The rows for people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table =
        format!("{:<20}{:>14}{:>14}{:>12}\n", "stage", "instructions", "committed", "change");
    let number =
        |count: Option<f64>| count.map_or_else(|| "-".into(), |count| format!("{count:.1}"));
    for row in rows {
        let (now, before) = (number(row.now), number(row.before));
        let change = match (row.change_percent(), row.verdict()) {
            (Some(change), _) => format!("{change:+.1} %"),
            (None, Verdict::Unknown) => "new".into(),
            (None, _) => "gone".into(),
        };
        let _infallible = writeln!(table, "{:<20}{now:>14}{before:>14}{change:>12}", row.name);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(now: Option<f64>, before: Option<f64>) -> Row {
        Row { name: "stage".into(), now, before }
    }

    #[test]
    fn five_percent_is_the_bound_on_both_sides() {
        for (now, verdict) in [
            (100.0, Verdict::Same),
            (105.0, Verdict::Same),
            (105.1, Verdict::Grown),
            (95.0, Verdict::Same),
            (94.9, Verdict::Shrunk),
        ] {
            assert_eq!(row(Some(now), Some(100.0)).verdict(), verdict, "{now}");
        }
        assert_eq!(row(Some(1.0), None).verdict(), Verdict::Unknown);
        assert_eq!(row(None, Some(1.0)).verdict(), Verdict::Gone);
    }

    #[test]
    fn what_is_committed_and_was_not_asked_for_has_no_row() {
        let committed = BTreeMap::from([("encode".to_owned(), 50.0), ("old".to_owned(), 7.0)]);
        let names = |is_whole| {
            let rows = rows(&[("encode", 51.0), ("decode", 9.0)], &committed, is_whole);
            rows.iter().map(|row| (row.name.clone(), row.verdict())).collect::<Vec<_>>()
        };
        let some = [("encode".into(), Verdict::Same), ("decode".into(), Verdict::Unknown)];
        assert_eq!(names(false), some);
        assert_eq!(names(true), [&some[..], &[("old".into(), Verdict::Gone)]].concat());
    }

    #[test]
    fn a_table_says_how_each_stage_has_changed() {
        let text =
            table(&[row(Some(110.0), Some(100.0)), row(Some(7.25), None), row(None, Some(1.0))]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["stage", "110.0", "100.0", "+10.0", "%"]);
        assert_eq!(lines[2], ["stage", "7.2", "-", "new"]);
        assert_eq!(lines[3], ["stage", "-", "1.0", "gone"]);
    }
}
