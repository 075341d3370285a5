//! The state both sides of a row hold: the same entities with the same history.

use super::measure::{core_seconds, millions};
use super::workload::{START_NS, Stream, one_each};
use crate::fault::Fault;
use crate::rivals::SharedMap;
use ebbtide_shard::limits::{BATCH_EVENTS_MAX, PARTITIONS};
use ebbtide_shard::{PartitionKey, RoutedEvent, Schema, SignalLedger};
use std::sync::Arc;
use std::time::Duration;

/// The key of every ledger here: fixed, so that a run can be repeated.
pub(crate) const KEY: [u8; 16] = *b"compare's ledger";
/// Events each entity has had before a row begins.
const HISTORY: u64 = 2;
/// Time between those.
const HISTORY_STEP_NS: u64 = 20 * 60 * 1_000_000_000;
/// Time for the events of one row: more than the largest row spans.
const ROW_NS: u64 = 2 * 3_600 * 1_000_000_000;

const HOURS: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(24), Duration::from_hours(168)];

/// How many of the usual three half-lives a schema has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decays {
    /// Only the first: for reads that ask one score, so that the rival computes no more than is
    /// asked.
    One,
    /// All: for writes.
    Three,
}

impl Decays {
    fn half_lives(self) -> &'static [Duration] {
        if self == Self::One { &HOURS[..1] } else { &HOURS }
    }
}

/// One signal type with some half-lives and the windows 1 h, 24 h and 7 d.
///
/// # Errors
///
/// Never: the schema is ours.
pub(crate) fn schema(decays: Decays) -> Result<Arc<Schema>, Fault> {
    let schema = Schema::builder()
        .signal("view", |s| s.half_lives(decays.half_lives().iter().copied()).windows(HOURS));
    schema.build().map(Arc::new).map_err(Fault::input)
}

/// Ledgers over equal parts of the partitions.
///
/// # Errors
///
/// Never: see [`schema`].
pub(crate) fn ledgers(count: usize, decays: Decays) -> Result<Vec<SignalLedger>, Fault> {
    let (schema, key, part) = (schema(decays)?, PartitionKey::new(KEY), PARTITIONS / count);
    let ledger = |n: usize| SignalLedger::new(Arc::clone(&schema), key, n * part..(n + 1) * part);
    Ok((0..count).map(ledger).collect())
}

/// The history of `entities` entities, oldest first, as batches; it ends at `end_ns`.
pub(crate) fn history(entities: u64, end_ns: u64) -> impl Iterator<Item = Vec<RoutedEvent>> {
    history_ns(end_ns).into_iter().flat_map(move |time_ns| batches(one_each(entities, time_ns)))
}

/// When each entity had its events in a history that ends at `end_ns`, oldest first.
pub(super) fn history_ns(end_ns: u64) -> Vec<u64> {
    (1..=HISTORY).rev().map(|ago| end_ns - ago * HISTORY_STEP_NS).collect()
}

/// Events in batches as large as a shard's.
pub(crate) fn batches(
    mut events: impl Iterator<Item = RoutedEvent>,
) -> impl Iterator<Item = Vec<RoutedEvent>> {
    std::iter::from_fn(move || {
        let batch: Vec<_> = events.by_ref().take(BATCH_EVENTS_MAX).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

/// A shared map without states, with room for `entities`.
pub(super) fn shared_map(entities: u64, decays: Decays) -> SharedMap {
    let capacity = usize::try_from(entities).unwrap_or(usize::MAX);
    SharedMap::with_capacity(capacity, &[decays.half_lives()])
}

/// The rival and some ledgers, all with the same history.
pub(super) struct Tables {
    /// The rival.
    pub(super) map: SharedMap,
    /// Ours, for the rows of one thread.
    pub(super) ledger: SignalLedger,
    /// Ours, in two halves.
    pub(super) halves: Vec<SignalLedger>,
    /// How many entities they know.
    pub(super) entities: u64,
    /// From when on a row's events are new to everyone.
    now_ns: u64,
}

impl Tables {
    /// Tables that know `entities`.
    ///
    /// # Errors
    ///
    /// Never: see [`ledgers`].
    pub(super) fn new(entities: u64) -> Result<Self, Fault> {
        let map = shared_map(entities, Decays::Three);
        let ledger = ledgers(1, Decays::Three)?.remove(0);
        let halves = ledgers(2, Decays::Three)?;
        let mut tables = Self { map, ledger, halves, entities, now_ns: START_NS };
        for batch in history(entities, START_NS) {
            record(&tables.map, &batch);
            tables.ledger.apply_batch(&batch);
            for half in &mut tables.halves {
                let own = |event: &&RoutedEvent| half.owns(event.hash);
                let own: Vec<_> = batch.iter().filter(own).copied().collect();
                half.apply_batch(&own);
            }
        }
        Ok(tables)
    }

    /// A stream for the next row, which begins after those of all rows before.
    pub(super) fn stream(&mut self, zipf: f64, seed: u64) -> Stream {
        self.now_ns += ROW_NS;
        self.stream_beside(zipf, seed)
    }

    /// Another stream for the same row.
    pub(super) fn stream_beside(&self, zipf: f64, seed: u64) -> Stream {
        Stream::new((self.entities, zipf), self.now_ns, seed)
    }

    /// The rate of each side, in millions of events per second, at the same events.
    pub(super) fn rates(&mut self, events: &[RoutedEvent]) -> (f64, f64) {
        let ours = core_seconds(|| apply_batches(&mut self.ledger, events));
        let rival = core_seconds(|| record(&self.map, events));
        (millions(events.len(), ours), millions(events.len(), rival))
    }
}

/// Applies events in batches as large as a shard's.
pub(crate) fn apply_batches(ledger: &mut SignalLedger, events: &[RoutedEvent]) {
    events.chunks(BATCH_EVENTS_MAX).for_each(|batch| ledger.apply_batch(batch));
}

/// Records events in the rival.
pub(super) fn record(map: &SharedMap, events: &[RoutedEvent]) {
    for event in events {
        map.record(event.entity.0, event.signal.0, event.time.0, event.weight);
    }
}
