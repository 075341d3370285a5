//! The section of the checkpoint: what its records say, and how many there are.
//!
//! Promises: what can be read is shown past what cannot; damage is a fault.
//! Not here: whether seal and logs agree with it; that is for a verification.

use super::Section;
use crate::fault::Fault;
use crate::limits::COLUMNS_MAX;
use crate::output::{count, printable, size, wrap};
use ebbtide::offline::{CheckpointContents, HeldStore};
use serde::Serialize;

/// The checkpoint, if there is one that can be read.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Checkpoint {
    read: Option<Fields>,
    #[serde(skip)]
    faults: Vec<Fault>,
}

#[derive(Debug, Serialize)]
struct Fields {
    sealed: bool,
    file_bytes: u64,
    format: u32,
    store: String,
    openings: u64,
    finished: u64,
    layout: u32,
    pairs: u64,
    earlier: u64,
    records: u64,
    set_digest: String,
    covered: Vec<Covered>,
    signals: Vec<Signal>,
    schema: String,
    sources: Vec<Source>,
    ids: Vec<Ids>,
    keyspaces: Vec<Keyspace>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Covered {
    log: u32,
    /// None for a log whose shard is no more.
    up_to: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Signal {
    number: usize,
    name: String,
    /// In words; none if the schema does not have it.
    definition: Option<String>,
}

#[derive(Debug, Serialize)]
struct Source {
    name: String,
    lowest: u64,
    highest: u64,
}

#[derive(Debug, Serialize)]
struct Ids {
    opening: u64,
    shard: u16,
    records: u64,
    remembered: u64,
}

#[derive(Debug, Serialize)]
struct Keyspace {
    name: &'static str,
    records: u64,
    bytes: u64,
}

impl Checkpoint {
    pub(super) fn read(held: &HeldStore) -> Self {
        match CheckpointContents::read(held) {
            Ok(None) => Self::default(),
            Ok(Some(contents)) => {
                let read = Some(Fields::of(&contents));
                Self { read, faults: contents.damage.into_iter().map(Fault::from).collect() }
            }
            Err(error) => Self { read: None, faults: vec![error.into()] },
        }
    }
}

impl Fields {
    fn of(contents: &CheckpointContents) -> Self {
        let covered = contents.covered.iter();
        let signals = contents.signals.iter().enumerate();
        let sources = contents.sources.iter();
        Self {
            sealed: contents.sealed,
            file_bytes: contents.file_bytes,
            format: contents.format,
            store: ebbtide_wal::StoreId(contents.store).to_string(),
            openings: contents.openings,
            finished: contents.finished,
            layout: contents.layout,
            pairs: contents.pairs,
            earlier: contents.earlier,
            records: contents.records,
            set_digest: format!("{:016x}", contents.set_digest),
            covered: covered.map(|(&log, &up_to)| Covered { log, up_to }).collect(),
            signals: signals
                .map(|(number, (name, def))| Signal {
                    number,
                    name: name.clone(),
                    definition: def.as_ref().map(ToString::to_string),
                })
                .collect(),
            schema: contents.schema.clone(),
            sources: sources
                .map(|(name, source)| Source {
                    name: name.clone(),
                    lowest: source.lowest,
                    highest: source.highest,
                })
                .collect(),
            ids: contents
                .ids
                .iter()
                .map(|(&(opening, shard), &(records, remembered))| Ids {
                    opening,
                    shard,
                    records,
                    remembered,
                })
                .collect(),
            keyspaces: contents
                .keyspaces
                .iter()
                .map(|keyspace| Keyspace {
                    name: keyspace.name,
                    records: keyspace.records,
                    bytes: keyspace.bytes,
                })
                .collect(),
            damage: contents.damage.iter().map(ToString::to_string).collect(),
        }
    }

    fn text(&self) -> String {
        let mut page = String::from("checkpoint\n");
        let mut line = |text: &str| {
            page.push_str("  ");
            wrap(&mut page, text, 4, COLUMNS_MAX);
        };
        let layout = match self.layout {
            0 => String::new(),
            shards => format!(", with {} at the last", count(shards.into(), "shard")),
        };
        line(&format!("store {}, format {}", self.store, self.format));
        line(&format!(
            "{}, {} finished{layout}",
            count(self.openings, "opening"),
            count(self.finished, "checkpoint"),
        ));
        let seal = if self.sealed { "sealed" } else { "not sealed" };
        line(&format!("{} in files, {seal}", size(self.file_bytes)));
        line(&format!(
            "{}, and {} of them",
            count(self.pairs, "pair"),
            count(self.earlier, "earlier state"),
        ));
        let digest = &self.set_digest;
        line(&format!("{}, set digest {digest}", count(self.records, "record")));
        for Keyspace { name, records, bytes } in &self.keyspaces {
            line(&format!("keyspace {name}: {} in {}", count(*records, "record"), size(*bytes)));
        }
        for Covered { log, up_to } in &self.covered {
            line(&match up_to {
                Some(lsn) => format!("log {log} is covered up to record {lsn}"),
                None => format!("log {log} is covered whole, and leaving"),
            });
        }
        for Signal { number, name, definition } in &self.signals {
            let of_none = || format!("{name}: not in the schema");
            let text = definition.clone().unwrap_or_else(of_none);
            line(&format!("signal type {number}, {}", printable(&text)));
        }
        for Source { name, lowest, highest } in &self.sources {
            let name = printable(name);
            line(&format!("source `{name}`: up to {lowest}, in part up to {highest}"));
        }
        for Ids { opening, shard, records, remembered } in &self.ids {
            let (ids, records) = (count(*remembered, "id"), count(*records, "record"));
            line(&format!("opening {opening}, shard {shard} remembered {ids} in {records}"));
        }
        for damage in &self.damage {
            line(&format!("DAMAGED: {}", printable(damage)));
        }
        page
    }
}

impl Section for Checkpoint {
    fn text(&self) -> String {
        match (&self.read, self.faults.first()) {
            (Some(fields), _) => fields.text(),
            (None, Some(_)) => "checkpoint\n  DAMAGED or unreadable\n".into(),
            (None, None) => String::new(),
        }
    }

    fn faults(&self) -> &[Fault] {
        &self.faults
    }
}
