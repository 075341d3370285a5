//! The text that describes a synthetic trace: `events=1e6,entities=1e5,zipf=1.1,seed=7`.
//!
//! Promises: every key has a default; a key or value that is not understood is an error that
//! names the key and what may stand there, never a default taken silently.

use crate::limits::{ENTITIES_MAX, SIGNALS_MAX, ZIPF_MAX};
use crate::trace::{parse_timestamp, short_digest};

/// What a synthetic trace is like. [`Spec::parse`] reads it from text; the names of the keys are
/// given in brackets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Events in all, duplicates included (`events`, default 1,000,000).
    pub events: u64,
    /// Entities, numbered from 0, the likeliest first (`entities`, default 100,000).
    pub entities: u64,
    /// Exponent of the Zipf distribution of entities, 0 for all alike (`zipf`, default 1).
    pub zipf: f64,
    /// Share of late events among those that repeat no other (`late`, default 0).
    pub late: f64,
    /// How late a late event is at most, all delays alike (`late_max`, default 1 h).
    pub late_max_ns: u64,
    /// Share of events that repeat one of the last ones exactly (`dup`, default 0).
    pub dup: f64,
    /// Share of events that follow another of the same entity within a microsecond, among those
    /// that repeat no other (`burst`, default 0).
    pub burst: f64,
    /// How many of the schema's signals have events (`signals`, default all).
    pub signals: u8,
    /// Time of the first event, about: nanoseconds or RFC 3339 (`start`, default 2024-01-01).
    pub start_ns: u64,
    /// Mean time from an event to the next outside bursts (`step`, default 1 ms).
    pub step_ns: u64,
    /// Whether events have ids (`ids`, 0 or 1, default 1 if there are duplicates).
    pub ids: bool,
    /// Seed of the random numbers (`seed`, default 1).
    pub seed: u64,
}

/// Why a text describes no synthetic trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// There is no such key.
    #[error("synthetic trace: unknown key `{key}`; the keys are {KEYS}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key stands alone.
    #[error("synthetic trace: `{key}` has no value; write `{key}=…`; the keys are {KEYS}")]
    NoValue {
        /// The key.
        key: String,
    },
    /// A key stands twice.
    #[error("synthetic trace: `{key}` is given twice; remove one")]
    Repeated {
        /// The key.
        key: String,
    },
    /// The value is not what the key takes.
    #[error("synthetic trace: `{key}={value}` must be {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
}

/// All keys, as error messages list them.
const KEYS: &str =
    "events, entities, zipf, late, late_max, dup, burst, signals, start, step, ids, seed";

/// 2024-01-01T00:00:00Z.
const START_NS: u64 = 1_704_067_200_000_000_000;

