//! `salvage`: a new store of what can be read of a damaged one, and a list of what cannot.
//!
//! Promises: the damaged store is not changed; the new one is complete or absent; whatever is lost
//! is told, and then the exit code is 1.
//! Fails by: [`Fault`].
//! Not here: the salvage itself (`ebbtide::offline`).

use crate::args::SalvageArgs;
use crate::fault::Fault;
use crate::limits::COLUMNS_MAX;
use crate::output::{count, print, print_json, printable, shown, wrap};
use ebbtide::Schema;
use ebbtide::offline::{self, Salvage, SalvageError, SalvageOptions, Trouble};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What was saved and what was not.
#[derive(Serialize)]
struct Saved {
    data_dir: String,
    to: String,
    /// Pairs of entity and signal type in the new store.
    pairs: u64,
    /// Events that were counted again from the logs.
    events: u64,
    sources: Vec<Source>,
    losses: u64,
    /// The first of them.
    troubles: Vec<Told>,
    /// All that stood in the way.
    troubles_count: u64,
}

#[derive(Serialize)]
struct Source {
    name: String,
    /// It goes on behind this offset.
    resume_offset: u64,
    /// Events that were read and left out, to be sent again.
    left_out: u64,
}

#[derive(Serialize)]
struct Told {
    loss: bool,
    message: String,
}

/// Saves what can be saved.
///
/// # Errors
///
/// When something is lost, after everything was told; when there is no such store, it is open, or
/// the new one cannot be made.
pub fn salvage(args: &SalvageArgs) -> Result<(), Fault> {
    let schema = args.schema.as_deref().map(read_schema).transpose()?;
    let options = SalvageOptions { schema, keep_sourced: args.keep_sourced };
    let salvage = offline::salvage(&args.store.data_dir, &args.to, &options).map_err(fault)?;
    let saved = Saved::of(args, &salvage);
    if args.store.json {
        print_json(&saved)?;
    } else {
        print(&saved.text())?;
    }
    let Some(first) = salvage.troubles.iter().find(|trouble| trouble.is_loss()) else {
        return Ok(());
    };
    let more = match salvage.losses {
        1 => String::new(),
        losses => format!(" (and {} more losses)", losses - 1),
    };
    let to = shown(&args.to);
    Err(Fault::damage(format!("not all could be saved to {to}: {first}{more}")))
}

fn read_schema(path: &Path) -> Result<Schema, Fault> {
    let name = shown(path);
    let text = fs::read_to_string(path)
        .map_err(|error| Fault::input(format!("{name} cannot be read: {error}")))?;
    Schema::from_toml(&text).map_err(|error| Fault::input(format!("{name}: {error}")))
}

fn fault(error: SalvageError) -> Fault {
    match error {
        SalvageError::Target(error) => error.into(),
        SalvageError::Store(error) => error.into(),
        lost @ SalvageError::NoSchema { .. } => {
            Fault::damage(format!("{lost}: `--schema FILE.toml`"))
        }
        other => Fault::environment(other),
    }
}

impl Saved {
    fn of(args: &SalvageArgs, salvage: &Salvage) -> Self {
        let source = |(name, resume_offset, left_out): &(String, u64, u64)| Source {
            name: name.clone(),
            resume_offset: *resume_offset,
            left_out: *left_out,
        };
        let told =
            |trouble: &Trouble| Told { loss: trouble.is_loss(), message: trouble.to_string() };
        Self {
            data_dir: shown(&args.store.data_dir),
            to: shown(&args.to),
            pairs: salvage.pairs,
            events: salvage.events,
            sources: salvage.sources.iter().map(source).collect(),
            losses: salvage.losses,
            troubles: salvage.troubles.iter().map(told).collect(),
            troubles_count: salvage.troubles_count,
        }
    }

    fn text(&self) -> String {
        let mut page = String::new();
        for Told { loss, message } in &self.troubles {
            page.push_str(if *loss { "lost   " } else { "saved  " });
            wrap(&mut page, &printable(message), 7, COLUMNS_MAX);
        }
        let more = self.troubles_count - self.troubles.len() as u64;
        if more > 0 {
            let _infallible = writeln!(page, "       and {more} more");
        }
        for Source { name, resume_offset, left_out } in &self.sources {
            let name = printable(name);
            page.push_str("source ");
            let mut text = format!("{name} goes on behind {resume_offset}");
            if *left_out > 0 {
                let left_out = count(*left_out, "event");
                let _infallible = write!(
                    text,
                    "; {left_out} of it behind a gap left out, to be counted when sent again \
                     (--keep-sourced keeps them, and then the gap)"
                );
            }
            wrap(&mut page, &text, 7, COLUMNS_MAX);
        }
        let (pairs, to) = (count(self.pairs, "pair"), &self.to);
        let losses = match self.losses {
            0 => "nothing is lost".to_owned(),
            1 => "1 loss".to_owned(),
            losses => format!("{losses} losses"),
        };
        let _infallible = writeln!(page, "{to}: {pairs}, verified; {losses}");
        page
    }
}
