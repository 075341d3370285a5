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
const BYTES: &str = "MB/s";
const RECORDS: &str = "M records/s";
const DEVICE: &str = "bare device, writes of the best size";
const ONE_WRITE: &str = "one durable write of 4 KiB, bare device";
const OPEN_WRITES: &str = "the same events, grouped and written, bare device";
const ONE_THREAD: &str = "shared map, one thread";

/// Applying to few entities.
pub(super) const APPLY_CACHE: Criterion = Criterion::at_least("apply_cache", APPLY, 5.0)
    .of("ledger apply, 3 half-lives, few entities", ONE_THREAD);
/// Applying to many.
pub(super) const APPLY_DRAM: Criterion = Criterion::at_least("apply_dram", APPLY, 12.0)
    .of("the same, many entities, uniform", ONE_THREAD);
/// Applying to many, some of them hot.
pub(super) const APPLY_DRAM_ZIPF: Criterion = Criterion::at_least("apply_dram_zipf", APPLY, 10.0)
    .of("the same, many entities, Zipf 1.0", ONE_THREAD);
/// Applying from two threads.
pub(super) const APPLY_TWO_THREADS: Criterion =
    Criterion::at_least("apply_two_threads", APPLY, 12.0)
        .of("two ledgers on two cores, many entities", "shared map, two threads")
        .on_two_cores();
/// What decay and windows add to a counter.
pub(super) const APPLY_VS_COUNTER: Criterion = Criterion::at_most("apply_vs_counter", COST, 1.6)
    .of("ledger apply, many entities, uniform", "bare counter in the same kind of table");
/// What decay and windows add to the way there.
pub(super) const APPLY_VS_TOUCH: Criterion = Criterion::at_most("apply_vs_touch", COST, 2.0)
    .of("ledger apply, many entities, uniform", "reading the same cache lines");
/// The whole way in.
pub(super) const RECORD_END_TO_END: Criterion =
    Criterion::at_least("record_end_to_end", APPLY, 3.0)
        .of("offer, ring, log, apply, not waiting for the disk", ONE_THREAD)
        .on_two_cores();
/// Reading many candidates out of many entities.
pub(super) const READ_MANY_DRAM: Criterion = Criterion::at_least("read_many_dram", READS, 8.0)
    .of("200 candidates, 1 score + 3 windows, many entities", "200 reads of the shared map")
    .on_two_cores();
/// Reading many candidates out of few entities.
pub(super) const READ_MANY_CACHE: Criterion = Criterion::at_least("read_many_cache", READS, 4.0)
    .of("the same, few entities", "200 reads of the shared map")
    .on_two_cores();
/// The same where the state is.
pub(super) const READ_MANY_LOCAL: Criterion = Criterion::at_least("read_many_local", READS, 4.0)
    .of("the same, in a closure on the owning core", "200 reads of the shared map")
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
    .of("top 100 of many entities", "a scan of all scores")
    .on_two_cores();
/// The worst moment of growth.
pub(super) const GROWTH_STALL: Criterion = Criterion::at_most("growth_stall", "us", 50.0)
    .of("longest batch of 512 events while growing to many", "the median batch");
/// Memory of entities with little history.
pub(super) const MEMORY_SPARSE: Criterion = Criterion::at_most("memory_sparse", "bytes", 0.25)
    .of("a pair with 14 non-empty buckets, of 1 M", "u32[228] and a hot line");
/// Memory of the real trace.
pub(super) const MEMORY_TRACE: Criterion = Criterion::at_most("memory_trace", "bytes", 0.25)
    .of("a pair of the bundled trace", "the same in the shared map");
/// What hot keys cost.
pub(super) const HOT_KEY: Criterion = Criterion::at_least("hot_key", APPLY, 1.0)
    .of("recording end to end, Zipf 1.2, many entities", "the same, uniform")
    .on_two_cores();
/// Recording durably, as fast as it goes.
pub(super) const DURABLE_THROUGHPUT: Criterion =
    Criterion::at_least("durable_throughput", APPLY, 20.0)
        .of("recording, all of it durable, 1 M entities", "group commit of 100 events, bare device")
        .on_two_cores();
