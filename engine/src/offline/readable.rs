//! A store opened for reading: held, its identity known, a copy of its checkpoint open.
//!
//! Promises: it passed every check that an engine makes before it reads records; nothing of the
//! original is changed.
//! Fails by: [`StoreError`], as an opening does.
//! Not here: the records themselves (`crate::store::whole`).

use super::copy::CheckpointCopy;
use super::held::HeldStore;
use crate::StoreError;
use crate::store::manifest::Manifest;
use crate::store::whole::Reading;
use crate::store::{FjallStorage, files, open, seal};
use ebbtide_shard::Schema;
use ebbtide_shard::checkpoint::{LoadError, MetaRecord};
use ebbtide_shard::schema::numbers::SignalNumbers;
use std::sync::Arc;

/// A store that may be read, and not changed.
pub(crate) struct ReadableStore<'a> {
    pub(crate) held: &'a HeldStore,
    pub(crate) manifest: Manifest,
    pub(crate) copy: CheckpointCopy,
    pub(crate) meta: MetaRecord,
    pub(crate) schema: Arc<Schema>,
    pub(crate) numbers: SignalNumbers,
}

impl<'a> ReadableStore<'a> {
    /// Opens the store that is held.
    pub(crate) fn open(held: &'a HeldStore) -> Result<Self, StoreError> {
        let (files, manifest) = (held.files(), held.manifest()?);
        let path = files.checkpoint();
        if !path.exists() {
            return Err(StoreError::Checkpoint { path, source: LoadError::MetaMissing });
        }
        files::check_private(&path, true)?;
        seal::check(files)?;
        let copy = CheckpointCopy::open(files)?;
        let meta = open::known_meta(copy.storage(), files, &manifest)?;
        let schema = open::stored_schema(files, &meta)?;
        let (numbers, _) = open::numbers(files, &meta, &schema)?;
        Ok(Self { held, manifest, copy, meta, schema: Arc::new(schema), numbers })
    }

    /// What reads its records.
    pub(crate) fn reading(&self) -> Reading<'_, FjallStorage> {
        Reading {
            files: self.held.files(),
            manifest: &self.manifest,
            storage: self.copy.storage(),
            meta: &self.meta,
            schema: &self.schema,
            numbers: &self.numbers,
            // Damage anywhere is an error, also where an opening does not look.
            read_covered: true,
        }
    }
}
