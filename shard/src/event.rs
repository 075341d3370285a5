//! What enters: entities, times, weights and the events made of them.
//!
//! Promises: an [`Event`] is what a host writes down; a [`RoutedEvent`] is the same after
//! admission, with the routing hash beside it, 32 bytes, what rings and turns carry. Nothing here
//! asks a clock.

use crate::limits::{PARTITION_BITS, WEIGHT_MAX};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whose signal an event is: any 64-bit number the host likes.
///
/// ```
/// use ebbtide_shard::EntityId;
/// assert_eq!(EntityId::from(42), EntityId(42));
/// assert_ne!(EntityId::of_name("BOS"), EntityId::of_name("LAX"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u64);

impl EntityId {
    /// The id of an entity known by a name: the first 8 bytes of its BLAKE3 digest, little-endian.
    /// Two names may share an id by chance, which becomes likely among billions of names.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let digest = blake3::hash(name.as_bytes());
        let digest = digest.as_bytes();
        Self(u64::from_le_bytes(std::array::from_fn(|i| digest[i])))
    }
}

impl From<u64> for EntityId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells an event from every other one of its entity and signal type: any 128 bits the host
/// likes, the same each time the event is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u128);

impl From<u128> for EventId {
    fn from(id: u128) -> Self {
        Self(id)
    }
}

/// Which signal type of the schema an event belongs to; get one from [`crate::Schema::signal`].
///
/// It is the position among the names in their order, so another schema may give the same name
/// another id: keep names, not ids, for longer than an engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalId(pub u8);

impl SignalId {
    /// The position of the signal type in the schema.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Nanoseconds since the Unix epoch, from 1970 to the year 2554.
///
/// ```
/// use ebbtide_shard::Timestamp;
/// use std::time::Duration;
/// let noon = Timestamp::from_seconds(1_700_000_000);
/// assert_eq!(noon.plus(Duration::from_millis(1)).as_nanos(), 1_700_000_000_001_000_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The latest instant that can be written down.
    pub const MAX: Self = Self(u64::MAX);

    /// A whole second since the Unix epoch, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant and `later` more, saturating at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 become 1970.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(UNIX_EPOCH).map_or(0, nanos))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One thing that happened: `weight` of `signal` to `entity` at `time`.
///
/// ```
/// use ebbtide_shard::{EntityId, Event, SignalId, Timestamp};
/// let like = Event::new(EntityId(42), SignalId(0), Timestamp::from_seconds(1_700_000_000));
/// assert_eq!(like.weight, 1.0);
/// assert_eq!(like.with_weight(2.5).weight, 2.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// To whom it happened.
    pub entity: EntityId,
    /// What happened.
    pub signal: SignalId,
    /// When it happened, by the clock of whoever saw it.
    pub time: Timestamp,
    /// How much it counts: finite, from 0 to [`WEIGHT_MAX`].
    pub weight: f64,
}

impl Event {
    /// An event of weight 1.
    #[must_use]
    pub const fn new(entity: EntityId, signal: SignalId, time: Timestamp) -> Self {
        Self { entity, signal, time, weight: 1.0 }
    }

    /// The same event with another weight.
    #[must_use]
    pub const fn with_weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }
}

/// Why a weight is not one.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// Not a number, or infinite. Fix the source of the number.
    #[error("weight {weight} is not a finite number")]
    NotFinite {
        /// What was given.
        weight: f64,
    },
    /// Below zero: scores only ever grow by events. Send the opposite as a signal of its own.
    #[error("weight {weight} is negative; record the opposite as a signal type of its own")]
    Negative {
        /// What was given.
        weight: f64,
    },
    /// Above [`WEIGHT_MAX`]. Scale the weights of this signal type down.
    #[error("weight {weight:e} is above the largest allowed, {WEIGHT_MAX:e}; scale the weights")]
    TooLarge {
        /// What was given.
        weight: f64,
    },
}

/// Checks a weight and gives back the one to store: subnormal numbers and `-0.0` become `0.0`.
///
/// # Errors
///
/// [`WeightError`] for NaN, infinities, negative weights and weights above [`WEIGHT_MAX`].
///
/// ```
/// use ebbtide_shard::checked_weight;
/// assert_eq!(checked_weight(2.5), Ok(2.5));
/// assert!(checked_weight(f64::NAN).is_err());
/// ```
#[inline]
pub fn checked_weight(weight: f64) -> Result<f64, WeightError> {
    if (f64::MIN_POSITIVE..=WEIGHT_MAX).contains(&weight) {
        return Ok(weight);
    }
    unusual_weight(weight)
}

