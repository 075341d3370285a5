//! Sources: streams that can be sent again, and how far each has come on this shard.
//!
//! ```text
//! offset ──at or below max(floor, base of its partition)──▶ a repeat
//!        ──above─────────────────────────────────────────▶ new; the floor rises to it
//! ```
//!
//! Promises: an offset that was new once is a repeat ever after. One floor for each source is
//! enough, since its offsets rise and its lane keeps their order; only after a restart, where this
//! shard took over partitions that had come to different offsets, each of them has a base of its
//! own, until the floor has passed them all. Fails by: [`SourceNameError`], [`SourceTableError`].

use crate::limits::{PARTITIONS, SOURCE_NAME_BYTES_MAX, SOURCES_MAX};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A source as the log knows it: the first 8 bytes of the BLAKE3 digest of its name, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

impl SourceId {
    /// The id of the source of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let digest = blake3::hash(name.as_bytes());
        let digest = digest.as_bytes();
        Self(u64::from_le_bytes(std::array::from_fn(|i| digest[i])))
    }
}

/// The name of a source: 1 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

/// Why a text is not the name of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a source has 1 to {SOURCE_NAME_BYTES_MAX} bytes, not {bytes}")]
pub struct SourceNameError {
    /// How long it is.
    pub bytes: usize,
}

