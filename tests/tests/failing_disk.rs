//! A disk that refuses or hangs under a running engine: what the host is told, what goes on, and
//! what is there when the store is opened again.
//!
//! Writes are made to fail by a limit on the length of files (`EFBIG`) and by taking the disk away
//! (`EIO`), to hang by freezing the file system; each test runs in a process of its own. What a log
//! does at each single failed call is tested with a simulated disk, in its own package.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use ebbtide::{
    Ack, AckError, Backend, CheckpointError, CloseError, Engine, EngineBuilder, EntityId, Event,
    Health, LogOptions, OfferError, Producer, ShardDown, SignalId, Ticket, Timestamp, WaitError,
};
use ebbtide_tests::alone::alone;
use ebbtide_tests::crash::{SOURCE, Truth, builder, copy, event, held, record};
use ebbtide_tests::cut_disk::CutDisk;
use ebbtide_tests::oracle::Known;
use ebbtide_tests::setting::{PATIENCE, Setting, entity_of_each_shard, with_shards};
use ebbtide_tests::victim::{Death, run};
use futures_lite::future::block_on;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SEED: u64 = 3;
const EVENTS: u64 = 1_000;
const VIEW: SignalId = SignalId(3);
const SEGMENT_BYTES: u64 = 32 * 1024;
/// Entities that the source has nothing of begin here.
const OTHERS: u64 = 5_000;
/// Longer than a log takes to come to rest after its last event.
const REST: Duration = Duration::from_millis(100);

fn open(directory: &Path, setting: Setting) -> Engine {
    options(directory, setting).open().unwrap()
}

fn options(directory: &Path, Setting { backend, shards }: Setting) -> EngineBuilder {
    let group_bytes = 8 * 1024;
    let log = LogOptions { group_bytes, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
    builder(directory).shards(shards).backend(backend).log_options(log)
}

/// For as long as this lives, a write behind so many bytes of any file fails.
struct ShortFiles(Rlimit);

impl ShortFiles {
    fn of(bytes: u64) -> Self {
        let before = getrlimit(Resource::Fsize);
        setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), ..before }).unwrap();
        Self(before)
    }
}

impl Drop for ShortFiles {
    fn drop(&mut self) {
        setrlimit(Resource::Fsize, self.0).unwrap();
    }
}

fn view(entity: EntityId) -> Event {
    Event::new(entity, VIEW, Timestamp::from_seconds(1_700_000_000))
}

/// One entity of each of two shards, none of them the source's.
fn one_of_each(engine: &Engine) -> [EntityId; 2] {
    let found = engine.on_every_shard(|local| {
        (OTHERS..2 * OTHERS).map(EntityId).find(|&entity| local.owns(entity)).unwrap()
    });
    found.unwrap().try_into().unwrap()
}

fn all_time(engine: &Engine, entity: EntityId) -> u64 {
    let reading = engine.reader().unwrap().read(entity, VIEW, Timestamp::MAX).unwrap();
    reading.map_or(0, |reading| reading.all_time)
}

/// Everyone who waits for an event whose log failed is told the same cause.
fn assert_told(producer: &mut Producer, ticket: Ticket, event: Event) -> ShardDown {
    let Err(WaitError::Down(down)) = producer.wait(ticket, Ack::Durable, PATIENCE) else {
        panic!("an event that cannot be written is not acknowledged")
    };
    let ShardDown::Failed { cause, .. } = &down else { panic!("{down}") };
    assert!(cause.starts_with("its log failed: writing a frame to seg-"), "{cause}");
    assert!(cause.contains("File too large"), "{cause}");
    assert!(!producer.is_acked(ticket, Ack::Written));
    let told = block_on(producer.acked(ticket, Ack::Durable));
    assert_eq!(told, Err(AckError::Down(down.clone())));
    let flushed = producer.flush(Ack::Written, PATIENCE);
    assert_eq!(flushed, Err(WaitError::Down(down.clone())));
    let refused = producer.offer(event);
    assert_eq!(refused, Err(OfferError::Down { event, down: down.clone() }));
    down
}

#[test]
fn a_log_that_cannot_be_written_fails_its_shard_and_nothing_that_was_acknowledged() {
    let name = "a_log_that_cannot_be_written_fails_its_shard_and_nothing_that_was_acknowledged";
    let Some(place) = alone(name, "trap '' XFSZ") else { return };
    for setting in with_shards(2) {
        let directory = place.join(format!("{:?}", setting.backend));
        let engine = open(&directory, setting);
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        let [ours, failing] = one_of_each(&engine);
        let mut producer = engine.producer().unwrap();
        let ticket = producer.offer(view(ours)).unwrap();
        producer.wait(ticket, Ack::Durable, PATIENCE).unwrap();
        // Nobody is to write but the shard that is to fail.
        thread::sleep(REST);
        let down = {
            let _limit = ShortFiles::of(4_096);
            let ticket = producer.offer(view(failing)).unwrap();
            assert_told(&mut producer, ticket, view(failing))
        };
        assert_eq!(engine.health(), Health::Failed(vec![down.clone()]), "{setting}");
        // The other shard goes on, and the failed one never again.
        for _ in 0..100 {
            let ticket = producer.offer(view(ours)).unwrap();
            producer.wait(ticket, Ack::Durable, PATIENCE).unwrap();
        }
        assert!(producer.offer(view(failing)).is_err());
        assert_eq!(engine.checkpoint(), Err(CheckpointError::Down(down.clone())));
        assert_eq!(engine.close(PATIENCE), Err(CloseError::Failed(down)), "{setting}");

        let again = open(&directory, Setting { shards: 3, ..setting });
        assert_eq!(again.health(), Health::Ok);
        assert_eq!(all_time(&again, ours), 101, "{setting}");
        assert!(all_time(&again, failing) <= 1, "nobody was told");
        let mut there = held(&again);
        there.retain(|(entity, _), _| entity.0 < OTHERS);
        assert_eq!(there, Truth::of(SEED, EVENTS, 0).last(), "{setting}");
    }
}

