//! Evolution: what it takes to open, with one schema, a store that was written with another.
//!
//! Promises: whatever changes the meaning of stored state without a word is refused with what to do
//! about it. Free changes are listed for the report: buckets hold every minute and hour, so any
//! window can be read off them; velocity, labels and the order of half-lives are ways of reading.
//! Nothing here touches state: an [`Evolution`] says where each sum goes.

use super::{Dedup, Schema, SignalTypeDef};
use crate::SignalId;
use crate::limits::HALF_LIVES_MAX;
use std::fmt;

/// What to do about half-lives that were added or taken away: their sums cannot be computed from
/// stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retune {
    /// Scores of new half-lives start at zero; those that stay keep their sums.
    Restart,
    /// Everything is computed anew from the log, which must reach back to the first record.
    Rebuild,
}

/// Why a store cannot be opened with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvolutionError {
    /// The store has a signal type that the schema lacks. Keep it there.
    #[error(
        "the store has signal type '{signal}' and the schema has not; keep it in the schema, its \
         state does no harm"
    )]
    MissingSignal {
        /// The signal type.
        signal: String,
    },
    /// Half-lives were added or taken away. Ask for the stored ones, or choose a [`Retune`].
    #[error(
        "signal type '{signal}' has half-lives {stored} in the store and {asked} in the schema; \
         ask for the stored ones, or choose to restart new ones at zero or to rebuild from the log"
    )]
    Retune {
        /// The signal type.
        signal: String,
        /// Its half-lives in the store, as they were spelled.
        stored: String,
        /// Those asked for.
        asked: String,
    },
}

/// The way from a stored schema to the one asked for.
///
/// ```
/// use ebbtide_shard::schema::evolution::{Evolution, EvolutionError, Retune};
/// use ebbtide_shard::{Schema, SignalId};
/// let stored = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\", \"1d\"]")?;
/// let asked = Schema::from_toml("[signals.view]\nhalf_lives = [\"1d\", \"1w\"]")?;
/// let refused = Evolution::between(&stored, &asked, None);
/// assert!(matches!(refused, Err(EvolutionError::Retune { .. })));
/// let evolution = Evolution::between(&stored, &asked, Some(Retune::Restart)).unwrap();
/// // The first score is the second of the stored ones; the second starts at zero.
/// assert_eq!(evolution.sources(SignalId(0)), [Some(1), None, None]);
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evolution {
    sources: Vec<[Option<u8>; HALF_LIVES_MAX]>,
    changes: Vec<Change>,
    rebuilds: bool,
}

/// One difference between the two schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The signal type it is about.
    pub signal: String,
    /// What is different.
    pub what: Difference,
}

/// What can be different; lengths are spelled as in their schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The whole signal type is new.
    Added,
    /// The window is new; it is read off the buckets there are.
    WindowAdded(String),
    /// The window is gone; what it was read off stays.
    WindowRemoved(String),
    /// Readings carry velocities, or no longer do.
    Velocity(bool),
    /// Other events are repeats from now on; what was counted stays.
    Dedup(Dedup),
    /// The same half-lives stand in this other order.
    HalfLivesReordered(String),
    /// Half-lives were added or taken away, and this was chosen about it.
    HalfLivesChanged(String, Retune),
    /// Only the spelling of lengths is different.
    Labels,
}

impl Evolution {
    /// What it takes to read with `asked` what was written with `stored`; `retune` is what the
    /// caller has decided about half-lives, should some have changed.
    ///
    /// # Errors
    ///
    /// [`EvolutionError`], about the first signal type that stands in the way.
    pub fn between(
        stored: &Schema,
        asked: &Schema,
        retune: Option<Retune>,
    ) -> Result<Self, EvolutionError> {
        if let Some(def) = stored.signals.iter().find(|def| asked.signal(&def.name).is_none()) {
            return Err(EvolutionError::MissingSignal { signal: def.name.clone() });
        }
        let mut evolution = Self { sources: Vec::new(), changes: Vec::new(), rebuilds: false };
        for new in &asked.signals {
            match stored.signal(&new.name) {
                Some(old) => evolution.signal(stored.def(old), new, retune)?,
                None => evolution.added(new),
            }
        }
        Ok(evolution)
    }

    /// Whether state and readings are the same under both schemas.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether the state must be computed anew from the log ([`Retune::Rebuild`]).
    #[must_use]
    pub fn rebuilds(&self) -> bool {
        self.rebuilds
    }

    /// Every difference, by signal type.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// For each half-life of a signal type of the schema asked for: its place among the stored
    /// ones, or `None` if its score starts at zero.
    ///
    /// # Panics
    ///
    /// If `id` did not come from that schema.
    #[must_use]
    pub fn sources(&self, id: SignalId) -> [Option<u8>; HALF_LIVES_MAX] {
        self.sources[id.index()]
    }

