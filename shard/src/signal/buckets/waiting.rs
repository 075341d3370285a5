//! Events that wait for the block of their pair, in the line of few counters beside its hot state.
//!
//! Promises: of a pair with many buckets, too, an event in the minute of the last update touches
//! the two lines of the pair and no block, but for one in 256 and the first after the pair was put
//! back. What waits is in every answer as if it were in the block, and is there before an event of
//! a later minute.
//! Invariants: what waits is of the last minute and of its hour; the block has events in both
//! already, and in the widest class room for as many as may wait. Nothing waits beside few
//! counters, which are those of the pair.

#![expect(clippy::inline_always, reason = "kernels are compiled once for each kind of processor")]

use super::{BucketRef, BucketStore, BucketedCounter as _, Class, Counters, CountersMut};
use super::{FewCounters, Heads, Listed, on_block};

impl Counters<'_> {
    /// Where an event is counted, of a pair last updated in `last`.
    #[inline(always)]
    pub(crate) fn place_of(&self, event: Heads, last: impl FnOnce() -> Heads) -> BucketRef {
        let may_wait = !self.at.is_few() && self.few.holds_newest();
        if may_wait && last() == event { BucketRef::FEW } else { self.at }
    }

    /// How many events wait.
    #[inline(always)]
    pub(super) fn waiting(&self) -> u8 {
        if self.at.is_few() { 0 } else { self.few.of_newest_minute() }
    }

    /// Counts what waits in the list of a block whose rings end with `heads`.
    pub(super) fn add_waiting_to(&self, list: &mut [Listed], heads: Heads) {
        let waiting = u32::from(self.waiting());
        if waiting == 0 {
            return;
        }
        for position in heads.positions() {
            let found = list.binary_search_by_key(&position, |&(at, _)| usize::from(at));
            list[found.expect("where events wait the block has some")].1 += waiting;
        }
    }
}

impl BucketStore {
    /// Counts what waits in the block, whose rings end with `heads`; then nothing may wait.
    pub(super) fn settle(&mut self, counters: &mut CountersMut<'_>, heads: Heads) {
        let events = counters.as_ref().waiting();
        if events == 0 {
            return;
        }
        let has_room = on_block!(self, counters.at, get_mut,
            |block| block.add_newest(heads, events), few: return);
        if !has_room {
            let counts = self.written_out(counters.as_ref(), heads);
            self.put_dense(counters, &counts);
        }
        *counters.few = FewCounters::EMPTY;
    }

    /// Lets events of the last buckets, those of `heads`, wait from now on, if the pair has a block
    /// for which they can. Nothing waits yet.
    pub(super) fn let_wait(&self, counters: &mut CountersMut<'_>, heads: Heads) {
        let may = on_block!(self, counters.at, get, |block| block.lets_wait(heads), few: return);
        *counters.few = if may { FewCounters::OPEN } else { FewCounters::EMPTY };
    }
}
