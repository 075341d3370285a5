//! The rows of a comparison: what is measured, against what, and the bar.
//!
//! Promises: no other file of the comparison spells a bar as a number.

use serde::Serialize;

/// Which side of the bar is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    /// The ratio should be at least the bar.
    Higher,
    /// The ratio should be at most the bar.
    Lower,
}

/// One row: what it is and what it should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Criterion {
    /// Its name in table and JSON.
    pub(super) key: &'static str,
    /// What ours does.
    pub(super) what: &'static str,
    /// What the reference does.
    pub(super) against: &'static str,
    /// Of both numbers.
    pub(super) unit: &'static str,
    /// Which side of the bar is good.
    pub(super) better: Better,
    /// Of ours to the reference.
    pub(super) bar: f64,
    /// Whether it runs two threads that both want a core.
    pub(super) needs_two_cores: bool,
}

impl Criterion {
    const fn at_least(key: &'static str, unit: &'static str, bar: f64) -> Self {
        let better = Better::Higher;
        Self { key, what: "", against: "", unit, better, bar, needs_two_cores: false }
    }

    const fn at_most(key: &'static str, unit: &'static str, bar: f64) -> Self {
        Self { better: Better::Lower, ..Self::at_least(key, unit, bar) }
    }

    const fn of(self, what: &'static str, against: &'static str) -> Self {
        Self { what, against, ..self }
    }

    const fn on_two_cores(self) -> Self {
        Self { needs_two_cores: true, ..self }
    }

    /// Whether `ratio` is on the good side of the bar.
    pub(super) fn is_met(&self, ratio: f64) -> bool {
        match self.better {
            Better::Higher => ratio >= self.bar,
            Better::Lower => ratio <= self.bar,
        }
    }
}

const APPLY: &str = "M events/s";
const COST: &str = "ns/event";
const READS: &str = "M candidates/s";
const ONE_THREAD: &str = "shared map, one thread";

/// Applying to few entities.
pub(super) const APPLY_CACHE: Criterion = Criterion::at_least("apply_cache", APPLY, 5.0)
    .of("ledger apply, 3 half-lives, 10 K entities", ONE_THREAD);
/// Applying to many.
pub(super) const APPLY_DRAM: Criterion = Criterion::at_least("apply_dram", APPLY, 12.0)
    .of("the same, 8 M entities, uniform", ONE_THREAD);
/// Applying to many, some of them hot.
pub(super) const APPLY_DRAM_ZIPF: Criterion = Criterion::at_least("apply_dram_zipf", APPLY, 10.0)
    .of("the same, 8 M entities, Zipf 1.0", ONE_THREAD);
/// Applying from two threads.
pub(super) const APPLY_TWO_THREADS: Criterion =
    Criterion::at_least("apply_two_threads", APPLY, 12.0)
        .of("two ledgers on two cores, 8 M entities", "shared map, two threads")
        .on_two_cores();
/// What decay and windows add to a counter.
pub(super) const APPLY_VS_COUNTER: Criterion = Criterion::at_most("apply_vs_counter", COST, 1.6)
    .of("ledger apply, 8 M entities, uniform", "bare counter in the same kind of table");
/// What decay and windows add to the way there.
pub(super) const APPLY_VS_TOUCH: Criterion = Criterion::at_most("apply_vs_touch", COST, 2.0)
    .of("ledger apply, 8 M entities, uniform", "reading the same two cache lines");
/// The whole way in.
pub(super) const RECORD_END_TO_END: Criterion =
    Criterion::at_least("record_end_to_end", APPLY, 3.0)
        .of("offer, ring, encode, apply, 8 M entities", ONE_THREAD)
        .on_two_cores();
/// Reading many candidates out of many entities.
pub(super) const READ_MANY_DRAM: Criterion = Criterion::at_least("read_many_dram", READS, 8.0)
    .of("200 candidates, 1 score + 3 windows, 8 M entities", "200 reads of the shared map")
    .on_two_cores();
/// Reading many candidates out of few entities.
pub(super) const READ_MANY_CACHE: Criterion = Criterion::at_least("read_many_cache", READS, 4.0)
    .of("the same, 10 K entities", "200 reads of the shared map")
    .on_two_cores();
/// Reading one.
pub(super) const READ_ONE_HOP: Criterion = Criterion::at_most("read_one_hop", "ns", 1.5)
    .of("one read through the rings, shard spinning", "round trip through two bare rings")
    .on_two_cores();
/// Ranking inside.
pub(super) const RANK_200: Criterion = Criterion::at_most("rank_200", "us", 0.8)
    .of("top 20 of 200 candidates, fused", "the same read, scored and sorted by the host")
    .on_two_cores();
/// The best of all.
pub(super) const TOP_K: Criterion = Criterion::at_least("top_k", "queries/s", 10_000.0)
    .of("top 100 of 8 M entities", "a scan of all scores")
    .on_two_cores();
/// The worst moment of growth.
pub(super) const GROWTH_STALL: Criterion = Criterion::at_most("growth_stall", "us", 50.0)
    .of("longest batch of 512 events while growing to 8 M", "the median batch");
/// Memory of entities with little history.
pub(super) const MEMORY_SPARSE: Criterion = Criterion::at_most("memory_sparse", "bytes", 0.25)
    .of("a pair with 14 non-empty buckets, of 1 M", "u32[228] and a hot line");
/// Memory of the real trace.
pub(super) const MEMORY_TRACE: Criterion = Criterion::at_most("memory_trace", "bytes", 0.25)
    .of("a pair of the bundled trace", "the same in the shared map");
/// What hot keys cost.
pub(super) const HOT_KEY: Criterion = Criterion::at_least("hot_key", APPLY, 1.0)
    .of("recording end to end, Zipf 1.2, 8 M entities", "the same, uniform")
    .on_two_cores();
/// What doing nothing costs.
pub(super) const IDLE_CPU: Criterion = Criterion::at_most("idle_cpu", "cores", 0.01)
    .of("an idle engine, a parked shard on every core", "one core");

/// All rows, in the order they are printed.
pub(super) const ALL: &[Criterion] = &[
    APPLY_CACHE,
    APPLY_DRAM,
    APPLY_DRAM_ZIPF,
    APPLY_TWO_THREADS,
    APPLY_VS_COUNTER,
    APPLY_VS_TOUCH,
    RECORD_END_TO_END,
    READ_MANY_DRAM,
    READ_MANY_CACHE,
    READ_ONE_HOP,
    RANK_200,
    TOP_K,
    GROWTH_STALL,
    MEMORY_SPARSE,
    MEMORY_TRACE,
    HOT_KEY,
    IDLE_CPU,
];
