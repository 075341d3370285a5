//! Readers: one thread's, or one task's, way to ask.

use crate::ReadError;
use crate::block_on::block_on;
use ebbtide_router::{Clock, RequestRouter};
use ebbtide_shard::lane::RequestSender;
use ebbtide_shard::limits::TOP_K_MAX;
use ebbtide_shard::{
    EntityId, Feature, Plan, Ranked, Schema, SignalId, SignalReading, SignalTypeDef, Timestamp,
    TopEntry,
};
use std::sync::Arc;

/// How often a thread looks for a reply before it sleeps: some 50 us, in which a shard that is
/// awake has answered, even for hundreds of entities, and no more than it takes to wake a sleeper.
const LOOKS_BEFORE_SLEEP: u32 = 4_000;

/// Asks from one task of any executor. The futures may be dropped at any time; the next question
/// then waits for the reply nobody took.
///
/// Every question names its instant. A pair whose last event is later than that is read as of that
/// event instead, and says so in [`SignalReading::as_of`].
///
/// ```
/// use ebbtide::{Engine, EntityId, Schema};
/// # let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
/// # let engine = Engine::in_memory().schema(schema).shards(1).open()?;
/// # let view = engine.schema().signal("view").unwrap();
/// # futures_lite::future::block_on(async {
/// let mut reader = engine.async_reader()?;
/// let reading = reader.read(EntityId(42), view, reader.now()).await?;
/// assert!(reading.is_none(), "it never had an event");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncReader {
    requests: RequestRouter,
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
}

impl AsyncReader {
    pub(crate) fn new(requests: RequestRouter, schema: Arc<Schema>, clock: Arc<dyn Clock>) -> Self {
        Self { requests, schema, clock }
    }

    /// The same, for a thread that blocks in its calls. It looks for the answer of a shard where
    /// that can be given meanwhile.
    fn for_a_thread(self, runs_beside: impl Fn(usize) -> bool) -> Self {
        let looks_max = |shard| if runs_beside(shard) { LOOKS_BEFORE_SLEEP } else { 0 };
        Self { requests: self.requests.looking(looks_max), ..self }
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
        Ok(self.answered_pair(entity, signal, now).await?.take_reading()?)
    }

    /// The lane that has the answer about one pair.
    async fn answered_pair(
        &mut self,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> Result<&mut RequestSender, ReadError> {
        self.def(signal)?;
        Ok(self.requests.answered_pair(entity, signal, now).await)
    }

    /// Fills `out` with a feature matrix as of one instant: a row for each entity, in their order,
    /// with a number for each column of `plan`. An entity without events has a row of zeros.
    ///
    /// A pair with events after `now` is read as of the last of them, as everywhere, but a matrix
    /// has no place to say so: ask as of the present.
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
        scoring: (&Plan, &[f64]),
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<Ranked>, ReadError> {
        let mut best = vec![Ranked::NOBODY; k.min(entities.len())];
        let count = self.rank_into(entities, scoring, now, &mut best).await?;
        best.truncate(count);
        Ok(best)
    }

    /// The same, for as many places as `best` has: fills it from the front and says how many there
    /// are. A reader that repeats itself allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::rank`].
    pub async fn rank_into(
        &mut self,
        entities: &[EntityId],
        (plan, weights): (&Plan, &[f64]),
        now: Timestamp,
        best: &mut [Ranked],
    ) -> Result<usize, ReadError> {
        let columns = plan.columns().len();
        if weights.len() != columns {
            return Err(ReadError::Shape { rows: 1, columns, room: weights.len() });
        }
        plan.columns().iter().try_for_each(|&column| self.check(column))?;
        Ok(self.requests.rank(entities, (plan.columns(), weights), now, best).await?)
    }

    /// The best `k` of all entities by one score, best first, ties by the smaller id; entities
    /// whose score is zero for good are left out. Kept up on writes: no scan.
    ///
    /// The order is that of the scores at any one instant. The score in an entry whose entity has
    /// events after `now` is as of the last of them, so it may not fit in the descending row.
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
    pub(crate) fn new(inner: AsyncReader, runs_beside: impl Fn(usize) -> bool) -> Self {
        Self { inner: inner.for_a_thread(runs_beside) }
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
        Ok(block_on(self.inner.answered_pair(entity, signal, now))?.take_reading()?)
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

    /// The best `k` of `entities` by the weighted sum of the plan's numbers, best first, ties by
    /// the smaller id. An entity named twice is ranked twice; a plan without columns ranks nobody.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::rank`].
    ///
    /// ```
    /// use ebbtide::{Ack, Engine, EntityId, Event, Plan, Schema};
    /// use std::time::Duration;
    /// let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]")?;
    /// let view = schema.signal("view").unwrap();
    /// let plan = Plan::over(&schema).score("view", "1h")?.count("view", "1h")?.build();
    /// let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// let (mut producer, mut reader) = (engine.producer()?, engine.reader()?);
    /// let (now, second) = (engine.now(), EntityId(2));
    /// let ticket = producer.offer(Event::new(second, view, now).with_weight(3.0))?;
    /// producer.wait(ticket, Ack::Applied, Duration::from_secs(1))?;
    ///
    /// let weights = [1.0, 10.0];
    /// let best = reader.rank(&[EntityId(1), second], (&plan, &weights), 1, now)?;
    /// assert_eq!(best[0].entity, second);
    /// assert!((best[0].value - 13.0).abs() < 1e-9, "3.0 of score, one event times ten");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rank(
        &mut self,
        entities: &[EntityId],
        scoring: (&Plan, &[f64]),
        k: usize,
        now: Timestamp,
    ) -> Result<Vec<Ranked>, ReadError> {
        block_on(self.inner.rank(entities, scoring, k, now))
    }

    /// The same, for as many places as `best` has: fills it from the front and says how many there
    /// are. A reader that repeats itself allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::rank`].
    pub fn rank_into(
        &mut self,
        entities: &[EntityId],
        scoring: (&Plan, &[f64]),
        now: Timestamp,
        best: &mut [Ranked],
    ) -> Result<usize, ReadError> {
        block_on(self.inner.rank_into(entities, scoring, now, best))
    }

    /// The best `k` of all entities, at most 128, by the score of one half-life, named by its place
    /// in the schema (0 is the primary one); best first, ties by the smaller id.
    ///
    /// # Errors
    ///
    /// As [`AsyncReader::top_k`].
    ///
    /// ```
    /// use ebbtide::{Ack, Engine, EntityId, Event, Schema};
    /// use std::time::Duration;
    /// let schema = Schema::from_toml("[signals.view]\nhalf_lives=[\"1h\"]")?;
    /// let view = schema.signal("view").unwrap();
    /// let engine = Engine::in_memory().schema(schema).shards(1).open()?;
    /// let (mut producer, now) = (engine.producer()?, engine.now());
    /// let weights = [(1, 2.0), (2, 5.0), (3, 4.0)];
    /// let events = weights.map(|(id, w)| Event::new(EntityId(id), view, now).with_weight(w));
    /// assert_eq!(producer.offer_batch(&events).taken, 3);
    /// producer.flush(Ack::Applied, Duration::from_secs(1))?;
    ///
    /// let top = engine.reader()?.top_k(view, 0, 2, now)?;
    /// let entities: Vec<_> = top.iter().map(|place| place.entity.0).collect();
    /// assert_eq!(entities, [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
