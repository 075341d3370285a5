//! Rows that read: many candidates at once, one through the rings, the best of some.
//!
//! The shard spins, as a host that cares for the latency of reads would have it.

use super::criteria::{
    Criterion, RANK_200, READ_MANY_CACHE, READ_MANY_DRAM, READ_MANY_LOCAL, READ_ONE_HOP,
};
use super::measure::{Sides, millions, wall_seconds};
use super::tables::{Decays, history, record, schema, shared_map};
use super::workload::{CANDIDATES, Candidates, START_NS, VIEW};
use super::{Run, engines};
use crate::cores;
use crate::fault::Fault;
use crate::rivals::SharedMap;
use crate::stalls::Stalls;
use ebbtide::{Engine, EntityId, Idle, Plan, Reader, Schema, Timestamp};
use std::hint::black_box;
use std::time::Instant;

/// When everything is read: in the minute after the last event.
const NOW_NS: u64 = START_NS + 60_000_000_000;
/// Places of a ranking.
pub(crate) const PLACES: usize = 20;
/// What each column of the plan counts for in a ranking.
pub(crate) const WEIGHTS: [f64; 4] = [1.0, 0.5, 0.25, 0.125];
/// Single reads in a turn, for each read of 200 in one.
const HOPS_PER_READ: usize = 20;

/// Measures every row that reads.
///
/// # Errors
///
/// If the engine does not run.
pub(super) fn rows(run: &mut Run) -> Result<(), Fault> {
    let (few, many) = (run.effort.entities_cache, run.effort.entities_dram);
    read_many(run, READ_MANY_DRAM, many)?;
    read_many(run, READ_MANY_CACHE, few)?;
    if run.wants(&[READ_MANY_LOCAL]) {
        read_many_local(run, few)?;
    }
    if run.wants(&[RANK_200]) {
        rank(run, few)?;
    }
    if run.wants(&[READ_ONE_HOP]) {
        one_hop(run, few)?;
    }
    Ok(())
}

fn engine(entities: u64) -> Result<Engine, Fault> {
    engines::with_history((schema(Decays::One)?, Idle::Spin), entities, START_NS)
}

/// One score and three windows.
pub(crate) fn plan(schema: &Schema) -> Result<Plan, Fault> {
    let score = Plan::over(schema).score("view", "1h");
    let windows = ["1h", "24h", "7d"];
    let plan = windows.iter().try_fold(score.map_err(Fault::input)?, |plan, window| {
        plan.count("view", window).map_err(Fault::input)
    })?;
    Ok(plan.build())
}

fn read_many(run: &mut Run, criterion: Criterion, entities: u64) -> Result<(), Fault> {
    if !run.wants(&[criterion]) {
        return Ok(());
    }
    let map = shared_map(entities, Decays::One);
    history(entities, START_NS).for_each(|batch| record(&map, &batch));
    let engine = engine(entities)?;
    let (plan, mut reader) = (plan(engine.schema())?, engine.reader()?);
    let mut candidates = Candidates::of(entities, 9);
    let reads = run.effort.reads;
    cores::on_first(|| {
        run.row(criterion, || {
            let sets = candidates.take(reads);
            let ours = wall_seconds(|| read_sets(&mut reader, &sets, &plan))?;
            let rival = wall_seconds(|| {
                sets.iter().flatten().for_each(|&entity| look(&map, entity));
                Ok(())
            })?;
            Ok((millions(reads * CANDIDATES, ours), millions(reads * CANDIDATES, rival)))
        })
    })?;
    engines::close(&engine)
}

/// The caller is where the state is, and so are the candidates.
fn read_many_local(run: &mut Run, entities: u64) -> Result<(), Fault> {
    let map = shared_map(entities, Decays::One);
    history(entities, START_NS).for_each(|batch| record(&map, &batch));
    let engine = engine(entities)?;
    let plan = plan(engine.schema())?;
    let mut candidates = Candidates::of(entities, 12);
    let reads = run.effort.reads;
    run.row(READ_MANY_LOCAL, || {
        let sets = candidates.take(reads);
        let (plan, asked) = (plan.clone(), sets.clone());
        let visited = engine.on_shard(EntityId(0), move |local| {
            let mut matrix = vec![0.0; CANDIDATES * plan.columns().len()];
            wall_seconds(|| {
                for set in &asked {
                    local.read_many(set, &plan, Timestamp(NOW_NS), &mut matrix);
                    black_box(&matrix);
                }
                Ok(())
            })
        });
        let ours = visited.map_err(Fault::environment)??;
        let rival = cores::on_first(|| {
            wall_seconds(|| {
                sets.iter().flatten().for_each(|&entity| look(&map, entity));
                Ok(())
            })
        })?;
        Ok((millions(reads * CANDIDATES, ours), millions(reads * CANDIDATES, rival)))
    })?;
    engines::close(&engine)
}

