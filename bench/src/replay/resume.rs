//! Where a replay begins: what its store holds of the trace already, and of anything else.
//!
//! Promises: a store that holds part of the trace is gone on with behind it, or refused with the
//! reason, before anything is recorded: so is another trace, of which this one may be a mended copy
//! whose events would count twice in silence. Each recorder has a source of its own, so that the
//! offsets of each rise.

use super::args::ReplayArgs;
use super::identity::{Identity, Kinship, is_trace, of_source, source_name};
use crate::fault::Fault;
use ebbtide::{Engine, SourceError, SourceProducer, Timestamp};

/// The sources of a replay, opened.
pub(super) struct Resumed {
    /// One for each recorder.
    pub(super) producers: Vec<SourceProducer>,
    /// By recorder, the line up to which all its events are there.
    pub(super) offsets: Vec<u64>,
    /// Whether the store holds events that are not of this trace.
    pub(super) has_others: bool,
}

/// Opens the sources of the trace that `identity` names.
///
/// # Errors
///
/// If the store holds what cannot be gone on with.
pub(super) fn open(
    args: &ReplayArgs,
    engine: &Engine,
    identity: &Identity,
) -> Result<Resumed, Fault> {
    let has_others = has_others(args, engine, identity)?;
    if has_others && args.verifies() {
        let way = if args.is_bundled() { "" } else { ", or leave out --verify" };
        return Err(Fault::input(format!(
            "the store {} holds other events beside this trace, so its answers cannot be \
             verified; replay into an empty directory{way}",
            place(args)
        )));
    }
    let name = identity.name();
    let open = |index| engine.producer_for(&source_name(&name, index, args.producers));
    let producers: Vec<_> = (0..args.producers).map(open).collect::<Result<_, _>>()?;
    let offsets = producers.iter().map(SourceProducer::resume_offset).collect();
    Ok(Resumed { producers, offsets, has_others })
}

/// Whether the store holds events that are not of this trace; refuses what it cannot go on with.
fn has_others(args: &ReplayArgs, engine: &Engine, identity: &Identity) -> Result<bool, Fault> {
    let sources = engine.sources().map_err(Fault::environment)?;
    let (mut has_others, mut is_known, mut other_trace) = (false, false, false);
    for (source, _) in &sources {
        let Some((trace, producers)) = of_source(source) else {
            has_others = true;
            continue;
        };
        match identity.kinship(trace) {
            Kinship::Other => {
                has_others = true;
                other_trace |= is_trace(trace) && is_trace(&identity.name());
            }
            Kinship::Alike => return Err(alike(args)),
            Kinship::Same if producers != args.producers => {
                return Err(other_producers(args, producers));
            }
            Kinship::Same => is_known = true,
        }
    }
    if other_trace && !is_known && !args.add {
        return Err(another_trace(args));
    }
    if sources.is_empty() {
        let is_empty = |local: &ebbtide::LocalShard<'_>| local.pairs(Timestamp(0)).count() == 0;
        let empty = engine.on_every_shard(is_empty).map_err(Fault::environment)?;
        has_others = empty.contains(&false);
    }
    Ok(has_others)
}

/// The store, as messages name it.
fn place(args: &ReplayArgs) -> String {
    args.data_dir.as_ref().map_or_else(String::new, |path| path.display().to_string())
}

fn alike(args: &ReplayArgs) -> Fault {
    Fault::input(format!(
        "the store {} holds a trace that begins like this one and goes on otherwise: lines were \
         added or changed, or it was compressed or piped; give the trace as it was, or replay \
         this one into an empty directory",
        place(args)
    ))
}

fn another_trace(args: &ReplayArgs) -> Fault {
    Fault::input(format!(
        "the store {} holds another trace, and what stands in both would count twice: replay this \
         one into an empty directory, or say --add if it is to count beside the other",
        place(args)
    ))
}

fn other_producers(args: &ReplayArgs, begun_with: u16) -> Fault {
    Fault::input(format!(
        "the store {} was begun with --producers {begun_with}, not {}: say --producers \
         {begun_with} to go on, or replay into an empty directory",
        place(args),
        args.producers
    ))
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Name(_) | SourceError::Refused(_) => Self::input(error),
            _ => Self::environment(error),
        }
    }
}
