//! A bounded list of what stood in the way.

use super::Trouble;

/// Troubles that are kept; more are only counted.
pub const TROUBLES_MAX: usize = 100;

/// What stood in the way so far.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pub(super) first: Vec<Trouble>,
    pub(super) count: u64,
    pub(super) losses: u64,
}

impl Troubles {
    pub(super) fn note(&mut self, trouble: Trouble) {
        self.count += 1;
        self.losses += u64::from(trouble.is_loss());
        // The first of what was lost is always told.
        let told = self.first.len() < TROUBLES_MAX;
        if told || (trouble.is_loss() && !self.first.iter().any(Trouble::is_loss)) {
            self.first.push(trouble);
        }
    }
}
