//! `doctor`: what an engine would find on this machine and in this directory, judged.
//!
//! Promises: works for any user, on a directory that is not there yet, and where the kernel tells
//! little; changes nothing but for one nameless file that is gone afterwards.
//! Invariants: facts are gathered first (`host`, `place`), then judged (`judge`), then printed.
//! Fails by: [`Fault`] of kind environment, when a finding is bad.

mod cgroup;
mod facts;
mod host;
mod judge;
mod mounts;
mod place;

use crate::args::StoreArgs;
use crate::fault::Fault;
use crate::limits::COLUMNS_MAX;
use crate::output::{count, print, print_json, shown, wrap};
use clap::Args;
use facts::Facts;
use host::Kernel;
use judge::{Finding, Status, judge};
use serde::Serialize;
use std::fmt::Write as _;

/// Check what an engine needs of this machine and of a directory, and say what to do
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The store, which need not be there yet, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How many shards the engine will have; by default one for each core it may use
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    data_dir: String,
    shards: usize,
    bad: usize,
    warn: usize,
    findings: &'a [Finding],
}

/// Gathers, judges, prints.
///
/// # Errors
///
/// When something is bad, and when standard output cannot be written.
pub fn doctor(args: &DoctorArgs) -> Result<(), Fault> {
    let host = host::gather(&Kernel::running());
    let cores = host.cores.as_ref().map_or(1, Vec::len);
    let shards = args.shards.map_or(cores, usize::from);
    let place = place::gather(&args.store.data_dir);
    let findings = judge(&Facts { host, place, shards });
    let many = |status| findings.iter().filter(|finding| finding.status == status).count();
    let report = Report {
        data_dir: args.store.data_dir.to_string_lossy().into_owned(),
        shards,
        bad: many(Status::Bad),
        warn: many(Status::Warn),
        findings: &findings,
    };
    if args.store.json {
        print_json(&report)?;
    } else {
        print(&page(&report, &shown(&args.store.data_dir)))?;
    }
    verdict(&findings)
}

fn verdict(findings: &[Finding]) -> Result<(), Fault> {
    let bad = || findings.iter().filter(|finding| finding.status == Status::Bad);
    let Some(first) = bad().next() else { return Ok(()) };
    let others = match bad().count() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    let Finding { name, found, todo, .. } = first;
    Err(Fault::environment(format!("{name}: {found}; {}{others}", todo.as_deref().unwrap_or(""))))
}

/// The findings as a table for people.
fn page(report: &Report<'_>, data_dir: &str) -> String {
    let shards = count(report.shards as u64, "shard");
    let mut page = format!("{shards} in {data_dir}\n\n");
    let width = report.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let indent = width + 8;
    for Finding { name, status, found, todo } in report.findings {
        let _ = write!(page, "{name:width$}  {status:4}  ");
        wrap(&mut page, found, indent, COLUMNS_MAX);
        if let Some(todo) = todo {
            let _ = write!(page, "{:indent$}", "");
            wrap(&mut page, &format!("-> {todo}"), indent + 3, COLUMNS_MAX);
        }
    }
    let (bad, warn) = (report.bad, count(report.warn as u64, "warning"));
    let bad = if bad == 0 { "nothing is bad".to_owned() } else { format!("{bad} bad") };
    let _ = writeln!(page, "\n{bad}, {warn}");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &'static str, status: Status, todo: Option<&str>) -> Finding {
        let found = "a finding that is told in so many words that they do not fit on one line";
        Finding { name, status, found: found.into(), todo: todo.map(str::to_owned) }
    }

    #[test]
    fn the_table_fits_eighty_columns_and_says_what_to_do() {
        let findings = [
            finding("kernel", Status::Ok, None),
            finding("permissions", Status::Bad, Some("make it so that it becomes right again")),
        ];
        let data_dir = String::new();
        let report = Report { data_dir, shards: 1, bad: 1, warn: 0, findings: &findings };
        let page = page(&report, "/data");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(page.starts_with("1 shard in /data\n\nkernel       ok    a finding"), "{page}");
        assert!(page.contains("\n                   -> make it so"), "{page}");
        assert!(page.ends_with("\n1 bad, 0 warnings\n"), "{page}");
    }

    #[test]
    fn the_first_bad_finding_is_the_error_and_the_others_are_counted() {
        let bad = |name| finding(name, Status::Bad, Some("mend it"));
        assert_eq!(verdict(&[finding("a", Status::Warn, Some("x"))]), Ok(()));
        let fault = verdict(&[bad("a"), bad("b"), bad("c")]).unwrap_err();
        assert!(fault.message.starts_with("a: a finding"), "{fault}");
        assert!(fault.message.ends_with("; mend it (and 2 more)"), "{fault}");
    }
}
