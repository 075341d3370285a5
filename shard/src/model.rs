//! The slow truth: keeps every event and sums afresh on every read.
//!
//! Promises: obviously right rather than fast; shares no arithmetic with the fast code. Scores are
//! summed with Neumaier's compensation and are within 1e-13 (relative) of exact. Repeats are told
//! without a horizon: every id and content is remembered. Used by the tests and by
//! `replay --verify`.

use crate::limits::{HOUR_BUCKETS, HOUR_NS, MINUTE_NS};
use crate::signal::window::Window;
use crate::{Dedup, EntityId, Event, Schema, SignalId, Timestamp, checked_weight};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Every event ever recorded, by pair.
///
/// ```
/// use ebbtide_shard::{EntityId, Schema, SignalId, Timestamp, model::ReferenceModel};
/// let schema = Schema::from_toml("[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"1h\"]")?;
/// let mut model = ReferenceModel::new(schema.into());
/// model.record(EntityId(1), SignalId(0), Timestamp::from_seconds(0), 2.0);
/// let truth = model.read(EntityId(1), SignalId(0), Timestamp::from_seconds(3600)).unwrap();
/// assert_eq!((truth.scores[0], truth.counts[0], truth.all_time), (1.0, 0, 1));
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Debug)]
pub struct ReferenceModel {
    schema: Arc<Schema>,
    events: BTreeMap<(EntityId, SignalId), Vec<(Timestamp, f64)>>,
    ids: HashSet<(EntityId, SignalId, u128)>,
    contents: HashSet<(EntityId, SignalId, Timestamp, u64)>,
}

/// What the model says of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelReading {
    /// The instant it holds for: the one asked for, or the last update if that is later.
    pub as_of: Timestamp,
    /// The latest event time.
    pub last_update: Timestamp,
    /// All events.
    pub all_time: u64,
    /// In the order of the schema's half-lives.
    pub scores: Vec<f64>,
    /// In the order of the schema's windows.
    pub counts: Vec<u64>,
    /// In the order of the schema's windows; empty unless the signal type asks for velocity.
    pub velocities: Vec<f64>,
}

impl ReferenceModel {
    /// A model without events.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema, events: BTreeMap::new(), ids: HashSet::new(), contents: HashSet::new() }
    }

    /// Keeps one event without an id, unless its signal type makes it a repeat.
    pub fn record(&mut self, entity: EntityId, signal: SignalId, time: Timestamp, weight: f64) {
        self.record_with_id(Event { entity, signal, time, weight }, None);
    }

    /// Keeps one event, unless its signal type makes it a repeat, and says whether it counted.
    pub fn record_with_id(&mut self, event: Event, id: Option<u128>) -> bool {
        let Event { entity, signal, time, weight } = event;
        let is_new = match (self.schema.def(signal).dedup(), id) {
            (Dedup::None, _) | (Dedup::Id, None) => true,
            (Dedup::Id, Some(id)) => self.ids.insert((entity, signal, id)),
            (Dedup::Content, _) => {
                let admitted = checked_weight(weight).unwrap_or(weight);
                self.contents.insert((entity, signal, time, admitted.to_bits()))
            }
        };
        if is_new {
            self.events.entry((entity, signal)).or_default().push((time, weight));
        }
        is_new
    }

    /// Every pair that has events, by entity, then signal type.
    #[must_use]
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (EntityId, SignalId)> {
        self.events.keys().copied()
    }

    /// Everything about a pair as of `now`, from its events alone; `None` if it has none.
    #[must_use]
    pub fn read(&self, entity: EntityId, signal: SignalId, now: Timestamp) -> Option<ModelReading> {
        let events = self.events.get(&(entity, signal))?;
        let def = self.schema.def(signal);
        let last_update = events.iter().map(|&(time, _)| time).max()?;
        let as_of = now.max(last_update);
        let score = |half_life_ns: u64| {
            sum(events.iter().map(|&(time, weight)| {
                weight * decay(as_of.as_nanos() - time.as_nanos(), half_life_ns)
            }))
        };
        let count = |window_ns: u64| {
            events.iter().filter(|&&(time, _)| in_window(time, as_of, window_ns)).count() as u64
        };
        let counts: Vec<u64> = def.windows().iter().map(|w| count(w.as_nanos())).collect();
        let per_second = |(count, ns): (&u64, u64)| *count as f64 / (ns as f64 / 1e9);
        let lengths = def.windows().iter().map(Window::as_nanos);
        let velocities = if def.velocity() {
            counts.iter().zip(lengths).map(per_second).collect()
        } else {
            Vec::new()
        };
        Some(ModelReading {
            as_of,
            last_update,
            all_time: events.len() as u64,
            scores: def.half_lives().iter().map(|half_life| score(half_life.as_nanos())).collect(),
            counts,
            velocities,
        })
    }

    /// The entities with the `k` highest scores of one half-life, best first, ties by the smaller
    /// id; entities whose score is zero are left out.
    #[must_use]
    pub fn top_k(
        &self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Vec<(EntityId, f64)> {
        let score = |&(entity, of): &(EntityId, SignalId)| {
            let reading = (of == signal).then(|| self.read(entity, of, now)).flatten()?;
            Some((entity, reading.scores[half_life]))
        };
        let mut all: Vec<_> = self.events.keys().filter_map(score).collect();
        all.retain(|&(_, score)| score > 0.0);
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }
}

