//! What is paid once and not for each event or read: memory from the allocator, looks at a clock.
//!
//! Shards are stepped on the test's own thread, so what is counted is both sides of a lane, and
//! nothing else.

use allocation_counter::measure;
use ebbtide_router::{Admission, Clock, EventRouter, Placement, RequestRouter};
use ebbtide_shard::limits::BATCH_EVENTS_MAX;
use ebbtide_shard::{
    EntityId, Event, PartitionKey, Plan, Ranked, Schema, Shard, ShardPort, SignalId, SignalLedger,
    Timestamp, Turn,
};
use ebbtide_wal::storage::sim::SimDisk;
use ebbtide_wal::{
    CommitLane, Log, LogIdentity, LogOptions, Lsn, ReplayOptions, StartOptions, StoreId,
    WalWriter as _, ready, replay,
};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const VIEW: SignalId = SignalId(0);
const SHARDS: usize = 2;
const ENTITIES: u64 = 300;
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A clock that counts who asks it.
#[derive(Debug, Default)]
struct Asked(AtomicUsize);

impl Clock for Asked {
    fn now(&self) -> Timestamp {
        self.0.fetch_add(1, Ordering::Relaxed);
        NOW
    }
}

/// Shards without threads, a producer and a reader.
struct Stepped {
    shards: Vec<Shard<Log>>,
    disks: Vec<CommitLane<SimDisk>>,
    producer: EventRouter,
    reader: RequestRouter,
    clock: Arc<Asked>,
    plan: Plan,
}

impl Stepped {
    fn new() -> Self {
        let text = "[signals.view]\nhalf_lives = [\"1h\", \"24h\"]\nwindows = [\"1h\", \"24h\"]";
        let schema = Arc::new(Schema::from_toml(text).expect("it obeys the rules"));
        let plan = Plan::over(&schema).score("view", "1h").and_then(|p| p.count("view", "24h"));
        let key = PartitionKey::new([3; 16]);
        let placement = Placement::over(SHARDS).expect("a possible number");
        let ports: Vec<_> = (0..SHARDS).map(|shard| Arc::new(ShardPort::new(shard))).collect();
        let shard = |(number, port): (usize, &Arc<ShardPort>)| {
            let ledger = SignalLedger::new(Arc::clone(&schema), key, placement.partitions(number));
            let (log, disk) = log();
            (Shard::new(Arc::clone(port), ledger, log, usize::MAX), disk)
        };
        let (shards, disks) = ports.iter().enumerate().map(shard).unzip();
        let clock = Arc::new(Asked::default());
        let asked: Arc<dyn Clock> = Arc::clone(&clock) as _;
        let admission =
            Admission::new(Arc::clone(&schema), asked, Duration::from_mins(5), Arc::default());
        let producer = EventRouter::open(&ports, placement, key, admission).expect("all run");
        let reader = RequestRouter::open(&ports, placement, key).expect("all run");
        let plan = plan.expect("the schema has both").build();
        Self { shards, disks, producer, reader, clock, plan }
    }

    /// Has events recorded, logged and applied; says how often that asked for memory. What the
    /// log writes to its disk meanwhile is not counted: the turn has no part in it.
    fn record(&mut self, events: &[Event]) -> u64 {
        let Self { shards, disks, producer, .. } = self;
        let mut allocations = 0;
        for batch in events.chunks(BATCH_EVENTS_MAX) {
            let turns = measure(|| {
                assert_eq!(producer.offer_batch(batch).0, batch.len());
                for shard in &mut *shards {
                    while shard.turn() == Ok(Turn::Busy) {}
                }
            });
            allocations += turns.count_total;
            for (shard, disk) in shards.iter_mut().zip(&mut *disks) {
                while let Some(request) = shard.wal_mut().next_commit() {
                    let done = ready(disk.perform(request));
                    shard.wal_mut().commit_done(done);
                }
            }
        }
        allocations
    }

    /// Records in the logs of all shards.
    fn appended(&self) -> u64 {
        self.shards.iter().map(|shard| shard.wal().watermarks().appended.get()).sum()
    }
}

