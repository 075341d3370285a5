//! Under which key a record is kept, and in which keyspace.
//!
//! ```text
//! | id, 8 bytes, most significant first | 0 | tag | suffix |
//! page    entity of its first pair                stored number of its signal type (1), round (8)
//! pair    entity                                  stored number of the signal type (1)
//! source  id of the source                        none
//! ids     number of the opening                   shard (2), sequence (4), likewise
//! meta    0                                       none
//! ```
//!
//! Promises: keys of one keyspace order as their bytes do, first by id. Any bytes are a key or not
//! one, never a panic.

use super::Round;
use crate::EntityId;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

/// Which keyspace a record is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// The one record that vouches for all others.
    Meta = 0,
    /// The states of entities and signal types.
    Sig = 1,
    /// How far a source has come.
    Src = 2,
    /// Ids that were seen.
    Ids = 3,
}

impl Tag {
    /// Every keyspace.
    pub const ALL: [Self; 4] = [Self::Meta, Self::Sig, Self::Src, Self::Ids];

    /// The name of the keyspace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Sig => "sig",
            Self::Src => "src",
            Self::Ids => "ids",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The key of one record. Keys are ordered by tag, then as their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Of the meta record.
    Meta,
    /// Of a pair: in format 1 that of a record, since then a name.
    Pair {
        /// Whose it is.
        entity: EntityId,
        /// The stored number of the signal type.
        number: u8,
    },
    /// Of pairs side by side.
    Page {
        /// Whose the first one is.
        entity: EntityId,
        /// The stored number of its signal type.
        number: u8,
        /// In which round they were written.
        round: Round,
    },
    /// Of a source.
    Source {
        /// Its id, see [`super::source_id`].
        id: u64,
    },
    /// Of some remembered ids.
    Ids {
        /// Which opening of the store remembered them.
        opening: u64,
        /// In which of its shards.
        shard: u16,
        /// Which of the shard's records.
        sequence: u32,
    },
}

const ID: usize = 8;
const TAG: usize = 9;
const SUFFIX: usize = 10;
const KEY_BYTES_MAX: usize = 19;

impl Key {
    /// The keyspace it belongs to.
    #[must_use]
    pub const fn tag(&self) -> Tag {
        match self {
            Self::Meta => Tag::Meta,
            Self::Pair { .. } | Self::Page { .. } => Tag::Sig,
            Self::Source { .. } => Tag::Src,
            Self::Ids { .. } => Tag::Ids,
        }
    }

    /// Its id: what keys of one keyspace are ordered by first.
    #[must_use]
    pub const fn id(&self) -> u64 {
        match *self {
            Self::Meta => 0,
            Self::Pair { entity, .. } | Self::Page { entity, .. } => entity.0,
            Self::Source { id } => id,
            Self::Ids { opening, .. } => opening,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> KeyBytes {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes[TAG] = self.tag() as u8;
        bytes[..ID].copy_from_slice(&self.id().to_be_bytes());
        let len = match self {
            Self::Meta | Self::Source { .. } => SUFFIX,
            Self::Pair { number, .. } => {
                bytes[SUFFIX] = number;
                SUFFIX + 1
            }
            Self::Page { number, round, .. } => {
                bytes[SUFFIX] = number;
                bytes[SUFFIX + 1..].copy_from_slice(&round.get().to_be_bytes());
                KEY_BYTES_MAX
            }
            Self::Ids { shard, sequence, .. } => {
                bytes[SUFFIX..SUFFIX + 2].copy_from_slice(&shard.to_be_bytes());
                bytes[SUFFIX + 2..SUFFIX + 6].copy_from_slice(&sequence.to_be_bytes());
                SUFFIX + 6
            }
        };
        KeyBytes { bytes, len }
    }

    /// The key that has these bytes, if one has.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<ID>()?;
        let id = u64::from_be_bytes(*id);
        match *rest {
            [0, 0] if id == 0 => Some(Self::Meta),
            [0, 1, number] => Some(Self::Pair { entity: EntityId(id), number }),
            [0, 1, number, ref round @ ..] => {
                let round = Round::new(u64::from_be_bytes(round.try_into().ok()?))?;
                Some(Self::Page { entity: EntityId(id), number, round })
            }
            [0, 2] => Some(Self::Source { id }),
            [0, 3, ref suffix @ ..] => Self::ids_of(id, suffix),
            _ => None,
        }
    }

    fn ids_of(opening: u64, suffix: &[u8]) -> Option<Self> {
        let (shard, sequence) = suffix.split_first_chunk()?;
        let sequence = u32::from_be_bytes(sequence.try_into().ok()?);
        Some(Self::Ids { opening, shard: u16::from_be_bytes(*shard), sequence })
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tag().cmp(&other.tag()).then_with(|| self.to_bytes().cmp(&*other.to_bytes()))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.to_bytes()))
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("four bits");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyBytes {
    bytes: [u8; KEY_BYTES_MAX],
    len: usize,
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![
            Just(Key::Meta),
            (any::<u64>(), any::<u8>())
                .prop_map(|(entity, number)| Key::Pair { entity: EntityId(entity), number }),
            (any::<u64>(), any::<u8>(), 1..u64::MAX).prop_map(|(entity, number, round)| {
                Key::Page { entity: EntityId(entity), number, round: Round::new(round).unwrap() }
            }),
            any::<u64>().prop_map(|id| Key::Source { id }),
            (any::<u64>(), any::<u16>(), any::<u32>())
                .prop_map(|(opening, shard, sequence)| Key::Ids { opening, shard, sequence }),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_read_back_from_its_bytes(key in key()) {
            prop_assert_eq!(Key::of_bytes(&key.to_bytes()), Some(key));
        }

        #[test]
        fn keys_of_one_tag_order_as_their_bytes_do(one in key(), other in key()) {
            if one.tag() == other.tag() {
                prop_assert_eq!(one.cmp(&other), one.to_bytes().cmp(&*other.to_bytes()));
            }
        }

        #[test]
        fn any_bytes_are_a_key_or_not_one(bytes in prop::collection::vec(0..4u8, 0..20)) {
            if let Some(key) = Key::of_bytes(&bytes) {
                prop_assert_eq!(&*key.to_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn the_bytes_of_keys_are_frozen() {
        let pair = Key::Pair { entity: EntityId(0x0102), number: 7 };
        assert_eq!(pair.to_string(), "0000000000000102000107");
        let (entity, round) = (EntityId(0x0102), Round::new(0x0304).unwrap());
        let page = Key::Page { entity, number: 7, round };
        assert_eq!(page.to_string(), "00000000000001020001070000000000000304");
        assert_eq!(Key::Source { id: 0x0102 }.to_string(), "00000000000001020002");
        assert_eq!(Key::Meta.to_string(), "00000000000000000000");
        let ids = Key::Ids { opening: 5, shard: 0x0203, sequence: 0x0405_0607 };
        assert_eq!(ids.to_string(), "00000000000000050003020304050607");
    }
}
