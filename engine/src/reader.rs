//! Readers: one thread's, or one task's, way to ask.

use crate::ReadError;
use crate::block_on::block_on;
use ebbtide_router::{Clock, RequestRouter};
use ebbtide_shard::limits::TOP_K_MAX;
use ebbtide_shard::{
    EntityId, Feature, Plan, Schema, SignalId, SignalReading, SignalTypeDef, Timestamp, TopEntry,
};
use std::sync::Arc;

/// One candidate and its value under a plan and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Who.
    pub entity: EntityId,
    /// The weighted sum of the plan's numbers.
    pub value: f64,
}

/// Asks from one task of any executor. The futures may be dropped at any time; the next question
/// then waits for the reply nobody took.
///
/// Every question names its instant. A pair whose last event is later than that is read as of that
/// event instead, and says so in [`SignalReading::as_of`].
#[derive(Debug)]
pub struct AsyncReader {
    requests: RequestRouter,
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
    /// The matrix of the last ranking, for the next.
    values: Vec<f64>,
}

impl AsyncReader {
    pub(crate) fn new(requests: RequestRouter, schema: Arc<Schema>, clock: Arc<dyn Clock>) -> Self {
        Self { requests, schema, clock, values: Vec::new() }
    }

    /// The present, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Everything about one pair as of `now`; `None` if it never had an event.
    ///
    /// # Errors
    ///
    /// [`ReadError`] for an unknown signal type or a shard that is down.
    pub async fn read(
        &mut self,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> Result<Option<SignalReading>, ReadError> {
        self.def(signal)?;
        Ok(self.requests.read(entity, signal, now).await?)
    }

    /// Fills `out` with a feature matrix as of one instant: a row for each entity, in their order,
    /// with a number for each column of `plan`. An entity without events has a row of zeros.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if `out` has not `entities × columns` places, or a shard is down; `out` may
    /// then be filled in part.
    pub async fn read_many(
        &mut self,
        entities: &[EntityId],
        plan: &Plan,
        now: Timestamp,
        out: &mut [f64],
    ) -> Result<(), ReadError> {
        let (rows, columns, room) = (entities.len(), plan.columns().len(), out.len());
        if rows * columns != room {
            return Err(ReadError::Shape { rows, columns, room });
        }
        plan.columns().iter().try_for_each(|&column| self.check(column))?;
        Ok(self.requests.read_rows(entities, plan.columns(), now, out).await?)
    }

    /// The best `k` of `entities` by the sum of the plan's numbers, each times its weight, as of
    /// one instant; best first, ties by the smaller id.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::read_many`]; [`ReadError::Shape`] if there is not one weight for each
    /// column.
    pub async fn rank(
        &mut self,
        entities: &[EntityId],
        (plan, weights): (&Plan, &[f64]),
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<Ranked>, ReadError> {
        let columns = plan.columns().len();
        if weights.len() != columns {
            return Err(ReadError::Shape { rows: 1, columns, room: weights.len() });
        }
        let mut values = std::mem::take(&mut self.values);
        values.resize(entities.len() * columns, 0.0);
        let read = self.read_many(entities, plan, now, &mut values).await;
        let ranked = read.map(|()| best(entities, &values, weights, k));
        self.values = values;
        ranked
    }

    /// The best `k` of all entities by one score, best first, ties by the smaller id; entities
    /// whose score is zero for good are left out. Kept up on writes: no scan.
    ///
    /// # Errors
    ///
    /// [`ReadError`] for an unknown signal type or half-life, for more than [`TOP_K_MAX`] places,
    /// or a shard that is down.
    pub async fn top_k(
        &mut self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<TopEntry>, ReadError> {
        self.check(Feature::Score { signal, half_life })?;
        if k > TOP_K_MAX {
            return Err(ReadError::TooMany { asked: k, most: TOP_K_MAX });
        }
        Ok(self.requests.top_k(signal, half_life, k, now).await?)
    }

    fn def(&self, signal: SignalId) -> Result<&SignalTypeDef, ReadError> {
        if self.schema.contains(signal) {
            return Ok(self.schema.def(signal));
        }
        Err(ReadError::UnknownSignal { signal: signal.0, known: self.schema.signals().len() })
    }

    /// A plan made over another schema may name what this one does not have.
    fn check(&self, column: Feature) -> Result<(), ReadError> {
        let def = self.def(column.signal())?;
        match column {
            Feature::Score { half_life, .. } if half_life >= def.half_lives().len() => {
                Err(ReadError::UnknownHalfLife { half_life, known: def.half_lives().len() })
            }
            Feature::Count { window, .. } | Feature::Velocity { window, .. }
                if window >= def.windows().len() =>
            {
                Err(ReadError::UnknownWindow { window, known: def.windows().len() })
            }
            _ => Ok(()),
        }
    }
}

fn best(entities: &[EntityId], values: &[f64], weights: &[f64], k: usize) -> Vec<Ranked> {
    let rows = values.chunks_exact(weights.len().max(1));
    let value = |row: &[f64]| row.iter().zip(weights).map(|(value, weight)| value * weight).sum();
    let mut ranked: Vec<_> = entities
        .iter()
        .zip(rows)
        .map(|(&entity, row)| Ranked { entity, value: value(row) })
        .collect();
    let order = |a: &Ranked, b: &Ranked| b.value.total_cmp(&a.value).then(a.entity.cmp(&b.entity));
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k, order);
        ranked.truncate(k);
    }
    ranked.sort_unstable_by(order);
    ranked
}

/// Asks from one thread, and waits for the answer: a hop to the owning core and back. It can be
/// moved to another thread, but not shared or cloned: open one for each reading thread. In async
/// code use [`AsyncReader`], which has the same questions.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<ebbtide::Reader>();
/// ```
#[derive(Debug)]
pub struct Reader {
    inner: AsyncReader,
}

impl Reader {
    pub(crate) fn new(inner: AsyncReader) -> Self {
        Self { inner }
    }

