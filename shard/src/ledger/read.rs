//! One pair read, or many entities at once: a matrix of features.
//!
//! ```text
//! entity i+48: ask for the index    i+32: ask for the slot    i+16: find it,           i: evaluate
//!                                                                  ask for its block, if larger
//! ```
//!
//! Promises: the same bits as one read after the other. What depends on the instant alone, the
//! decay of each half-life, is worked out once for a matrix and not for each entity.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::SignalLedger;
use super::table::Home;
use crate::limits::HALF_LIVES_MAX;
use crate::signal::buckets::{Block, Heads, Seen};
use crate::signal::half_life::{Decay, HalfLife};
use crate::signal::hot::HotSignalState;
use crate::signal::pair::PairState;
use crate::signal::window::Window;
use crate::wide::{self, Kernel};
use crate::{EntityHash, EntityId, Feature, SignalId, SignalReading, SignalTypeDef, Timestamp};
use std::slice::ChunksMut;

/// Entities that take each step of the way together.
const GROUP: usize = 16;

/// An entity with its hash.
type Asked = (EntityHash, EntityId);
/// The way to each pair of a group: where its search begins, and its slot, most likely.
type Ways = [(Home, usize); GROUP];

impl SignalLedger {
    /// Everything known of a pair as of `now`; `None` if it never had an event.
    #[must_use]
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime")]
    pub fn read(
        &self,
        hash: EntityHash,
        entity: EntityId,
        signal: SignalId,
        now: Timestamp,
    ) -> Option<SignalReading> {
        self.read_with((hash, entity), signal, now, |reading| reading.copied())
    }

    /// The same, given to `take` where it is made: a reading is long to copy.
    pub(crate) fn read_with<T>(
        &self,
        asked: Asked,
        signal: SignalId,
        now: Timestamp,
        take: impl FnOnce(Option<&SignalReading>) -> T,
    ) -> T {
        wide::run(ReadPair { ledger: self, asked, signal, now, take })
    }

    /// Every pair with its reading as of `now`, in no particular order.
    pub fn iter(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (EntityId, SignalId, SignalReading)> {
        self.states
            .iter()
            .map(move |kept| (kept.hot.entity(), kept.hot.signal(), self.reading(kept, now)))
    }

    #[inline(always)]
    fn reading(&self, kept: &PairState, now: Timestamp) -> SignalReading {
        let state = &kept.hot;
        let (def, last_update) = (self.schema.def(state.signal()), state.last_update());
        let now = now.max(last_update);
        let mut reading = SignalReading::zeroed(def, now, last_update);
        reading.all_time = state.all_time();
        reading.saturated = state.is_saturated();
        for (k, half_life) in def.half_lives().iter().enumerate() {
            reading.set_score(k, state.score(k, half_life, now));
        }
        let block = self.buckets.block(kept.counters());
        let (head, now) = (Heads::of(last_update), Heads::of(now));
        let seen = block.seen(head, now);
        for (w, window) in def.windows().iter().enumerate() {
            let count = match &seen {
                Some(seen) => seen.count(window).into(),
                None => block.count(window, head, now),
            };
            reading.set_count(w, count, window);
        }
        reading
    }

    /// The numbers that `columns` name, as of `now`, row by row into `values`; zero for a pair
    /// without events.
    ///
    /// # Panics
    ///
    /// If `values` has not one place for each column of each entity.
    pub fn read_rows(
        &self,
        entities: &[Asked],
        columns: &[Feature],
        now: Timestamp,
        values: &mut [f64],
    ) {
        let places = entities.len() * columns.len();
        assert_eq!(values.len(), places, "one place for each column of each entity");
        wide::run(ReadRows { ledger: self, entities, columns, now, values });
    }
}

/// The pairs of one signal type as of one instant.
struct View<'a> {
    ledger: &'a SignalLedger,
    def: &'a SignalTypeDef,
    signal: SignalId,
    now: Timestamp,
    heads: Heads,
    /// One for each half-life; the rest are not used.
    decays: [Decay; HALF_LIVES_MAX],
}

