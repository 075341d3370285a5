//! What a crash must have left: the judge of all tests that end a store's process or its power.
//!
//! Promises: held against [`Truth`], each pair's answers are, to the bit, those after some prefix
//! of its events; what was acknowledged is in it; the prefixes of one shard fit together, so no
//! event is missing before one that is there; nothing that was there once is ever lost.

use crate::crash::{ENTITIES, PLAIN_ENTITIES, Pair, Truth};
use crate::victim::Said;
use std::collections::BTreeMap;

/// What is known of a store between two openings.
#[derive(Clone, Debug)]
pub struct Known {
    /// The answers after each event.
    pub truth: Truth,
    /// Events of each pair at the last opening that came to its end.
    counts: BTreeMap<Pair, u64>,
    /// Which shard owned an entity since that opening.
    pub owner: BTreeMap<u64, u64>,
    /// Offset up to which the source was acknowledged.
    pub source: u64,
    /// Rounds of the producer without numbers that were acknowledged.
    pub rounds: u64,
}

impl Known {
    /// Of a store that does not exist yet.
    #[must_use]
    pub fn new(truth: Truth) -> Self {
        Self { truth, counts: BTreeMap::new(), owner: BTreeMap::new(), source: 0, rounds: 0 }
    }

    /// Judges what an opening found, if the victim came to tell all of it.
    ///
    /// # Errors
    ///
    /// Which promise is broken, and how.
    pub fn judge(&mut self, said: &Said) -> Result<(), String> {
        if let Some((code, text)) = &said.refused {
            return Err(format!("a crash is no reason to refuse: {code}: {text}"));
        }
        let Some(ready) = said.ready else { return Ok(()) };
        if ready < self.source {
            return Err(format!("{} was acknowledged and {ready} is there", self.source));
        }
        for (pair, &(events, digest)) in &said.held {
            self.judge_pair(*pair, events, digest)?;
        }
        self.judge_floors(said, ready)?;
        self.judge_prefixes(said)?;
        self.counts = said.held.iter().map(|(&pair, &(events, _))| (pair, events)).collect();
        self.owner = said.owner.iter().map(|(&entity, &shard)| (entity.0, shard)).collect();
        self.source = said.source.unwrap_or(0).max(self.source);
        self.rounds = said.plain.map_or(0, |round| round + 1).max(self.rounds);
        Ok(())
    }

    /// Its answers are those after a prefix of its events.
    fn judge_pair(&self, pair: Pair, events: u64, digest: u64) -> Result<(), String> {
        let steps = self.truth.steps.get(&pair).ok_or(format!("{pair:?} is nobody's"))?;
        let step = events.checked_sub(1).and_then(|last| steps.get(usize::try_from(last).ok()?));
        let step = step.ok_or(format!("{pair:?} has {events} events of {}", steps.len()))?;
        if step.digest != digest {
            return Err(format!("{pair:?}: other answers than after its first {events} events"));
        }
        let before = self.counts.get(&pair).copied().unwrap_or(0);
        if events < before {
            return Err(format!("{pair:?} had {before} events once and has {events}"));
        }
        Ok(())
    }

    /// What was acknowledged, or is said to be there, is there.
    fn judge_floors(&self, said: &Said, ready: u64) -> Result<(), String> {
        for (pair, steps) in &self.truth.steps {
            let is_plain = pair.0.0 >= ENTITIES;
            let floor = if is_plain { self.rounds * PLAIN_ENTITIES } else { ready };
            let least = steps.partition_point(|step| step.offset <= floor) as u64;
            let there = said.held.get(pair).map_or(0, |held| held.0);
            if there < least {
                return Err(format!("{pair:?} has {there} events, {least} are up to {floor}"));
            }
        }
        Ok(())
    }

    /// On each shard of the killed engine there is an offset up to which it had everything.
    fn judge_prefixes(&self, said: &Said) -> Result<(), String> {
        let mut bounds: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (pair, steps) in &self.truth.steps {
            let Some(shard) = self.owner.get(&pair.0.0) else { continue };
            let now = said.held.get(pair).map_or(0, |held| held.0);
            let at = |index: u64| steps.get(usize::try_from(index).ok()?).map(|s| s.offset);
            let (from, to) = bounds.entry(*shard).or_insert((0, u64::MAX));
            if now > self.counts.get(pair).copied().unwrap_or(0) {
                *from = at(now - 1).unwrap_or(u64::MAX).max(*from);
            }
            *to = at(now).unwrap_or(u64::MAX).min(*to);
        }
        match bounds.iter().find(|(_, (from, to))| from >= to) {
            Some((shard, (from, to))) => {
                Err(format!("shard {shard} had event {from} and lacks {to} before it"))
            }
            None => Ok(()),
        }
    }
}