impl Spec {
    /// Reads `text`, a list such as `events=1e6,zipf=1.1`, for a schema of `signal_count` signals.
    ///
    /// Counts may be written as `1e6`; durations as `90m` with one of the units ns, us, ms, s, m,
    /// h, d, or as a plain number of nanoseconds.
    ///
    /// # Errors
    ///
    /// When a key is unknown, repeated or without a value, or its value is out of range.
    ///
    /// # Panics
    ///
    /// When the schema has no signal, or more than [`SIGNALS_MAX`].
    pub fn parse(text: &str, signal_count: usize) -> Result<Self, SpecError> {
        assert!((1..=SIGNALS_MAX).contains(&signal_count), "a schema has 1 to 64 signals");
        let mut spec = Self::with_signals(signal_count);
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(SpecError::NoValue { key: part.into() });
            };
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(SpecError::Repeated { key: key.into() });
            }
            seen.push(key);
            spec.set(key, value, signal_count)?;
        }
        if !seen.contains(&"ids") {
            spec.ids = spec.dup > 0.0;
        }
        Ok(spec)
    }

    /// The name of the source that a replay of the trace records as: equal for equal events,
    /// however the text was spelled. The number of events is left out, since more of them continue
    /// the same trace.
    #[must_use]
    pub fn source_name(&self) -> String {
        let Self { events: _, entities, zipf, late, late_max_ns, dup, burst, .. } = self;
        let Self { signals, start_ns, step_ns, ids, seed, .. } = self;
        // Adding zero makes one of the two zeros.
        let [zipf, late, dup, burst] = [zipf, late, dup, burst].map(|value| value + 0.0);
        let ids = u8::from(*ids);
        let normal = format!(
            "entities={entities},zipf={zipf},late={late},late_max={late_max_ns},dup={dup},\
             burst={burst},signals={signals},start={start_ns},step={step_ns},ids={ids},seed={seed}"
        );
        format!("synthetic:{}", short_digest(normal.as_bytes()))
    }

    fn with_signals(signal_count: usize) -> Self {
        const HOUR_NS: u64 = 3_600_000_000_000;
        Self {
            events: 1_000_000,
            entities: 100_000,
            zipf: 1.0,
            late: 0.0,
            late_max_ns: HOUR_NS,
            dup: 0.0,
            burst: 0.0,
            signals: u8::try_from(signal_count).unwrap_or(u8::MAX),
            start_ns: START_NS,
            step_ns: 1_000_000,
            ids: false,
            seed: 1,
        }
    }

    fn set(&mut self, key: &str, value: &str, signal_count: usize) -> Result<(), SpecError> {
        let bad = |expected| SpecError::BadValue { key: key.into(), value: value.into(), expected };
        let share = || in_range(value, 1.0).ok_or_else(|| bad("a share from 0 to 1"));
        let duration = || duration_ns(value).ok_or_else(|| bad("a duration such as 90m or 5ms"));
        match key {
            "events" => self.events = count(value).ok_or_else(|| bad("a count such as 1e6"))?,
            "entities" => {
                let entities = count(value).filter(|count| (1..=ENTITIES_MAX).contains(count));
                self.entities = entities.ok_or_else(|| bad("a count from 1 to 2^53"))?;
            }
            "zipf" => {
                let zipf = in_range(value, ZIPF_MAX);
                self.zipf = zipf.ok_or_else(|| bad("a number from 0 (all alike) to 10"))?;
            }
            "late" => self.late = share()?,
            "late_max" => self.late_max_ns = duration()?,
            "dup" => self.dup = share()?,
            "burst" => self.burst = share()?,
            "signals" => {
                let signals = value.parse().ok();
                let signals =
                    signals.filter(|&signals| (1..=signal_count).contains(&usize::from(signals)));
                self.signals =
                    signals.ok_or_else(|| bad("a count from 1 to the signals of the schema"))?;
            }
            "start" => {
                let start_ns = parse_timestamp(value).ok();
                self.start_ns = start_ns.ok_or_else(|| bad("nanoseconds or an RFC 3339 time"))?;
            }
            "step" => self.step_ns = duration()?,
            "ids" => {
                self.ids = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(bad("0 or 1")),
                }
            }
            "seed" => self.seed = count(value).ok_or_else(|| bad("an unsigned integer"))?,
            _ => return Err(SpecError::UnknownKey { key: key.into() }),
        }
        Ok(())
    }
}

/// Reads a count, which may be written as `1e6` or `2.5e3`.
fn count(text: &str) -> Option<u64> {
    if let Ok(count) = text.parse() {
        return Some(count);
    }
    let count: f64 = text.parse().ok()?;
    let is_exact = count.fract() == 0.0 && (0.0..=ENTITIES_MAX as f64).contains(&count);
    is_exact.then(|| super::whole(count))
}

fn in_range(text: &str, max: f64) -> Option<f64> {
    text.parse().ok().filter(|value| (0.0..=max).contains(value))
}