    fn added(&mut self, new: &SignalTypeDef) {
        self.sources.push([None; HALF_LIVES_MAX]);
        self.note(new, Difference::Added);
    }

    fn signal(
        &mut self,
        old: &SignalTypeDef,
        new: &SignalTypeDef,
        retune: Option<Retune>,
    ) -> Result<(), EvolutionError> {
        let before = self.changes.len();
        self.half_lives(old, new, retune)?;
        self.windows(old, new);
        if old.velocity != new.velocity {
            self.note(new, Difference::Velocity(new.velocity));
        }
        if old.dedup != new.dedup {
            self.note(new, Difference::Dedup(new.dedup));
        }
        if self.changes.len() == before && old != new {
            self.note(new, Difference::Labels);
        }
        Ok(())
    }

    fn half_lives(
        &mut self,
        old: &SignalTypeDef,
        new: &SignalTypeDef,
        retune: Option<Retune>,
    ) -> Result<(), EvolutionError> {
        let mut sources = [None; HALF_LIVES_MAX];
        for (source, half_life) in sources.iter_mut().zip(&new.half_lives) {
            *source = (0..).zip(&old.half_lives).find(|(_, old)| *old == half_life).map(|(k, _)| k);
        }
        self.sources.push(sources);
        let kept = sources.iter().flatten().count();
        if kept < old.half_lives.len().max(new.half_lives.len()) {
            let [stored, asked] = [old, new].map(|def| def.half_life_labels.join(", "));
            let Some(retune) = retune else {
                return Err(EvolutionError::Retune { signal: new.name.clone(), stored, asked });
            };
            self.rebuilds |= retune == Retune::Rebuild;
            self.note(new, Difference::HalfLivesChanged(asked, retune));
        } else if !sources.iter().flatten().is_sorted() {
            self.note(new, Difference::HalfLivesReordered(new.half_life_labels.join(", ")));
        }
        Ok(())
    }

    fn windows(&mut self, old: &SignalTypeDef, new: &SignalTypeDef) {
        let only_in = |one: &SignalTypeDef, other: &SignalTypeDef| {
            let windows = one.windows.iter().zip(&one.window_labels);
            let missing = windows.filter(|(window, _)| !other.windows.contains(window));
            missing.map(|(_, label)| label.clone()).collect::<Vec<_>>()
        };
        for window in only_in(new, old) {
            self.note(new, Difference::WindowAdded(window));
        }
        for window in only_in(old, new) {
            self.note(new, Difference::WindowRemoved(window));
        }
    }

