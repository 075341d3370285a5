//! What can be wrong with a schema: one variant per rule, each naming the signal type.

use crate::limits::{HALF_LIVES_MAX, SIGNAL_NAME_BYTES_MAX, SIGNALS_MAX, WINDOWS_MAX};

/// Why a schema was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// No signal type at all. Define at least one.
    #[error("the schema has no signal type; define at least one")]
    Empty,
    /// More than [`SIGNALS_MAX`] signal types.
    #[error("the schema has {count} signal types; at most {SIGNALS_MAX} fit")]
    TooManySignals {
        /// How many were defined.
        count: usize,
    },
    /// Two signal types of one name.
    #[error("signal type '{signal}' is defined twice; rename or remove one")]
    DuplicateSignal {
        /// The name.
        signal: String,
    },
    /// A name that is not an identifier.
    #[error(
        "'{signal}' is not a name for a signal type; use a letter or '_' first, then letters, \
         digits, '_', '-' or '.', at most {SIGNAL_NAME_BYTES_MAX} bytes"
    )]
    BadName {
        /// The name.
        signal: String,
    },
    /// A signal type without a half-life, or with more than [`HALF_LIVES_MAX`].
    #[error("signal type '{signal}' has {count} half-lives; give 1 to {HALF_LIVES_MAX}")]
    HalfLifeCount {
        /// The signal type.
        signal: String,
        /// How many were given.
        count: usize,
    },
    /// A half-life outside the limits, or not a duration.
    #[error("signal type '{signal}': half-life '{half_life}' is not between 1 ms and 100 years")]
    BadHalfLife {
        /// The signal type.
        signal: String,
        /// The half-life as given.
        half_life: String,
    },
    /// The same half-life twice.
    #[error("signal type '{signal}': half-life '{half_life}' is given twice")]
    DuplicateHalfLife {
        /// The signal type.
        signal: String,
        /// The half-life as given.
        half_life: String,
    },
    /// A window that is neither whole minutes up to 60 nor whole hours up to 168, or not a
    /// duration.
    #[error(
        "signal type '{signal}': window '{window}' is neither 1 to 60 whole minutes nor 1 to 168 \
         whole hours"
    )]
    BadWindow {
        /// The signal type.
        signal: String,
        /// The window as given.
        window: String,
    },
    /// More than [`WINDOWS_MAX`] different windows.
    #[error("signal type '{signal}' has {count} windows; at most {WINDOWS_MAX} fit")]
    TooManyWindows {
        /// The signal type.
        signal: String,
        /// How many were given.
        count: usize,
    },
    /// Velocity asked for, but no window to take it over.
    #[error("signal type '{signal}' asks for velocity but has no window; add one")]
    VelocityWithoutWindow {
        /// The signal type.
        signal: String,
    },
    /// A deduplication that is none of [`Dedup`](super::Dedup).
    #[error("signal type '{signal}': dedup = \"{dedup}\" is unknown; use none, id or content")]
    UnknownDedup {
        /// The signal type.
        signal: String,
        /// What was asked for.
        dedup: String,
    },
    /// Text that is not TOML, or not of the documented form.
    #[error("schema TOML: {message}")]
    Toml {
        /// What the parser found, with line and column.
        message: String,
    },
}