/// A pair that was found.
#[derive(Clone, Copy)]
struct Pair<'a> {
    state: &'a HotSignalState,
    block: Block<'a>,
    /// Its newest buckets.
    heads: Heads,
}

impl<'a> View<'a> {
    #[inline(always)]
    fn of(ledger: &'a SignalLedger, signal: SignalId, now: Timestamp) -> Self {
        let def = ledger.schema.def(signal);
        let half_lives = def.half_lives();
        let mut decays = [half_lives[0].decay_at(now); HALF_LIVES_MAX];
        for (decay, half_life) in decays[1..].iter_mut().zip(&half_lives[1..]) {
            *decay = half_life.decay_at(now);
        }
        Self { ledger, def, signal, now, heads: Heads::of(now), decays }
    }

    #[inline(always)]
    fn pair(&self, kept: &'a PairState) -> Pair<'a> {
        let (state, block) = (&kept.hot, self.ledger.buckets.block(kept.counters()));
        Pair { state, block, heads: Heads::of(state.last_update()) }
    }
}

struct ReadPair<'a, F> {
    ledger: &'a SignalLedger,
    asked: Asked,
    signal: SignalId,
    now: Timestamp,
    take: F,
}

impl<T, F: FnOnce(Option<&SignalReading>) -> T> Kernel for ReadPair<'_, F> {
    type Answer = T;

    #[inline(always)]
    fn run(self) -> T {
        let Self { ledger, asked: (hash, entity), signal, now, take } = self;
        match ledger.states.find(hash, entity, signal) {
            Some(kept) => take(Some(&ledger.reading(kept, now))),
            None => take(None),
        }
    }
}

struct ReadRows<'a> {
    ledger: &'a SignalLedger,
    entities: &'a [Asked],
    columns: &'a [Feature],
    now: Timestamp,
    values: &'a mut [f64],
}

impl Kernel for ReadRows<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let Self { ledger, entities, columns, now, values } = self;
        let (mut first, width) = (0, columns.len());
        for columns in columns.chunk_by(|a, b| a.signal() == b.signal()) {
            let view = View::of(ledger, columns[0].signal(), now);
            view.read(entities, columns, values.chunks_mut(GROUP * width), (first, width));
            first += columns.len();
        }
    }
}

/// Pairs that are read together.
#[derive(Clone, Copy)]
struct Group<'a> {
    pairs: [Pair<'a>; GROUP],
    count: usize,
}

impl<'a> View<'a> {
    /// Reads columns of this signal type, the first of which is column `first` of `width`.
    #[inline(always)]
    fn read(
        &self,
        entities: &[Asked],
        columns: &[Feature],
        rows: ChunksMut<'_, f64>,
        (first, width): (usize, usize),
    ) {
        let nobody = HotSignalState::new(EntityId(0), self.signal, self.now);
        let nobody = Pair { state: &nobody, block: Block::EMPTY, heads: self.heads };
        let mut ways = [[(Home::NOWHERE, 0); GROUP]; 2];
        let [mut asked, mut begun] = ways.each_mut();
        let mut groups = [Group { pairs: [nobody; GROUP], count: 0 }; 2];
        let [mut here, mut found] = groups.each_mut();
        let mut steps = [entities.chunks(GROUP), entities.chunks(GROUP), entities.chunks(GROUP)];
        let [beginning, asking, finding] = steps.each_mut();
        self.begin(beginning.next(), asked);
        self.begin(beginning.next(), begun);
        self.ask(asking.next(), asked);
        self.find((finding.next(), nobody), asked, found);
        self.ask(asking.next(), begun);
        for rows in rows {
            (here, found, asked, begun) = (found, here, begun, asked);
            self.begin(beginning.next(), begun);
            self.find((finding.next(), nobody), asked, found);
            self.ask(asking.next(), begun);
            self.evaluate(here, columns, rows, (first, width));
        }
    }

    /// Asks for the index of a group.
    #[inline(always)]
    fn begin(&self, group: Option<&[Asked]>, ways: &mut Ways) {
        for (&(hash, _), way) in group.unwrap_or_default().iter().zip(ways) {
            way.0 = self.ledger.states.home(hash, self.signal);
            self.ledger.states.fetch_home(way.0);
        }
    }

