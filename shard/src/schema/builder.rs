//! Builds schemas in code and checks every rule; the TOML form goes through here too.

use super::span::Span;
use super::{Dedup, Schema, SchemaError, SignalTypeDef};
use crate::limits::{HALF_LIVES_MAX, SIGNAL_NAME_BYTES_MAX, SIGNALS_MAX, WINDOWS_MAX};
use crate::signal::half_life::HalfLife;
use crate::signal::window::Window;
use std::time::Duration;

/// Collects signal types; [`SchemaBuilder::build`] checks them.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SchemaBuilder {
    signals: Vec<SignalBuilder>,
}

impl SchemaBuilder {
    /// Adds a signal type.
    pub fn signal(
        mut self,
        name: &str,
        define: impl FnOnce(SignalBuilder) -> SignalBuilder,
    ) -> Self {
        self.signals.push(define(SignalBuilder::new(name)));
        self
    }

    /// Checks every rule.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the signal type that breaks it.
    ///
    /// ```
    /// use ebbtide_shard::{Schema, SchemaError};
    /// let refused = Schema::builder().signal("view", |s| s).build();
    /// assert!(matches!(refused, Err(SchemaError::HalfLifeCount { count: 0, .. })));
    /// ```
    pub fn build(self) -> Result<Schema, SchemaError> {
        let count = self.signals.len();
        if count == 0 {
            return Err(SchemaError::Empty);
        }
        if count > SIGNALS_MAX {
            return Err(SchemaError::TooManySignals { count });
        }
        let mut signals = Vec::with_capacity(count);
        for builder in self.signals {
            signals.push(builder.build()?);
        }
        signals.sort_by(|a, b| a.name.cmp(&b.name));
        match signals.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(SchemaError::DuplicateSignal { signal: pair[0].name.clone() }),
            None => Ok(Schema { signals }),
        }
    }
}

/// One signal type being defined.
#[derive(Clone, Debug)]
#[must_use]
pub struct SignalBuilder {
    name: String,
    half_lives: Vec<Span>,
    windows: Vec<Span>,
    velocity: bool,
    /// The text where it is none.
    dedup: Result<Dedup, String>,
}

impl SignalBuilder {
    pub(super) fn new(name: &str) -> Self {
        let (half_lives, windows) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), half_lives, windows, velocity: false, dedup: Ok(Dedup::None) }
    }

    /// Sets the half-lives, one to three; the first is primary.
    pub fn half_lives(mut self, lengths: impl IntoIterator<Item = Duration>) -> Self {
        self.half_lives = lengths.into_iter().map(Span::of).collect();
        self
    }

    /// Sets the windows to count over; order and repetition do not matter.
    pub fn windows(mut self, lengths: impl IntoIterator<Item = Duration>) -> Self {
        self.windows = lengths.into_iter().map(Span::of).collect();
        self
    }

    /// Adds velocities: events per second over every window.
    pub fn velocity(mut self) -> Self {
        self.velocity = true;
        self
    }

    /// Says which events are repeats of earlier ones, and so not counted.
    pub fn dedup(mut self, dedup: Dedup) -> Self {
        self.dedup = Ok(dedup);
        self
    }

    /// Takes half-lives, windows and deduplication as text.
    pub(super) fn spelled(
        mut self,
        half_lives: &[String],
        windows: &[String],
        dedup: &str,
    ) -> Self {
        self.half_lives = half_lives.iter().map(|text| Span::parse(text)).collect();
        self.windows = windows.iter().map(|text| Span::parse(text)).collect();
        self.dedup = Dedup::of_name(dedup).ok_or_else(|| dedup.to_owned());
        self
    }

    fn build(self) -> Result<SignalTypeDef, SchemaError> {
        let signal = self.name;
        if !is_name(&signal) {
            return Err(SchemaError::BadName { signal });
        }
        let dedup = match self.dedup {
            Ok(dedup) => dedup,
            Err(dedup) => return Err(SchemaError::UnknownDedup { signal, dedup }),
        };
        let (half_lives, half_life_labels) = checked_half_lives(&signal, self.half_lives)?;
        let (windows, window_labels) = checked_windows(&signal, self.windows)?;
        if self.velocity && windows.is_empty() {
            return Err(SchemaError::VelocityWithoutWindow { signal });
        }
        Ok(SignalTypeDef {
            name: signal,
            half_lives,
            half_life_labels,
            windows,
            window_labels,
            velocity: self.velocity,
            dedup,
        })
    }
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    starts && goes_on && name.len() <= SIGNAL_NAME_BYTES_MAX
}

