//! What a read answers: one pair's reading, a plan of features, one place in a ranking.

#![expect(
    clippy::inline_always,
    reason = "kernels are compiled once for each kind of processor, and readings are long to copy"
)]

use crate::limits::{HALF_LIVES_MAX, WINDOWS_MAX};
use crate::signal::window::Window;
use crate::{EntityId, Schema, SignalId, SignalTypeDef, Timestamp};
use std::sync::Arc;

/// Everything known of one (entity, signal) pair as of one instant.
///
/// A read as of a time before the pair's last event answers as of that event instead:
/// [`SignalReading::as_of`] says which instant it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignalReading {
    /// The instant this reading holds for: the one asked for, or the last update if that is later.
    pub as_of: Timestamp,
    /// The latest event time seen.
    pub last_update: Timestamp,
    /// Events ever counted, saturating at `u64::MAX`.
    pub all_time: u64,
    /// Whether a counter reached its end and counts no further.
    pub saturated: bool,
    scores: [f64; HALF_LIVES_MAX],
    counts: [u64; WINDOWS_MAX],
    velocities: [f64; WINDOWS_MAX],
    shape: Shape,
}

/// How many of each a signal type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    scores: u8,
    counts: u8,
    velocities: u8,
}

/// Words that a reading travels in, at most.
pub(crate) const READING_WORDS_MAX: usize = 3 + HALF_LIVES_MAX + 2 * WINDOWS_MAX;

impl SignalReading {
    /// A reading of `def` with every number still zero.
    #[inline(always)]
    pub(crate) fn zeroed(def: &SignalTypeDef, as_of: Timestamp, last_update: Timestamp) -> Self {
        let number = |n: usize| u8::try_from(n).expect("a signal type has few of each");
        let counts = number(def.windows().len());
        let velocities = if def.velocity() { counts } else { 0 };
        let shape = Shape { scores: number(def.half_lives().len()), counts, velocities };
        Self {
            as_of,
            last_update,
            all_time: 0,
            saturated: false,
            scores: [0.0; HALF_LIVES_MAX],
            counts: [0; WINDOWS_MAX],
            velocities: [0.0; WINDOWS_MAX],
            shape,
        }
    }

    #[inline(always)]
    pub(crate) fn set_score(&mut self, k: usize, score: f64) {
        self.scores[k] = score;
    }

    #[inline(always)]
    pub(crate) fn set_count(&mut self, w: usize, count: u64, window: &Window) {
        self.counts[w] = count;
        if self.shape.velocities > 0 {
            self.velocities[w] = window.velocity(count);
        }
    }

    /// The decayed scores, in the unit of the weights and in the order of the schema's half-lives:
    /// the first is primary.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores[..usize::from(self.shape.scores)]
    }

    /// The windowed counts, in the order of the schema's windows: shortest first, as
    /// [`SignalTypeDef::window_labels`] spells them.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts[..usize::from(self.shape.counts)]
    }

    /// Events per second over each window; empty unless the signal type asks for velocity.
    #[must_use]
    pub fn velocities(&self) -> &[f64] {
        &self.velocities[..usize::from(self.shape.velocities)]
    }

    /// It in as few words as its signal type needs. The first is not zero.
    #[inline]
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        let Shape { scores, counts, velocities } = self.shape;
        let head =
            u64::from_le_bytes([scores, counts, velocities, self.saturated.into(), 0, 0, 0, 1]);
        let counts = self.counts().iter().copied();
        [head, self.last_update.0, self.all_time]
            .into_iter()
            .chain(self.scores().iter().map(|score| score.to_bits()))
            .chain(counts)
            .chain(self.velocities().iter().map(|velocity| velocity.to_bits()))
    }

    /// A reading as of `now` from its words; none if the first is zero.
    #[inline(always)]
    pub(crate) fn from_words(mut words: impl Iterator<Item = u64>, now: Timestamp) -> Option<Self> {
        let mut next = || words.next().unwrap_or(0);
        let [scores, counts, velocities, saturated, ..] = match next() {
            0 => return None,
            head => head.to_le_bytes(),
        };
        let last_update = Timestamp(next());
        let mut reading = Self {
            as_of: now.max(last_update),
            last_update,
            all_time: next(),
            saturated: saturated != 0,
            scores: [0.0; HALF_LIVES_MAX],
            counts: [0; WINDOWS_MAX],
            velocities: [0.0; WINDOWS_MAX],
            shape: Shape { scores, counts, velocities },
        };
        for score in reading.scores.iter_mut().take(scores.into()) {
            *score = f64::from_bits(next());
        }
        for count in reading.counts.iter_mut().take(counts.into()) {
            *count = next();
        }
        for velocity in reading.velocities.iter_mut().take(velocities.into()) {
            *velocity = f64::from_bits(next());
        }
        Some(reading)
    }
}

