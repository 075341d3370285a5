//! Stages on the way in: hash, admission, the ring, the turn, remembered ids.

use super::{Arrivals, EVENTS, Rounds, Stage, ledger_at, repeated, rounds};
use crate::compare::tables::{Decays, KEY, schema};
use crate::compare::workload::START_NS;
use ebbtide_router::{Admission, EventRouter, ManualClock, Placement};
use ebbtide_shard::dedup::{RecentIds, content_key};
use ebbtide_shard::limits::BATCH_EVENTS_MAX;
use ebbtide_shard::{Event, PartitionKey, RoutedEvent, Shard, ShardPort, Timestamp, Turn};
use ebbtide_wal::NoWal;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "hash",
        operation: "the keyed hash of one entity",
        operations: EVENTS,
        set_up: hash,
    },
    Stage {
        name: "admit",
        operation: "one event past the admission",
        operations: EVENTS,
        set_up: admit,
    },
    Stage {
        name: "offer",
        operation: "one event admitted, hashed, placed and in the ring, in batches of 512",
        operations: EVENTS,
        set_up: offer,
    },
    Stage {
        name: "turn",
        operation: "one event out of the ring, encoded, applied and acknowledged, without a log",
        operations: EVENTS,
        set_up: turn,
    },
    Stage {
        name: "id_new",
        operation: "the key of one id, and that key remembered",
        operations: EVENTS,
        set_up: id_new,
    },
    Stage {
        name: "id_repeated",
        operation: "the key of one id, and that key found",
        operations: EVENTS,
        set_up: id_repeated,
    },
    Stage {
        name: "content_key",
        operation: "the key of one event's content",
        operations: EVENTS,
        set_up: content,
    },
];

fn hash() -> Box<dyn Rounds> {
    let state = (PartitionKey::new(KEY), Arrivals::new().take());
    repeated(state, |(key, events)| {
        for event in &*events {
            black_box(key.hash(event.entity));
        }
    })
}

/// The admission of a producer whose events come from the past.
fn admission() -> Admission {
    let clock = ManualClock::at(Timestamp(2 * START_NS));
    let skew = Duration::from_secs(5);
    let schema = schema(Decays::Three).expect("the schema is ours");
    Admission::new(schema, Arc::new(clock), skew, Arc::default())
}

fn unrouted(events: &[RoutedEvent]) -> Vec<Event> {
    let event = |event: &RoutedEvent| {
        Event::new(event.entity, event.signal, event.time).with_weight(event.weight)
    };
    events.iter().map(event).collect()
}

fn admit() -> Box<dyn Rounds> {
    let state = (admission(), unrouted(&Arrivals::new().take()));
    repeated(state, |(admission, events)| {
        for event in &*events {
            let _admitted = black_box(admission.admit(event));
        }
    })
}

/// A producer and the shard that its events go to, on one thread.
struct Door {
    arrivals: Arrivals,
    router: EventRouter,
    shard: Shard<NoWal>,
    events: Vec<Event>,
}

impl Door {
    fn new() -> Self {
        let port = Arc::new(ShardPort::new(0));
        let shard = Shard::new(Arc::clone(&port), ledger_at(START_NS), NoWal::new(), usize::MAX);
        let placement = Placement::over(1).expect("a store may have one shard");
        let router = EventRouter::open(&[port], placement, PartitionKey::new(KEY), admission());
        let router = router.expect("the shard is up");
        Self { arrivals: Arrivals::new(), router, shard, events: Vec::new() }
    }

    fn next_events(&mut self) {
        self.events = unrouted(&self.arrivals.take());
    }

    fn offer(&mut self) {
        for batch in self.events.chunks(BATCH_EVENTS_MAX) {
            let (_, refused) = self.router.offer_batch(batch);
            assert!(refused.is_none(), "the ring has room for the events of a round");
        }
    }

    fn drain(&mut self) {
        while self.shard.turn().expect("where there is no log, none fails") == Turn::Busy {}
    }
}

fn offer() -> Box<dyn Rounds> {
    let prepare = |door: &mut Door| {
        door.drain();
        door.next_events();
    };
    rounds(Door::new(), prepare, Door::offer)
}

fn turn() -> Box<dyn Rounds> {
    let prepare = |door: &mut Door| {
        door.next_events();
        door.offer();
    };
    rounds(Door::new(), prepare, Door::drain)
}

/// What a shard remembers, and the ids that come next.
struct Ids {
    key: PartitionKey,
    recent: RecentIds,
    events: Vec<RoutedEvent>,
    next: u128,
}

impl Ids {
    fn new() -> Self {
        let (key, recent) = (PartitionKey::new(KEY), RecentIds::new());
        Self { key, recent, events: Arrivals::new().take(), next: 0 }
    }

    /// How many of the next ids are news.
    fn look(&mut self) -> usize {
        let news = self.events.iter().zip(self.next..).filter(|&(event, id)| {
            let key = self.key.id_key(event.entity, event.signal.0, id);
            self.recent.is_new(key, event.hash)
        });
        news.count()
    }
}

fn id_new() -> Box<dyn Rounds> {
    rounds(
        Ids::new(),
        |ids| ids.next += EVENTS as u128,
        |ids| assert_eq!(ids.look(), EVENTS, "ids that never came before"),
    )
}

fn id_repeated() -> Box<dyn Rounds> {
    let mut ids = Ids::new();
    ids.look();
    repeated(ids, |ids| assert_eq!(ids.look(), 0, "all came before"))
}

fn content() -> Box<dyn Rounds> {
    repeated(Arrivals::new().take(), |events| {
        for event in &*events {
            black_box(content_key(event.entity, event.signal.0, event.time, event.weight));
        }
    })
}
