//! The section of the manifest: who the store is.
//!
//! Promises: a damaged one is a fault and hides no other section.

use super::Section;
use crate::fault::Fault;
use ebbtide::offline::{HeldStore, ManifestContents};
use serde::Serialize;

/// The manifest, if there is one that can be read.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Manifest {
    read: Option<Fields>,
    #[serde(skip)]
    faults: Vec<Fault>,
}

#[derive(Debug, Serialize)]
struct Fields {
    format: u32,
    store: String,
}

impl Manifest {
    pub(super) fn read(held: &HeldStore) -> Self {
        match ManifestContents::read(held) {
            Ok(contents) => Self { read: contents.map(Fields::of), faults: Vec::new() },
            Err(error) => Self { read: None, faults: vec![error.into()] },
        }
    }
}

impl Fields {
    fn of(contents: ManifestContents) -> Self {
        let store = ebbtide_wal::StoreId(contents.store).to_string();
        Self { format: contents.format, store }
    }
}

impl Section for Manifest {
    fn text(&self) -> String {
        match (&self.read, self.faults.first()) {
            (Some(Fields { format, store }), _) => {
                format!("manifest\n  store {store}, format {format}\n")
            }
            (None, Some(_)) => "manifest\n  DAMAGED or unreadable\n".into(),
            (None, None) => String::new(),
        }
    }

    fn faults(&self) -> &[Fault] {
        &self.faults
    }
}
