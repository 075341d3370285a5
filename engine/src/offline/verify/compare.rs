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
use ebbtide_shard::checkpoint::{Key, PairRecord, StorageEngine};
use std::collections::BTreeMap;

/// Compares the pairs of `stored`, of checkpoint and logs, with those of `logged`.
pub(super) fn compare<S: StorageEngine>(
    (mut stored, mut logged): (Whole, Whole),
    reading: &Reading<'_, S>,
    differs: &mut dyn FnMut(Finding),
) -> Rebuilt {
    let numbers = reading.numbers.by_signal();
    let mut from_logs: BTreeMap<Key, PairRecord> = logged.take_records(numbers).collect();
    let mut rebuilt = Rebuilt::default();
    let def = |key| match key {
        Key::Pair { entity, number } => {
            let signal = reading.numbers.signal(number).expect("a ledger has its schema's signals");
            (entity, reading.schema.def(signal))
        }
        _ => unreachable!("a ledger has pairs only"),
    };
    let mut tell = |key, difference| {
        let (entity, def) = def(key);
        differs(Finding::Differs { entity, signal: def.name().to_owned(), difference });
    };
    for (key, record) in stored.take_records(numbers) {
        rebuilt.pairs += 1;
        let Some(logged) = from_logs.remove(&key) else { continue };
        if let Err(difference) = same(&record, &logged, def(key).1, &mut rebuilt) {
            tell(key, difference);
        }
    }
    for (key, record) in from_logs {
        tell(key, Difference::Events { logged: record.all_time, stored: 0 });
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
