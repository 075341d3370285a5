//! The pairs of a store against those that its logs alone give.
//!
//! Promises: a pair whose events are all in the logs must be the same to the bit. Where a log has
//! let some of them go, what is left of them must not be more than was counted.
//! Why a lower score is no difference: when a half-life changes, a host may let its scores restart,
//! and the logs keep the events from before; a score below that of the events is what that leaves.
//! Not here: reading either (`crate::store::whole`).

use super::{Difference, Finding, Rebuilt};
use crate::store::whole::{Reading, Whole};
use ebbtide_shard::SignalTypeDef;
use ebbtide_shard::checkpoint::{PairRecord, StorageEngine};
use std::collections::BTreeMap;

/// Compares the pairs of `stored`, of checkpoint and logs, with those of `logged`.
pub(super) fn compare<S: StorageEngine>(
    (mut stored, mut logged): (Whole, Whole),
    reading: &Reading<'_, S>,
    differs: &mut dyn FnMut(Finding),
) -> Rebuilt {
    let numbers = reading.numbers.by_signal();
    let mut from_logs: BTreeMap<_, PairRecord> = logged.records(numbers).collect();
    let mut rebuilt = Rebuilt::default();
    let def = |number| {
        let signal = reading.numbers.signal(number).expect("a ledger has its schema's signals");
        reading.schema.def(signal)
    };
    let mut tell = |(entity, number), difference| {
        let signal = def(number).name().to_owned();
        differs(Finding::Differs { entity, signal, difference });
    };
    for (pair, record) in stored.records(numbers) {
        rebuilt.pairs += 1;
        let Some(logged) = from_logs.remove(&pair) else { continue };
        if let Err(difference) = same(&record, &logged, def(pair.1), &mut rebuilt) {
            tell(pair, difference);
        }
    }
    for (pair, record) in from_logs {
        tell(pair, Difference::Events { logged: record.all_time, stored: 0 });
    }
    rebuilt
}

fn same(
    stored: &PairRecord,
    logged: &PairRecord,
    def: &SignalTypeDef,
    rebuilt: &mut Rebuilt,
) -> Result<(), Difference> {
    if logged.all_time > stored.all_time {
        let (logged, stored) = (logged.all_time, stored.all_time);
        return Err(Difference::Events { logged, stored });
    }
    if logged.last_update > stored.last_update {
        let (logged, stored) = (logged.last_update, stored.last_update);
        return Err(Difference::LastUpdate { logged, stored });
    }
    if logged.all_time < stored.all_time {
        rebuilt.in_part += 1;
        return Ok(());
    }
    if logged.last_update != stored.last_update {
        let (logged, stored) = (logged.last_update, stored.last_update);
        return Err(Difference::LastUpdate { logged, stored });
    }
    if logged.counts != stored.counts || logged.saturated != stored.saturated {
        return Err(Difference::Buckets);
    }
    for (at, label) in def.half_life_labels().enumerate() {
        let (stored, logged) = (stored.sums[at], logged.sums[at]);
        if stored > logged {
            return Err(Difference::Score { half_life: label.to_owned() });
        }
        rebuilt.restarted += u64::from(stored < logged);
    }
    rebuilt.whole += 1;
    Ok(())
}
