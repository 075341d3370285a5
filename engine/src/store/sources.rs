//! How far each source had come, put together from checkpoint and logs for any number of shards.
//!
//! Promises: an event that is in the store is known by its offset, whatever shards there were and
//! are; one that is not in the store never is. An event's offset counts for its own partition at
//! once, and for every other partition of its shard too, since a lane keeps the order: whatever
//! came before it on that lane is in the log before it.
//! Fails by: a text, for a log that names a source it never introduced.
//! Not here: what a shard does with it (`ebbtide_shard::source`).

use ebbtide_shard::checkpoint::SourceRecord;
use ebbtide_shard::limits::PARTITIONS;
use ebbtide_shard::source::SourceId;
use std::collections::BTreeMap;
use std::ops::Range;

/// Every source of a store.
#[derive(Debug, Default)]
pub(crate) struct SourceOffsets {
    by_id: BTreeMap<SourceId, Known>,
    /// Partitions whose offsets rise no more; empty while all do.
    stopped: Vec<bool>,
}

#[derive(Debug)]
struct Known {
    name: String,
    /// The highest offset known of each partition.
    offsets: Box<[u64]>,
    /// By log: the highest offset since its shard last changed its partitions.
    floors: BTreeMap<u32, u64>,
}

impl SourceOffsets {
    /// Takes in a source of the checkpoint.
    pub(crate) fn restore(&mut self, id: SourceId, record: &SourceRecord) {
        let known = self.entry(id, &record.name);
        let ends = record.runs.iter().skip(1).map(|&(first, _)| usize::from(first));
        for (&(first, offset), end) in record.runs.iter().zip(ends.chain([PARTITIONS])) {
            known.offsets[usize::from(first)..end].fill(offset);
        }
    }

    /// A log introduces a source.
    pub(crate) fn name(&mut self, id: SourceId, name: &str) -> Result<(), String> {
        let known = self.entry(id, name);
        if known.name == name {
            return Ok(());
        }
        Err(format!("the sources `{}` and `{name}` have one id", known.name))
    }

    /// A log's shard had every event of a source for it up to `offset`.
    pub(crate) fn reached(
        &mut self,
        log: u32,
        source: SourceId,
        offset: u64,
    ) -> Result<(), String> {
        let floor = self.known(source)?.floors.entry(log).or_default();
        *floor = offset.max(*floor);
        Ok(())
    }

    /// A log holds the event of a source at an offset, of an entity in a partition.
    pub(crate) fn seen(
        &mut self,
        source: SourceId,
        (partition, offset): (usize, u64),
    ) -> Result<(), String> {
        let stopped = self.is_stopped(partition);
        let known = self.known(source)?;
        if !stopped {
            known.offsets[partition] = offset.max(known.offsets[partition]);
        }
        Ok(())
    }

    /// What a log's shard has reached holds for the partitions it `owned`.
    pub(crate) fn settle(&mut self, log: u32, owned: Range<usize>) {
        for known in self.by_id.values_mut() {
            let Some(floor) = known.floors.remove(&log) else { continue };
            for partition in owned.clone() {
                if !self.stopped.get(partition).is_some_and(|&stopped| stopped) {
                    known.offsets[partition] = floor.max(known.offsets[partition]);
                }
            }
        }
    }

    /// Events of these partitions are missing from here on, so what comes behind them says nothing
    /// of how far a source has come there. What `logs` have reached by now holds.
    pub(crate) fn stop(&mut self, partitions: Range<usize>, logs: &[(u32, Range<usize>)]) {
        for (log, owned) in logs {
            self.settle(*log, owned.clone());
        }
        self.stopped.resize(PARTITIONS, false);
        self.stopped[partitions].fill(true);
    }

    /// Nothing of any source is in a partition.
    pub(crate) fn forget(&mut self, partition: usize) {
        self.stop(partition..partition + 1, &[]);
        self.by_id.values_mut().for_each(|known| known.offsets[partition] = 0);
    }

