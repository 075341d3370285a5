//! The script beside the shared map, which keeps the same signals; where there is no redis-server,
//! that it is said to be absent.

use super::*;
use crate::rivals::{Keeping, Reading, SharedMap};
use crate::synthetic::{Spec, Synthetic};
use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;
const START_NS: u64 = 1_704_067_200 * SECOND_NS;
const HALF_LIVES: [Duration; 3] =
    [Duration::from_hours(1), Duration::from_hours(24), Duration::from_hours(168)];

/// A server in `folder`; nothing where there is no program.
fn server(folder: &std::path::Path, keeping: Keeping) -> Option<RedisServer> {
    match RedisServer::start(folder, keeping, None) {
        Ok(server) => Some(server),
        Err(RedisError::Absent) => None,
        Err(other) => panic!("{other}"),
    }
}

/// Events of some hot entities over several days, many of them late by hours.
fn events(count: u64) -> Vec<(u64, u64, f64)> {
    let spec = Spec {
        events: count,
        entities: 20,
        zipf: 1.0,
        late: 0.2,
        late_max_ns: 20 * 3_600 * SECOND_NS,
        dup: 0.0,
        burst: 0.0,
        signals: 1,
        start_ns: START_NS,
        step_ns: 150 * SECOND_NS,
        ids: false,
        seed: 5,
    };
    // Redis keeps a quarter of a microsecond of a time: whole seconds are the same for both.
    let whole = |time_ns: u64| time_ns / SECOND_NS * SECOND_NS;
    Synthetic::new(spec).map(|event| (event.entity, whole(event.time_ns), event.weight)).collect()
}

fn assert_same(state: &RedisState, reading: &Reading) {
    let RedisState { scores, minutes, hours, .. } = state;
    for (ours, theirs) in scores.iter().zip(reading.scores) {
        assert!((ours - theirs).abs() <= 1e-9 * theirs, "{state:?} {reading:?}");
    }
    let (minute, hour) = (minutes[0].0, hours[0].0);
    assert_eq!(RedisState::count(minutes, minute, 60), reading.count_1h);
    assert_eq!(RedisState::count(hours, hour, 24), reading.count_24h);
    assert_eq!(RedisState::count(hours, hour, 168), reading.count_7d);
    assert_eq!(u64::from(state.all_time), reading.all_time);
    let last_update = reading.last_update_ns as f64 / 1e9;
    assert!((state.last_update - last_update).abs() < 1e-6, "{state:?} {reading:?}");
}

#[test]
fn redis_keeps_what_the_shared_map_keeps() {
    let home = tempfile::tempdir().unwrap();
    let Some(server) = server(home.path(), Keeping::LogEverySecond) else { return };
    let mut redis = RedisSignals::new(server).unwrap();
    let map = SharedMap::small(&[&HALF_LIVES]);
    let events = events(6_000);
    for &(entity, time, weight) in &events {
        map.record(entity, 0, time, weight);
    }
    let sent = events.iter().map(|&(entity, time, weight)| RedisEvent::new(entity, time, weight));
    let sent: Vec<_> = sent.collect();
    redis.tune(&sent[..400]).unwrap();
    redis.record(&sent[400..]).unwrap();
    redis.server().settle().unwrap();
    for entity in 0..20 {
        let state = redis.state(entity).unwrap().expect("every entity has events");
        // As of its last update, which is later than the epoch.
        let reading = map.read(entity, 0, 0).unwrap();
        assert_same(&state, &reading);
        let falling = |list: &[(u32, u32)]| list.windows(2).all(|pair| pair[0].0 > pair[1].0);
        assert!(falling(&state.minutes) && falling(&state.hours), "{state:?}");
        assert!(state.minutes.len() <= 60 && state.hours.len() <= 168, "{state:?}");
    }
    assert_eq!(redis.state(999).unwrap(), None);
}

#[test]
fn a_snapshot_is_loaded_whole_and_its_time_told() {
    let home = tempfile::tempdir().unwrap();
    let Some(first) = server(home.path(), Keeping::Snapshot) else { return };
    let mut redis = RedisSignals::new(first).unwrap();
    redis.fill(3_000, &[START_NS, START_NS + 1_200 * SECOND_NS]).unwrap();
    let state = redis.state(2_999).unwrap().unwrap();
    assert_eq!((state.all_time, state.minutes.len()), (2, 2));
    redis.server().save().unwrap();
    // What follows the snapshot is not kept.
    redis.record(&[RedisEvent::new(5_000, START_NS, 1.0)]).unwrap();
    drop(redis);
    let mut again = server(home.path(), Keeping::Snapshot).unwrap();
    assert_eq!(again.keys().unwrap(), 3_000);
    let took = again.loaded_in().unwrap();
    assert!(took > Duration::ZERO && took < Duration::from_secs(20), "{took:?}");
}

/// The next one finds neither its socket nor its port taken.
#[test]
fn a_server_is_gone_with_its_handle() {
    let home = tempfile::tempdir().unwrap();
    let Some(server) = server(home.path(), Keeping::LogEverySecond) else { return };
    let socket = home.path().join("redis.sock");
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    drop(server);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_err());
}