/// One number that can be read of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The decayed score of a half-life, by its place in the schema.
    Score {
        /// Of which signal type.
        signal: SignalId,
        /// Which half-life.
        half_life: usize,
    },
    /// The events in a window, by its place in the schema.
    Count {
        /// Of which signal type.
        signal: SignalId,
        /// Which window.
        window: usize,
    },
    /// The events per second over a window, by its place in the schema.
    Velocity {
        /// Of which signal type.
        signal: SignalId,
        /// Which window.
        window: usize,
    },
    /// All events ever.
    AllTime {
        /// Of which signal type.
        signal: SignalId,
    },
}

impl Feature {
    /// Of which signal type the feature is.
    #[must_use]
    pub const fn signal(self) -> SignalId {
        match self {
            Self::Score { signal, .. }
            | Self::Count { signal, .. }
            | Self::Velocity { signal, .. }
            | Self::AllTime { signal } => signal,
        }
    }
}

/// Which numbers to read of each entity: the columns of a feature matrix. Cheap to clone.
///
/// ```
/// use ebbtide_shard::{Plan, PlanError, Schema};
/// let schema = Schema::from_toml(
///     "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]\nvelocity = true",
/// )?;
/// let plan =
///     Plan::over(&schema).score("view", "1h")?.count("view", "24h")?.all_time("view")?.build();
/// assert_eq!(plan.columns().len(), 3);
/// let unknown = Plan::over(&schema).score("view", "2h");
/// assert!(matches!(unknown, Err(PlanError::UnknownHalfLife { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    columns: Arc<[Feature]>,
}

impl Plan {
    /// Starts a plan over what `schema` has.
    pub fn over(schema: &Schema) -> PlanBuilder<'_> {
        PlanBuilder { schema, columns: Vec::new() }
    }

    /// The columns, in the order they were added.
    #[must_use]
    pub fn columns(&self) -> &Arc<[Feature]> {
        &self.columns
    }
}

/// A plan being put together, column by column.
#[derive(Clone, Debug)]
#[must_use]
pub struct PlanBuilder<'s> {
    schema: &'s Schema,
    columns: Vec<Feature>,
}

/// Why a plan names something the schema does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No such signal type.
    #[error("the schema has no signal type '{signal}'")]
    UnknownSignal {
        /// What was asked for.
        signal: String,
    },
    /// No such half-life, as the schema spells them.
    #[error("signal type '{signal}' has no half-life '{half_life}'; it has {known}")]
    UnknownHalfLife {
        /// The signal type.
        signal: String,
        /// What was asked for.
        half_life: String,
        /// What there is.
        known: String,
    },
    /// No such window, as the schema spells them.
    #[error("signal type '{signal}' has no window '{window}'; it has {known}")]
    UnknownWindow {
        /// The signal type.
        signal: String,
        /// What was asked for.
        window: String,
        /// What there is.
        known: String,
    },
    /// The signal type keeps no velocities.
    #[error("signal type '{signal}' has no velocity; set velocity in the schema")]
    NoVelocity {
        /// The signal type.
        signal: String,
    },
}

impl<'s> PlanBuilder<'s> {
    /// The finished plan.
    #[must_use]
    pub fn build(self) -> Plan {
        Plan { columns: self.columns.into() }
    }

