//! How a command fails: the exit code of the command-line contract and the line that explains it.
//!
//! Promises: every failure is one of three kinds; its text says what, where and what to do.
//! Not here: printing it (`main`), which also keeps it to one line.

use ebbtide::StoreError;
use ebbtide::offline::TargetError;
use std::fmt;
use std::process::ExitCode;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A difference or damage was found: exit code 1.
    Damage,
    /// Bad input or usage: exit code 2.
    Input,
    /// The environment failed, or is not fit: exit code 3.
    Environment,
}

/// A command's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault it is.
    pub kind: Kind,
    /// What, where and what to do.
    pub message: String,
}

impl Fault {
    /// A difference from what is right.
    pub fn damage(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Damage, message: message.to_string() }
    }

    /// A failure that the input or its user can mend.
    pub fn input(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Input, message: message.to_string() }
    }

    /// A failure of the system it runs on.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Environment, message: message.to_string() }
    }

    /// The exit code of the contract.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Damage => 1,
            Kind::Input => 2,
            Kind::Environment => 3,
        })
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match &error {
            wrong if wrong.is_finding() => Self::damage(error),
            StoreError::NoStore { .. } | StoreError::NotAStore { .. } => {
                Self::input(format!("{error}; check the path"))
            }
            _ => Self::environment(error),
        }
    }
}

impl From<TargetError> for Fault {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Store(error) => error.into(),
            _ => Self::input(error),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
