//! The way of events into the ledger, one by one or a batch at a time.
//!
//! ```text
//! event i+48: its place in the index,  i+32: its slot, most likely,  i+16: found,  i: apply
//!             its gains
//!                  └─────────────── memory of all three asked for ────────┘
//! ```
//!
//! Promises: a batch leaves the same bits as its events one by one. What is known ahead is a hint:
//! it is checked before it is used, since an event in between may have grown the table or moved
//! the front.
//! Why all at once: a core goes on behind what it asked for only when it has found the page, which
//! takes long in a large memory; but it looks for many pages at a time if they are asked for in a
//! row.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::SignalLedger;
use super::table::{Home, Slot as _, Table};
use super::top::{TopKey, may_enter};
use crate::limits::{HALF_LIVES_MAX, TOP_CANDIDATES_MAX};
use crate::signal::buckets::{BucketRef, Heads};
use crate::signal::exp2::growth_lanes;
use crate::signal::half_life::HalfLife;
use crate::signal::hot::HotSignalState;
use crate::signal::pair::PairState;
use crate::wide::{self, Kernel};
use crate::{RoutedEvent, SignalId};

/// Events that take each step of the way together. What is asked for of three groups in a row is as
/// much as a core looks ahead.
const GROUP: usize = 16;

/// Fewer events than these do not pay for what groups need, and go into the ledger one by one. At
/// this number a group costs 10 ns an event more where all is in the caches, and 320 less where
/// nothing is.
const GROUPED_MIN: usize = 4;

/// Events of a group.
type Group = [RoutedEvent; GROUP];

/// What is known of the events of a group before their turn.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    homes: [Home; GROUP],
    hints: [Hint; GROUP],
    /// What they add to each sum, if the front is where it was after so many moves.
    gains: [[f64; GROUP]; HALF_LIVES_MAX],
    front_moves: u64,
}

/// What is known of one event.
#[derive(Clone, Copy, Debug)]
struct Hint {
    /// Where in the table its pair is, or was when last looked at.
    slot: usize,
    heads: Heads,
}

/// What the gains of a group of several signal types are made of, for one half-life: worked out for
/// one group after the other in the same place.
#[derive(Clone, Copy, Debug)]
struct Growths {
    weights: [f64; GROUP],
    fractions: [u64; GROUP],
    exponents: [u64; GROUP],
}

impl Growths {
    const NONE: Self = Self { weights: [0.0; GROUP], fractions: [0; GROUP], exponents: [0; GROUP] };
}

impl Ahead {
    const NOTHING: Self = Self {
        homes: [Home::NOWHERE; GROUP],
        hints: [Hint { slot: 0, heads: Heads::NONE }; GROUP],
        gains: [[0.0; GROUP]; HALF_LIVES_MAX],
        front_moves: u64::MAX,
    };
}

struct Batch<'a> {
    ledger: &'a mut SignalLedger,
    events: &'a [RoutedEvent],
}

impl Kernel for Batch<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        self.ledger.apply_all(self.events);
    }
}

impl SignalLedger {
    /// Takes events in, in their order. The same as one by one, and several times faster where the
    /// state is larger than the caches.
    pub fn apply_batch(&mut self, events: &[RoutedEvent]) {
        wide::run(Batch { ledger: self, events });
    }

    #[inline(always)]
    fn apply_all(&mut self, events: &[RoutedEvent]) {
        if events.len() < GROUPED_MIN {
            for event in events {
                self.apply_one(event);
            }
            return;
        }
        let (groups, rest) = events.as_chunks();
        // Not looked at where no group is short.
        let mut last = [RoutedEvent::NOTHING; GROUP];
        if let Some(&filling) = rest.last() {
            // Filled up with what is in a cache by then.
            last = [filling; GROUP];
            last[..rest.len()].copy_from_slice(rest);
        }
        self.apply_groups(groups, (&last, rest.len()));
    }