    /// Adds the score of a half-life, spelled as in the schema.
    ///
    /// # Errors
    ///
    /// If the schema has no such signal type or half-life.
    pub fn score(self, signal: &str, half_life: &str) -> Result<Self, PlanError> {
        let (id, def) = self.signal(signal)?;
        match def.half_life_labels().position(|label| label == half_life) {
            Some(k) => Ok(self.with(Feature::Score { signal: id, half_life: k })),
            None => Err(PlanError::UnknownHalfLife {
                signal: signal.to_owned(),
                half_life: half_life.to_owned(),
                known: def.half_life_labels().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// Adds the count of a window, spelled as in the schema.
    ///
    /// # Errors
    ///
    /// If the schema has no such signal type or window.
    pub fn count(self, signal: &str, window: &str) -> Result<Self, PlanError> {
        let (id, _, w) = self.window(signal, window)?;
        Ok(self.with(Feature::Count { signal: id, window: w }))
    }

    /// Adds the velocity over a window, spelled as in the schema.
    ///
    /// # Errors
    ///
    /// If the schema has no such signal type or window, or the type keeps no velocities.
    pub fn velocity(self, signal: &str, window: &str) -> Result<Self, PlanError> {
        let (id, def, w) = self.window(signal, window)?;
        if !def.velocity() {
            return Err(PlanError::NoVelocity { signal: signal.to_owned() });
        }
        Ok(self.with(Feature::Velocity { signal: id, window: w }))
    }

    /// Adds the count of all events ever.
    ///
    /// # Errors
    ///
    /// If the schema has no such signal type.
    pub fn all_time(self, signal: &str) -> Result<Self, PlanError> {
        let (id, _) = self.signal(signal)?;
        Ok(self.with(Feature::AllTime { signal: id }))
    }

    fn with(mut self, column: Feature) -> Self {
        self.columns.push(column);
        self
    }

    fn signal(&self, name: &str) -> Result<(SignalId, &'s SignalTypeDef), PlanError> {
        let id = self
            .schema
            .signal(name)
            .ok_or_else(|| PlanError::UnknownSignal { signal: name.to_owned() })?;
        Ok((id, self.schema.def(id)))
    }

    fn window(
        &self,
        signal: &str,
        window: &str,
    ) -> Result<(SignalId, &'s SignalTypeDef, usize), PlanError> {
        let (id, def) = self.signal(signal)?;
        match def.window_labels().position(|label| label == window) {
            Some(w) => Ok((id, def, w)),
            None => Err(PlanError::UnknownWindow {
                signal: signal.to_owned(),
                window: window.to_owned(),
                known: def.window_labels().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// One candidate and its value under a plan and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Who.
    pub entity: EntityId,
    /// The weighted sum of the plan's numbers.
    pub value: f64,
}

impl Ranked {
    /// To fill a buffer with before it is given away to be filled.
    pub const NOBODY: Self = Self { entity: EntityId(0), value: 0.0 };

    /// Sorts entries best first, ties by the smaller id, and keeps the first `k`.
    pub fn keep_best(ranked: &mut Vec<Self>, k: usize) {
        let order = |a: &Self, b: &Self| b.value.total_cmp(&a.value).then(a.entity.cmp(&b.entity));
        if k < ranked.len() {
            ranked.select_nth_unstable_by(k, order);
            ranked.truncate(k);
        }
        ranked.sort_unstable_by(order);
    }
}

/// One place in a ranking of entities by the score of one signal type and half-life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopEntry {
    /// Who.
    pub entity: EntityId,
    /// The score as of the instant asked for, or as of the entity's last update if that is later.
    pub score: f64,
    /// Orders entities exactly, also where two scores round to one number. Greater is better.
    pub(crate) rank: u128,
}

impl TopEntry {
    /// Sorts entries best first, ties by the smaller id, and keeps the first `k`.
    pub fn keep_best(entries: &mut Vec<Self>, k: usize) {
        let order = |a: &Self, b: &Self| b.rank.cmp(&a.rank).then(a.entity.cmp(&b.entity));
        if k < entries.len() {
            entries.select_nth_unstable_by(k, order);
            entries.truncate(k);
        }
        entries.sort_unstable_by(order);
    }
}
