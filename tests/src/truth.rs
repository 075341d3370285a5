//! What an engine says, held against the reference model, in every way of asking.
//!
//! Promises: counts, totals and times are compared exactly, scores to 1e-12 (relative); two ways of
//! asking the engine must agree to the bit. The first difference panics with the pair and both
//! values.

use crate::stream::entities;
use ebbtide::{
    Engine, EntityId, Event, Feature, Plan, Reader, Schema, SignalId, SignalReading, Timestamp,
};
use ebbtide_shard::model::{ModelReading, ReferenceModel};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Scores may differ by so much, relatively.
const TOLERANCE: f64 = 1e-12;
/// Scores below this have lost digits to underflow, in the model as well.
const SCORE_MIN: f64 = 1e-290;

/// Every pair's reading.
pub type State = BTreeMap<(EntityId, SignalId), SignalReading>;

/// A model of `events` over `schema`.
#[must_use]
pub fn model(schema: &Arc<Schema>, events: &[Event]) -> ReferenceModel {
    let mut model = ReferenceModel::new(Arc::clone(schema));
    for event in events {
        model.record(event.entity, event.signal, event.time, event.weight);
    }
    model
}

/// The whole state as of `now`, from every shard.
///
/// # Panics
///
/// If a shard is down or two shards hold one pair.
#[must_use]
pub fn state(engine: &Engine, now: Timestamp) -> State {
    let visited = engine.on_every_shard(move |local| local.pairs(now).collect::<Vec<_>>());
    let mut state = State::new();
    for (entity, signal, reading) in visited.expect("every shard runs").into_iter().flatten() {
        let other = state.insert((entity, signal), reading);
        assert_eq!(other, None, "{entity} is on one shard only");
    }
    state
}

/// Compares one reading with what is right.
///
/// # Panics
///
/// If they differ; `what` names the reading.
pub fn assert_right(reading: &SignalReading, right: &ModelReading, what: &str) {
    let times = (reading.as_of, reading.last_update, reading.all_time, reading.saturated);
    assert_eq!(times, (right.as_of, right.last_update, right.all_time, false), "{what}");
    assert_eq!(reading.counts(), right.counts, "{what}");
    assert_eq!(reading.velocities(), right.velocities, "{what}");
    assert_eq!(reading.scores().len(), right.scores.len(), "{what}");
    for (&score, &right) in reading.scores().iter().zip(&right.scores) {
        assert!(close(score, right), "{what}: score {score:?}, {right:?} is right");
    }
}

fn close(score: f64, right: f64) -> bool {
    let difference = (score - right).abs();
    score >= 0.0 && (difference <= TOLERANCE * right || right.max(score) < SCORE_MIN)
}

/// Asks an engine in every way there is and compares each answer with the model's.
///
/// # Panics
///
/// If an answer is not right, or none comes.
pub fn assert_agrees(engine: &Engine, model: &ReferenceModel, now: Timestamp) {
    let mut reader = engine.reader().expect("every shard runs");
    let state = state(engine, now);
    assert_eq!(state.len(), model.pairs().len(), "pairs held");
    for ((entity, signal), reading) in &state {
        let what = format!("entity {entity}, signal {}, as of {}", signal.0, now.as_nanos());
        let right = model.read(*entity, *signal, now).expect("only recorded pairs are held");
        assert_right(reading, &right, &what);
        let read = reader.read(*entity, *signal, now).expect("every shard runs");
        assert_eq!(read, Some(*reading), "{what}: read alone");
        let (id, at) = (*signal, *entity);
        let visited = engine.on_shard(at, move |local| local.read(at, id, now));
        assert_eq!(visited, Ok(Some(*reading)), "{what}: read on its core");
    }
    assert_rows_agree(engine.schema(), &mut reader, &state, now);
    assert_rankings_agree(engine.schema(), &mut reader, model, now);
}