#[cold]
fn unusual_weight(weight: f64) -> Result<f64, WeightError> {
    if !weight.is_finite() {
        Err(WeightError::NotFinite { weight })
    } else if weight < 0.0 {
        Err(WeightError::Negative { weight })
    } else if weight > WEIGHT_MAX {
        Err(WeightError::TooLarge { weight })
    } else {
        Ok(0.0)
    }
}

/// An admitted event on its way to, or inside, its shard.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct RoutedEvent {
    /// To whom it happened.
    pub entity: EntityId,
    /// When it happened.
    pub time: Timestamp,
    /// A weight that [`checked_weight`] passed.
    pub weight: f64,
    /// The keyed hash of the entity, computed once, by the router.
    pub hash: EntityHash,
    /// What happened; the router has checked that the schema knows it.
    pub signal: SignalId,
}

impl RoutedEvent {
    /// In place of an event, where there is none.
    pub(crate) const NOTHING: Self = Self {
        entity: EntityId(0),
        time: Timestamp(0),
        weight: 0.0,
        hash: EntityHash(0),
        signal: SignalId(0),
    };
}

const _: () = assert!(size_of::<RoutedEvent>() == 32, "two events to a cache line");

/// 32 bits of the store's keyed hash of an entity: the top ones name the partition, the rest the
/// place in the partition's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityHash(pub u32);

impl EntityHash {
    /// The partition this entity belongs to, below [`crate::limits::PARTITIONS`].
    #[must_use]
    #[inline]
    pub const fn partition(self) -> usize {
        (self.0 >> (32 - PARTITION_BITS)) as usize
    }

    /// 32 bits by which `signal` of this entity is found. Hashes that begin or end alike are spread
    /// as well as any.
    #[must_use]
    #[inline]
    pub(crate) const fn mark(self, signal: SignalId) -> u32 {
        let key = self.0 as u64 | (signal.0 as u64) << u32::BITS;
        (key.wrapping_mul(0x2545_F491_4F6C_DD1D) >> u32::BITS) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_checked_at_the_edge() {
        assert_eq!(checked_weight(0.0), Ok(0.0));
        assert_eq!(checked_weight(-0.0).map(f64::to_bits), Ok(0));
        assert_eq!(checked_weight(5e-324), Ok(0.0));
        assert_eq!(checked_weight(WEIGHT_MAX), Ok(WEIGHT_MAX));
        assert!(matches!(checked_weight(f64::NAN), Err(WeightError::NotFinite { .. })));
        assert!(matches!(checked_weight(f64::INFINITY), Err(WeightError::NotFinite { .. })));
        assert!(matches!(checked_weight(-1.0), Err(WeightError::Negative { .. })));
        assert!(matches!(checked_weight(1.1e15), Err(WeightError::TooLarge { .. })));
    }

    #[test]
    fn the_name_of_an_entity_is_pinned_to_its_blake3_digest() {
        // `printf BOS | b3sum` begins with these eight bytes.
        let digest = blake3::hash(b"BOS");
        let first: [u8; 8] = digest.as_bytes()[..8].try_into().unwrap();
        assert_eq!(EntityId::of_name("BOS").0.to_le_bytes(), first);
    }

    #[test]
    fn hashes_that_begin_or_end_alike_are_spread_evenly() {
        for alike in [0, 5, 1023, 4095] {
            let (mut high, mut low) = ([0; 64], [0; 64]);
            for hash in 0..6400u32 {
                // All of one shard of many begin alike.
                let hash = if alike == 1023 { alike << 22 | hash } else { hash << 12 | alike };
                let mark = EntityHash(hash).mark(SignalId(3)) as usize;
                high[mark >> 26] += 1;
                low[mark % 64] += 1;
            }
            let is_even = |seen: &[i32; 64]| seen.iter().all(|seen| (50..150).contains(seen));
            assert!(is_even(&high) && is_even(&low), "{high:?} {low:?}");
        }
    }

    #[test]
    fn times_before_the_epoch_become_the_epoch() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(Timestamp::from(before), Timestamp(0));
    }
}
