//! The harness's command line: `replay`, `compare` and `count`.

use clap::Parser;
use clap::error::ErrorKind;
use ebbtide_bench::compare::{CompareArgs, compare};
use ebbtide_bench::count::{CountArgs, count};
use ebbtide_bench::fault::{Fault, Kind};
use ebbtide_bench::replay::{ReplayArgs, replay};
use std::io::Write as _;
use std::process::ExitCode;

/// Load-tests Ebbtide and compares it with other designs.
#[derive(Parser)]
#[command(version, about)]
enum Command {
    Replay(ReplayArgs),
    Compare(CompareArgs),
    Count(CountArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::try_parse() {
        Ok(Command::Replay(args)) => replay(&args),
        Ok(Command::Compare(args)) => compare(&args),
        Ok(Command::Count(args)) => count(&args),
        Err(error) if is_help(error.kind()) => error.exit(),
        Err(error) => Err(Fault::input(one_line(&error.render().to_string()))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // If nobody listens, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "error: {fault}");
            if let Kind::Interrupted(signal) = fault.kind {
                // If that does not end it, its exit code tells.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            fault.exit_code()
        }
    }
}

fn is_help(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(kind, K::DisplayHelp | K::DisplayVersion | K::DisplayHelpOnMissingArgumentOrSubcommand)
}

/// What is wrong, and the tip if there is one, without the synopsis below them.
fn one_line(usage: &str) -> String {
    let said = usage.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<_> = said
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .map(|line| line.strip_prefix("error: ").unwrap_or(line))
        .collect();
    // Only a list stands on lines of its own, below a colon.
    format!("{}; see `--help`", said.join("; ").replace(":; ", ": "))
}
