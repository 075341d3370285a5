//! The worst moment of a ledger that grows from nothing, beside its usual one.

use super::criteria::GROWTH_STALL;
use super::measure::{core_seconds, median};
use super::tables::{Decays, batches, ledgers};
use super::workload::{START_NS, one_each};
use super::{Effort, Run};
use crate::cores;
use crate::fault::Fault;

/// Measures the row.
///
/// # Errors
///
/// Never.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let Effort { entities_dram: entities, growths, .. } = run.effort;
    cores::on_first(|| {
        run.row_of_turns(GROWTH_STALL, growths, || {
            let mut ledger = ledgers(1, Decays::Three)?.remove(0);
            let batches = batches(one_each(entities, START_NS));
            let mut times_us: Vec<f64> =
                batches.map(|batch| core_seconds(|| ledger.apply_batch(&batch)) * 1e6).collect();
            times_us.sort_by(f64::total_cmp);
            Ok((times_us[times_us.len() - 1], median(&times_us)))
        })
    })
}
