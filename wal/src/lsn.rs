//! Log sequence numbers: which record, counted from 1 within one log.
//!
//! Promises: numbers are given in the order of append, without reuse of a durable one.
//! Invariants: zero means "before the first record"; arithmetic never wraps.
//! Fails by: a panic when 2^64 records were appended, which no device can hold.
//! Not here: what a number is good for (`writer`), where its record lies (`segment`).
//! Source: the usual term of the database literature (Mohan et al., "ARIES", 1992).

use std::fmt;

/// Sequence number of one record in one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first record: nothing was appended, written or made durable.
    pub const NONE: Self = Self(0);
    /// The first record of a log.
    pub const FIRST: Self = Self(1);

    /// The number with this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its value.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number `count` records later.
    ///
    /// # Panics
    ///
    /// When the sum leaves 64 bits.
    #[must_use]
    #[inline]
    pub const fn after(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("a log holds fewer than 2^64 records"))
    }

    /// The number after this one.
    #[must_use]
    #[inline]
    pub const fn next(self) -> Self {
        self.after(1)
    }

    /// The number before this one, [`Lsn::NONE`] before the first.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_before_the_first_is_none() {
        assert_eq!(Lsn::FIRST.previous(), Lsn::NONE);
        assert_eq!(Lsn::NONE.previous(), Lsn::NONE);
        assert_eq!(Lsn::NONE.next(), Lsn::FIRST);
        assert_eq!(Lsn::new(7).after(3), Lsn::new(10));
    }

    #[test]
    #[should_panic(expected = "fewer than 2^64")]
    fn numbers_do_not_wrap() {
        let _ = Lsn::new(u64::MAX).next();
    }
}
