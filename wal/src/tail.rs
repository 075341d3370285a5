//! What the end of the last segment means: evidence in, verdict out.
//!
//! Promises: no state that a crash can leave is refused; no record that anything on disk says
//! was durable is dropped.
//! Invariants: only [`TailVerdict::CutTorn`] discards bytes, and only without any sign that
//! they were durable. A watermark is such a sign because a log writes it after the sync.
//! Fails by: nothing; it is a table, and the test below reads it out in full.
//! Not here: gathering evidence (`scan`), acting on a verdict (`recover`). Damage before the
//! last segment needs no table: the header of the next one proves what was there.
//! Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018:
//! a crash and a corruption look alike unless something independent tells them apart.

/// What is known about the place where the last segment stops making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent findings, one table")]
pub struct TailEvidence {
    /// A frame further on, or a checkpoint, says that the missing record was durable.
    pub vouched: bool,
    /// A seal says that the log continues in a segment that does not exist.
    pub continues: bool,
    /// The file is shorter than its header says, and no shutdown frame explains it.
    pub shortened: bool,
    /// Bytes of this segment's life lie at that place or behind it.
    pub remains: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TailVerdict {
    /// The log ends here, with nothing behind it.
    End,
    /// The log ends here; what lies behind was being written when the crash came.
    CutTorn,
    /// Durable records are unreadable.
    RefuseDamaged,
    /// Durable records were in a file that is gone.
    RefuseMissing,
    /// The file lost its end, and with it whatever was there.
    RefuseShortened,
}

/// The verdict on `seen`.
#[must_use]
pub const fn tail_verdict(seen: TailEvidence) -> TailVerdict {
    match (seen.vouched, seen.continues, seen.shortened, seen.remains) {
        (true, _, _, _) => TailVerdict::RefuseDamaged,
        (false, true, _, _) => TailVerdict::RefuseMissing,
        (false, false, true, _) => TailVerdict::RefuseShortened,
        (false, false, false, true) => TailVerdict::CutTorn,
        (false, false, false, false) => TailVerdict::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(bits: u8) -> TailEvidence {
        let bit = |at: u8| bits & (1 << at) != 0;
        TailEvidence { vouched: bit(0), continues: bit(1), shortened: bit(2), remains: bit(3) }
    }

    #[test]
    fn exactly_one_of_the_sixteen_cases_discards_bytes() {
        let cut: Vec<_> =
            (0..16).filter(|&bits| tail_verdict(case(bits)) == TailVerdict::CutTorn).collect();
        assert_eq!(cut, [0b1000]);
    }

    #[test]
    fn exactly_one_case_ends_in_peace() {
        let end: Vec<_> =
            (0..16).filter(|&bits| tail_verdict(case(bits)) == TailVerdict::End).collect();
        assert_eq!(end, [0]);
    }

    #[test]
    fn every_case_with_a_voucher_is_refused() {
        for bits in 0..16 {
            let seen = case(bits);
            let refused = tail_verdict(seen) == TailVerdict::RefuseDamaged;
            assert_eq!(refused, seen.vouched, "{seen:?}");
        }
    }

    #[test]
    fn a_missing_continuation_weighs_more_than_a_short_file() {
        for remains in [false, true] {
            let seen = TailEvidence { vouched: false, continues: true, shortened: true, remains };
            assert_eq!(tail_verdict(seen), TailVerdict::RefuseMissing);
            let seen = TailEvidence { continues: false, ..seen };
            assert_eq!(tail_verdict(seen), TailVerdict::RefuseShortened);
        }
    }
}
