//! Stored numbers: how a store names signal types in its log and records.
//!
//! A [`SignalId`] follows from a schema and changes when another signal type is added before it. A
//! stored number is given once to a name and kept for the store's life.
//!
//! Promises: a name that has a number keeps it, a number is never given twice, and new names get
//! the next ones in the order of the schema. The list of names comes from a disk: a broken one is
//! an error.

use super::Schema;
use crate::SignalId;
use crate::limits::STORED_SIGNALS_MAX;

/// The stored numbers of a schema's signal types.
///
/// ```
/// use ebbtide_shard::{Schema, SignalId};
/// use ebbtide_shard::schema::numbers::SignalNumbers;
/// let two = "[signals.like]\nhalf_lives = [\"1h\"]\n[signals.view]\nhalf_lives = [\"1h\"]";
/// let schema = Schema::from_toml(two)?;
/// let (numbers, names) = SignalNumbers::assign(&["view".into()], &schema).unwrap();
/// assert_eq!(names, ["view", "like"]);
/// assert_eq!((numbers.number(SignalId(0)), numbers.number(SignalId(1))), (1, 0));
/// assert_eq!((numbers.signal(0), numbers.signal(2)), (Some(SignalId(1)), None));
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalNumbers {
    by_signal: Vec<u8>,
    by_number: Vec<Option<SignalId>>,
}

/// Why signal types cannot be given stored numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumbersError {
    /// All numbers are given. Leave the new signal type out, or use a new store.
    #[error(
        "no stored number is left for signal type '{signal}'; a store knows at most \
         {STORED_SIGNALS_MAX} in its life: leave it out, or start a new store"
    )]
    Exhausted {
        /// The first signal type without one.
        signal: String,
    },
    /// The stored list has a name twice, so it is not one we wrote.
    #[error("the store's list of signal types has '{signal}' twice; restore it from a copy")]
    Repeated {
        /// The name.
        signal: String,
    },
    /// The stored list is longer than the numbers there are, so it is not one we wrote.
    #[error(
        "the store's list of signal types has {count} names of at most {STORED_SIGNALS_MAX}; \
         restore it from a copy"
    )]
    TooLong {
        /// How many names it has.
        count: usize,
    },
}

impl SignalNumbers {
    /// Finds the number of each signal type of `schema` in the names the store has, by position,
    /// and gives the next numbers to those without. Also gives back the list of names to store: a
    /// continuation of the old one.
    ///
    /// # Errors
    ///
    /// [`NumbersError`] if there are not enough numbers, or `stored_names` cannot be a store's.
    pub fn assign(
        stored_names: &[String],
        schema: &Schema,
    ) -> Result<(Self, Vec<String>), NumbersError> {
        if stored_names.len() > STORED_SIGNALS_MAX {
            return Err(NumbersError::TooLong { count: stored_names.len() });
        }
        for (at, name) in stored_names.iter().enumerate() {
            if stored_names[..at].contains(name) {
                return Err(NumbersError::Repeated { signal: name.clone() });
            }
        }
        let mut names = stored_names.to_vec();
        let mut by_signal = Vec::with_capacity(schema.signals.len());
        for (_, def) in schema.signals() {
            let known = names.iter().position(|name| name == def.name());
            let Ok(number) = u8::try_from(known.unwrap_or(names.len())) else {
                return Err(NumbersError::Exhausted { signal: def.name().to_owned() });
            };
            if known.is_none() {
                names.push(def.name().to_owned());
            }
            by_signal.push(number);
        }
        let by_number = names.iter().map(|name| schema.signal(name)).collect();
        Ok((Self { by_signal, by_number }, names))
    }

    /// The stored numbers of all signal types of the schema, by their ids.
    #[must_use]
    pub fn by_signal(&self) -> &[u8] {
        &self.by_signal
    }

    /// The stored number of a signal type.
    ///
    /// # Panics
    ///
    /// If `signal` did not come from the schema.
    #[must_use]
    #[inline]
    pub fn number(&self, signal: SignalId) -> u8 {
        self.by_signal[signal.index()]
    }

    /// The signal type of a stored number, if the number is given and the schema has it.
    #[must_use]
    #[inline]
    pub fn signal(&self, number: u8) -> Option<SignalId> {
        self.by_number.get(usize::from(number)).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: impl IntoIterator<Item = impl AsRef<str>>) -> Schema {
        let hour = std::time::Duration::from_hours(1);
        let define = |builder: crate::SchemaBuilder, name: &str| {
            builder.signal(name, |signal| signal.half_lives([hour]))
        };
        let names = names.into_iter();
        names
            .fold(Schema::builder(), |builder, name| define(builder, name.as_ref()))
            .build()
            .unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_name_keeps_its_number_and_new_ones_get_the_next() {
        for (stored, asked, listed, numbers) in [
            (&[][..], &["a", "b"][..], &["a", "b"][..], &[0, 1][..]),
            (&["a", "b"], &["a", "b"], &["a", "b"], &[0, 1]),
            (&["b"], &["a", "b", "c"], &["b", "a", "c"], &[1, 0, 2]),
            (&["x", "b", "y"], &["a", "b"], &["x", "b", "y", "a"], &[3, 1]),
        ] {
            let schema = schema(asked);
            let (assigned, now) = SignalNumbers::assign(&names(stored), &schema).unwrap();
            assert_eq!(now, listed);
            let given: Vec<u8> = schema.signals().map(|(id, _)| assigned.number(id)).collect();
            assert_eq!(given, numbers);
            for number in 0..=u8::MAX {
                let name = listed.get(usize::from(number));
                let expected = name.and_then(|name| schema.signal(name));
                assert_eq!(assigned.signal(number), expected);
            }
            let again = SignalNumbers::assign(&now, &schema);
            assert_eq!(again, Ok((assigned, now)), "numbers stay");
        }
    }

    #[test]
    fn a_store_has_256_numbers_in_its_life() {
        let stored: Vec<String> = (0..255).map(|i| format!("s{i}")).collect();
        let (numbers, full) = SignalNumbers::assign(&stored, &schema(["z"])).unwrap();
        assert_eq!((numbers.number(SignalId(0)), full.len()), (255, STORED_SIGNALS_MAX));
        assert!(SignalNumbers::assign(&full, &schema(["s7", "z"])).is_ok());
        let refused = SignalNumbers::assign(&full, &schema(["s7", "new", "z"])).unwrap_err();
        assert_eq!(refused, NumbersError::Exhausted { signal: "new".into() });
        assert!(refused.to_string().contains("at most 256"), "{refused}");
    }

    #[test]
    fn a_list_that_was_never_written_is_refused() {
        let twice = SignalNumbers::assign(&names(&["a", "b", "a"]), &schema(["a"]));
        assert_eq!(twice, Err(NumbersError::Repeated { signal: "a".into() }));
        let long: Vec<String> = (0..257).map(|i| format!("s{i}")).collect();
        let refused = SignalNumbers::assign(&long, &schema(["a"]));
        assert_eq!(refused, Err(NumbersError::TooLong { count: 257 }));
    }
}
