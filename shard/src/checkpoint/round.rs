//! Rounds: which writing-out of the ledgers a page is of, and where each pair's latest record is.
//!
//! Promises: rounds of a store rise, over crashes and openings; a pair is in a round once, so of
//! two records of a pair the one of the later round is the later one.

use std::fmt;
use std::num::NonZeroU64;

/// One writing-out of changed pairs, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(NonZeroU64);

impl Round {
    /// The round of every record that has a key of its own, as format 1 has them.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The round of this number; none has the number zero.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The one after it.
    ///
    /// # Panics
    ///
    /// Behind the last number there is.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a store has fewer than 2^64 rounds"))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many pairs have their latest record in each round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// By round, of which a store has few: as many checkpoints as there were since all pairs were
    /// written. None is of zero pairs.
    pairs: Vec<(Round, u64)>,
}

impl Rounds {
    /// Adds pairs whose latest record is in a round.
    #[inline]
    pub fn add(&mut self, round: Round, pairs: u64) {
        // Mostly to one round, the last.
        match self.pairs.last_mut() {
            Some((last, held)) if *last == round => *held += pairs,
            _ => self.add_anywhere(round, pairs),
        }
    }

    fn add_anywhere(&mut self, round: Round, pairs: u64) {
        if pairs == 0 {
            return;
        }
        match self.place(round) {
            Ok(at) => self.pairs[at].1 += pairs,
            Err(at) => self.pairs.insert(at, (round, pairs)),
        }
    }

    /// Takes out pairs whose latest record is in a later round now.
    ///
    /// # Panics
    ///
    /// If there are not as many in it.
    pub fn take(&mut self, round: Round, pairs: u64) {
        let at = self.place(round).expect("a record was written in a known round");
        let held = &mut self.pairs[at].1;
        *held = held.checked_sub(pairs).expect("a pair leaves a round once");
        if *held == 0 {
            self.pairs.remove(at);
        }
    }

    /// Takes out what others count.
    ///
    /// # Panics
    ///
    /// As [`Rounds::take`].
    pub(crate) fn take_all(&mut self, others: &Self) {
        others.iter().for_each(|(round, pairs)| self.take(round, pairs));
    }

    /// Where a round is, or would be.
    fn place(&self, round: Round) -> Result<usize, usize> {
        self.pairs.binary_search_by_key(&round, |&(round, _)| round)
    }

    /// Adds what others count.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        other.iter().for_each(|(round, pairs)| self.add(round, pairs));
        self
    }

    /// Whether any pair's latest record is in a round.
    #[must_use]
    pub fn need(&self, round: Round) -> bool {
        self.place(round).is_ok()
    }

    /// All pairs.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.pairs.iter().map(|(_, pairs)| pairs).sum()
    }

    /// The rounds that are needed, and for how many pairs, from the first on.
    pub fn iter(&self) -> impl Iterator<Item = (Round, u64)> {
        self.pairs.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn pairs_are_counted_by_round_in_whatever_order_they_come_and_go(
            changes in prop::collection::vec((1..12u64, 0..4u64, any::<bool>()), 0..80),
        ) {
            let (mut rounds, mut want) = (Rounds::default(), BTreeMap::<Round, u64>::new());
            for (number, pairs, comes) in changes {
                let round = Round::new(number).unwrap();
                let held = want.get(&round).copied().unwrap_or(0);
                let left = if comes { held + pairs } else { held - held.min(pairs) };
                if comes {
                    rounds.add(round, pairs);
                } else if held > 0 {
                    rounds.take(round, held - left);
                }
                want.insert(round, left);
                want.retain(|_, pairs| *pairs > 0);
                prop_assert!(rounds.iter().eq(want.iter().map(|(&round, &pairs)| (round, pairs))));
            }
            let mut backwards = Rounds::default();
            want.iter().rev().for_each(|(&round, &pairs)| backwards.add(round, pairs));
            prop_assert_eq!(&backwards, &rounds);
            backwards.take_all(&rounds);
            prop_assert_eq!(backwards, Rounds::default());
        }
    }

    #[test]
    fn a_round_is_needed_as_long_as_a_pair_is_in_it() {
        let (one, two) = (Round::FIRST, Round::FIRST.next());
        let mut rounds = Rounds::default();
        rounds.add(one, 3);
        rounds.add(two, 0);
        assert!(rounds.need(one) && !rounds.need(two));
        rounds.take(one, 2);
        rounds.add(two, 2);
        rounds.take(one, 1);
        assert!(!rounds.need(one) && rounds.need(two));
        let whole = rounds.clone().and(&rounds);
        assert_eq!((whole.pairs(), whole.iter().collect::<Vec<_>>()), (4, vec![(two, 4)]));
        assert_eq!((Round::new(0), Round::new(2)), (None, Some(two)));
    }
}
