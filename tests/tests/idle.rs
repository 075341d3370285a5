//! What an engine costs that has nothing to do, and how fast it is back at work.
//!
//! These tests measure their own process, so they run one after the other.

use ebbtide::{Ack, Backend, Engine, EntityId, Event, Idle, SignalId, Timestamp};
use ebbtide_tests::setting::{
    PATIENCE, Setting, backends, entity_of_each_shard, schema, with_shards,
};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// `utime` and `stime` count in these; 100 a second on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// What a wake-up may take; a lost one would take until the shard looks around unasked, on average
/// much longer.
const WAKE: Duration = Duration::from_millis(50);
/// Wake-ups that may be slower, because a busy machine can keep any thread waiting.
const SLOW_MAX: usize = 3;
const WAKE_UPS: u64 = 200;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads of this process that run shards, and the processor time they have used so far.
fn shard_threads() -> (usize, Duration) {
    let (mut threads, mut ticks) = (0, 0);
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    for task in tasks.filter_map(Result::ok) {
        // A thread may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(") ").expect("the name stands in brackets");
        if name.contains("(ebbtide-") {
            let field = |index: usize| rest.split(' ').nth(index).and_then(|f| f.parse().ok());
            let used: [Option<u32>; 2] = [field(11), field(12)];
            ticks += used.iter().map(|ticks| ticks.expect("a number")).sum::<u32>();
            threads += 1;
        }
    }
    (threads, TICK * ticks)
}

/// Threads of this process that write logs: `ebbtide-0-commit`, of which the system keeps a part.
fn log_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.contains("-commi")).count()
}

/// Rings of this process.
fn rings() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
    let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().contains("io_uring")).count()
}

/// What the shards' threads use in `time`, with everything they do beforehand done.
fn used_in(time: Duration) -> Duration {
    thread::sleep(Duration::from_millis(100));
    let (threads, before) = shard_threads();
    thread::sleep(time);
    let (still, after) = shard_threads();
    assert_eq!(threads, still, "no thread came or went");
    after.saturating_sub(before)
}

fn event(entity: EntityId) -> Event {
    Event::new(entity, SignalId(0), Timestamp(0))
}

/// An engine with something in every shard, and handles that are open and idle.
fn at_rest(setting: Setting, idle: Idle) -> (Engine, ebbtide::Producer, ebbtide::Reader) {
    let engine = setting.builder().idle(idle).open().expect("it opens");
    let mut producer = engine.producer().expect("every shard runs");
    let mut reader = engine.reader().expect("every shard runs");
    for entity in entity_of_each_shard(&engine) {
        let ticket = producer.offer(event(entity)).expect("there is room");
        producer.wait(ticket, Ack::Applied, PATIENCE).expect("every shard runs");
        let read = reader.read(entity, SignalId(0), Timestamp(0));
        assert!(read.is_ok_and(|reading| reading.is_some()));
    }
    (engine, producer, reader)
}

#[test]
fn an_idle_engine_uses_less_than_a_hundredth_of_a_core() {
    let _alone = alone();
    for setting in with_shards(2) {
        let (engine, _producer, _reader) = at_rest(setting, Idle::Park);
        assert!(shard_threads().0 >= 2, "the shards' threads are found by their names");
        let used = used_in(Duration::from_secs(3));
        println!("{setting}: {used:?} in 3 s");
        assert!(used < Duration::from_millis(30), "{setting}: {used:?} in 3 s");
        engine.close(PATIENCE).unwrap();
        // The kernel lists a thread for a moment after it was joined.
        let begun = Instant::now();
        while shard_threads().0 > 0 {
            assert!(begun.elapsed() < PATIENCE, "{setting}: closing ends every thread");
            thread::yield_now();
        }
    }
}

#[test]
fn a_spinning_engine_keeps_looking_and_still_closes_at_once() {
    let _alone = alone();
    for setting in with_shards(1) {
        let (engine, mut producer, _reader) = at_rest(setting, Idle::Spin);
        // A busy machine gives even a spinning thread little; a parked one would not get there.
        let (begun, (_, before)) = (Instant::now(), shard_threads());
        while shard_threads().1.saturating_sub(before) < Duration::from_millis(100) {
            assert!(begun.elapsed() < PATIENCE, "{setting}: it does not spin");
            thread::sleep(Duration::from_millis(10));
        }
        let parks = engine.metrics().shards[0].parks;
        assert_eq!(parks, 0, "{setting}: without a log it never sleeps");
        let ticket = producer.offer(event(EntityId(1))).unwrap();
        let begun = Instant::now();
        engine.close(PATIENCE).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{setting}: {:?}", begun.elapsed());
        assert!(producer.is_acked(ticket, Ack::Applied));
    }
}