    /// Takes in whole groups, and behind them the first so many events of a last one, if any.
    #[inline(always)]
    fn apply_groups(&mut self, groups: &[Group], (last, last_events): (&Group, usize)) {
        let groups_all = groups.len() + usize::from(last_events > 0);
        let mut growths = [Growths::NONE; HALF_LIVES_MAX];
        let mut aheads = [Ahead::NOTHING; 4];
        let [mut here, mut found, mut asked, mut begun] = aheads.each_mut();
        let mut places = [BucketRef::FEW; GROUP];
        for step in 0..groups_all + 3 {
            let behind = |steps| {
                let group = step.wrapping_sub(steps);
                groups.get(group).or((groups.len()..groups_all).contains(&group).then_some(last))
            };
            (here, found, asked, begun) = (found, asked, begun, here);
            self.begin(behind(0), begun, &mut growths);
            self.ask(behind(1), asked);
            self.seek(behind(2), found, &mut places);
            // Nothing is to come behind the last group.
            if step < groups_all + 2 {
                self.fetch_all(begun, asked, found, &places);
            }
            let Some(group) = behind(3) else { continue };
            let taken = if step - 3 < groups.len() { GROUP } else { last_events };
            for (at, event) in (0..taken).zip(group) {
                self.apply(event, here.hints[at], Some((here, at)));
            }
        }
    }

    /// Works out what depends on the events of a group alone.
    #[inline(always)]
    fn begin(
        &self,
        group: Option<&Group>,
        ahead: &mut Ahead,
        growths: &mut [Growths; HALF_LIVES_MAX],
    ) {
        let Some(group) = group else { return };
        for (event, home) in group.iter().zip(&mut ahead.homes) {
            *home = self.states.home(event.hash, event.signal);
        }
        for (event, hint) in group.iter().zip(&mut ahead.hints) {
            hint.heads = Heads::of(event.time);
        }
        self.gains(group, &mut ahead.gains, growths);
        ahead.front_moves = self.front_moves;
    }

    /// Works out what the events of a group add to each sum.
    #[inline(always)]
    fn gains(
        &self,
        group: &Group,
        gains: &mut [[f64; GROUP]; HALF_LIVES_MAX],
        growths: &mut [Growths; HALF_LIVES_MAX],
    ) {
        let signal = group[0].signal;
        if group.iter().all(|event| event.signal == signal) {
            let times = std::array::from_fn(|at| group[at].time.0);
            let weights = std::array::from_fn(|at| group[at].weight);
            self.fronts[signal.index()].gains((&times, &weights), gains);
            return;
        }
        for (at, event) in (0..GROUP).zip(group) {
            let &RoutedEvent { time, weight, signal, .. } = event;
            let front = &self.fronts[signal.index()];
            let of_each = front.growth(time).into_iter().zip(front.weights(weight));
            for (growths, (growth, weight)) in growths.iter_mut().zip(of_each) {
                growths.weights[at] = weight;
                growths.fractions[at] = growth.fraction;
                growths.exponents[at] = growth.whole;
            }
        }
        for (gains, growths) in gains.iter_mut().zip(growths) {
            growth_lanes(&growths.weights, &growths.fractions, &growths.exponents, gains);
        }
    }

    /// Looks up the slots of a group.
    #[inline(always)]
    fn ask(&self, group: Option<&Group>, ahead: &mut Ahead) {
        if group.is_none() {
            return;
        }
        for (&home, hint) in ahead.homes.iter().zip(&mut ahead.hints) {
            hint.slot = self.states.likely(home);
        }
    }

    /// Finds the slots of a group, and the places of their counts.
    #[inline(always)]
    fn seek(&self, group: Option<&Group>, ahead: &mut Ahead, places: &mut [BucketRef; GROUP]) {
        let Some(group) = group else { return };
        let ways = ahead.homes.iter().zip(&mut ahead.hints);
        for ((event, (home, hint)), place) in group.iter().zip(ways).zip(places) {
            let way = (home, hint.slot);
            *place = BucketRef::FEW;
            if let Some((slot, kept)) = self.states.seek(way, event.entity, event.signal) {
                hint.slot = slot;
                let last = || Heads::of(kept.hot.last_update());
                *place = kept.counters().place_of(hint.heads, last);
            }
        }
    }

    /// Asks for the memory that the next step of each group needs. Nothing else is done between:
    /// what stands there would keep all from being asked for at once.
    #[inline(always)]
    fn fetch_all(&self, begun: &Ahead, asked: &Ahead, found: &Ahead, places: &[BucketRef; GROUP]) {
        let next = begun.homes.iter().zip(&asked.hints).zip(&found.hints).zip(places);
        for (((home, likely), found), place) in next {
            self.states.fetch_home(*home);
            self.states.fetch(likely.slot);
            self.buckets.fetch(*place, found.heads);
        }
    }