    /// Whether offsets of a partition rise no more.
    pub(crate) fn is_stopped(&self, partition: usize) -> bool {
        self.stopped.get(partition).is_some_and(|&stopped| stopped)
    }

    /// Whether a source was introduced.
    pub(crate) fn knows(&self, source: SourceId) -> bool {
        self.by_id.contains_key(&source)
    }

    /// Every source with its offsets as runs of equal ones: first partition, offset.
    pub(crate) fn records(&self) -> Vec<SourceRecord> {
        let record = |known: &Known| {
            let mut runs: Vec<(u16, u64)> = Vec::new();
            for (partition, &offset) in (0..).zip(&known.offsets) {
                if runs.last().is_none_or(|&(_, last)| last != offset) {
                    runs.push((partition, offset));
                }
            }
            SourceRecord { name: known.name.clone(), runs }
        };
        self.by_id.values().map(record).collect()
    }

    fn known(&mut self, source: SourceId) -> Result<&mut Known, String> {
        let known = self.by_id.get_mut(&source);
        known.ok_or_else(|| format!("source {:016x} was never introduced", source.0))
    }

    fn entry(&mut self, id: SourceId, name: &str) -> &mut Known {
        self.by_id.entry(id).or_insert_with(|| Known {
            name: name.to_owned(),
            offsets: vec![0; PARTITIONS].into(),
            floors: BTreeMap::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SourceId = SourceId(7);

    fn runs(sources: &SourceOffsets) -> Vec<(u16, u64)> {
        sources.records().remove(0).runs
    }

    #[test]
    fn a_floor_counts_for_the_partitions_its_shard_owned_then() {
        let mut sources = SourceOffsets::default();
        sources.name(ID, "feed").unwrap();
        sources.seen(ID, (3, 10)).unwrap();
        sources.reached(0, ID, 10).unwrap();
        sources.reached(1, ID, 8).unwrap();
        sources.settle(0, 0..2048);
        sources.settle(1, 2048..4096);
        assert_eq!(runs(&sources), [(0, 10), (2048, 8)]);
        // The next opening has one shard.
        sources.seen(ID, (4000, 12)).unwrap();
        sources.reached(0, ID, 12).unwrap();
        sources.settle(0, 0..4096);
        assert_eq!(runs(&sources), [(0, 12)]);
    }

    #[test]
    fn an_offset_counts_for_its_own_partition_even_without_a_floor() {
        let mut sources = SourceOffsets::default();
        let record = SourceRecord { name: "feed".into(), runs: vec![(0, 5), (100, 9)] };
        sources.restore(ID, &record);
        assert_eq!(sources.records(), [record]);
        sources.seen(ID, (50, 6)).unwrap();
        assert_eq!(runs(&sources), [(0, 5), (50, 6), (51, 5), (100, 9)]);
    }

    #[test]
    fn a_partition_with_a_hole_keeps_the_offset_before_it() {
        let mut sources = SourceOffsets::default();
        sources.name(ID, "feed").unwrap();
        sources.reached(0, ID, 10).unwrap();
        sources.reached(1, ID, 11).unwrap();
        sources.stop(0..2048, &[(0, 0..2048), (1, 2048..4096)]);
        sources.reached(0, ID, 20).unwrap();
        sources.reached(1, ID, 21).unwrap();
        sources.seen(ID, (7, 20)).unwrap();
        sources.settle(0, 0..2048);
        sources.settle(1, 2048..4096);
        assert_eq!(runs(&sources), [(0, 10), (2048, 21)]);
        sources.forget(4000);
        assert_eq!(runs(&sources), [(0, 10), (2048, 21), (4000, 0), (4001, 21)]);
        assert!(sources.is_stopped(4000) && !sources.is_stopped(4001));
    }

    #[test]
    fn a_source_that_was_never_introduced_is_refused_and_so_is_one_id_for_two() {
        let mut sources = SourceOffsets::default();
        assert!(sources.reached(0, ID, 1).is_err());
        sources.name(ID, "feed").unwrap();
        assert!(sources.name(ID, "other").unwrap_err().contains("feed"));
    }
}
