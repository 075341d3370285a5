//! Which cores there are, and work pinned to one of them.

use std::thread;

/// The numbers of the cores this process may use.
pub(crate) fn all() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|core| core.id).collect()
}

/// Runs `work` on a thread of its own that is pinned to the first core: the last is the shard's.
/// The calling thread is left as it is, since the threads it starts later inherit its cores.
pub(crate) fn on_first<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    on(all().first().copied(), work)
}

/// The same on the last core: for a reference that does what a shard does, when no shard is busy.
pub(crate) fn on_last<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    on(all().last().copied(), work)
}

fn on<R: Send>(core: Option<usize>, work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let pinned = scope.spawn(move || {
            pin(core);
            work()
        });
        pinned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Pins this thread to a core, if there is one to name and it can be taken.
pub(crate) fn pin(core: Option<usize>) {
    if let Some(id) = core {
        let _as_well_as_can_be = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}