    /// Takes one event in.
    #[inline]
    pub(super) fn apply_one(&mut self, event: &RoutedEvent) {
        let slot = self.states.likely(self.states.home(event.hash, event.signal));
        self.apply(event, Hint { slot, heads: Heads::of(event.time) }, None);
    }

    /// Takes one event in, of which something is known, and more if it is one `ahead`.
    #[inline(always)]
    fn apply(
        &mut self,
        event: &RoutedEvent,
        Hint { slot, heads }: Hint,
        ahead: Option<(&Ahead, usize)>,
    ) {
        let &RoutedEvent { entity, time, signal, .. } = event;
        let (kept, slot) = match self.states.at_mut(slot) {
            Some(kept) if kept.is(entity, signal) => (kept, slot),
            _ => Self::find_or_take(&mut self.states, event),
        };
        let last = kept.hot.last_update();
        let is_counted = self.buckets.record(kept.counters_mut(), Heads::of(last), heads);
        let state = &mut kept.hot;
        if !is_counted {
            state.set_saturated();
        }
        let front = &self.fronts[signal.index()];
        let newest = last.max(time);
        match ahead.filter(|(ahead, _)| ahead.front_moves == self.front_moves) {
            Some((ahead, at)) if front.holds(last.min(time), newest) => {
                state.gain(ahead.gains.each_ref().map(|gains| gains[at]), newest);
                if !may_enter(state, front.bars()) {
                    return;
                }
            }
            _ => add(state, self.schema.def(signal).half_lives(), event),
        }
        self.rank(slot, signal);
    }

    #[inline(never)]
    pub(super) fn find_or_take<'a>(
        states: &'a mut Table<PairState>,
        event: &RoutedEvent,
    ) -> (&'a mut PairState, usize) {
        let slot = states.entry(event);
        (states.at_mut(slot).expect("it was just entered"), slot)
    }

    /// Enters a pair that has just changed in the rankings it now belongs to, and moves the front.
    #[inline(never)]
    pub(super) fn rank(&mut self, slot: usize, signal: SignalId) {
        let half_lives = self.schema.def(signal).half_lives();
        let number = u32::try_from(slot).expect("an index names slots by 32 bits");
        let Some(PairState { hot: state, .. }) = self.states.at_mut(slot) else { return };
        let tops = &mut self.tops[signal.index()];
        let mut full = false;
        for (k, (half_life, top)) in half_lives.iter().zip(tops.iter_mut()).enumerate() {
            if state.is_ranked(k) {
                continue;
            }
            let key = TopKey::of(number, state, k, half_life);
            if top.admits(key) {
                state.set_ranked(k, true);
                full |= top.enter(key);
            }
        }
        let newest = state.last_update();
        if full {
            self.cut_rankings(signal);
        }
        let (front, tops) = (&mut self.fronts[signal.index()], &self.tops[signal.index()]);
        if front.is_behind(newest) {
            front.move_to(newest, tops);
            self.front_moves += 1;
        } else if full {
            front.lift_bars(tops);
        }
    }

    /// Cuts the rankings of a signal type that are full back to their best.
    #[cold]
    fn cut_rankings(&mut self, signal: SignalId) {
        let states = &mut self.states;
        let half_lives = self.schema.def(signal).half_lives();
        let tops = &mut self.tops[signal.index()];
        for (k, (half_life, top)) in half_lives.iter().zip(tops).enumerate() {
            if top.candidates().len() < TOP_CANDIDATES_MAX {
                continue;
            }
            let gone = top.keep_best(|slot| {
                let kept = states.at(slot as usize).expect("a slot never goes away");
                TopKey::of(slot, &kept.hot, k, half_life)
            });
            for slot in gone {
                let kept = states.at_mut(slot as usize).expect("a slot never goes away");
                kept.hot.set_ranked(k, false);
            }
        }
    }
}

/// Counts an event the general way: apart from the usual one, which it would take registers from.
#[inline(never)]
fn add(state: &mut HotSignalState, half_lives: &[HalfLife], event: &RoutedEvent) {
    state.add(half_lives, event.time, event.weight);
}