/// Reads `90m`, `5ms` or a number of nanoseconds.
fn duration_ns(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let value = count(digits)?;
    let unit_ns = match &text[digits.len()..] {
        "" | "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    value.checked_mul(unit_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "events=1e6, entities=1e5,zipf=1.1,late=0.02,dup=0.01,seed=7,signals=2,\
                    burst=0.5,start=2013-01-01T00:00:00Z,step=5us,late_max=2h,ids=0,";
        let expected = Spec {
            events: 1_000_000,
            entities: 100_000,
            zipf: 1.1,
            late: 0.02,
            late_max_ns: 7_200_000_000_000,
            dup: 0.01,
            burst: 0.5,
            signals: 2,
            start_ns: 1_356_998_400_000_000_000,
            step_ns: 5_000,
            ids: false,
            seed: 7,
        };
        assert_eq!(Spec::parse(text, 3), Ok(expected));
        for field in KEYS.split(", ") {
            assert!(text.contains(&format!("{field}=")), "{field}");
        }
    }

    #[test]
    fn defaults_stand_where_no_key_does() {
        let spec = Spec::parse("", 5).unwrap();
        assert_eq!(spec, Spec::with_signals(5));
        assert_eq!(parse_timestamp("2024-01-01T00:00:00Z"), Ok(spec.start_ns));
        assert!(Spec::parse("dup=0.1", 1).unwrap().ids);
    }

    #[test]
    fn a_source_is_named_after_all_keys_but_the_number_of_events() {
        let name = |text: &str| Spec::parse(text, 2).unwrap().source_name();
        let base = name("events=1e6,zipf=1.1,dup=0.01,seed=7");
        // From an implementation of BLAKE3 that shares no code with this one.
        assert_eq!(base, "synthetic:03c696bc1e88f338a2ddf34bf8aec486");
        for same in [
            "events=5,zipf=1.1,dup=0.01,seed=7",
            "seed=7,dup=1e-2,zipf=1.10,late=-0",
            "zipf=1.1,dup=0.01,seed=7,ids=1,signals=2,entities=1e5,late_max=60m,step=1ms",
        ] {
            assert_eq!(name(same), base, "{same}");
        }
        let keys = KEYS.split(", ").filter(|&key| key != "events");
        let others = [
            "entities=3",
            "zipf=1",
            "late=0.5",
            "late_max=2h",
            "dup=0",
            "burst=0.5",
            "signals=1",
            "start=0",
            "step=1s",
            "ids=0",
            "seed=8",
        ];
        for (key, other) in keys.zip(others) {
            assert!(other.starts_with(key), "{key}");
            let mut text = format!("zipf=1.1,dup=0.01,seed=7,{other}");
            for (replaced, default) in [("zipf=", "zipf=1.1,"), ("dup=", "dup=0.01,")] {
                if other.starts_with(replaced) {
                    text = text.replacen(default, "", 1);
                }
            }
            if key == "seed" {
                text = text.replacen("seed=7,", "", 1);
            }
            assert_ne!(name(&text), base, "{text}");
        }
    }

    #[test]
    fn counts_are_exact_or_refused() {
        assert_eq!(count("18446744073709551615"), Some(u64::MAX));
        assert_eq!(count("2.5e3"), Some(2500));
        for text in ["1.5", "1e300", "-1", "", "nan", "inf", "1e-1", "18446744073709551616"] {
            assert_eq!(count(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_names_its_key_and_what_it_takes() {
        for (part, named) in [
            ("events=many", "`events=many` must be a count"),
            ("events=", "`events=` must be a count"),
            ("entities=0", "`entities=0` must be a count from 1"),
            ("zipf=-1", "`zipf=-1` must be a number"),
            ("zipf=nan", "`zipf=nan` must be a number"),
            ("late=1.5", "`late=1.5` must be a share"),
            ("dup=2", "`dup=2` must be a share"),
            ("burst=x", "`burst=x` must be a share"),
            ("signals=3", "`signals=3` must be a count from 1 to the signals"),
            ("signals=0", "`signals=0` must be"),
            ("start=soon", "`start=soon` must be nanoseconds or an RFC 3339"),
            ("step=5 minutes", "`step=5 minutes` must be a duration"),
            ("late_max=999999999d", "`late_max=999999999d` must be a duration"),
            ("ids=yes", "`ids=yes` must be 0 or 1"),
            ("rate=5", "unknown key `rate`; the keys are events, entities, zipf"),
            ("events", "`events` has no value"),
            ("seed=1,seed=2", "`seed` is given twice"),
        ] {
            let error = Spec::parse(part, 2).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