/// A fresh log on a disk in memory.
fn log() -> (Log, CommitLane<SimDisk>) {
    let disk = SimDisk::new(1);
    let identity = LogIdentity { store: StoreId([7; 16]), shard: 0 };
    let options = ReplayOptions::default();
    let found = ready(replay(&disk, identity, options, |_| Ok(()))).expect("the disk is empty");
    let (log, lsn_first_min) = (LogOptions::default(), Lsn::NONE);
    let start = StartOptions { log, seed: [1; 32], lsn_first_min };
    let started = ready(found.start(&disk, start)).expect("the disk has room");
    (started.log, started.commit)
}

/// Steps `shards` until a question of their reader is answered.
fn answered<T>(shards: &mut [Shard<Log>], question: impl Future<Output = T>) -> T {
    let mut question = pin!(question);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = question.as_mut().poll(&mut cx) {
            return answer;
        }
        for shard in &mut *shards {
            shard.turn().expect("the log takes everything");
        }
    }
}

/// So many events of each entity, in the order of their times, over two minutes.
fn events(of_each: u64) -> Vec<Event> {
    let count = of_each * ENTITIES;
    let at = |i: u64| Timestamp(NOW.0 - 120_000_000_000 + i * 120_000_000_000 / count);
    (0..count).map(|i| Event::new(EntityId(i % ENTITIES), VIEW, at(i))).collect()
}

#[test]
fn a_warm_turn_allocates_nothing() {
    let (mut stepped, events) = (Stepped::new(), events(10));
    stepped.record(&events);
    let before = stepped.appended();
    let allocations = stepped.record(&events);
    assert_eq!(stepped.appended() - before, events.len() as u64, "all of it went by the log");
    assert_eq!(allocations, 0);
}

#[test]
fn a_reader_that_repeats_itself_allocates_nothing() {
    let mut stepped = Stepped::new();
    stepped.record(&events(3));
    let Stepped { shards, reader, plan, .. } = &mut stepped;
    let asked: Vec<_> = (0..ENTITIES + 9).map(EntityId).collect();
    let (columns, weights) = (plan.columns(), [1.0, 0.5]);
    let mut matrix = vec![f64::NAN; asked.len() * 2];
    let mut best = [Ranked::NOBODY; 20];
    let mut questions = || {
        answered(shards, reader.read_rows(&asked, columns, NOW, &mut matrix)).expect("all run");
        let ranked = reader.rank(&asked, (columns, &weights), NOW, &mut best);
        assert_eq!(answered(shards, ranked), Ok(20));
        let reading = answered(shards, reader.answered_pair(asked[7], VIEW, NOW))
            .take_reading()
            .expect("all run");
        assert!(reading.is_some_and(|reading| reading.all_time == 3));
        let stranger = answered(shards, reader.answered_pair(asked[asked.len() - 1], VIEW, NOW));
        assert_eq!(stranger.take_reading(), Ok(None));
    };
    questions();
    let warm = measure(&mut questions);
    assert_eq!(warm.count_total, 0, "{warm:?}");
}

/// The list that it gives, and nothing else; and that has room for what all shards send.
#[test]
fn the_best_of_all_cost_their_list() {
    let mut stepped = Stepped::new();
    stepped.record(&events(3));
    let Stepped { shards, reader, .. } = &mut stepped;
    let mut question = || {
        let top = answered(shards, reader.top_k(VIEW, 0, 10, NOW)).expect("all run");
        assert_eq!(top.len(), 10);
    };
    question();
    let warm = measure(&mut question);
    assert_eq!(warm.count_total, 1, "{warm:?}");
}

/// Below the gate there is no clock to ask: time is a field of the event (`tidy`).
#[test]
fn events_in_order_ask_the_clock_once_and_not_each() {
    let (mut stepped, events) = (Stepped::new(), events(20));
    stepped.record(&events);
    assert_eq!(stepped.clock.0.load(Ordering::Relaxed), 1, "for {} events", events.len());
}
