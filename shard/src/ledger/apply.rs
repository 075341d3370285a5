//! The way of events into the ledger, one by one or a batch at a time.
//!
//! ```text
//! event i+32: ask for the slot   event i+16: find it, ask for the counts   event i: apply
//! ```
//!
//! Promises: a batch leaves the same bits as its events one by one. What is known ahead is a hint:
//! it is checked before it is used, since an event in between may have grown the table.

use super::SignalLedger;
use super::front::Front;
use super::top::TopKey;
use crate::{RoutedEvent, SignalId};
use std::cmp::Reverse;

/// Events that take each step of the way together: as many as a core keeps cache misses in flight.
const GROUP: usize = 16;

/// Slots where the events of a group were last seen.
type Hints = [usize; GROUP];

impl SignalLedger {
    /// Takes events in, in their order. The same as one by one, and several times faster where the
    /// state is larger than the caches.
    pub fn apply_batch(&mut self, events: &[RoutedEvent]) {
        let mut fetching = events.chunks(GROUP);
        let mut finding = events.chunks(GROUP);
        let (mut hints, mut next_hints) = ([0; GROUP], [0; GROUP]);
        self.fetch_slots(fetching.next());
        self.fetch_slots(fetching.next());
        self.fetch_counts(finding.next(), &mut next_hints);
        for group in events.chunks(GROUP) {
            std::mem::swap(&mut hints, &mut next_hints);
            self.fetch_slots(fetching.next());
            self.fetch_counts(finding.next(), &mut next_hints);
            for (event, &hint) in group.iter().zip(&hints) {
                self.apply(event, hint);
            }
        }
    }

    fn fetch_slots(&self, group: Option<&[RoutedEvent]>) {
        for event in group.unwrap_or_default() {
            self.tables[self.table_of(event)].fetch(event);
        }
    }

    fn fetch_counts(&self, group: Option<&[RoutedEvent]>, hints: &mut Hints) {
        for (event, hint) in group.unwrap_or_default().iter().zip(hints) {
            let table = &self.tables[self.table_of(event)];
            *hint = table.seek(event);
            if let Some(state) = table.at(*hint, event) {
                self.buckets.fetch(state.buckets());
            }
        }
    }

    #[inline]
    pub(super) fn table_of(&self, event: &RoutedEvent) -> usize {
        event.hash.partition() - self.first_partition
    }

    /// Takes one event in.
    #[inline]
    pub(super) fn apply_one(&mut self, event: &RoutedEvent) {
        let hint = self.tables[self.table_of(event)].start(event);
        self.apply(event, hint);
    }

    /// Takes one event in; `hint` is a slot where its pair may be.
    #[inline]
    fn apply(&mut self, event: &RoutedEvent, hint: usize) {
        let &RoutedEvent { time, weight, signal, .. } = event;
        let table = self.table_of(event);
        let slot = if self.tables[table].at(hint, event).is_some() {
            hint
        } else {
            self.find_or_take(table, event)
        };
        let state = self.tables[table].at_mut(slot);
        let head = state.last_update();
        if !self.buckets.record(state.buckets_mut(), head, time) {
            state.set_saturated();
        }
        let half_lives = self.schema.def(signal).half_lives();
        let front = &self.fronts[signal.index()];
        if front.holds(head, time) {
            state.add_within(front.eras(), half_lives, time, weight);
            let may_enter = |k| !state.is_ranked(k) && front.may_rank(k, state.sum(k));
            if !(0..half_lives.len()).any(may_enter) {
                return;
            }
        } else {
            state.add(half_lives, time, weight);
        }
        self.rank((table, slot), event.signal);
    }

    #[inline(never)]
    pub(super) fn find_or_take(&mut self, table: usize, event: &RoutedEvent) -> usize {
        let key = &self.key;
        let table = &mut self.tables[table];
        let (pairs, bytes) = (table.len(), table.memory_bytes());
        let slot = table.entry(event, |entity| key.hash(entity));
        self.pairs += table.len() - pairs;
        self.hot_bytes += table.memory_bytes() - bytes;
        slot
    }

    /// Enters a pair that has just changed in the rankings it now belongs to, and moves the front.
    #[inline(never)]
    pub(super) fn rank(&mut self, (table, slot): (usize, usize), signal: SignalId) {
        let half_lives = self.schema.def(signal).half_lives();
        let state = self.tables[table].at_mut(slot);
        let entity = state.entity();
        let tops = &mut self.tops[signal.index()];
        let mut full = false;
        for (k, (half_life, top)) in half_lives.iter().zip(tops.iter_mut()).enumerate() {
            if !state.is_ranked(k) && top.admits((state.rank(k, half_life), Reverse(entity))) {
                state.set_ranked(k, true);
                full |= top.enter(entity);
            }
        }
        let newest = state.last_update();
        if full {
            self.cut_rankings(signal);
        }
        let (front, tops) = (&mut self.fronts[signal.index()], &self.tops[signal.index()]);
        if front.is_behind(newest) {
            *front = Front::around(newest, self.schema.def(signal).half_lives(), tops);
        } else if full {
            front.lift_bars(tops);
        }
    }

    /// Cuts the rankings of a signal type that are full back to their best.
    #[cold]
    fn cut_rankings(&mut self, signal: SignalId) {
        let half_lives = self.schema.def(signal).half_lives();
        for (k, half_life) in half_lives.iter().enumerate() {
            let top = &mut self.tops[signal.index()][k];
            if top.candidates().len() < crate::limits::TOP_CANDIDATES_MAX {
                continue;
            }
            let (tables, key, first) = (&mut self.tables, &self.key, self.first_partition);
            let gone = top.keep_best(|entity| -> TopKey {
                let hash = key.hash(entity);
                let state = tables[hash.partition() - first].get(hash, entity, signal);
                (state.map_or(0, |state| state.rank(k, half_life)), Reverse(entity))
            });
            for entity in gone {
                let hash = key.hash(entity);
                let table = &mut tables[hash.partition() - first];
                if let Some(state) = table.get_mut(hash, entity, signal) {
                    state.set_ranked(k, false);
                }
            }
        }
    }
}
