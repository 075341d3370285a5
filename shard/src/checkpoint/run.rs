//! Pairs that are collected to be written together, and the pages they become.
//!
//! Promises: pages come in the order of keys, each full but the last, whatever order pairs came in.
//! Why collected: pairs come in the order of their arrival in a ledger, and storages take many
//! records at once, in order, far faster than one by one.

use super::load::Page;
use super::record::encode_into;
use super::{Batch, Chunk, Key, PairList, RecordFault, Round, Rounds};
use crate::EntityId;
use crate::limits::{PAGE_HASHED_BYTES, PAGE_PAIRS_MAX};

/// Pairs of one round, and which records they replace.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) pairs: PairList,
    pub(super) replaced: Rounds,
    /// Pages of a run that was written: these take their memory.
    pub(super) written: Pages,
}

/// Pages that are to be written, and what is to be known of each.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) batch: Batch,
    pub(super) known: Vec<(Key, Page)>,
}

/// Where a pair is among others, by what it is ordered by.
struct Place {
    entity: u64,
    number: u8,
    at: u32,
    first_count: u32,
}

impl Run {
    /// Adds the pairs of a chunk.
    pub(super) fn add(&mut self, chunk: &Chunk) {
        self.pairs.append(chunk.pairs());
        self.replaced = std::mem::take(&mut self.replaced).and(chunk.replaced());
    }

    /// Lets all pairs go, and keeps their memory.
    pub(super) fn clear(&mut self) {
        self.pairs.clear();
        self.replaced = Rounds::default();
    }

    /// All pairs as pages of `round`, in the memory of those before. Calls `after_each` of them.
    ///
    /// # Errors
    ///
    /// The key of a page that breaks the rules of its pairs, and which rule.
    pub(super) fn take_pages(
        &mut self,
        round: Round,
        after_each: impl Fn(),
    ) -> Result<Pages, (Key, RecordFault)> {
        let mut pages = std::mem::take(&mut self.written);
        pages.batch.clear();
        pages.known.clear();
        let (mut page, places) = (PairList::default(), self.places());
        let mut left = &places[..];
        while let Some(first) = left.first() {
            let (entity, number) = (EntityId(first.entity), first.number);
            let key = Key::Page { entity, number, round };
            left = self.fill((key, &mut page), left);
            let before = pages.batch.value_bytes();
            let encoded = pages.batch.put_with(key, |values| encode_into(key, &page, values));
            let digest = encoded.map_err(|fault| (key, fault))?;
            let pairs = u32::try_from(page.len()).expect("a page is small");
            let bytes = pages.batch.value_bytes() - before;
            let bytes = u32::try_from(bytes).expect("a page is small");
            pages.known.push((key, Page { digest, pairs, bytes }));
            after_each();
        }
        Ok(pages)
    }

    /// Makes a page of the first pairs; gives back the places of those that do not belong to it.
    fn fill<'p>(&self, (key, page): (Key, &mut PairList), places: &'p [Place]) -> &'p [Place] {
        page.clear();
        let enough = PAGE_HASHED_BYTES - key.to_bytes().len();
        for (taken, place) in places.iter().enumerate() {
            if taken == PAGE_PAIRS_MAX || page.archive_bytes() >= enough {
                return &places[taken..];
            }
            let pair = &self.pairs.pairs[place.at as usize];
            let counts = &self.pairs.counts[place.first_count as usize..];
            page.push(pair, &counts[..pair.counts.into()]);
        }
        &[]
    }

    /// The places of all pairs, in order.
    fn places(&self) -> Vec<Place> {
        let mut next = 0;
        let mut places: Vec<_> = (0..)
            .zip(&self.pairs.pairs)
            .map(|(at, pair)| {
                let first_count = next;
                next += u32::from(pair.counts);
                Place { entity: pair.entity, number: pair.number, at, first_count }
            })
            .collect();
        places.sort_unstable_by_key(|place| (place.entity, place.number));
        places
    }
}
