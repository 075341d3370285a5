//! One file of the simulated disk, and the changes of names that are not durable yet.
//!
//! Promises: a sync makes exactly the sectors durable that were written since the last one; a
//! failed one forgets some of them, and no later sync brings them back.
//! Invariants: `durable` never holds a byte that was not written and could not have survived.
//! Fails by: nothing fails here.
//! Not here: faults and their moment (`sim`).
//! Source: see `sim`.

use std::collections::{BTreeMap, BTreeSet};

use super::Rng;
use crate::limits::SECTOR_BYTES;
use crate::storage::FileName;

/// Content as it is read and as it would survive.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ from `durable` and that the next sync makes durable.
    dirty: BTreeSet<usize>,
    /// Shortest length since the last sync, when it was cut: what lay behind is gone.
    cut: Option<usize>,
}

/// A change of the directory.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameChange {
    Create(FileName, u64),
    Rename(FileName, FileName, u64),
    Remove(FileName, u64),
}

impl Inode {
    /// A file that is durable as it is.
    pub(super) fn durable(bytes: &[u8]) -> Self {
        Self { live: bytes.to_vec(), durable: bytes.to_vec(), ..Self::default() }
    }

    /// What a read shows.
    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        if bytes < self.live.len() {
            self.cut = Some(self.cut.map_or(bytes, |cut| cut.min(bytes)));
        }
        self.live.resize(bytes, 0);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.live.len() {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    pub(super) fn sync(&mut self) {
        self.keep_len();
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    fn keep_len(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.durable.truncate(cut);
        }
        self.durable.resize(self.live.len(), 0);
    }

    /// Some sectors became durable, the others never will, and nobody will be told.
    pub(super) fn sync_failed(&mut self, rng: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            if rng.coin() {
                self.keep(sector);
            }
        }
    }

    pub(super) fn lose_power(&mut self, rng: &mut Rng) {
        let resized = self.cut.is_some() || self.live.len() != self.durable.len();
        if resized && rng.coin() {
            self.keep_len();
        }
        self.cut = None;
        for sector in std::mem::take(&mut self.dirty) {
            if rng.coin() {
                self.keep(sector);
            }
        }
        self.live.clone_from(&self.durable);
    }

    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.live.len()).min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.live[start..end]);
        }
    }
}

impl NameChange {
    /// Applies the change, unless one it depends on was lost.
    pub(super) fn apply(self, names: &mut BTreeMap<FileName, u64>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name, inode);
            }
            Self::Rename(from, to, inode) => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                    names.insert(to, inode);
                }
            }
            Self::Remove(name, inode) => {
                if names.get(&name) == Some(&inode) {
                    names.remove(&name);
                }
            }
        }
    }
}
