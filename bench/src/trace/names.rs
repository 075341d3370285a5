//! Entity names: which text of a trace stands for which 64-bit entity.
//!
//! An unsigned integer is its own entity and is spelled with its digits. Any other text becomes the
//! first 8 bytes of its BLAKE3 hash, little-endian, and is remembered with it.
//!
//! Promises: two texts with one hash are an [`EntityClash`], and so are a text and an integer equal
//! to its hash, in whichever order they are read.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Two spellings that would become one entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entity has the same 64-bit hash {entity} as {earlier:?}; rename one of the two")]
pub struct EntityClash {
    /// The entity both would become.
    pub entity: u64,
    /// The text that became it first.
    pub earlier: Arc<str>,
}

/// The texts of a trace's entities.
#[derive(Clone, Debug, Default)]
pub struct EntityNames {
    by_text: HashMap<Arc<str>, u64, RandomState>,
    by_entity: HashMap<u64, Arc<str>, RandomState>,
    integers: HashSet<u64, RandomState>,
}

impl EntityNames {
    /// The entity of an integer; remembers the integer.
    ///
    /// # Errors
    ///
    /// When a text read earlier has the same hash.
    #[inline]
    pub fn integer(&mut self, entity: u64) -> Result<u64, EntityClash> {
        if self.integers.contains(&entity) {
            return Ok(entity);
        }
        match self.by_entity.get(&entity) {
            None => {
                self.integers.insert(entity);
                Ok(entity)
            }
            Some(earlier) => Err(EntityClash { entity, earlier: Arc::clone(earlier) }),
        }
    }

    /// The entity of a text that is no integer; remembers the text.
    ///
    /// # Errors
    ///
    /// When another text has the same hash, or an integer is it; the new one is not remembered.
    #[inline]
    pub fn text(&mut self, text: &str) -> Result<u64, EntityClash> {
        match self.by_text.get(text) {
            Some(&entity) => Ok(entity),
            None => self.remember(text, hash_of(text)),
        }
    }

    #[cold]
    fn remember(&mut self, text: &str, entity: u64) -> Result<u64, EntityClash> {
        if self.integers.contains(&entity) {
            return Err(EntityClash { entity, earlier: entity.to_string().into() });
        }
        match self.by_entity.entry(entity) {
            Entry::Occupied(slot) => Err(EntityClash { entity, earlier: Arc::clone(slot.get()) }),
            Entry::Vacant(slot) => {
                let text = slot.insert(Arc::from(text));
                self.by_text.insert(Arc::clone(text), entity);
                Ok(entity)
            }
        }
    }

    /// How the trace spells `entity`: its text, or else its digits.
    #[must_use]
    pub fn spelling(&self, entity: u64) -> Cow<'_, str> {
        match self.by_entity.get(&entity) {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(entity.to_string()),
        }
    }

    /// How many texts are remembered.
    #[must_use]
    pub fn text_count(&self) -> usize {
        self.by_entity.len()
    }
}

/// The entity of a text: the first 8 bytes of its BLAKE3 hash, little-endian.
fn hash_of(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_text_is_frozen() {
        // The published test vector of BLAKE3 for no input begins with af1349b9f5f9a1a6.
        assert_eq!(hash_of(""), 0xa6a1_f9f5_b949_13af);
        assert_eq!(hash_of("BOS"), 10_313_929_965_919_461_462);
    }

    #[test]
    fn two_texts_with_one_hash_are_not_merged() {
        let mut names = EntityNames::default();
        assert_eq!(names.remember("first", 7), Ok(7));
        let clash = names.remember("second", 7).unwrap_err();
        assert_eq!((clash.entity, &*clash.earlier), (7, "first"));
        assert_eq!(names.spelling(7), "first");
        assert_eq!(names.text_count(), 1);
    }

    #[test]
    fn an_integer_equal_to_the_hash_of_a_text_is_not_merged() {
        let mut names = EntityNames::default();
        let entity = names.text("BOS").unwrap();
        assert_eq!(names.integer(entity).unwrap_err().earlier.as_ref(), "BOS");
        assert_eq!(names.integer(entity ^ 1), Ok(entity ^ 1));
        assert_eq!(names.text("BOS"), Ok(entity));
    }

    /// It was merged unseen, for integers were not remembered.
    #[test]
    fn a_text_whose_hash_was_read_as_an_integer_is_not_merged() {
        let mut names = EntityNames::default();
        let entity = names.integer(hash_of("BOS")).unwrap();
        let clash = names.text("BOS").unwrap_err();
        assert_eq!((clash.entity, &*clash.earlier), (entity, "10313929965919461462"));
        assert_eq!(names.integer(entity), Ok(entity));
    }

    #[test]
    fn integers_are_spelled_with_their_digits() {
        assert_eq!(EntityNames::default().spelling(u64::MAX), "18446744073709551615");
    }
}
