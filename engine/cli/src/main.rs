//! The program `ebbtide`: reads the command line, runs a command, ends with its exit code.

use clap::Parser;
use clap::error::ErrorKind;
use ebbtide_cli::args::{BackupArgs, DumpArgs, SalvageArgs, VerifyArgs};
use ebbtide_cli::backup::backup;
use ebbtide_cli::doctor::{DoctorArgs, doctor};
use ebbtide_cli::dump::dump;
use ebbtide_cli::fault::Fault;
use ebbtide_cli::inspect::{InspectArgs, inspect};
use ebbtide_cli::output::printable;
use ebbtide_cli::salvage::salvage;
use ebbtide_cli::verify::verify;
use std::io::Write as _;
use std::panic;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Looks at an Ebbtide store and at the machine it lives on.
#[derive(Parser)]
#[command(name = "ebbtide", version, about)]
enum Command {
    Doctor(DoctorArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Dump(DumpArgs),
    Backup(BackupArgs),
    Salvage(SalvageArgs),
}

/// What the last panic said. A database that stops short at damaged files panics too; that is
/// caught where it is called, and is nothing to tell.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn main() -> ExitCode {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("an unknown fault");
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = format!("{place}: {what}");
    }));
    match panic::catch_unwind(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(fault)) => {
            tell(&fault.message);
            fault.exit_code()
        }
        Err(_) => {
            let said = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            tell(&format!("a fault of this program at {said}; please report it"));
            Fault::environment("").exit_code()
        }
    }
}

fn run() -> Result<(), Fault> {
    match Command::try_parse() {
        Ok(Command::Doctor(args)) => doctor(&args),
        Ok(Command::Inspect(args)) => inspect(&args),
        Ok(Command::Verify(args)) => verify(&args),
        Ok(Command::Dump(args)) => dump(&args),
        Ok(Command::Backup(args)) => backup(&args),
        Ok(Command::Salvage(args)) => salvage(&args),
        Err(error) if is_help(error.kind()) => error.exit(),
        Err(error) => Err(Fault::input(one_line(&error.render().to_string()))),
    }
}

/// One line on standard error. If nobody listens, the exit code still tells.
fn tell(message: &str) {
    let _ = writeln!(std::io::stderr(), "error: {}", printable(message));
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