fn checked_half_lives(
    signal: &str,
    spans: Vec<Span>,
) -> Result<(Vec<HalfLife>, Vec<String>), SchemaError> {
    let count = spans.len();
    if !(1..=HALF_LIVES_MAX).contains(&count) {
        return Err(SchemaError::HalfLifeCount { signal: signal.to_owned(), count });
    }
    let (mut half_lives, mut labels) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for Span { label, length } in spans {
        let (signal, half_life) = (signal.to_owned(), label.clone());
        match length.and_then(HalfLife::new) {
            None => return Err(SchemaError::BadHalfLife { signal, half_life }),
            Some(known) if half_lives.contains(&known) => {
                return Err(SchemaError::DuplicateHalfLife { signal, half_life });
            }
            Some(new) => half_lives.push(new),
        }
        labels.push(label);
    }
    Ok((half_lives, labels))
}

fn checked_windows(
    signal: &str,
    spans: Vec<Span>,
) -> Result<(Vec<Window>, Vec<String>), SchemaError> {
    let mut windows = Vec::with_capacity(spans.len());
    for Span { label, length } in spans {
        match length.and_then(Window::new) {
            Some(window) => windows.push((window, label)),
            None => {
                return Err(SchemaError::BadWindow { signal: signal.to_owned(), window: label });
            }
        }
    }
    // Stable: of two spellings of one window the first is kept.
    windows.sort_by_key(|(window, _)| window.as_nanos());
    windows.dedup_by_key(|(window, _)| window.as_nanos());
    let count = windows.len();
    if count > WINDOWS_MAX {
        return Err(SchemaError::TooManyWindows { signal: signal.to_owned(), count });
    }
    Ok(windows.into_iter().unzip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }

    fn one(define: impl FnOnce(SignalBuilder) -> SignalBuilder) -> Result<Schema, SchemaError> {
        Schema::builder().signal("view", define).build()
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        use SchemaError as E;
        let good = |s: SignalBuilder| s.half_lives([hours(1)]);
        assert_eq!(Schema::builder().build(), Err(E::Empty));
        let many = (0..65).fold(Schema::builder(), |b, i| b.signal(&format!("s{i}"), good));
        assert_eq!(many.build(), Err(E::TooManySignals { count: 65 }));
        let twice = Schema::builder().signal("a", good).signal("b", good).signal("a", good);
        assert_eq!(twice.build(), Err(E::DuplicateSignal { signal: "a".into() }));
        for name in ["", "1st", "two words", "naïve", "tab\t", &"x".repeat(65)] {
            let built = Schema::builder().signal(name, good).build();
            assert_eq!(built, Err(E::BadName { signal: name.into() }));
        }
        assert!(matches!(one(|s| s), Err(E::HalfLifeCount { count: 0, .. })));
        let four = one(|s| s.half_lives((1..=4).map(hours)));
        assert!(matches!(four, Err(E::HalfLifeCount { count: 4, .. })));
        assert!(matches!(one(|s| s.half_lives([Duration::ZERO])), Err(E::BadHalfLife { .. })));
        assert!(matches!(one(|s| s.half_lives([Duration::MAX])), Err(E::BadHalfLife { .. })));
        let same = one(|s| s.half_lives([hours(1), hours(2), hours(1)]));
        assert!(matches!(same, Err(E::DuplicateHalfLife { .. })));
        let odd = one(|s| good(s).windows([Duration::from_secs(61)]));
        assert!(matches!(odd, Err(E::BadWindow { .. })));
        let windows = (1..=17).map(|minutes| Duration::from_secs(minutes * 60));
        let many = one(|s| good(s).windows(windows));
        assert!(matches!(many, Err(E::TooManyWindows { count: 17, .. })));
        let velocity = one(|s| good(s).velocity());
        assert!(matches!(velocity, Err(E::VelocityWithoutWindow { .. })));
    }

    #[test]
    fn windows_are_sorted_and_each_stands_once() {
        let schema =
            one(|s| s.half_lives([hours(1)]).windows([hours(24), hours(1), hours(24)])).unwrap();
        let def = schema.def(SignalId(0));
        assert_eq!(def.window_labels().collect::<Vec<_>>(), ["1h", "24h"]);
    }

    #[test]
    fn ids_follow_names_whatever_the_order_of_definition() {
        let good = |s: SignalBuilder| s.half_lives([hours(1)]);
        let one_way = Schema::builder().signal("b", good).signal("a", good).build().unwrap();
        let other = Schema::builder().signal("a", good).signal("b", good).build().unwrap();
        assert_eq!(one_way, other);
        assert_eq!(one_way.signal("b"), Some(SignalId(1)));
        assert_eq!(one_way.signal("c"), None);
    }

    use crate::SignalId;
}