    fn note(&mut self, def: &SignalTypeDef, what: Difference) {
        self.changes.push(Change { signal: def.name.clone(), what });
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal type '{}': ", self.signal)?;
        match &self.what {
            Difference::Added => f.write_str("added"),
            Difference::WindowAdded(window) => write!(f, "window {window} added"),
            Difference::WindowRemoved(window) => write!(f, "window {window} removed"),
            Difference::Velocity(true) => f.write_str("velocity added"),
            Difference::Velocity(false) => f.write_str("velocity removed"),
            Difference::Dedup(dedup) => write!(f, "dedup is {dedup} from now on"),
            Difference::HalfLivesReordered(order) => write!(f, "half-lives in the order {order}"),
            Difference::HalfLivesChanged(asked, Retune::Restart) => {
                write!(f, "half-lives {asked}; new ones start at zero")
            }
            Difference::HalfLivesChanged(asked, Retune::Rebuild) => {
                write!(f, "half-lives {asked}; rebuilt from the log")
            }
            Difference::Labels => f.write_str("lengths spelled otherwise"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = "half_lives = [\"1h\", \"24h\", \"7d\"]\nwindows = [\"1h\", \"24h\"]\n";

    fn schema(definition: &str) -> Schema {
        Schema::from_toml(&format!("[signals.view]\n{definition}")).unwrap()
    }

    fn evolve(asked: &str, retune: Option<Retune>) -> Result<Evolution, EvolutionError> {
        Evolution::between(&schema(STORED), &schema(asked), retune)
    }

    fn said(evolution: &Evolution) -> Vec<String> {
        evolution.changes().iter().map(Change::to_string).collect()
    }

    #[test]
    fn an_equal_schema_changes_nothing() {
        for retune in [None, Some(Retune::Restart), Some(Retune::Rebuild)] {
            let evolution = evolve(STORED, retune).unwrap();
            assert!(evolution.is_nothing() && !evolution.rebuilds());
            assert_eq!(evolution.sources(SignalId(0)), [Some(0), Some(1), Some(2)]);
        }
    }

    #[test]
    fn free_changes_are_listed_and_need_no_decision() {
        let half_lives = "half_lives = [\"1h\", \"24h\", \"7d\"]\n";
        for (asked, sources, told) in [
            ("windows = [\"1h\"]", [0, 1, 2], vec!["window 24h removed"]),
            (
                "windows = [\"1h\", \"2h\", \"48h\"]",
                [0, 1, 2],
                vec!["window 2h added", "window 48h added", "window 24h removed"],
            ),
            ("windows = [\"1h\", \"24h\"]\nvelocity = true", [0, 1, 2], vec!["velocity added"]),
            (
                "windows = [\"1h\", \"24h\"]\ndedup = \"id\"",
                [0, 1, 2],
                vec!["dedup is id from now on"],
            ),
            ("windows = [\"60m\", \"1d\"]", [0, 1, 2], vec!["lengths spelled otherwise"]),
        ] {
            let evolution = evolve(&format!("{half_lives}{asked}"), None).unwrap();
            let told: Vec<_> =
                told.iter().map(|what| format!("signal type 'view': {what}")).collect();
            assert_eq!(said(&evolution), told);
            assert_eq!(evolution.sources(SignalId(0)), sources.map(Some));
            assert!(!evolution.rebuilds());
        }
        let velocity = schema(&format!("{STORED}velocity = true"));
        let back = Evolution::between(&velocity, &schema(STORED), None).unwrap();
        assert_eq!(said(&back), ["signal type 'view': velocity removed"]);
    }

    #[test]
    fn half_lives_may_change_places() {
        let asked = "half_lives = [\"1w\", \"60m\", \"24h\"]\nwindows = [\"1h\", \"24h\"]\n";
        let evolution = evolve(asked, None).unwrap();
        assert_eq!(evolution.sources(SignalId(0)), [Some(2), Some(0), Some(1)]);
        assert_eq!(said(&evolution), ["signal type 'view': half-lives in the order 1w, 60m, 24h"]);
    }

    #[test]
    fn other_half_lives_need_a_decision() {
        for (half_lives, sources) in [
            ("\"1h\", \"24h\"", [Some(0), Some(1), None]),
            ("\"24h\", \"1h\"", [Some(1), Some(0), None]),
            ("\"7d\"", [Some(2), None, None]),
            ("\"2h\", \"24h\", \"7d\"", [None, Some(1), Some(2)]),
            ("\"7d\", \"2h\", \"1h\"", [Some(2), None, Some(0)]),
            ("\"3h\"", [None, None, None]),
        ] {
            let asked = format!("half_lives = [{half_lives}]\nwindows = [\"1h\", \"24h\"]\n");
            let refused = evolve(&asked, None).unwrap_err();
            let EvolutionError::Retune { signal, stored, asked: named } = &refused else {
                panic!("{refused}")
            };
            assert_eq!((signal.as_str(), stored.as_str()), ("view", "1h, 24h, 7d"));
            assert_eq!(*named, half_lives.replace('"', ""));

            let restart = evolve(&asked, Some(Retune::Restart)).unwrap();
            assert_eq!(restart.sources(SignalId(0)), sources, "{half_lives}");
            assert!(!restart.rebuilds() && !restart.is_nothing());
            let rebuild = evolve(&asked, Some(Retune::Rebuild)).unwrap();
            assert!(rebuild.rebuilds());
            let told = format!("signal type 'view': half-lives {named}; rebuilt from the log");
            assert_eq!(said(&rebuild), [told]);
        }
        let fewer = schema("half_lives = [\"1h\"]");
        let more = Evolution::between(&fewer, &schema("half_lives = [\"1h\", \"2h\"]"), None);
        assert!(matches!(more, Err(EvolutionError::Retune { .. })));
    }

    #[test]
    fn signal_types_may_come_but_not_go() {
        let hourly = |names: &[&str]| {
            let define = |name: &&str| format!("[signals.{name}]\nhalf_lives = [\"1h\"]\n");
            Schema::from_toml(&names.iter().map(define).collect::<String>()).unwrap()
        };
        let (stored, asked) = (hourly(&["b"]), hourly(&["a", "b", "c"]));
        let evolution = Evolution::between(&stored, &asked, None).unwrap();
        assert_eq!(said(&evolution), ["signal type 'a': added", "signal type 'c': added"]);
        assert_eq!(evolution.sources(SignalId(0)), [None; 3]);
        assert_eq!(evolution.sources(SignalId(1)), [Some(0), None, None]);

        for retune in [None, Some(Retune::Restart), Some(Retune::Rebuild)] {
            let refused = Evolution::between(&asked, &stored, retune).unwrap_err();
            assert_eq!(refused, EvolutionError::MissingSignal { signal: "a".into() });
            assert!(refused.to_string().contains("'a'") && refused.to_string().contains("keep it"));
        }
    }
}
