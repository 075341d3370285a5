//! Checkpoints as a shard hands them out.

use super::*;
use crate::Walk;
use crate::checkpoint::Round;
use crate::saving::{SavePart, SaveSink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Takes parts while there is room, which the test gives.
struct Inbox {
    room: Arc<AtomicUsize>,
    parts: mpsc::Sender<SavePart>,
}

impl SaveSink for Inbox {
    fn has_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) > 0
    }

    fn take(&mut self, part: SavePart) -> bool {
        self.room.fetch_sub(1, Ordering::Relaxed);
        self.parts.send(part).is_ok()
    }
}

fn begin<W: WalWriter>(
    shard: &Shard<W>,
    room: usize,
) -> (Arc<AtomicUsize>, mpsc::Receiver<SavePart>) {
    let (room, (parts, received)) = (Arc::new(AtomicUsize::new(room)), mpsc::channel());
    let inbox = Inbox { room: Arc::clone(&room), parts };
    shard
        .port()
        .post(Mail::Checkpoint(Walk::of_changed(Round::FIRST), Box::new(inbox)))
        .expect("the shard runs");
    (room, received)
}

fn turns<W: WalWriter>(shard: &mut Shard<W>) {
    while shard.turn() == Ok(Turn::Busy) {}
}

/// The last record each pair's record includes, and what the checkpoint covers.
fn outcome(parts: &mpsc::Receiver<SavePart>) -> (Vec<(u64, u64)>, Option<u64>) {
    let (mut pairs, mut covered) = (Vec::new(), None);
    for part in parts.try_iter() {
        assert!(covered.is_none(), "nothing comes behind the end");
        match part {
            SavePart::Pairs(chunk) => {
                pairs.extend(chunk.pairs().iter().map(|(pair, _)| (pair.entity, pair.lsn)));
            }
            SavePart::Done { covered: last, .. } => covered = Some(last.get()),
            SavePart::Sources(_) | SavePart::Ids(_) => {}
        }
    }
    pairs.sort_unstable();
    (pairs, covered)
}

#[test]
fn nothing_leaves_before_the_log_is_durable_up_to_it() {
    let mut shard = shard_with(HandWal::with_room(1 << 20));
    let mut lane = producer(&shard);
    for entity in 0..3 {
        lane.push(event(entity), Tag::new(0)).unwrap();
    }
    turns(&mut shard);
    let (_, parts) = begin(&shard, 100);
    turns(&mut shard);
    assert_eq!(outcome(&parts), (vec![], None), "the log could still lose the events");
    assert!(!shard.has_work(), "there is nothing to do until the log has moved");
    // An event in the middle: the record of its pair includes it, the checkpoint does not cover it.
    lane.push(event(1), Tag::new(0)).unwrap();
    turns(&mut shard);
    shard.wal_mut().move_on(4, 4);
    assert!(shard.has_work());
    turns(&mut shard);
    let (pairs, covered) = outcome(&parts);
    assert_eq!(covered, Some(3));
    assert_eq!(pairs.iter().map(|&(entity, _)| entity).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(pairs.iter().all(|&(_, lsn)| (3..=4).contains(&lsn)));
}

#[test]
fn a_second_checkpoint_holds_only_what_changed_since() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    for entity in 0..1000 {
        lane.push(event(entity), Tag::new(0)).unwrap();
    }
    turns(&mut shard);
    let (_, parts) = begin(&shard, 100);
    turns(&mut shard);
    let (pairs, covered) = outcome(&parts);
    assert_eq!((pairs.len(), covered), (1000, Some(1000)));
    lane.push(event(7), Tag::new(0)).unwrap();
    turns(&mut shard);
    let (_, parts) = begin(&shard, 100);
    turns(&mut shard);
    assert_eq!(outcome(&parts), (vec![(7, 1001)], Some(1001)));
}

#[test]
fn a_slow_saver_holds_the_walk_and_not_the_events() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    let (room, parts) = begin(&shard, 0);
    lane.push(event(1), Tag::new(0)).unwrap();
    turns(&mut shard);
    assert_eq!(lane.applied().reached(), 1);
    assert_eq!(outcome(&parts), (vec![], None));
    room.store(100, Ordering::Relaxed);
    assert!(shard.has_work());
    turns(&mut shard);
    assert_eq!(outcome(&parts).1, Some(0), "the event came after the beginning");
}

#[test]
fn a_shard_that_closes_does_not_wait_for_a_slow_saver_and_begins_nothing_new() {
    let mut shard = shard_with(HandWal::with_room(1 << 20));
    let (_, parts) = begin(&shard, 0);
    shard.turn().unwrap();
    let note = CheckpointNote { covered: Lsn::NONE, digest: [3; 32] };
    shard.port().post(Mail::Note(note)).unwrap();
    shard.port().begin_close();
    let (_, late) = begin(&shard, 100);
    turns(&mut shard);
    assert_eq!(shard.turn(), Ok(Turn::Finished));
    assert_eq!(shard.wal().notes, [note]);
    assert!(matches!(late.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
    shard.close();
    assert!(matches!(parts.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
}

#[test]
fn a_second_checkpoint_does_not_take_the_place_of_one_under_way() {
    let mut shard = shard_with(NoWal::new());
    let mut lane = producer(&shard);
    lane.push(event(1), Tag::new(0)).unwrap();
    turns(&mut shard);
    let (room, first) = begin(&shard, 0);
    turns(&mut shard);
    let (_, second) = begin(&shard, 100);
    turns(&mut shard);
    assert!(matches!(second.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
    room.store(100, Ordering::Relaxed);
    turns(&mut shard);
    assert_eq!(outcome(&first), (vec![(1, 1)], Some(1)));
}