impl SourceName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`SourceNameError`] if it is empty or too long.
    pub fn new(name: &str) -> Result<Self, SourceNameError> {
        let bytes = name.len();
        let fits = (1..=SOURCE_NAME_BYTES_MAX).contains(&bytes);
        if fits { Ok(Self(name.into())) } else { Err(SourceNameError { bytes }) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that stands for it in the log.
    #[must_use]
    pub fn id(&self) -> SourceId {
        SourceId::of(&self.0)
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a source cannot be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceTableError {
    /// There are as many as there may be. Use the sources there are.
    #[error("there are {SOURCES_MAX} sources, as many as a store may know; use one of them")]
    Full,
    /// Two names with one id. Give the source another name.
    #[error("source `{name}` has the id of source `{other}`; name it otherwise")]
    SameId {
        /// The new one.
        name: SourceName,
        /// The one that is known.
        other: SourceName,
    },
}

/// A source's place in a [`SourceTable`]; it never moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSlot(usize);

/// The sources one shard knows, for the partitions it owns.
///
/// ```
/// use ebbtide_shard::source::{SourceName, SourceTable};
/// let mut sources = SourceTable::new(0..4096);
/// let trace = sources.open(&SourceName::new("trace")?)?;
/// assert!(sources.take(trace, 7, 1), "offset 1 is new");
/// assert!(!sources.take(trace, 7, 1), "and then a repeat");
/// assert_eq!(sources.resume_offset(trace), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SourceTable {
    partitions: Range<usize>,
    sources: Vec<Source>,
    slots: BTreeMap<SourceId, SourceSlot>,
}

#[derive(Debug)]
struct Source {
    name: SourceName,
    /// Whether the log of this opening names it.
    introduced: bool,
    floor: u64,
    base: Option<Base>,
}

/// Offsets above the floor that single partitions have come to.
#[derive(Debug)]
struct Base {
    offsets: Box<[u64]>,
    highest: u64,
}

impl SourceTable {
    /// A table without sources for a shard that owns `partitions`.
    ///
    /// # Panics
    ///
    /// If the range is empty or reaches past the last partition.
    #[must_use]
    pub fn new(partitions: Range<usize>) -> Self {
        assert!(!partitions.is_empty(), "a shard owns a partition at least");
        assert!(partitions.end <= PARTITIONS, "there are {PARTITIONS} partitions");
        Self { partitions, sources: Vec::new(), slots: BTreeMap::new() }
    }

    /// The partitions of the shard.
    #[must_use]
    pub fn partitions(&self) -> Range<usize> {
        self.partitions.clone()
    }

    /// The place of a source, known already or from now on.
    ///
    /// # Errors
    ///
    /// [`SourceTableError`] if it cannot be known.
    pub fn open(&mut self, name: &SourceName) -> Result<SourceSlot, SourceTableError> {
        if let Some(slot) = self.check(name)? {
            return Ok(slot);
        }
        let slot = SourceSlot(self.sources.len());
        self.slots.insert(name.id(), slot);
        self.sources.push(Source { name: name.clone(), introduced: false, floor: 0, base: None });
        Ok(slot)
    }

    /// The place of a source if it is known, and whether it could be otherwise.
    ///
    /// # Errors
    ///
    /// [`SourceTableError`] if it cannot be known.
    pub fn check(&self, name: &SourceName) -> Result<Option<SourceSlot>, SourceTableError> {
        match self.slot(name.id()) {
            None if self.sources.len() >= SOURCES_MAX => Err(SourceTableError::Full),
            Some(slot) if self.name(slot) != name => {
                let (name, other) = (name.clone(), self.name(slot).clone());
                Err(SourceTableError::SameId { name, other })
            }
            known => Ok(known),
        }
    }

    /// The place of the source with this id, if it is known.
    #[must_use]
    pub fn slot(&self, id: SourceId) -> Option<SourceSlot> {
        self.slots.get(&id).copied()
    }

    /// Every source's place, in the order in which they became known.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = SourceSlot> + use<> {
        (0..self.sources.len()).map(SourceSlot)
    }

    /// The name of a source.
    #[must_use]
    pub fn name(&self, slot: SourceSlot) -> &SourceName {
        &self.sources[slot.0].name
    }

    /// Everything a checkpoint said of a source: from each `(first partition, offset)` on, up to
    /// the next, the offset its partitions have come to. What is known already stays known.
    ///
    /// # Errors
    ///
    /// [`SourceTableError`] if the source cannot be known.
    pub fn restore(
        &mut self,
        name: &SourceName,
        runs: &[(u16, u64)],
    ) -> Result<SourceSlot, SourceTableError> {
        let slot = self.open(name)?;
        let ends = runs.iter().skip(1).map(|&(first, _)| usize::from(first)).chain([PARTITIONS]);
        for (&(first, offset), end) in runs.iter().zip(ends) {
            self.raise(slot, usize::from(first)..end, offset);
        }
        Ok(slot)
    }

    /// Notes that a source has come to `offset` in those of `partitions` that are here.
    pub fn raise(&mut self, slot: SourceSlot, partitions: Range<usize>, offset: u64) {
        let own = self.partitions.clone();
        let (start, end) = (partitions.start.max(own.start), partitions.end.min(own.end));
        let source = &mut self.sources[slot.0];
        if start >= end || offset <= source.floor {
            return;
        }
        let Source { floor, base, .. } = source;
        let flat = || Base { offsets: vec![*floor; own.len()].into(), highest: *floor };
        let raised = base.get_or_insert_with(flat);
        for reached in &mut raised.offsets[start - own.start..end - own.start] {
            *reached = (*reached).max(offset);
        }
        raised.highest = raised.highest.max(offset);
        *floor = (*floor).max(raised.offsets.iter().copied().min().unwrap_or(0));
        source.forget_passed_base();
    }

    /// Whether an event of a source was here before.
    #[must_use]
    #[inline]
    pub fn is_repeat(&self, slot: SourceSlot, partition: usize, offset: u64) -> bool {
        offset <= self.sources[slot.0].reached(partition - self.partitions.start)
    }

    /// Notes an event of a source, and says whether it is new. One behind the floor is a repeat.
    #[inline]
    pub fn take(&mut self, slot: SourceSlot, partition: usize, offset: u64) -> bool {
        let repeat = self.is_repeat(slot, partition, offset);
        self.note(slot, offset);
        !repeat
    }

    /// Notes that the source has sent everything up to `offset` that is meant for this shard.
    #[inline]
    pub fn note(&mut self, slot: SourceSlot, offset: u64) {
        let source = &mut self.sources[slot.0];
        source.floor = source.floor.max(offset);
        if source.base.is_some() {
            source.forget_passed_base();
        }
    }

    /// How far the source is known to have come in every partition alike.
    #[must_use]
    #[inline]
    pub fn floor(&self, slot: SourceSlot) -> u64 {
        self.sources[slot.0].floor
    }

    /// The offset behind which the source has to go on, as far as this shard knows: the least of
    /// its partitions'.
    #[must_use]
    pub fn resume_offset(&self, slot: SourceSlot) -> u64 {
        // The bases begin at the floor and only rise.
        let source = &self.sources[slot.0];
        let least = source.base.as_ref().and_then(|base| base.offsets.iter().copied().min());
        least.unwrap_or(0).max(source.floor)
    }

    /// The offsets of this shard's partitions as runs of equal ones, each with its first partition.
    ///
    /// # Panics
    ///
    /// Never: a partition is below 4096.
    #[must_use]
    pub fn runs(&self, slot: SourceSlot) -> Vec<(u16, u64)> {
        let source = &self.sources[slot.0];
        let mut runs: Vec<(u16, u64)> = Vec::new();
        for (place, partition) in self.partitions.clone().enumerate() {
            let reached = source.reached(place);
            if runs.last().is_none_or(|&(_, offset)| offset != reached) {
                let first = u16::try_from(partition).expect("a partition is below 4096");
                runs.push((first, reached));
            }
        }
        runs
    }

    /// Whether the log of this opening names the source.
    pub(crate) fn is_introduced(&self, slot: SourceSlot) -> bool {
        self.sources[slot.0].introduced
    }

    pub(crate) fn set_introduced(&mut self, slot: SourceSlot) {
        self.sources[slot.0].introduced = true;
    }
}

impl Source {
    /// The offset that a partition has come to.
    #[inline]
    fn reached(&self, place: usize) -> u64 {
        self.base.as_ref().map_or(self.floor, |base| base.offsets[place].max(self.floor))
    }

    fn forget_passed_base(&mut self) {
        let floor = self.floor;
        self.base.take_if(|base| base.highest <= floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> SourceName {
        SourceName::new(text).unwrap()
    }

    #[test]
    fn a_name_has_one_to_255_bytes_and_an_id_frozen_by_its_digest() {
        assert_eq!(SourceName::new(""), Err(SourceNameError { bytes: 0 }));
        assert_eq!(SourceName::new(&"x".repeat(256)), Err(SourceNameError { bytes: 256 }));
        assert!(SourceName::new(&"x".repeat(255)).is_ok());
        // `printf trace | b3sum` begins with these eight bytes.
        let digest = blake3::hash(b"trace");
        let first: [u8; 8] = digest.as_bytes()[..8].try_into().unwrap();
        assert_eq!(name("trace").id().0.to_le_bytes(), first);
    }

    #[test]
    fn partitions_that_had_come_to_different_offsets_are_told_apart_until_the_floor_passes_them() {
        let mut sources = SourceTable::new(100..200);
        let runs = [(0, 9), (120, 5), (150, 7), (300, 1)];
        let trace = sources.restore(&name("trace"), &runs).unwrap();
        assert_eq!(sources.resume_offset(trace), 5);
        assert_eq!(sources.runs(trace), [(100, 9), (120, 5), (150, 7)]);
        assert!(!sources.take(trace, 160, 6), "partition 160 had it");
        assert!(!sources.take(trace, 130, 6), "6 was sent, so all before 7 was");
        assert!(sources.take(trace, 130, 7));
        assert!(sources.is_repeat(trace, 100, 9) && !sources.is_repeat(trace, 120, 9));
        assert_eq!(sources.runs(trace), [(100, 9), (120, 7)]);
        sources.note(trace, 9);
        assert!(sources.sources[0].base.is_none());
        assert_eq!(sources.runs(trace), [(100, 9)]);
    }

    #[test]
    fn what_a_log_of_another_layout_held_raises_only_its_own_partitions() {
        let mut sources = SourceTable::new(0..10);
        let trace = sources.open(&name("trace")).unwrap();
        sources.raise(trace, 5..4096, 8);
        assert_eq!((sources.resume_offset(trace), sources.floor(trace)), (0, 0));
        sources.raise(trace, 0..5, 6);
        assert_eq!(sources.runs(trace), [(0, 6), (5, 8)]);
        sources.raise(trace, 20..30, 99);
        sources.raise(trace, 0..10, 3);
        assert_eq!((sources.resume_offset(trace), sources.floor(trace)), (6, 6));
    }

    #[test]
    fn there_are_no_more_sources_than_the_limit() {
        let mut sources = SourceTable::new(0..1);
        for n in 0..SOURCES_MAX {
            sources.open(&name(&n.to_string())).unwrap();
        }
        assert_eq!(sources.open(&name("one more")), Err(SourceTableError::Full));
        assert!(sources.open(&name("0")).is_ok(), "a known one stays known");
    }

    proptest! {
        #[test]
        fn runs_put_back_tell_the_same_repeats(
            raises in prop::collection::vec((0usize..40, 1usize..40, 0u64..50), 0..8),
            floor in 0u64..50,
        ) {
            let mut sources = SourceTable::new(0..40);
            let trace = sources.open(&name("trace")).unwrap();
            for (start, length, offset) in raises {
                sources.raise(trace, start..start + length, offset);
            }
            sources.note(trace, floor);
            let mut again = SourceTable::new(10..30);
            let twin = again.restore(&name("trace"), &sources.runs(trace)).unwrap();
            for partition in 10..30 {
                for offset in 1..52 {
                    prop_assert_eq!(
                        again.is_repeat(twin, partition, offset),
                        sources.is_repeat(trace, partition, offset)
                    );
                }
            }
            let first_new = |p| (1..99).find(|&offset| !again.is_repeat(twin, p, offset)).unwrap();
            let least = (10..30).map(first_new).min();
            prop_assert_eq!(Some(again.resume_offset(twin) + 1), least);
        }
    }
}