/// Waits until an engine is not well, and says why not.
fn degraded(engine: &Engine) -> String {
    match engine.health() {
        Health::Degraded { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_checkpoints_and_nothing_else() {
    let name = "a_checkpoint_that_cannot_be_written_ends_checkpoints_and_nothing_else";
    let Some(place) = alone(name, "trap '' XFSZ") else { return };
    let anew_or_not = |setting| [0, 1 << 20].map(|bytes| (setting, bytes));
    for (setting, anew_bytes) in with_shards(2).into_iter().flat_map(anew_or_not) {
        let directory = place.join(format!("{:?}-{anew_bytes}", setting.backend));
        let engine = options(&directory, setting).checkpoint_anew_bytes(anew_bytes).open().unwrap();
        let mut last = 0;
        let mut record_more = |engine: &Engine| {
            record(engine, SEED, last + 1..=last + EVENTS, Ack::Durable);
            last += EVENTS;
            last
        };
        // From the third on all pairs are known to change each time.
        for _ in 0..3 {
            record_more(&engine);
            engine.checkpoint().unwrap();
        }
        assert_eq!(engine.metrics().checkpoints.unwrap().anew, u64::from(anew_bytes == 0));
        let image = place.join(format!("{:?}-{anew_bytes}-image", setting.backend));
        let last = {
            // As long as a segment: the logs go on, the database does not.
            let _limit = ShortFiles::of(SEGMENT_BYTES);
            let refused = thread::scope(|scope| {
                let recording = scope.spawn(|| record_more(&engine));
                // Until it fails: how much the database writes is its own affair.
                let begun = Instant::now();
                let refused = loop {
                    match engine.checkpoint() {
                        Ok(_) => assert!(begun.elapsed() < PATIENCE, "nothing fails"),
                        Err(refused) => break refused,
                    }
                };
                recording.join().unwrap();
                refused
            });
            let CheckpointError::Save(cause) = &refused else { panic!("{refused}") };
            assert_eq!(degraded(&engine), cause.to_string(), "{setting}");
            assert_eq!(engine.checkpoint(), Err(refused.clone()), "for good");
            let last = record_more(&engine);
            let metrics = engine.metrics().checkpoints.unwrap();
            assert_eq!(metrics.failure, Some(cause.to_string()));
            assert!(!directory.join("checkpoint.new").exists());
            assert_eq!(held(&engine), Truth::of(SEED, last, 0).last(), "{setting}");
            last
        };
        copy(&directory, &image);
        let closed = engine.close(PATIENCE);
        assert!(matches!(closed, Ok(()) | Err(CloseError::Store { .. })), "{closed:?}");
        for crashed_or_closed in [&image, &directory] {
            let again = open(crashed_or_closed, Setting { shards: 1, ..setting });
            assert_eq!(held(&again), Truth::of(SEED, last, 0).last(), "{setting}");
            assert_eq!(again.health(), Health::Ok);
            again.checkpoint().unwrap();
        }
    }
}

/// A file system that stands still for a while; the one that thaws it outlives this process.
struct Frozen(Child);

impl Frozen {
    fn for_a_while(place: &Path, length: Duration) -> Self {
        let place = place.display();
        let script = format!(
            "fsfreeze -f {place} && echo frozen && sleep {} && fsfreeze -u {place}",
            length.as_secs_f64()
        );
        let mut child =
            Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "frozen\n");
        Self(child)
    }

    fn wait(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn a_write_that_does_not_come_back_times_out_and_is_durable_when_it_does() {
    let name = "a_write_that_does_not_come_back_times_out_and_is_durable_when_it_does";
    let prepare = "command -v fsfreeze >/dev/null && truncate -s 300M $PLACE.image && \
                   mkfs.ext4 -q $PLACE.image && mount -o loop $PLACE.image $PLACE";
    let Some(place) = alone(name, prepare) else { return };
    for setting in with_shards(2) {
        let directory = place.join(format!("{:?}", setting.backend));
        let engine = Arc::new(open(&directory, setting));
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        let [entity, _] = one_of_each(&engine);
        let mut producer = engine.producer().unwrap();
        thread::sleep(REST);
        let frozen = Frozen::for_a_while(&place, Duration::from_millis(1_500));
        let ticket = producer.offer(view(entity)).unwrap();
        let patience = Duration::from_millis(200);
        let waited = producer.wait(ticket, Ack::Written, patience);
        assert_eq!(waited, Err(WaitError::Timeout { patience }), "{setting}");
        assert!(!producer.is_acked(ticket, Ack::Durable));
        // Everything that needs no disk goes on.
        producer.wait(ticket, Ack::Applied, patience).unwrap();
        assert_eq!(all_time(&engine, entity), 1);
        assert_eq!(engine.health(), Health::Ok);
        let checkpoint = thread::spawn({
            let engine = Arc::clone(&engine);
            move || engine.checkpoint()
        });
        thread::sleep(patience);
        assert!(!checkpoint.is_finished(), "it waits, like everybody");
        frozen.wait();
        producer.wait(ticket, Ack::Durable, PATIENCE).unwrap();
        checkpoint.join().unwrap().unwrap();
        engine.close(PATIENCE).unwrap();
        let again = open(&directory, Setting { shards: 1, ..setting });
        assert_eq!(all_time(&again, entity), 1, "{setting}");
    }
}

#[test]
fn what_a_shard_had_made_durable_before_it_panicked_is_there_again() {
    for setting in with_shards(2) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        let engine = open(&directory, setting);
        record(&engine, SEED, 1..=EVENTS, Ack::Durable);
        engine.checkpoint().unwrap();
        record(&engine, SEED, EVENTS + 1..=2 * EVENTS, Ack::Durable);
        engine.panic_shard_of(entity_of_each_shard(&engine)[1]);
        let begun = Instant::now();
        while engine.health() == Health::Ok {
            assert!(begun.elapsed() < PATIENCE, "nobody noticed the panic");
            thread::yield_now();
        }
        assert!(matches!(engine.close(PATIENCE), Err(CloseError::Failed(_))), "{setting}");
        let again = open(&directory, Setting { backend: Backend::Threads, shards: 1 });
        assert_eq!(held(&again), Truth::of(SEED, 2 * EVENTS, 0).last(), "{setting}");
        again.checkpoint().unwrap();
    }
}

/// Records until the disk is gone; gives the last offset that was acknowledged, and the cause of
/// the end.
fn record_until_it_fails(engine: &Engine) -> (u64, ShardDown) {
    let mut producer = engine.producer_for(SOURCE).unwrap();
    let mut acknowledged = 0;
    for offset in 1.. {
        let offered = producer.offer_within(event(SEED, offset), PATIENCE);
        let flushed = match offered {
            Ok(_) if offset % 20 > 0 => continue,
            Ok(_) => producer.flush(Ack::Durable, PATIENCE),
            Err(error) => {
                assert!(!error.is_retryable(), "{error}");
                producer.flush(Ack::Durable, PATIENCE)
            }
        };
        match flushed {
            Ok(()) => acknowledged = offset,
            Err(WaitError::Down(down)) => return (acknowledged, down),
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("offsets do not end")
}

#[test]
fn a_disk_that_vanishes_fails_its_shards_and_has_all_that_was_durable_when_it_is_back() {
    let name = "a_disk_that_vanishes_fails_its_shards_and_has_all_that_was_durable_when_it_is_back";
    let Some(place) = alone(name, "mount -t tmpfs none $PLACE") else { return };
    for setting in with_shards(2) {
        let place = place.join(format!("{:?}", setting.backend));
        std::fs::create_dir(&place).unwrap();
        let mut disk = match CutDisk::start(&place) {
            Ok(disk) => disk,
            Err(missing) => return println!("not tested: {missing}"),
        };
        let engine = open(&disk.mounted().join("store"), setting);
        let (acknowledged, down) = thread::scope(|scope| {
            let recording = scope.spawn(|| record_until_it_fails(&engine));
            thread::sleep(Duration::from_millis(400));
            engine.checkpoint().unwrap();
            thread::sleep(Duration::from_millis(200));
            disk.take_away();
            recording.join().unwrap()
        });
        println!("{setting}: {acknowledged} acknowledged; {down}");
        let ShardDown::Failed { cause, .. } = &down else { panic!("{down}") };
        assert!(cause.starts_with("its log failed: "), "{cause}");
        // What had failed first may have made the file system read-only.
        let ill = ["Input/output error", "Read-only file system"];
        assert!(ill.iter().any(|ill| cause.contains(ill)), "{cause}");
        let Health::Failed(failed) = engine.health() else { panic!("{:?}", engine.health()) };
        assert!(failed.contains(&down));
        assert!(engine.checkpoint().is_err());
        assert!(engine.close(PATIENCE).is_err(), "{setting}");
        drop(engine);

        let directory = disk.bring_back().join("store");
        let program = Path::new(env!("CARGO_BIN_EXE_victim"));
        let mut known = Known::new(Truth::of(SEED, acknowledged + 20_000, 0));
        known.source = acknowledged;
        let said = run(program, &directory, &["shards=3".to_owned()], Death::Natural).unwrap();
        known.judge(&said).unwrap_or_else(|fault| panic!("{setting}: {fault}"));
    }
}
