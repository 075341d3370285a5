//! The schema: which signal types exist, how each decays, which windows it counts.
//!
//! Promises: a [`Schema`] has passed every rule of [`SchemaError`]; signal types stand in the order
//! of their names, so that the same types give the same ids and the same fingerprint however they
//! were written down; half-lives stand in the order given (the first is primary), windows in order
//! of length.

mod builder;
mod dedup;
mod error;
pub mod evolution;
mod fingerprint;
pub mod numbers;
mod span;
mod toml_form;

pub use builder::{SchemaBuilder, SignalBuilder};
pub use dedup::Dedup;
pub use error::SchemaError;
pub use fingerprint::Fingerprint;

use crate::SignalId;
use crate::signal::half_life::HalfLife;
use crate::signal::window::Window;
use std::fmt;

/// A checked set of signal types. Cheap to share: put it in an `Arc` once.
///
/// ```
/// use ebbtide_shard::Schema;
/// use std::time::Duration;
/// let hours = |h: u64| Duration::from_secs(h * 3600);
/// let schema = Schema::builder()
///     .signal("view", |s| {
///         let windows = [hours(1), hours(24), hours(168)];
///         s.half_lives([hours(1), hours(24)]).windows(windows).velocity()
///     })
///     .build()?;
/// let view = schema.signal("view").unwrap();
/// assert_eq!(schema.def(view).half_lives().len(), 2);
/// assert_eq!(schema.def(view).window_labels().collect::<Vec<_>>(), ["1h", "24h", "7d"]);
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    signals: Vec<SignalTypeDef>,
}

impl Schema {
    /// Starts a schema in code.
    pub fn builder() -> SchemaBuilder {
        SchemaBuilder::default()
    }

    /// Reads a schema from TOML text.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Toml`] for text that is not TOML of the documented form, otherwise the rule
    /// that was broken and by which signal type.
    ///
    /// ```
    /// let schema = ebbtide_shard::Schema::from_toml(r#"
    ///     [signals.view]
    ///     half_lives = ["1h", "24h", "7d"]   # the first is primary
    ///     windows = ["1h", "24h", "7d"]
    ///     velocity = true
    ///     dedup = "none"
    /// "#)?;
    /// assert!(schema.signal("view").is_some());
    /// # Ok::<(), ebbtide_shard::SchemaError>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, SchemaError> {
        toml_form::parse(text)
    }

    /// Writes the schema as TOML text, from which [`Schema::from_toml`] reads an equal one, labels
    /// included.
    ///
    /// # Panics
    ///
    /// Never: a checked schema can be written down.
    ///
    /// ```
    /// use ebbtide_shard::Schema;
    /// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"60m\"]")?;
    /// assert_eq!(Schema::from_toml(&schema.to_toml())?, schema);
    /// # Ok::<(), ebbtide_shard::SchemaError>(())
    /// ```
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml_form::write(self)
    }

    /// The signal type of that name, if the schema has it.
    #[must_use]
    pub fn signal(&self, name: &str) -> Option<SignalId> {
        let index = self.signals.binary_search_by(|def| def.name.as_str().cmp(name)).ok()?;
        u8::try_from(index).ok().map(SignalId)
    }

    /// The definition of a signal type.
    ///
    /// # Panics
    ///
    /// If `id` did not come from this schema.
    #[must_use]
    #[inline]
    pub fn def(&self, id: SignalId) -> &SignalTypeDef {
        &self.signals[id.index()]
    }

    /// Whether `id` names a signal type of this schema.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: SignalId) -> bool {
        id.index() < self.signals.len()
    }

    /// All signal types with their ids, in the order of their names.
    #[must_use]
    pub fn signals(&self) -> impl ExactSizeIterator<Item = (SignalId, &SignalTypeDef)> {
        self.signals
            .iter()
            .enumerate()
            .map(|(index, def)| (SignalId(u8::try_from(index).unwrap_or(u8::MAX)), def))
    }

    /// Whether any signal type leaves out what was here before.
    #[must_use]
    pub fn has_dedup(&self) -> bool {
        self.signals.iter().any(|def| def.dedup() != Dedup::None)
    }

    /// 32 bytes that differ whenever two schemas would give different answers or ids.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(self)
    }
}

/// One signal type: a name, up to three decay rates, windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalTypeDef {
    name: String,
    half_lives: Vec<HalfLife>,
    half_life_labels: Vec<String>,
    windows: Vec<Window>,
    window_labels: Vec<String>,
    velocity: bool,
    dedup: Dedup,
}

impl SignalTypeDef {
    /// The name, as events and configuration spell it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The half-lives, primary first, with their decay rates computed.
    #[must_use]
    #[inline]
    pub fn half_lives(&self) -> &[HalfLife] {
        &self.half_lives
    }

    /// The half-lives as they were spelled.
    pub fn half_life_labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.half_life_labels.iter().map(String::as_str)
    }

    /// The windows, shortest first.
    #[must_use]
    #[inline]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The windows as they were spelled, shortest first.
    pub fn window_labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.window_labels.iter().map(String::as_str)
    }

    /// Whether readings of this type carry velocities.
    #[must_use]
    pub fn velocity(&self) -> bool {
        self.velocity
    }

    /// Which events of this type are repeats, and so not counted.
    #[must_use]
    #[inline]
    pub fn dedup(&self) -> Dedup {
        self.dedup
    }
}

impl fmt::Display for SignalTypeDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: half-lives {}", self.name, self.half_life_labels.join(", "))?;
        write!(f, "; windows {}", self.window_labels.join(", "))?;
        if self.velocity {
            write!(f, "; velocity")?;
        }
        match self.dedup {
            Dedup::None => Ok(()),
            dedup => write!(f, "; dedup {dedup}"),
        }
    }
}