    /// Asks for the slots of a group.
    #[inline(always)]
    fn ask(&self, group: Option<&[Asked]>, ways: &mut Ways) {
        for (_, (home, slot)) in group.unwrap_or_default().iter().zip(ways) {
            *slot = self.ledger.states.likely(*home);
            self.ledger.states.fetch(*slot);
        }
    }

    /// Finds the pairs of a group, nobody's for those that there are not, and asks for their
    /// counts.
    #[inline(always)]
    fn find<'g>(
        &self,
        (group, nobody): (Option<&[Asked]>, Pair<'g>),
        ways: &Ways,
        found: &mut Group<'g>,
    ) where
        'a: 'g,
    {
        let group = group.unwrap_or_default();
        found.count = group.len();
        for ((&(_, entity), (home, slot)), pair) in group.iter().zip(ways).zip(&mut found.pairs) {
            *pair = match self.ledger.states.seek((home, *slot), entity, self.signal) {
                Some((_, kept)) => self.pair(kept),
                None => nobody,
            };
            pair.block.fetch();
        }
    }

    /// Fills the columns of a group.
    #[inline(always)]
    fn evaluate(
        &self,
        group: &Group<'_>,
        columns: &[Feature],
        rows: &mut [f64],
        (first, width): (usize, usize),
    ) {
        let mut seen = [Seen::NOTHING; GROUP];
        let mut all_seen = true;
        for (pair, seen) in group.pairs[..group.count].iter().zip(&mut seen) {
            match pair.block.seen(pair.heads, self.heads) {
                Some(counts) => *seen = counts,
                None => all_seen = false,
            }
        }
        for (column, &feature) in (first..).zip(columns) {
            let place = (column, width);
            match feature {
                Feature::Score { half_life: k, .. } => {
                    let (half_life, decay) = (&self.def.half_lives()[k], &self.decays[k]);
                    fill(&Score { k, half_life, decay }, &group.pairs, rows, place);
                }
                Feature::AllTime { .. } => fill(&AllTime, &group.pairs, rows, place),
                Feature::Count { window, .. } | Feature::Velocity { window, .. } => {
                    let window = self.def.windows()[window];
                    let per_second = matches!(feature, Feature::Velocity { .. });
                    let seconds = if per_second { window.seconds() } else { 1.0 };
                    if all_seen {
                        fill(&CountSeen { window, seconds }, &seen, rows, place);
                    } else {
                        let count = Count { window, now: self.heads, seconds };
                        fill(&count, &group.pairs, rows, place);
                    }
                }
            }
        }
    }
}

/// A number of a pair, of which so much is known.
trait Value<P> {
    fn of(&self, pair: &P) -> f64;
}

struct Score<'a> {
    k: usize,
    half_life: &'a HalfLife,
    decay: &'a Decay,
}

impl Value<Pair<'_>> for Score<'_> {
    #[inline(always)]
    fn of(&self, pair: &Pair<'_>) -> f64 {
        pair.state.score_with(self.k, self.half_life, self.decay)
    }
}

/// Events in a window, for each so many seconds.
struct Count {
    window: Window,
    now: Heads,
    seconds: f64,
}

impl Value<Pair<'_>> for Count {
    #[inline(always)]
    fn of(&self, pair: &Pair<'_>) -> f64 {
        pair.block.count(&self.window, pair.heads, self.now) as f64 / self.seconds
    }
}

/// The same, for pairs with few counters.
struct CountSeen {
    window: Window,
    seconds: f64,
}

impl Value<Seen<'_>> for CountSeen {
    #[inline(always)]
    fn of(&self, seen: &Seen<'_>) -> f64 {
        f64::from(seen.count(&self.window)) / self.seconds
    }
}

struct AllTime;

impl Value<Pair<'_>> for AllTime {
    #[inline(always)]
    fn of(&self, pair: &Pair<'_>) -> f64 {
        pair.state.all_time() as f64
    }
}

