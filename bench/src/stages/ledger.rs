//! Stages of the ledger: events applied, answers given.

use super::{
    Arrivals, ENTITIES, EVENTS, QUESTIONS, Rounds, Stage, empty_ledger, ledger, ledger_at,
    repeated, rounds,
};
use crate::compare::reads::{PLACES, WEIGHTS, plan};
use crate::compare::tables::apply_batches;
use crate::compare::workload::{CANDIDATES, Candidates, START_NS, VIEW, one_each};
use ebbtide_shard::request::Rows;
use ebbtide_shard::{RoutedEvent, SignalLedger, Timestamp};
use std::hint::black_box;

/// When everything is read: in the minute after the history.
const NOW: Timestamp = Timestamp(START_NS + 60 * SECOND_NS);
const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;
const HOUR_NS: u64 = 60 * MINUTE_NS;
/// Time between the events of one pair.
const STEP_NS: u64 = 1_000_000;
/// Places of a ranking of all entities.
const TOP_PLACES: usize = 100;

pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "apply_in_order",
        operation: "one event applied, in order, to a pair with one in the same minute",
        operations: EVENTS,
        set_up: apply_in_order,
    },
    Stage {
        name: "apply_next_minute",
        operation: "one event applied, in order, to a pair with one in the minute before",
        operations: EVENTS,
        set_up: apply_next_minute,
    },
    Stage {
        name: "apply_late",
        operation: "the same, up to an hour late",
        operations: EVENTS,
        set_up: apply_late,
    },
    Stage {
        name: "apply_new",
        operation: "the first event of a pair, the growth of the table included",
        operations: EVENTS,
        set_up: apply_new,
    },
    Stage {
        name: "apply_dense",
        operation: "one event of the same pair, none of whose buckets is empty",
        operations: EVENTS,
        set_up: apply_dense,
    },
    Stage {
        name: "read_one",
        operation: "a reading of one pair: 3 scores, 3 counts",
        operations: EVENTS,
        set_up: read_one,
    },
    Stage {
        name: "read_200",
        operation: "200 rows of 1 score and 3 counts",
        operations: QUESTIONS,
        set_up: read_200,
    },
    Stage {
        name: "rank_200",
        operation: "the best 20 of 200 by the sum of those, weighted",
        operations: QUESTIONS,
        set_up: rank_200,
    },
    Stage {
        name: "top_100",
        operation: "the best 100 of all entities by one score",
        operations: QUESTIONS,
        set_up: top_100,
    },
];

/// A ledger and what comes to it in a round.
struct Applied {
    ledger: SignalLedger,
    events: Vec<RoutedEvent>,
}

impl Applied {
    fn apply(&mut self) {
        apply_batches(&mut self.ledger, &self.events);
    }
}

fn apply_in_order() -> Box<dyn Rounds> {
    let applied = Applied { ledger: ledger_at(START_NS), events: Vec::new() };
    rounds(
        (applied, Arrivals::new()),
        |(applied, arrivals)| applied.events = arrivals.take(),
        |(applied, _)| applied.apply(),
    )
}

fn apply_next_minute() -> Box<dyn Rounds> {
    let events = one_each(EVENTS as u64, START_NS).collect();
    let prepare = |applied: &mut Applied| {
        applied.events.iter_mut().for_each(|event| event.time.0 += MINUTE_NS);
    };
    rounds(Applied { ledger: ledger_at(START_NS), events }, prepare, Applied::apply)
}

fn apply_late() -> Box<dyn Rounds> {
    let mut events = Arrivals::new().take();
    for (event, place) in events.iter_mut().zip(1..) {
        // A step that meets every second of the hour.
        event.time = Timestamp(NOW.0 - place * 1_009 % 3_600 * SECOND_NS);
    }
    repeated(Applied { ledger: ledger_at(NOW.0), events }, Applied::apply)
}

fn apply_new() -> Box<dyn Rounds> {
    let events = one_each(EVENTS as u64, START_NS).collect();
    let prepare = |applied: &mut Applied| applied.ledger = empty_ledger();
    rounds(Applied { ledger: empty_ledger(), events }, prepare, Applied::apply)
}

fn apply_dense() -> Box<dyn Rounds> {
    let one = one_each(1, START_NS).next().expect("one entity has one event");
    let at = |ago_ns| RoutedEvent { time: Timestamp(START_NS - ago_ns), ..one };
    let hours = (1..168).rev().map(|ago| at(ago * HOUR_NS));
    let minutes = (0..60).rev().map(|ago| at(ago * MINUTE_NS));
    let mut ledger = empty_ledger();
    ledger.apply_batch(&hours.chain(minutes).collect::<Vec<_>>());
    let events = (1..).map(|place| START_NS + place * STEP_NS);
    let events = events.map(|time_ns| RoutedEvent { time: Timestamp(time_ns), ..one });
    let events = events.take(EVENTS).collect();
    let prepare = |applied: &mut Applied| {
        applied.events.iter_mut().for_each(|event| event.time.0 += EVENTS as u64 * STEP_NS);
    };
    rounds(Applied { ledger, events }, prepare, Applied::apply)
}

fn read_one() -> Box<dyn Rounds> {
    repeated((ledger(), Arrivals::new().take()), |(ledger, events)| {
        for event in &*events {
            black_box(ledger.read(event.hash, event.entity, VIEW, NOW));
        }
    })
}

/// A ledger, and sets of candidates in it with places for their rows.
fn sets() -> (SignalLedger, Vec<Rows>) {
    let ledger = ledger();
    let plan = plan(ledger.schema()).expect("the schema is ours");
    let rows = Candidates::of(ENTITIES, 22).take(QUESTIONS).into_iter().map(|set| Rows {
        columns: plan.columns().clone(),
        entities: set.into_iter().map(|entity| (ledger.key().hash(entity), entity)).collect(),
        values: vec![0.0; CANDIDATES * WEIGHTS.len()],
        weights: WEIGHTS.to_vec(),
        ranked: Vec::with_capacity(CANDIDATES),
    });
    let rows = rows.collect();
    (ledger, rows)
}

fn read_200() -> Box<dyn Rounds> {
    repeated(sets(), |(ledger, sets)| {
        for Rows { columns, entities, values, .. } in sets {
            ledger.read_rows(entities, columns, NOW, values);
        }
    })
}

fn rank_200() -> Box<dyn Rounds> {
    repeated(sets(), |(ledger, sets)| {
        for rows in sets {
            ledger.rank_rows(rows, PLACES, NOW);
        }
    })
}

fn top_100() -> Box<dyn Rounds> {
    repeated(ledger(), |ledger| {
        for _ in 0..QUESTIONS {
            black_box(ledger.top_k(VIEW, 0, TOP_PLACES, NOW));
        }
    })
}