    /// The present, by the engine's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.now()
    }

    /// Everything about one pair as of `now`; `None` if it never had an event.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::read`].
    pub fn read(
        &mut self,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> Result<Option<SignalReading>, ReadError> {
        block_on(self.inner.read(entity, signal, now))
    }

    /// Fills `out` with a feature matrix as of one instant: a row for each entity, a column for
    /// each number of the plan.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::read_many`].
    ///
    /// ```
    /// use ebbtide::{Engine, EntityId, Plan, Schema, Timestamp};
    /// let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]")?;
    /// let plan = Plan::over(&schema).score("view", "1h")?.count("view", "1h")?.build();
    /// let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// let mut matrix = [f64::NAN; 2 * 2];
    /// let candidates = [EntityId(1), EntityId(2)];
    /// engine.reader()?.read_many(&candidates, &plan, Timestamp(0), &mut matrix)?;
    /// assert_eq!(matrix, [0.0; 4]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_many(
        &mut self,
        entities: &[EntityId],
        plan: &Plan,
        now: Timestamp,
        out: &mut [f64],
    ) -> Result<(), ReadError> {
        block_on(self.inner.read_many(entities, plan, now, out))
    }

    /// The best `k` of `entities` by the weighted sum of the plan's numbers, best first.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::rank`].
    pub fn rank(
        &mut self,
        entities: &[EntityId],
        scoring: (&Plan, &[f64]),
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<Ranked>, ReadError> {
        block_on(self.inner.rank(entities, scoring, k, now))
    }

    /// The best `k` of all entities by one score, best first.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::top_k`].
    pub fn top_k(
        &mut self,
        signal: SignalId,
        half_life: usize,
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<TopEntry>, ReadError> {
        block_on(self.inner.top_k(signal, half_life, k, now))
    }
}
