//! Every stage runs, and is known by one name.

use super::*;
use std::collections::BTreeSet;

#[test]
fn every_stage_runs_round_after_round() {
    for stage in all() {
        let mut rounds = stage.set_up();
        for _ in 0..3 {
            rounds.prepare();
            rounds.run();
        }
    }
}

#[test]
fn a_stage_is_known_by_its_name() {
    let names: BTreeSet<_> = all().map(|stage| stage.name).collect();
    assert_eq!(names.len(), all().count());
    assert!(all().all(|stage| stage.operations > 0));
}

#[test]
fn arrivals_are_in_order_and_the_same_in_every_run() {
    let (mut one, mut other) = (Arrivals::new(), Arrivals::new());
    let rounds = [one.take(), one.take()].concat();
    assert!(rounds.len() == 2 * EVENTS && rounds.is_sorted_by(|a, b| a.time < b.time));
    assert_eq!([other.take(), other.take()].concat(), rounds);
}