/// `2^(−dt/half_life)`: whole half-lives halve exactly, the rest goes through the platform's
/// `exp2`.
fn decay(dt_ns: u64, half_life_ns: u64) -> f64 {
    let (whole, rest) = (dt_ns / half_life_ns, dt_ns % half_life_ns);
    let halvings = i32::try_from(whole).map_or(-5000, |whole| -whole.min(5000));
    (-(rest as f64) / half_life_ns as f64).exp2()
        * 2f64.powi(halvings / 2)
        * 2f64.powi(halvings - halvings / 2)
}

/// Whether `time` is in one of the buckets that a window as of `now` sums.
fn in_window(time: Timestamp, now: Timestamp, window_ns: u64) -> bool {
    let width = if window_ns <= HOUR_NS { MINUTE_NS } else { HOUR_NS };
    debug_assert!(window_ns <= HOUR_BUCKETS as u64 * HOUR_NS);
    let (bucket, last) = (time.as_nanos() / width, now.as_nanos() / width);
    bucket <= last && last - bucket < window_ns / width
}

/// Neumaier's compensated sum.
fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0f64, 0.0f64);
    for term in terms {
        let next = total + term;
        lost += if total.abs() >= term.abs() { total - next + term } else { term - next + total };
        total = next;
    }
    total + lost
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "[signals.content]\nhalf_lives = [\"1h\"]\ndedup = \"content\"\n\
                          [signals.id]\nhalf_lives = [\"1h\"]\ndedup = \"id\"\n\
                          [signals.none]\nhalf_lives = [\"1h\"]\n";
    const CONTENT: SignalId = SignalId(0);
    const ID: SignalId = SignalId(1);
    const NONE: SignalId = SignalId(2);

    #[test]
    fn repeats_do_not_count_where_the_signal_type_says_what_they_are() {
        let schema = Schema::from_toml(SCHEMA).unwrap();
        let mut model = ReferenceModel::new(schema.into());
        let mut counts = |entity, signal, seconds, weight, id| {
            let event = Event::new(EntityId(entity), signal, Timestamp::from_seconds(seconds));
            model.record_with_id(event.with_weight(weight), id)
        };
        for (signal, twice) in [(CONTENT, false), (ID, true), (NONE, true)] {
            assert!(counts(1, signal, 5, 1.0, None));
            assert_eq!(counts(1, signal, 5, 1.0, None), twice, "the same content");
        }
        for (signal, twice) in [(CONTENT, true), (ID, false), (NONE, true)] {
            assert!(counts(1, signal, 6, 1.0, Some(7)));
            assert_eq!(counts(1, signal, 7, 2.0, Some(7)), twice, "the same id");
        }
        assert!(counts(2, ID, 6, 1.0, Some(7)), "the id of another entity");
        assert!(counts(2, CONTENT, 5, 1.0, None), "the content of another entity");
        assert!(counts(1, CONTENT, 5, 1.5, None), "another weight");
        assert!(counts(1, CONTENT, 9, 0.0, None));
        assert!(!counts(1, CONTENT, 9, -0.0, None), "stored as the same weight");
        let counted = |model: &ReferenceModel, signal| {
            model.read(EntityId(1), signal, Timestamp(0)).unwrap().all_time
        };
        assert_eq!([CONTENT, ID, NONE].map(|signal| counted(&model, signal)), [5, 3, 4]);
    }
}