fn look(map: &SharedMap, entity: EntityId) {
    black_box(map.read(entity.0, VIEW.0, NOW_NS));
}

fn read_sets(reader: &mut Reader, sets: &[Vec<EntityId>], plan: &Plan) -> Result<(), Fault> {
    let mut matrix = vec![0.0; CANDIDATES * plan.columns().len()];
    for set in sets {
        let read = reader.read_many(set, plan, Timestamp(NOW_NS), &mut matrix);
        read.map_err(Fault::environment)?;
        black_box(&matrix);
    }
    Ok(())
}

fn rank(run: &mut Run, entities: u64) -> Result<(), Fault> {
    let engine = engine(entities)?;
    let (plan, mut reader) = (plan(engine.schema())?, engine.reader()?);
    let mut candidates = Candidates::of(entities, 10);
    let reads = run.effort.reads;
    cores::on_first(|| {
        run.row(RANK_200, || {
            let sets = candidates.take(reads);
            let now = Timestamp(NOW_NS);
            let fused = wall_seconds(|| {
                sets.iter().try_for_each(|set| {
                    let ranked = reader.rank(set, (&plan, &WEIGHTS), PLACES, now);
                    black_box(ranked.map_err(Fault::environment)?);
                    Ok(())
                })
            })?;
            let mut matrix = vec![0.0; CANDIDATES * WEIGHTS.len()];
            let by_host = wall_seconds(|| {
                sets.iter().try_for_each(|set| {
                    let read = reader.read_many(set, &plan, now, &mut matrix);
                    read.map_err(Fault::environment)?;
                    black_box(best_by_host(set, &matrix));
                    Ok(())
                })
            })?;
            Ok((fused * 1e6 / reads as f64, by_host * 1e6 / reads as f64))
        })
    })?;
    engines::close(&engine)
}

/// What a host does with a matrix that wants the best: score all, sort all, keep some.
fn best_by_host(set: &[EntityId], matrix: &[f64]) -> Vec<(f64, EntityId)> {
    let score = |row: &[f64]| row.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum();
    let rows = matrix.chunks_exact(WEIGHTS.len());
    let mut scored: Vec<(f64, EntityId)> =
        rows.zip(set).map(|(row, &entity)| (score(row), entity)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.truncate(PLACES);
    scored
}

fn one_hop(run: &mut Run, entities: u64) -> Result<(), Fault> {
    let mut candidates = Candidates::of(entities, 11);
    let sets = (run.effort.reads * HOPS_PER_READ / CANDIDATES).max(1);
    run.row(READ_ONE_HOP, || {
        let asked: Vec<EntityId> = candidates.take(sets).into_iter().flatten().collect();
        // Both want the last core for themselves, so each has it in turn.
        let engine = engine(entities)?;
        let mut reader = engine.reader()?;
        let mut stalls = Stalls::default();
        let ours = stalls.beside(|| cores::on_first(|| hops(&mut reader, &asked)))?;
        engines::close(&engine)?;
        let bare = stalls.beside(|| bare_hops(asked.len()));
        // The figure is a mean, which the rare long ones move.
        Ok(Sides { stall_us: stalls.at_us(0.99), ..(ours, bare).into() })
    })
}

/// Nanoseconds of a single read.
fn hops(reader: &mut Reader, entities: &[EntityId]) -> Result<f64, Fault> {
    let begun = Instant::now();
    for &entity in entities {
        let reading = reader.read(entity, VIEW, Timestamp(NOW_NS)).map_err(Fault::environment)?;
        black_box(reading);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / entities.len() as f64)
}

/// Nanoseconds of a round trip of one word through two rings, both ends spinning.
fn bare_hops(count: usize) -> f64 {
    let (mut ask, mut asked) = rtrb::RingBuffer::<u64>::new(4);
    let (mut answer, mut answered) = rtrb::RingBuffer::<u64>::new(4);
    let last = cores::all().last().copied();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            cores::pin(last);
            while !asked.is_abandoned() {
                if let Ok(word) = asked.pop() {
                    let _there_is_room = answer.push(word);
                }
                std::hint::spin_loop();
            }
        });
        cores::on_first(move || {
            let mut hop = |word| {
                let _there_is_room = ask.push(word);
                while answered.pop().is_err() {
                    std::hint::spin_loop();
                }
            };
            // The other thread is there when the first answer is.
            hop(0);
            let begun = Instant::now();
            (0..count as u64).for_each(hop);
            begun.elapsed().as_secs_f64() * 1e9 / count as f64
        })
    })
}
