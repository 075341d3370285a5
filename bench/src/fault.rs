//! How a command fails: the exit code of the command-line contract and the line that explains it.
//!
//! Promises: every failure is one of three kinds; its text says what, where and what to do, on one
//! line.

use std::fmt;
use std::process::ExitCode;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A difference or damage was found: exit code 1.
    Difference,
    /// Bad input or usage: exit code 2.
    Input,
    /// The environment failed: exit code 3.
    Environment,
    /// This signal asked it to end: it ends by it.
    Interrupted(i32),
}

/// A command's failure.
#[derive(Debug)]
pub struct Fault {
    /// Whose fault it is.
    pub kind: Kind,
    /// What, where and what to do.
    pub message: String,
}

impl Fault {
    /// A failure that the input or its user can mend.
    pub fn input(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Input, message: message.to_string() }
    }

    /// A failure of the system it runs on.
    pub fn environment(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Environment, message: message.to_string() }
    }

    /// A difference between what was found and what is right.
    pub fn difference(message: impl fmt::Display) -> Self {
        Self { kind: Kind::Difference, message: message.to_string() }
    }

    /// A run that a signal ended before its time.
    pub fn interrupted(signal: i32, message: impl fmt::Display) -> Self {
        Self { kind: Kind::Interrupted(signal), message: message.to_string() }
    }

    /// The exit code of the contract; for a signal, what shells make of it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Difference => 1,
            Kind::Input => 2,
            Kind::Environment => 3,
            Kind::Interrupted(signal) => u8::try_from(signal).map_or(3, |signal| 128 + signal),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::trace::TraceError> for Fault {
    fn from(error: crate::trace::TraceError) -> Self {
        if error.is_bad_input() { Self::input(error) } else { Self::environment(error) }
    }
}

impl From<crate::rivals::RedisError> for Fault {
    fn from(error: crate::rivals::RedisError) -> Self {
        Self::environment(format!("{error}; or leave the rows beside Redis out with --only"))
    }
}

impl From<ebbtide::OpenError> for Fault {
    fn from(error: ebbtide::OpenError) -> Self {
        use ebbtide::OpenError as E;
        match error {
            E::Shards { .. } | E::Core { .. } | E::Log(_) => Self::input(error),
            E::Store(error) => error.into(),
            _ => Self::environment(error),
        }
    }
}

impl From<ebbtide::StoreError> for Fault {
    fn from(error: ebbtide::StoreError) -> Self {
        use ebbtide::StoreError as E;
        match error {
            damage if damage.is_damage() => Self::difference(damage),
            E::NotAStore { .. }
            | E::NoStore { .. }
            | E::UnsupportedFormat { .. }
            | E::Schema { .. }
            | E::Numbers { .. }
            | E::CannotRebuild { .. } => Self::input(error),
            _ => Self::environment(error),
        }
    }
}

/// A shard that goes down during a run is an environment that failed.
impl From<ebbtide::ShardDown> for Fault {
    fn from(error: ebbtide::ShardDown) -> Self {
        Self::environment(error)
    }
}
