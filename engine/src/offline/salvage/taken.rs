//! Records of a damaged checkpoint on their way to the new store.
//!
//! Promises: a record is taken in only if its digest and its form are right; each one that is not
//! is told, and so is how many are not there at all.
//! Not here: reading them over damage (`records`).

use super::troubles::Troubles;
use super::{Trouble, Unsaved};
use crate::store::intake::Dealer;
use ebbtide_shard::checkpoint::{
    Key, LoadSink as _, MetaRecord, PairList, PairRecord, RecordDigest, RecordFault, Round,
    SetDigest, Tag, decode,
};
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::{EntityId, PartitionKey};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Records that were taken in.
#[derive(Default)]
pub(super) struct Taken {
    count: u64,
    dropped: u64,
    set: SetDigest,
    kept: Vec<EntityId>,
    lost: Vec<EntityId>,
    /// Whether a page is lost, of which nobody knows what was in it.
    lost_page: bool,
}

impl Taken {
    pub(super) fn take(
        &mut self,
        (tag, bytes, value): (Tag, &[u8], &[u8]),
        dealer: &mut Dealer<'_, Unsaved>,
        complete: bool,
        troubles: &mut Troubles,
    ) {
        let key = Key::of_bytes(bytes).filter(|key| key.tag() == tag);
        let taken = key.ok_or(RecordFault::Key);
        let taken = taken.and_then(|key| give(key, value, dealer, &mut self.kept));
        match (taken, key) {
            (Ok(digest), _) => (self.count, self.set) = (self.count + 1, self.set.with(digest)),
            (Err(fault), Some(Key::Page { entity, number, .. })) => {
                self.dropped += 1;
                self.lost_page = true;
                let lost = Trouble::Page { entity, number, fault };
                troubles.note(lost.of_checkpoint(complete));
            }
            (Err(fault), Some(Key::Pair { entity, number })) => {
                self.dropped += 1;
                self.lost.push(entity);
                let lost = Trouble::Pair { entity, number, fault };
                troubles.note(lost.of_checkpoint(complete));
            }
            (Err(fault), _) => {
                self.dropped += 1;
                let lost = Trouble::Record { tag, key: hex(bytes), fault };
                troubles.note(lost.of_checkpoint(complete));
            }
        }
    }

    /// Compares with what the meta record says there must be.
    pub(super) fn compare(&self, meta: &MetaRecord, complete: bool, troubles: &mut Troubles) {
        let count = self.missing(meta);
        if count > 0 {
            troubles.note(Trouble::Records { count }.of_checkpoint(complete));
        } else if self.dropped == 0 && self.set != SetDigest(meta.set_digest) {
            troubles.note(Trouble::Stale.of_checkpoint(complete));
        }
    }

    fn missing(&self, meta: &MetaRecord) -> u64 {
        meta.records.saturating_sub(self.count + self.dropped)
    }

    /// The partitions of which pairs are lost, or may be, and none is left. What belongs to a
    /// page, or to a record without a trace, nobody knows.
    pub(super) fn emptied(&self, meta: &MetaRecord, key: &PartitionKey) -> BTreeSet<usize> {
        let partitions = |entities: &[EntityId]| -> BTreeSet<usize> {
            entities.iter().map(|&entity| key.hash(entity).partition()).collect()
        };
        let lost = if self.lost_page || self.missing(meta) > 0 {
            (0..PARTITIONS).collect()
        } else {
            partitions(&self.lost)
        };
        &lost - &partitions(&self.kept)
    }
}

/// Gives a record to the dealer, and notes whose the pairs in it are.
fn give(
    key: Key,
    value: &[u8],
    dealer: &mut Dealer<'_, Unsaved>,
    kept: &mut Vec<EntityId>,
) -> Result<RecordDigest, RecordFault> {
    match key {
        Key::Meta => Err(RecordFault::Key),
        Key::Pair { entity, number } => {
            let (record, digest) = decode(key, value)?;
            dealer.pair((entity, number), record, Round::FIRST)?;
            kept.push(entity);
            Ok(digest)
        }
        Key::Page { round, .. } => {
            let (list, digest) = decode::<PairList>(key, value)?;
            let mut taken = Ok(());
            for (pair, counts) in list.iter() {
                let (entity, mut record) = (EntityId(pair.entity), PairRecord::blank());
                pair.write_to(counts, &mut record);
                match dealer.pair((entity, pair.number), record, round) {
                    Ok(()) => kept.push(entity),
                    Err(fault) => taken = taken.and(Err(fault)),
                }
            }
            taken.map(|()| digest)
        }
        Key::Source { id } => {
            let (record, digest) = decode(key, value)?;
            dealer.source(id, record)?;
            Ok(digest)
        }
        Key::Ids { .. } => {
            let (record, digest) = decode(key, value)?;
            dealer.ids(key, record)?;
            Ok(digest)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