/// On io_uring its log was left to workers of the kernel, which waited for the core of the shard:
/// an event was durable after three times as long as beside a shard that sleeps.
#[test]
fn a_spinning_shard_and_its_log_are_on_threads_and_the_store_opens_either_way() {
    let _alone = alone();
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        for (round, idle) in (1..).zip([Idle::Spin, Idle::Park, Idle::Spin]) {
            let builder = Engine::builder(folder.path()).schema(schema()).shards(1);
            let engine = builder.backend(backend).idle(idle).open().unwrap();
            let chosen = if idle == Idle::Spin { Backend::Threads } else { backend };
            assert_eq!(engine.backend().backend, chosen, "{}", engine.backend());
            let mut producer = engine.producer().unwrap();
            let ticket = producer.offer(event(EntityId(1))).unwrap();
            producer.wait(ticket, Ack::Durable, PATIENCE).unwrap();
            let by_threads = log_threads() > 0;
            assert_eq!(by_threads, idle == Idle::Spin || backend == Backend::Threads);
            assert_eq!(rings() == 0, by_threads, "it has a ring to write its log with, or none");
            let mut reader = engine.reader().unwrap();
            let found = reader.read(EntityId(1), SignalId(0), Timestamp(0)).unwrap();
            assert_eq!(found.unwrap().all_time, round);
            engine.close(PATIENCE).unwrap();
            let begun = Instant::now();
            while log_threads() + rings() > 0 {
                assert!(begun.elapsed() < PATIENCE, "closing ends every thread and ring");
                thread::yield_now();
            }
        }
    }
}

/// Waits until the shard sleeps again after its last work.
fn wait_until_parked(engine: &Engine, parks: u64) -> u64 {
    let begun = Instant::now();
    loop {
        let now = engine.metrics().shards[0].parks;
        if now > parks {
            return now;
        }
        assert!(begun.elapsed() < PATIENCE, "the shard does not go to sleep");
        thread::sleep(Duration::from_micros(50));
    }
}

/// Wakes a sleeping shard by `wake` again and again, and counts how often that was slow.
fn slow_wake_ups(engine: &Engine, mut wake: impl FnMut(u64)) -> usize {
    let mut slow = 0;
    for round in 0..WAKE_UPS {
        let parks = engine.metrics().shards[0].parks;
        engine.on_shard(EntityId(0), |_| ()).expect("the shard runs");
        wait_until_parked(engine, parks);
        // From just falling asleep to fast asleep.
        thread::sleep(Duration::from_micros(round * 7 % 300));
        let begun = Instant::now();
        wake(round);
        slow += usize::from(begun.elapsed() > WAKE);
    }
    slow
}

#[test]
fn a_sleeping_shard_wakes_for_every_event_and_every_question() {
    let _alone = alone();
    for setting in with_shards(1) {
        let (engine, mut producer, mut reader) = at_rest(setting, Idle::Park);
        let by_event = slow_wake_ups(&engine, |round| {
            let ticket = producer.offer(event(EntityId(round))).unwrap();
            producer.wait(ticket, Ack::Applied, PATIENCE).unwrap();
        });
        let by_batch = slow_wake_ups(&engine, |round| {
            assert_eq!(producer.offer_batch(&[event(EntityId(round)); 3]).taken, 3);
            producer.flush(Ack::Applied, PATIENCE).unwrap();
        });
        let by_question = slow_wake_ups(&engine, |round| {
            let read = reader.read(EntityId(round), SignalId(0), Timestamp(0));
            assert!(read.unwrap().unwrap().all_time >= 4);
        });
        let slow = [by_event, by_batch, by_question];
        assert!(slow.iter().all(|&slow| slow <= SLOW_MAX), "{setting}: {slow:?} were slow");
    }
}
