//! This program under `valgrind --tool=callgrind`: how many instructions one round takes.
//!
//! ```text
//! set up, prepare, run, prepare │ counted: run │ end
//! ```
//!
//! Promises: callgrind counts from the beginning to the end of one function, which does one round
//! and nothing else; the round before it has warmed up what is made once. What the loader and the
//! set-up do is not in the number.

use crate::fault::Fault;
use crate::stages::{Rounds, Stage};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The function that is counted inside of, as a pattern over names with or without their mangling.
const COUNTED: &str = "*ebbtide_bench*callgrind*counted_round*";

/// Does what is counted.
pub(super) fn be_counted(stage: &Stage) {
    let mut rounds = stage.set_up();
    rounds.prepare();
    rounds.run();
    rounds.prepare();
    counted_round(&mut *rounds);
}

#[inline(never)]
fn counted_round(rounds: &mut dyn Rounds) {
    rounds.run();
    // So that the call above is not the last thing done, and stays a call.
    black_box(());
}

/// What counts.
pub(super) struct Callgrind {
    program: PathBuf,
    instruction_set: String,
}

impl Callgrind {
    /// Looks whether there is a valgrind that runs this program, and what it lets it see of the
    /// processor.
    pub(super) fn find() -> Result<Self, Fault> {
        let program = std::env::current_exe().map_err(Fault::environment)?;
        let found = Self { program, instruction_set: String::new() };
        let output = found.run(&["--tool=none", "-q"], &["--instruction-set"])?;
        let instruction_set = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self { instruction_set, ..found })
    }

    /// The instruction set of the processor that valgrind shows to programs.
    pub(super) fn instruction_set(&self) -> &str {
        &self.instruction_set
    }

    /// Instructions of one operation of a stage.
    pub(super) fn count(&self, stage: &Stage) -> Result<f64, Fault> {
        let toggle = format!("--toggle-collect={COUNTED}");
        let flags = ["--tool=callgrind", "--callgrind-out-file=/dev/null", &toggle];
        let output = self.run(&flags, &["--inside", stage.name])?;
        match collected(&String::from_utf8_lossy(&output.stderr)) {
            Some(count) if count > 0 => Ok(count as f64 / stage.operations as f64),
            _ => Err(Fault::environment(format!(
                "callgrind counted nothing in the stage {}: it needs a program with its symbols",
                stage.name
            ))),
        }
    }

    fn run(&self, flags: &[&str], args: &[&str]) -> Result<Output, Fault> {
        let mut command = Command::new("valgrind");
        command.args(flags).arg(&self.program).arg("count").args(args);
        let output = command.output().map_err(|error| {
            Fault::environment(format!(
                "valgrind cannot be run: {error}; install it (Debian: apt-get install valgrind)"
            ))
        })?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let asked = args.join(" ");
        Err(Fault::environment(format!("`count {asked}` failed under valgrind: {last}")))
    }
}

/// How many instructions callgrind says that it counted.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().rfind(|line| line.contains(" Collected : "))?;
    line.rsplit_once(':')?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages;

    #[test]
    fn the_number_is_found_in_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 481516\n==7== \n\
                    ==7== I   refs:      481,516\n";
        assert_eq!(collected(said), Some(481_516));
        assert_eq!(collected("==7== Collected : \n"), None);
        assert_eq!(collected("valgrind: no such tool\n"), None);
    }

    #[test]
    fn what_is_counted_runs_without_being_counted() {
        let stage = stages::all().next().unwrap();
        be_counted(stage);
    }
}
