//! Rows that apply events straight to a ledger, beside the shared map and beside bare tables.

use super::Run;
use super::bare_table::{BareTable, Counter, TwoLines};
use super::criteria::{
    APPLY_CACHE, APPLY_DRAM, APPLY_DRAM_ZIPF, APPLY_TWO_THREADS, APPLY_VS_COUNTER, APPLY_VS_TOUCH,
    Criterion, HOT_KEY, RECORD_END_TO_END,
};
use super::measure::{core_seconds, millions};
use super::tables::{Tables, apply_batches, record};
use super::workload::{START_NS, one_each};
use crate::cores;
use crate::fault::Fault;
use ebbtide_shard::{RoutedEvent, SignalLedger};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

/// Measures every row that applies events.
///
/// # Errors
///
/// If the engine of a row does not run.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    if run.wants(&[APPLY_CACHE]) {
        let mut tables = Tables::new(run.effort.entities_cache)?;
        let events = run.effort.events_cache;
        cores::on_first(|| beside_map(run, APPLY_CACHE, &mut tables, (events, 0.0)))?;
    }
    let one = [APPLY_DRAM, APPLY_DRAM_ZIPF, APPLY_VS_COUNTER, APPLY_VS_TOUCH];
    let more = [APPLY_TWO_THREADS, RECORD_END_TO_END, HOT_KEY];
    if !run.wants(&[&one[..], &more].concat()) {
        return Ok(());
    }
    let mut tables = Tables::new(run.effort.entities_dram)?;
    let events = run.effort.events_dram;
    cores::on_first(|| {
        beside_map(run, APPLY_DRAM, &mut tables, (events, 0.0))?;
        beside_map(run, APPLY_DRAM_ZIPF, &mut tables, (events, 1.0))
    })?;
    if run.wants(&[APPLY_TWO_THREADS]) {
        two_threads(run, &mut tables)?;
    }
    tables.halves.clear();
    if run.wants(&[APPLY_VS_COUNTER, APPLY_VS_TOUCH]) {
        cores::on_first(|| beside_bare_tables(run, &mut tables))?;
    }
    if run.wants(&[RECORD_END_TO_END, HOT_KEY]) {
        super::record::rows(run, tables)?;
    }
    Ok(())
}

fn beside_map(
    run: &mut Run,
    criterion: Criterion,
    tables: &mut Tables,
    (events, zipf): (usize, f64),
) -> Result<(), Fault> {
    let mut stream = tables.stream(zipf, 1);
    run.row(criterion, || Ok(tables.rates(&stream.take(events))))
}

fn beside_bare_tables(run: &mut Run, tables: &mut Tables) -> Result<(), Fault> {
    let mut stream = tables.stream(0.0, 2);
    let (ledger, entities, events) = (&mut tables.ledger, tables.entities, run.effort.events_dram);
    let cost = |seconds: f64| seconds * 1e9 / events as f64;
    if run.wants(&[APPLY_VS_COUNTER]) {
        let mut counters = BareTable::<Counter>::of(one_each(entities, START_NS));
        run.row(APPLY_VS_COUNTER, || {
            let events = stream.take(events);
            let ours = core_seconds(|| apply_batches(ledger, &events));
            Ok((cost(ours), cost(core_seconds(|| counters.increment(&events)))))
        })?;
    }
    if run.wants(&[APPLY_VS_TOUCH]) {
        let mut lines = BareTable::<TwoLines>::of(one_each(entities, START_NS));
        run.row(APPLY_VS_TOUCH, || {
            let events = stream.take(events);
            let ours = core_seconds(|| apply_batches(ledger, &events));
            let touch = || {
                black_box(lines.touch(&events));
            };
            Ok((cost(ours), cost(core_seconds(touch))))
        })?;
    }
    Ok(())
}

fn two_threads(run: &mut Run, tables: &mut Tables) -> Result<(), Fault> {
    let mut stream = tables.stream(0.0, 3);
    let events = run.effort.events_dram;
    let Tables { map, halves: ledgers, .. } = tables;
    run.row(APPLY_TWO_THREADS, || {
        let events = stream.take(events);
        let owned = |ledger: &SignalLedger| -> Vec<RoutedEvent> {
            events.iter().filter(|event| ledger.owns(event.hash)).copied().collect()
        };
        let shares: Vec<_> = ledgers.iter().map(owned).collect();
        let work = ledgers.iter_mut().zip(&shares);
        let ours = in_parallel(work.map(|(ledger, share)| move || apply_batches(ledger, share)));
        // The rival's threads need not care whose an entity is.
        let halves = events.chunks(events.len().div_ceil(2));
        let map = &*map;
        let rival = in_parallel(halves.map(|half| move || record(map, half)));
        Ok((millions(events.len(), ours), millions(events.len(), rival)))
    })
}

/// Seconds of a core that the longer of two pieces of work takes, each on a core of its own, begun
/// together.
fn in_parallel<W: FnOnce() + Send>(work: impl Iterator<Item = W>) -> f64 {
    let (cores, start) = (cores::all(), &Barrier::new(2));
    thread::scope(|scope| {
        let spawn = |(work, core): (W, usize)| {
            scope.spawn(move || {
                cores::pin(Some(core));
                start.wait();
                core_seconds(work)
            })
        };
        let threads: Vec<_> = work.zip(cores).map(spawn).collect();
        let seconds = threads.into_iter().map(|thread| thread.join().expect("the work ends well"));
        seconds.fold(0.0, f64::max)
    })
}
