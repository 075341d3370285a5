//! The cores that threads may use: helpers of a shard those of the thread that opened the engine,
//! readers those they were opened on.
//!
//! A thread inherits the cores of the one that starts it, and a shard has one core. Helpers that
//! write for it would wait there until it sleeps, and it for them. So would a reader that looks for
//! its answer there.
//!
//! Promises: the shard's own core is as before. Fails by: nothing; where the system does not let
//! it, helpers stay where they are.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that a thread may use.
#[derive(Clone, Debug)]
pub(crate) struct Affinity(Option<CpuSet>);

impl Affinity {
    /// Of this thread.
    pub(crate) fn of_caller() -> Self {
        Self(sched_getaffinity(None).ok())
    }

    /// Whether there is another core than this; where nothing is known there most likely is.
    pub(crate) fn has_another_than(&self, core: usize) -> bool {
        let is_other = |cores: &CpuSet| cores.count() > u32::from(cores.is_set(core));
        self.0.as_ref().is_none_or(is_other)
    }

    /// Does `work`, which starts threads, on these cores.
    pub(super) fn lend<R>(&self, work: impl FnOnce() -> R) -> R {
        let own = Self::of_caller();
        self.take();
        let done = work();
        own.take();
        done
    }

    fn take(&self) {
        if let Some(cores) = &self.0 {
            let _as_well_as_can_be = sched_setaffinity(None, cores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_of_ones_own_is_another_than_that_of_a_shard() {
        let only = |core: usize| {
            let mut cores = CpuSet::new();
            cores.set(core);
            cores
        };
        let mut both = only(3);
        both.set(4);
        let has_another_than_3 = |cores| Affinity(cores).has_another_than(3);
        assert!(!has_another_than_3(Some(only(3))));
        assert!([Some(only(4)), Some(both), None].into_iter().all(has_another_than_3));
    }

    /// They shared the core of their shard.
    #[test]
    fn threads_that_are_started_meanwhile_may_use_the_cores_that_were_lent() {
        let cores = |affinity: &Affinity| affinity.0.map(|set| set.count());
        let all = Affinity::of_caller();
        let mut first = CpuSet::new();
        let has = |core: &usize| all.0.is_some_and(|set| set.is_set(*core));
        first.set((0..CpuSet::MAX_CPU).find(has).unwrap());
        std::thread::spawn(move || {
            Affinity(Some(first)).take();
            let lent = all.lend(|| std::thread::spawn(Affinity::of_caller).join().unwrap());
            assert_eq!(cores(&lent), cores(&all));
            assert_eq!(cores(&Affinity::of_caller()), Some(1), "and this one has its own again");
        })
        .join()
        .unwrap();
    }
}
