//! The best of all entities, kept on writes, beside a scan of all scores.
//!
//! The signal type has one half-life and no window, so that the scan reads scores and nothing else.

use super::criteria::TOP_K;
use super::measure::wall_seconds;
use super::workload::{START_NS, VIEW};
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use ebbtide::{EntityId, Idle, LocalShard, Schema, Timestamp};
use std::hint::black_box;
use std::sync::Arc;

/// Places asked for.
const PLACES: usize = 100;
/// Questions in a turn, for each scan.
const QUESTIONS: u32 = 1_000;
/// When everything is ranked.
const NOW: Timestamp = Timestamp(START_NS + 60_000_000_000);

/// Measures the row.
///
/// # Errors
///
/// If the engine does not run.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    if !run.wants(&[TOP_K]) {
        return Ok(());
    }
    let schema =
        Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]").map_err(Fault::input)?;
    let kind = (Arc::new(schema), Idle::Spin);
    let engine = engines::with_history(kind, run.effort.entities_dram, START_NS)?;
    let mut reader = engine.reader()?;
    let turns = run.effort.turns;
    cores::on_first(move || {
        run.row_of_turns(TOP_K, turns, || {
            let ours = wall_seconds(|| {
                (0..QUESTIONS).try_for_each(|_| {
                    black_box(reader.top_k(VIEW, 0, PLACES, NOW).map_err(Fault::environment)?);
                    Ok(())
                })
            })?;
            let theirs = wall_seconds(|| {
                black_box(engine.on_every_shard(scan).map_err(Fault::environment)?);
                Ok(())
            })?;
            Ok((f64::from(QUESTIONS) / ours, 1.0 / theirs))
        })?;
        engines::close(&engine)
    })
}

/// The best by looking at everyone, in one pass over memory; the list is cut when it has doubled.
fn scan(shard: &LocalShard<'_>) -> Vec<(f64, EntityId)> {
    let order = |a: &(f64, EntityId), b: &(f64, EntityId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let mut best: Vec<(f64, EntityId)> = Vec::with_capacity(2 * PLACES);
    let mut bar = 0.0;
    for (entity, _, reading) in shard.pairs(NOW) {
        let score = reading.scores()[0];
        if score > bar {
            best.push((score, entity));
            if best.len() == 2 * PLACES {
                best.select_nth_unstable_by(PLACES - 1, order);
                best.truncate(PLACES);
                bar = best[PLACES - 1].0;
            }
        }
    }
    best.sort_unstable_by(order);
    best.truncate(PLACES);
    best
}
