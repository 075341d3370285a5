//! `inspect`: what a store's files hold, section by section.
//!
//! Promises: nothing is changed, nobody can open the store meanwhile; a damaged part is shown as
//! far as it can be read, and the other parts whole.
//! Invariants: everything is read, then printed, then judged; a further part of a store is a field
//! of `Inspection` and an entry of its list.
//! Fails by: [`Fault`]: damage when something is, after everything was printed.
//! Not here: whether the parts fit together; that is for a verification.

mod checkpoint;
mod log;
mod manifest;
mod segments;
mod table;

use crate::args::StoreArgs;
use crate::fault::{Fault, Kind};
use crate::output::{print, print_json};
use checkpoint::Checkpoint;
use clap::Args;
use ebbtide::offline::HeldStore;
use log::Logs;
use manifest::Manifest;
use serde::Serialize;

/// Show what the files of a store hold; the store must not be open
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// The store, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Show every frame of the logs too
    #[arg(long)]
    pub frames: bool,
    /// Show only the log with this number, and no other part
    #[arg(long, value_name = "N")]
    pub log: Option<u32>,
}

/// One part of a store, for people; programs get its JSON.
trait Section {
    /// Ready to be printed; empty if there is no such part.
    fn text(&self) -> String;

    /// What is wrong with it.
    fn faults(&self) -> &[Fault];
}

/// Everything that was found.
#[derive(Serialize)]
struct Inspection {
    data_dir: String,
    manifest: Manifest,
    checkpoint: Checkpoint,
    log: Logs,
}

impl Inspection {
    fn of(held: &HeldStore, args: &InspectArgs) -> Result<Self, Fault> {
        let log = Logs::read(held, args)?;
        let (manifest, checkpoint) = match args.log {
            Some(_) => (Manifest::default(), Checkpoint::default()),
            None => (Manifest::read(held), Checkpoint::read(held)),
        };
        let data_dir = args.store.data_dir.to_string_lossy().into_owned();
        Ok(Self { data_dir, manifest, checkpoint, log })
    }

    fn sections(&self) -> Vec<&dyn Section> {
        vec![&self.manifest, &self.checkpoint, &self.log]
    }
}

/// Reads each section and prints them all.
///
/// # Errors
///
/// When there is no such store, or it is open, or a part of it is damaged or cannot be read.
pub fn inspect(args: &InspectArgs) -> Result<(), Fault> {
    let found = HeldStore::look(&args.store.data_dir, |held| Inspection::of(held, args))?;
    let sections = found.sections();
    if args.store.json {
        print_json(&found)?;
    } else {
        let mut texts: Vec<String> = sections.iter().map(|section| section.text()).collect();
        texts.retain(|text| !text.is_empty());
        print(&texts.join("\n"))?;
    }
    verdict(sections.iter().flat_map(|section| section.faults()))
}

/// The worst of what is wrong: an environment that fails hides what else there is.
fn verdict<'a>(faults: impl Iterator<Item = &'a Fault> + Clone) -> Result<(), Fault> {
    let mut failed = faults.clone().filter(|fault| fault.kind == Kind::Environment);
    let Some(worst) = failed.next().or_else(|| faults.clone().next()) else { return Ok(()) };
    let others = match faults.count() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    Err(Fault { kind: worst.kind, message: format!("{}{others}", worst.message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_weighs_more_than_what_is_damaged() {
        let faults = [Fault::damage("log 1"), Fault::environment("log 2"), Fault::damage("log 3")];
        assert_eq!(verdict(faults[..0].iter()), Ok(()));
        assert_eq!(verdict(faults[..1].iter()), Err(Fault::damage("log 1")));
        let all = Fault::environment("log 2 (and 2 more)");
        assert_eq!(verdict(faults.iter()), Err(all));
    }
}
