//! What a command prints.
//!
//! Promises: a reader who has seen enough, as `head` has, is no failure; a full disk is one of the
//! environment. Neither is a panic.

use crate::fault::Fault;
use std::io::{self, ErrorKind, Write as _};

/// Prints `text`, which is `what`, on standard output.
///
/// # Errors
///
/// If it takes nothing.
pub(crate) fn print(what: &str, text: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Fault::environment(format!(
            "cannot write {what} to standard output: {error}; send it elsewhere"
        ))),
        _ => Ok(()),
    }
}

/// Says something on the way; if nobody listens, the work goes on.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _nobody_listens = writeln!(io::stderr().lock(), "{line}");
}
