//! One call of a program, as a person would type it.
//!
//! Promises: the line is printed before the call, so it can be copied; the program gets no input;
//! what cargo told *this* program about its own package is not passed on, because build scripts
//! that look at it would build everything twice.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

/// How a call that started came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program returned this code.
    Code(i32),
    /// A signal ended the program.
    Killed,
    /// It ran longer than it may, and was ended.
    TooSlow(Duration),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Killed => f.write_str("ended by a signal"),
            Self::TooSlow(limit) => write!(f, "still running after {} s", limit.as_secs()),
        }
    }
}

/// A program with its arguments and environment.
#[derive(Debug)]
pub struct Call {
    command: Command,
    shown: String,
    limit: Option<Duration>,
}

impl Call {
    /// Calls the cargo that runs us, in the folder `root`.
    #[must_use]
    pub fn cargo(root: &Path, arguments: &[&str]) -> Self {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        Self::new(&cargo, root, "cargo", arguments)
    }

    /// Calls `program` in the folder `root`; `shown` is how a person would type it.
    #[must_use]
    pub fn new(program: &OsStr, root: &Path, shown: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        for (name, _) in env::vars_os().filter(|(name, _)| is_about_us(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        let words = arguments.iter().map(|word| quoted(word));
        let shown = [shown.to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        Self { command, shown, limit: None }
    }

    /// Sets an environment variable for the call.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown = format!("{name}={} {}", quoted(value), self.shown);
        self
    }

    /// Ends the program when it takes longer than `limit`.
    #[must_use]
    pub fn at_most(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Prints the line, runs it and waits.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or waited for.
    pub fn run(mut self) -> io::Result<Ended> {
        println!("$ {}", self.shown);
        let mut child = self.command.spawn()?;
        match self.limit {
            None => child.wait().map(ended),
            Some(limit) => wait_at_most(&mut child, limit),
        }
    }

    /// Prints the line, runs it and gives back what it wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or waited for.
    pub fn capture(mut self) -> io::Result<(Ended, String)> {
        println!("$ {}", self.shown);
        let output = self.command.stderr(Stdio::inherit()).output()?;
        Ok((ended(output.status), String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn ended(status: ExitStatus) -> Ended {
    status.code().map_or(Ended::Killed, Ended::Code)
}

fn wait_at_most(child: &mut Child, limit: Duration) -> io::Result<Ended> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ended(status));
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::TooSlow(limit));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether cargo set this variable to tell a program about the package it was built from.
fn is_about_us(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// A word as it is typed: in quotes when it has a space in it.
fn quoted(word: &str) -> String {
    if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::root;

    #[test]
    fn a_call_is_shown_as_it_is_typed() {
        let call = Call::cargo(&root(), &["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(call.to_string(), "RUSTDOCFLAGS=\"-D warnings\" cargo doc --no-deps");
    }

    #[test]
    fn the_exit_code_comes_back() {
        let (ended, output) = Call::cargo(&root(), &["--version"]).capture().expect("cargo starts");
        assert_eq!(ended, Ended::Code(0));
        assert!(output.starts_with("cargo "));
        let ended = Call::cargo(&root(), &["no-such-command"]).run().expect("cargo starts");
        assert_eq!(ended, Ended::Code(101));
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let limit = Duration::from_millis(20);
        let sleep = Call::new(OsStr::new("sleep"), &root(), "sleep", &["60"]).at_most(limit);
        assert_eq!(sleep.run().expect("sleep starts"), Ended::TooSlow(limit));
    }
}