/// The same beside another store of signals.
pub(super) const DURABLE_VS_REDIS: Criterion = Criterion::at_least("durable_vs_redis", APPLY, 20.0)
    .of("recording, all of it durable, 1 M entities", "Redis, script in Lua, synced every second")
    .on_two_cores();
/// The same beside the device.
pub(super) const DURABLE_VS_DEVICE: Criterion =
    Criterion::at_least("durable_vs_device", BYTES, 0.7)
        .of("records of the same events, whole engine", DEVICE)
        .on_two_cores();
/// The log alone beside the device.
pub(super) const LOG_VS_DEVICE: Criterion = Criterion::at_least("log_vs_device", BYTES, 0.7)
    .of("records in batches of 512, the log alone, on threads", DEVICE)
    .on_two_cores();
/// One event after the other, each durable.
pub(super) const DURABLE_ACK_P50: Criterion = Criterion::at_most("durable_ack_p50", "us", 1.3)
    .of("one event from offer to durable, median", ONE_WRITE)
    .on_two_cores();
/// Events at a steady rate, the usual one.
pub(super) const DURABLE_OPEN_P50: Criterion = Criterion::at_most("durable_open_p50", "us", 1.3)
    .of("10 K events/s, intended time to durable, median", OPEN_WRITES)
    .on_two_cores();
/// Events at a steady rate, the late ones.
pub(super) const DURABLE_OPEN_P99: Criterion = Criterion::at_most("durable_open_p99", "us", 1.3)
    .of("the same, 99 in 100", OPEN_WRITES)
    .on_two_cores();
/// What the log costs a core.
pub(super) const WAL_CPU: Criterion = Criterion::at_most("wal_cpu", COST, 0.25)
    .of("encoding a record, its share of the frame's hash", "blake3::hash of each record");
/// What the log costs the disk.
pub(super) const LOG_BYTES: Criterion = Criterion::at_most("log_bytes", "bytes/event", 0.5)
    .of("the log's files after recording as fast as it goes", "length, hash and record of each")
    .on_two_cores();
/// Reading the logs back.
pub(super) const REPLAY: Criterion = Criterion::at_least("replay", RECORDS, 0.5)
    .of("records of the log, read and applied at opening", "reading and hashing the same files");
/// Reading a checkpoint back.
pub(super) const RESTORE_VS_READ: Criterion = Criterion::at_least("restore_vs_read", RECORDS, 0.2)
    .of("records of the checkpoint, restored at opening", "reading and hashing the same files");
/// The same beside another store.
pub(super) const RESTORE: Criterion = Criterion::at_least("restore", RECORDS, 5.0)
    .of("records of the checkpoint, restored at opening", "Redis, loading as many from a snapshot");
/// Until the first answer.
pub(super) const TIME_TO_READY: Criterion = Criterion::at_most("time_to_ready", "ms", 5.0)
    .of("opening that store, to the first answer", "reading and hashing all of its files");
/// Taking a checkpoint.
pub(super) const CHECKPOINT: Criterion = Criterion::at_least("checkpoint", RECORDS, 0.2)
    .of("a checkpoint of as many changed pairs", "as many bytes in a file, synced, read back");
/// What a checkpoint does to those who record meanwhile.
pub(super) const CHECKPOINT_TAIL: Criterion = Criterion::at_most("checkpoint_tail", "us", 1.5)
    .of("50 K events/s to applied, 999 in 1000, checkpoint", "the same without a checkpoint")
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
    READ_MANY_LOCAL,
    READ_ONE_HOP,
    RANK_200,
    TOP_K,
    GROWTH_STALL,
    MEMORY_SPARSE,
    MEMORY_TRACE,
    HOT_KEY,
    IDLE_CPU,
    DURABLE_THROUGHPUT,
    DURABLE_VS_REDIS,
    DURABLE_VS_DEVICE,
    LOG_VS_DEVICE,
    DURABLE_ACK_P50,
    DURABLE_OPEN_P50,
    DURABLE_OPEN_P99,
    WAL_CPU,
    LOG_BYTES,
    REPLAY,
    RESTORE_VS_READ,
    RESTORE,
    TIME_TO_READY,
    CHECKPOINT,
    CHECKPOINT_TAIL,
];
