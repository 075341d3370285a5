//! The harness's command line: `replay` and `compare`.

use clap::Parser;
use ebbtide_bench::compare::{CompareArgs, compare};
use ebbtide_bench::replay::{ReplayArgs, replay};
use std::process::ExitCode;

/// Load-tests Ebbtide and compares it with other designs.
#[derive(Parser)]
#[command(version, about)]
enum Command {
    Replay(ReplayArgs),
    Compare(CompareArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Replay(args) => replay(&args),
        Command::Compare(args) => compare(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            fault.exit_code()
        }
    }
}