/// The value of each pair in one `column` of `width`.
#[inline(always)]
fn fill<P>(
    value: &impl Value<P>,
    pairs: &[P; GROUP],
    rows: &mut [f64],
    (column, width): (usize, usize),
) {
    assert!(column < width, "a column is one of its row");
    for (pair, row) in pairs.iter().zip(rows.chunks_exact_mut(width)) {
        row[column] = value.of(pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HOUR_NS, MINUTE_NS};
    use crate::{Materializer as _, PartitionKey, Plan, RoutedEvent, Schema};

    const SCHEMA: &str = r#"
        [signals.view]
        half_lives = ["1h", "24h", "7d"]
        windows = ["1min", "59min", "1h", "2h", "65h", "130h", "7d"]
        velocity = true
    "#;
    const NOW_NS: u64 = 1_700_000_000_000_000_000;

    /// Entities of every class of block, each some time behind the present.
    fn ledger() -> (SignalLedger, Vec<Asked>) {
        let key = PartitionKey::new([8; 16]);
        let schema = Schema::from_toml(SCHEMA).unwrap();
        let mut ledger = SignalLedger::new(schema.into(), key, 0..4096);
        let classes = [(1, 1), (20, 3), (70, 2), (150, 1), (228, 1), (3, 400), (2, 66_000)];
        let mut asked = Vec::new();
        for (number, (buckets, of_each)) in (0..).zip(classes.into_iter().cycle().take(40)) {
            let entity = EntityId(number);
            let hash = key.hash(entity);
            asked.push((hash, entity));
            let behind_ns = number * number * 7 * MINUTE_NS;
            for bucket in 0..buckets {
                let ago_ns = if bucket < 60 { bucket * MINUTE_NS } else { (bucket - 60) * HOUR_NS };
                let time = Timestamp(NOW_NS - behind_ns - ago_ns);
                let (weight, signal) = (1.5, SignalId(0));
                let event = RoutedEvent { entity, time, weight, hash, signal };
                // Of the fullest, one each is enough.
                let of_each = if number < 7 { of_each } else { of_each.min(300) };
                (0..of_each).for_each(|_| ledger.on_event(&event));
            }
        }
        // A stranger among them.
        asked.insert(5, (key.hash(EntityId(99)), EntityId(99)));
        (ledger, asked)
    }

    #[test]
    fn a_matrix_does_not_depend_on_the_processor_or_on_the_class_of_a_block() {
        let (ledger, asked) = ledger();
        let mut plan = Plan::over(&ledger.schema).all_time("view").unwrap();
        for label in ["1min", "59min", "1h", "2h", "65h", "130h", "7d"] {
            plan = plan.count("view", label).and_then(|plan| plan.velocity("view", label)).unwrap();
        }
        let plan = plan.score("view", "1h").and_then(|plan| plan.score("view", "7d")).unwrap();
        let plan = plan.build();
        let columns = plan.columns();
        // Behind some of them, and far ahead of all.
        for now_ns in [NOW_NS - HOUR_NS, NOW_NS, NOW_NS + MINUTE_NS, NOW_NS + 100 * HOUR_NS] {
            let now = Timestamp(now_ns);
            for asked in [&asked[..], &asked[..7], &asked[6..7]] {
                let mut wide = vec![f64::NAN; asked.len() * columns.len()];
                let mut narrow = wide.clone();
                ledger.read_rows(asked, columns, now, &mut wide);
                ReadRows { ledger: &ledger, entities: asked, columns, now, values: &mut narrow }
                    .run();
                assert_eq!(wide, narrow);
                for (&(hash, entity), row) in asked.iter().zip(wide.chunks_exact(columns.len())) {
                    let want = match ledger.read(hash, entity, SignalId(0), now) {
                        Some(it) => {
                            let windows = it.counts().iter().zip(it.velocities());
                            let windows = windows.flat_map(|(&count, &rate)| [count as f64, rate]);
                            let ends = [it.scores()[0], it.scores()[2]];
                            let all = std::iter::once(it.all_time as f64);
                            all.chain(windows).chain(ends).collect()
                        }
                        None => vec![0.0; columns.len()],
                    };
                    assert_eq!(row, want, "entity {entity} as of {now_ns}");
                }
            }
        }
    }
}
