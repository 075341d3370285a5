//! Rows that weigh: bytes per pair of entity and signal type, everything included on both sides but
//! the allocator's own overhead. Nothing here depends on the machine, but for the lock shards of
//! the rival beside the trace: four for each core.

use super::Run;
use super::criteria::{MEMORY_SPARSE, MEMORY_TRACE};
use super::tables::{Decays, KEY, batches, ledgers};
use super::workload::{START_NS, one_each};
use crate::fault::Fault;
use crate::rivals::SharedMap;
use crate::trace::{BUNDLED_SCHEMA, BatchEnd, TraceEvent, TraceReader};
use ebbtide_shard::limits::{BUCKETS, HOUR_NS, PARTITIONS};
use ebbtide_shard::signal::hot::HotSignalState;
use ebbtide_shard::{
    EntityId, Materializer as _, PartitionKey, RoutedEvent, Schema, SignalId, SignalLedger,
    Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

/// Non-empty buckets of a pair with little history: one minute, and the hours around it.
const SPARSE_BUCKETS: u64 = 14;
/// A counter for every bucket and the line of scores: the dense layout.
const DENSE_BYTES: usize = BUCKETS * size_of::<u32>() + size_of::<HotSignalState>();

/// Measures both rows.
///
/// # Errors
///
/// If the bundled trace is damaged.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let entities = run.effort.entities_memory;
    // Each turn would give the same bytes.
    if run.wants(&[MEMORY_SPARSE]) {
        let ours = sparse_bytes(entities)?;
        run.row_of_turns(MEMORY_SPARSE, 1, || Ok((ours, DENSE_BYTES as f64)))?;
    }
    if run.wants(&[MEMORY_TRACE]) {
        let bytes = trace_bytes()?;
        run.row_of_turns(MEMORY_TRACE, 1, || Ok(bytes))?;
    }
    Ok(())
}

fn sparse_bytes(entities: u64) -> Result<f64, Fault> {
    let mut ledger = ledgers(1, Decays::Three)?.remove(0);
    // An event an hour, so that at the end one minute and one hour less than all events are in use.
    for hour in 0..SPARSE_BUCKETS - 1 {
        for batch in batches(one_each(entities, START_NS + hour * HOUR_NS)) {
            ledger.apply_batch(&batch);
        }
    }
    Ok(bytes_per_pair(&ledger))
}

fn bytes_per_pair(ledger: &SignalLedger) -> f64 {
    ledger.memory_bytes() as f64 / ledger.pairs() as f64
}

/// Bytes per pair after the bundled trace: ours and the rival's, which has room for no more than
/// needed.
fn trace_bytes() -> Result<(f64, f64), Fault> {
    let schema = Arc::new(Schema::from_toml(BUNDLED_SCHEMA).map_err(Fault::input)?);
    let half_lives: Vec<Vec<Duration>> = schema
        .signals()
        .map(|(_, def)| {
            def.half_lives().iter().map(|h| Duration::from_nanos(h.as_nanos())).collect()
        })
        .collect();
    let half_lives: Vec<&[Duration]> = half_lives.iter().map(Vec::as_slice).collect();
    let map = SharedMap::small(&half_lives);
    let key = PartitionKey::new(KEY);
    let mut ledger = SignalLedger::new(Arc::clone(&schema), key, 0..PARTITIONS);
    for event in &bundled(&schema)? {
        map.record(event.entity, event.signal, event.time_ns, event.weight);
        let (entity, time) = (EntityId(event.entity), Timestamp(event.time_ns));
        let (hash, signal) = (key.hash(entity), SignalId(event.signal));
        ledger.on_event(&RoutedEvent { entity, time, weight: event.weight, hash, signal });
    }
    Ok((bytes_per_pair(&ledger), map.memory_bytes() as f64 / map.len() as f64))
}

fn bundled(schema: &Schema) -> Result<Vec<TraceEvent>, Fault> {
    let signals: Vec<&str> = schema.signals().map(|(_, def)| def.name()).collect();
    let mut reader = TraceReader::bundled(&signals)?;
    let mut events = Vec::new();
    match reader.read_batch(usize::MAX, &mut events)? {
        BatchEnd::EndOfTrace | BatchEnd::Full => Ok(events),
        BatchEnd::BadLine(bad) => Err(Fault::input(bad)),
    }
}
