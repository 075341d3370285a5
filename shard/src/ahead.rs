//! A second thread beside one of ours, for work that will soon have to be done.
//!
//! Promises: each thread that gives work away has one helper, begun with the first piece, which
//! does them in order, on any core, and ends after the last when the thread ends.
//! Fails by: not doing it, where the system gives no thread or a piece of work panicked.
//! Not here: what is done ahead (`blocks`).
//!
//! Why one that stays: a thread for each piece is begun by the one that has no time to lose, and
//! the kernel maps its stack under the lock that it holds while it clears the page of the piece
//! before.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What is to be done, and whom to tell.
type Piece = (Box<dyn FnOnce() + Send>, SyncSender<()>);

thread_local! {
    /// The way to this thread's helper, if there is one.
    static HELPER: Option<Sender<Piece>> = start();
}

/// A piece of work that was given away. It goes on if this is dropped.
#[derive(Debug)]
pub(crate) struct Ahead(Receiver<()>);

impl Ahead {
    /// Gives `work` to this thread's helper; `None`, and nothing is done, if there is none.
    pub(crate) fn begin(work: impl FnOnce() + Send + 'static) -> Option<Self> {
        let (done, is_done) = sync_channel(1);
        let piece: Piece = (Box::new(work), done);
        HELPER.with(|helper| helper.as_ref()?.send(piece).ok()).map(|()| Self(is_done))
    }

    /// Waits until it is over. Says whether it was done to the end.
    pub(crate) fn wait(self) -> bool {
        self.0.recv().is_ok()
    }
}

fn start() -> Option<Sender<Piece>> {
    let (give, given) = channel::<Piece>();
    let body = move || {
        use_all_cores();
        for (work, done) in given {
            work();
            let _nobody_waits = done.send(());
        }
    };
    thread::Builder::new().name("ebbtide-ahead".into()).spawn(body).ok().map(|_detached| give)
}

/// Leaves the core of the thread that began this one. A refusal costs that thread some time.
fn use_all_cores() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _refused = sched_setaffinity(None, &all);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    /// Gives away so many pieces at once that note who did them; gives back what they noted.
    fn helpers_of(pieces: usize) -> Vec<(usize, ThreadId)> {
        let (note, notes) = channel();
        let give = |number| {
            let note = note.clone();
            Ahead::begin(move || note.send((number, thread::current().id())).unwrap())
        };
        let begun: Vec<_> = (0..pieces).map(|number| give(number).unwrap()).collect();
        assert!(begun.into_iter().all(Ahead::wait));
        notes.try_iter().collect()
    }

    #[test]
    fn all_pieces_of_one_thread_are_done_in_order_by_one_other() {
        let done = helpers_of(100);
        let helper = done[0].1;
        assert_ne!(helper, thread::current().id());
        assert_eq!(done, (0..100).map(|number| (number, helper)).collect::<Vec<_>>());
        assert_eq!(helpers_of(1)[0].1, helper, "it stayed");
        let others = thread::spawn(|| helpers_of(1)[0].1).join().unwrap();
        assert_ne!(others, helper);
    }

    #[test]
    fn a_piece_is_done_although_its_thread_has_ended() {
        let (go, may_go) = channel::<()>();
        let begun = thread::spawn(|| Ahead::begin(move || may_go.recv().unwrap()));
        let begun = begun.join().unwrap().unwrap();
        go.send(()).unwrap();
        assert!(begun.wait());
    }

    #[test]
    fn work_that_panics_was_not_done_and_nor_is_what_follows() {
        assert!(!Ahead::begin(|| panic!("as this test wants")).unwrap().wait());
        // What is sent before the helper's end is noticed is not done either.
        assert!(Ahead::begin(|| ()).is_none_or(|late| !late.wait()));
    }

    #[test]
    fn a_helper_may_use_other_cores_than_the_thread_it_helps() {
        use rustix::thread::sched_getaffinity;
        let all = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap());
        let cores = thread::spawn(move || {
            sched_setaffinity(None, &one).unwrap();
            let (note, notes) = channel();
            let ask = move || note.send(sched_getaffinity(None).unwrap().count()).unwrap();
            assert!(Ahead::begin(ask).unwrap().wait());
            notes.recv().unwrap()
        });
        assert!(cores.join().unwrap() >= all.count());
    }
}
