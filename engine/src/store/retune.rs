//! Other half-lives for a store: a decision of the host, carried out before the store opens.
//!
//! ```text
//! rebuild in memory ─▶ convert ─▶ make the logs durable ─▶ write checkpoint.new
//! close the old storage ─▶ exchange the two directories ─▶ remove the old one      (open)
//! ```
//!
//! Promises: either the old checkpoint or the new one is there, whatever happens; both cover the
//! logs as they are. A score that restarts begins at zero; one that is rebuilt is the sum over
//! every event ever recorded, or the store is refused.
//! Fails by: [`StoreError`]; the store is then as it was.

use super::files;
use super::recover::LEAVING;
use super::whole::{Reading, Whole, Written};
use super::{FjallStorage, StoreError};
use ebbtide_shard::checkpoint::Opening;
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::schema::evolution::Evolution;
use ebbtide_shard::schema::numbers::SignalNumbers;
use ebbtide_shard::{Materializer as _, RestoredPair, Schema, SignalId, SignalLedger, Timestamp};
use ebbtide_wal::ready;
use ebbtide_wal::storage::threads::Threads;
use std::sync::Arc;

/// Whether sums stand elsewhere under the new schema than under the stored one.
pub(super) fn moves_sums(stored: &Schema, asked: &Schema, evolution: &Evolution) -> bool {
    asked.signals().any(|(id, def)| {
        let Some(old) = stored.signal(def.name()) else { return false };
        let places = stored.def(old).half_lives().len().max(def.half_lives().len());
        let kept = (0..).map(Some).take(places);
        !kept.eq(evolution.sources(id)[..places].iter().copied())
    })
}

/// Writes the store's checkpoint anew, for the half-lives of `asked`, where the next one goes.
pub(super) fn write_next(
    reading: &Reading<'_, FjallStorage>,
    asked: (&Arc<Schema>, &SignalNumbers, Vec<String>),
    evolution: &Evolution,
) -> Result<(), StoreError> {
    let (schema, numbers, signal_names) = asked;
    let mut whole = reading.whole()?;
    // What was read may lie in a cache only, and a checkpoint must not be ahead of it.
    for (&log, replayed) in &whole.logs {
        let path = reading.files.log(log);
        let storage = Threads::open(&path).map_err(files::failed("opening", &path))?;
        ready(replayed.settle(&storage)).map_err(|fault| StoreError::LogFault { path, fault })?;
    }
    let listed = reading.meta.covered.iter().map(|&(log, lsn)| match whole.logs.get(&log) {
        Some(replayed) => (log, replayed.report.last.get()),
        None => (log, lsn),
    });
    let covered: Vec<_> = listed.collect();
    if evolution.rebuilds() {
        let anew = Reading { schema, numbers, ..*reading };
        let rebuilt = anew.whole_from_logs().map_err(|error| cannot_rebuild(reading, error))?;
        if !counts_agree(&whole, &rebuilt) {
            return Err(StoreError::CannotRebuild { path: reading.files.logs() });
        }
        let sources = std::mem::take(&mut whole.sources);
        whole = Whole { sources, ..rebuilt };
    } else {
        convert(&mut whole, reading.numbers, (schema, numbers), evolution);
    }
    let next = reading.files.next_checkpoint();
    files::remove_directory(&next)?;
    let opening = Opening {
        number: reading.meta.openings,
        schema_toml: schema.to_toml(),
        signal_names,
        covered: reading.meta.covered.clone(),
    };
    let layout = reading.meta.layout;
    let (manifest, numbers) = (reading.manifest, numbers.by_signal());
    whole.write(&next, Written { manifest, opening, layout, covered, numbers })
}

/// The same state under another schema: each score from its place among the stored ones, or zero.
fn convert(
    whole: &mut Whole,
    stored: &SignalNumbers,
    (schema, numbers): (&Arc<Schema>, &SignalNumbers),
    evolution: &Evolution,
) {
    let key = *whole.ledger.key();
    let mut ledger = SignalLedger::new(Arc::clone(schema), key, 0..PARTITIONS);
    for ((entity, number), mut record) in whole.records(stored.by_signal()) {
        let signal = numbers.signal(number).expect("the new schema has every stored signal type");
        let old = record.sums;
        for (sum, source) in record.sums.iter_mut().zip(evolution.sources(signal)) {
            *sum = source.map_or(0.0, |source| old[usize::from(source)]);
        }
        let half_lives = schema.def(signal).half_lives().len();
        record.half_lives = u8::try_from(half_lives).expect("there are at most three");
        let pair = RestoredPair { entity, hash: key.hash(entity), signal, record, saved: None };
        ledger.restore(&pair).expect("the record has as many half-lives as the schema");
    }
    whole.ledger = ledger;
}

/// Whether both have every event: the same pairs, with as many events each.
fn counts_agree(one: &Whole, other: &Whole) -> bool {
    let counts = |whole: &Whole| {
        let all = whole.ledger.iter(Timestamp(0));
        let mut counts: Vec<_> = all
            .map(|(entity, signal, reading)| (entity, name(whole, signal), reading.all_time))
            .collect();
        counts.sort_unstable();
        counts
    };
    counts(one) == counts(other)
}

fn name(whole: &Whole, signal: SignalId) -> String {
    whole.ledger.schema().def(signal).name().to_owned()
}

fn cannot_rebuild(reading: &Reading<'_, FjallStorage>, error: StoreError) -> StoreError {
    match error {
        StoreError::Log { path, source: ebbtide_wal::RecoverError::BeginsTooLate { .. } } => {
            StoreError::CannotRebuild { path }
        }
        _ if reading.meta.covered.iter().any(|&(_, lsn)| lsn == LEAVING) => {
            StoreError::CannotRebuild { path: reading.files.logs() }
        }
        other => other,
    }
}
