//! The harness's command line: `replay`.

use clap::Parser;
use ebbtide_bench::replay::{ReplayArgs, replay};
use std::process::ExitCode;

/// Load-tests Ebbtide and compares it with other designs.
#[derive(Parser)]
#[command(version, about)]
enum Command {
    Replay(ReplayArgs),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Replay(args) => replay(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            fault.exit_code()
        }
    }
}
