//! Rows of a whole engine: recording from end to end, hot keys, and doing nothing.
//!
//! What records has a store, and so a log; these rows count to applied, while the log writes what
//! it can. Both sides count by the wall: the engine works on two cores, and what else runs on the
//! machine is to count against both.

use super::criteria::{HOT_KEY, IDLE_CPU, RECORD_END_TO_END};
use super::measure::{millions, process_seconds, wall_seconds};
use super::tables::{Decays, Tables, record, schema};
use super::workload::{START_NS, Stream};
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use ebbtide::{Engine, Producer};
use ebbtide_shard::RoutedEvent;
use std::time::{Duration, Instant};

/// Measures recording, with the rival of `tables`.
///
/// # Errors
///
/// If the engine does not run.
pub(super) fn rows(run: &mut Run, mut tables: Tables) -> Result<(), Fault> {
    let mut uniform = tables.stream(0.0, 4);
    let (mut hot, mut cool) = (tables.stream(1.2, 5), tables.stream_beside(0.0, 6));
    let Tables { map, entities, .. } = tables;
    let folder = run.stores.fresh("recorded");
    let engine = run.stores.with_history(&folder, schema(Decays::Three)?, (entities, START_NS))?;
    let mut producer = engine.producer()?;
    let events = run.effort.events_dram;
    cores::on_first(|| {
        run.row(RECORD_END_TO_END, || {
            let events = uniform.take(events);
            let ours = rate(&mut producer, &events)?;
            let rival = wall_seconds(|| {
                record(&map, &events);
                Ok(())
            })?;
            Ok((ours, millions(events.len(), rival)))
        })?;
        run.row(HOT_KEY, || {
            let (hot, cool) = (hot.take(events), cool.take(events));
            Ok((rate(&mut producer, &hot)?, rate(&mut producer, &cool)?))
        })
    })?;
    engines::close(&engine)
}

/// Millions of events per second until the last is applied.
fn rate(producer: &mut Producer, events: &[RoutedEvent]) -> Result<f64, Fault> {
    let events = engines::unrouted(events);
    let seconds = wall_seconds(|| engines::record(producer, &events))?;
    Ok(millions(events.len(), seconds))
}

/// Measures what an engine costs that nobody uses.
///
/// # Errors
///
/// If the engine does not run.
pub(super) fn idle_row(run: &mut Run) -> Result<(), Fault> {
    if !run.wants(&[IDLE_CPU]) {
        return Ok(());
    }
    // As a host opens it: a shard on every core.
    let engine = Engine::in_memory().schema(schema(Decays::Three)?).open()?;
    let mut producer = engine.producer()?;
    let few = run.effort.entities_cache;
    let events = Stream::new((few, 0.0), START_NS, 8).take(2_000);
    engines::record(&mut producer, &engines::unrouted(&events))?;
    let watched = Duration::from_millis(run.effort.idle_ms);
    run.row(IDLE_CPU, || {
        let (used, begun) = (process_seconds(), Instant::now());
        std::thread::sleep(watched);
        Ok(((process_seconds() - used) / begun.elapsed().as_secs_f64(), 1.0))
    })?;
    engines::close(&engine)
}