fn assert_rows_agree(schema: &Schema, reader: &mut Reader, state: &State, now: Timestamp) {
    let plan = every_number(schema);
    // Ends with two that no stream has: their rows are zeros.
    let candidates: Vec<EntityId> =
        entities().into_iter().chain([EntityId(77), EntityId(78)]).collect();
    let width = plan.columns().len();
    let mut matrix = vec![f64::NAN; candidates.len() * width];
    reader.read_many(&candidates, &plan, now, &mut matrix).expect("every shard runs");
    let weights: Vec<f64> = (0..width).map(|column| 1.0 / (1.0 + column as f64)).collect();
    let mut by_hand = Vec::new();
    for (&entity, row) in candidates.iter().zip(matrix.chunks_exact(width)) {
        for (&column, number) in plan.columns().iter().zip(row) {
            let reading = state.get(&(entity, column.signal()));
            let right = reading.map_or(0.0, |reading| number_of(column, reading));
            assert_eq!(number.to_bits(), right.to_bits(), "entity {entity}, {column:?}");
        }
        let value: f64 = row.iter().zip(&weights).map(|(number, weight)| number * weight).sum();
        by_hand.push((entity, value));
    }
    by_hand.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    for k in [0, 1, 7, candidates.len(), candidates.len() + 1] {
        let ranked = reader.rank(&candidates, (&plan, &weights), k, now);
        let ranked = ranked.expect("every shard runs").into_iter().map(|r| (r.entity, r.value));
        let right = &by_hand[..k.min(by_hand.len())];
        assert_eq!(ranked.collect::<Vec<_>>(), right, "the best {k} candidates");
    }
}

/// The order of a ranking is that of one instant for all, though each score stands for its own.
fn assert_rankings_agree(
    schema: &Schema,
    reader: &mut Reader,
    model: &ReferenceModel,
    now: Timestamp,
) {
    let readings = model.pairs().filter_map(|(entity, signal)| model.read(entity, signal, now));
    let together = readings.map(|reading| reading.as_of).max().unwrap_or(now);
    for (signal, def) in schema.signals() {
        for half_life in 0..def.half_lives().len() {
            let mut right = model.top_k(signal, half_life, usize::MAX, together);
            // Below this even the order is lost to the model, which has scores only.
            right.retain(|place| place.1 > SCORE_MIN);
            for k in [0, 1, 10, 128] {
                let top = reader.top_k(signal, half_life, k, now).expect("every shard runs");
                assert!(top.len() >= right.len().min(k), "{}: {} places", def.name(), top.len());
                assert!(top.len() <= k, "{}: {} places", def.name(), top.len());
                for (place, (top, right)) in top.iter().zip(&right).enumerate() {
                    let what = format!("{}: {top:?} at place {place} of {k}", def.name());
                    let score = |now| {
                        let reading = model.read(top.entity, signal, now);
                        reading.map_or(0.0, |reading| reading.scores[half_life])
                    };
                    assert!(close(top.score, score(now)), "{what}: {:?} is right", score(now));
                    assert!(close(score(together), right.1), "{what}: {right:?} is right");
                }
            }
        }
    }
}

/// A plan with every number of every signal type.
///
/// # Panics
///
/// Never: it names what the schema has.
#[must_use]
pub fn every_number(schema: &Schema) -> Plan {
    let mut plan = Plan::over(schema);
    for (_, def) in schema.signals() {
        let name = def.name();
        for label in def.half_life_labels() {
            plan = plan.score(name, label).expect("a label of the schema");
        }
        for label in def.window_labels() {
            plan = plan.count(name, label).expect("a label of the schema");
            if def.velocity() {
                plan = plan.velocity(name, label).expect("a label of the schema");
            }
        }
        plan = plan.all_time(name).expect("a name of the schema");
    }
    plan.build()
}

fn number_of(column: Feature, reading: &SignalReading) -> f64 {
    match column {
        Feature::Score { half_life, .. } => reading.scores()[half_life],
        Feature::Count { window, .. } => reading.counts()[window] as f64,
        Feature::Velocity { window, .. } => reading.velocities()[window],
        Feature::AllTime { .. } => reading.all_time as f64,
    }
}
