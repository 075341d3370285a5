//! Schemas as TOML: `[signals.NAME]` with `half_lives`, `windows`, `velocity`, `dedup`.
//!
//! Promises: an unknown key is an error, not a silence; whatever is understood goes through the
//! builder, so both ways of writing a schema obey the same rules. What [`write`] gives, [`parse`]
//! reads back as an equal schema, labels included.

use super::{Dedup, Schema, SchemaBuilder, SchemaError, SignalTypeDef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SchemaForm {
    #[serde(default)]
    signals: BTreeMap<String, SignalForm>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SignalForm {
    half_lives: Vec<String>,
    #[serde(default)]
    windows: Vec<String>,
    #[serde(default)]
    velocity: bool,
    #[serde(default = "without_dedup")]
    dedup: String,
}

fn without_dedup() -> String {
    Dedup::None.name().into()
}

impl From<&SignalTypeDef> for SignalForm {
    fn from(def: &SignalTypeDef) -> Self {
        Self {
            half_lives: def.half_life_labels.clone(),
            windows: def.window_labels.clone(),
            velocity: def.velocity,
            dedup: def.dedup.name().into(),
        }
    }
}

pub(super) fn write(schema: &Schema) -> String {
    let signals = schema.signals.iter().map(|def| (def.name.clone(), def.into())).collect();
    toml::to_string(&SchemaForm { signals }).expect("names, texts and flags can stand in TOML")
}

pub(super) fn parse(text: &str) -> Result<Schema, SchemaError> {
    let form: SchemaForm =
        toml::from_str(text).map_err(|error| SchemaError::Toml { message: said(text, &error) })?;
    let add = |builder: SchemaBuilder, (name, form): (String, SignalForm)| {
        builder.signal(&name, |signal| {
            let signal = signal.spelled(&form.half_lives, &form.windows, &form.dedup);
            if form.velocity { signal.velocity() } else { signal }
        })
    };
    form.signals.into_iter().fold(Schema::builder(), add).build()
}

/// What the parser found, on one line, with the place.
fn said(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let form = "write [signals.NAME] with half_lives = [\"1h\"] and, if wanted, windows, velocity, \
                dedup";
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("{message}; {form}");
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    format!("line {line}, column {column}: {message}; {form}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HALF_LIFE_NS_MAX, HALF_LIFE_NS_MIN, HOUR_NS, MINUTE_NS};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn labels_are_spelled_as_in_the_text() {
        let schema = parse(
            "[signals.view]\nhalf_lives = [\"60m\", \"1d\"]\nwindows = [\"168h\", \"5min\"]\n",
        )
        .unwrap();
        let def = schema.def(schema.signal("view").unwrap());
        assert_eq!(def.half_life_labels().collect::<Vec<_>>(), ["60m", "1d"]);
        assert_eq!(def.window_labels().collect::<Vec<_>>(), ["5min", "168h"]);
        assert!(!def.velocity());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "signals = 3",
            "[signals.view]\nhalf_lives = [\"1h\"]\nhalflife = 3\n",
            "[signal.view]\nhalf_lives = [\"1h\"]\n",
            "[signals.view]\nhalf_lives = \"1h\"\n",
            "[signals.view]\nwindows = [\"1h\"]\n",
            "[signals.view\n",
        ] {
            let refused = parse(text);
            let Err(error @ SchemaError::Toml { .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        assert_eq!(parse(""), Err(SchemaError::Empty));
        let refused = parse("[signals.view]\nhalf_lives = [\"1h\"]\ndedup = \"ID\"\n");
        let Err(error @ SchemaError::UnknownDedup { .. }) = refused else { panic!("{refused:?}") };
        let said = "signal type 'view': dedup = \"ID\" is unknown; use none, id or content";
        assert_eq!(error.to_string(), said);
        let bad = parse("[signals.view]\nhalf_lives = [\"soon\"]\n");
        assert!(matches!(bad, Err(SchemaError::BadHalfLife { .. })));
    }

    #[test]
    fn a_schema_written_down_reads_back_equal_labels_included() {
        let text = "[signals.\"a.b\"]\nhalf_lives = [\"60m\", \"PT36H\", \"1h 30m\"]\n\
                    windows = [\"168h\", \"5min\", \"1d\"]\nvelocity = true\ndedup = \"content\"\n\
                    [signals.a-b]\nhalf_lives = [\"1ms1\u{b5}s\"]\ndedup = \"id\"\n\
                    [signals._]\nhalf_lives = [\"1w\"]\n";
        let schema = parse(text).unwrap();
        assert_eq!(schema.signals().len(), 3);
        assert_eq!(parse(&write(&schema)).as_ref(), Ok(&schema), "{}", write(&schema));
    }

    #[test]
    fn the_written_form_is_the_documented_one() {
        let schema = parse("[signals.view]\nhalf_lives=[\"1h\",\"7d\"]\n").unwrap();
        let written = "[signals.view]\nhalf_lives = [\"1h\", \"7d\"]\nwindows = []\n\
                       velocity = false\ndedup = \"none\"\n";
        assert_eq!(write(&schema), written);
    }

    proptest! {
        #[test]
        fn a_schema_built_in_code_can_be_written_down(
            half_life in HALF_LIFE_NS_MIN..=HALF_LIFE_NS_MAX,
            unit in prop::sample::select(vec![1, 1_000, 1_000_000, 1_000_000_000, MINUTE_NS]),
            minutes in prop::collection::vec(1..=60u64, 0..8),
            hours in prop::collection::vec(1..=168u64, 0..8),
        ) {
            let whole = (half_life / unit * unit).max(HALF_LIFE_NS_MIN);
            let lengths = minutes.iter().map(|n| n * MINUTE_NS);
            let lengths = lengths.chain(hours.iter().map(|n| n * HOUR_NS));
            let windows: Vec<_> = lengths.map(Duration::from_nanos).collect();
            let half_lives = [Duration::from_nanos(whole), Duration::from_nanos(half_life ^ 1)];
            let schema = Schema::builder()
                .signal("view", |s| s.half_lives(half_lives).windows(windows).dedup(Dedup::Id))
                .build();
            if let Ok(schema) = schema {
                prop_assert_eq!(parse(&write(&schema)), Ok(schema));
            }
        }
    }
}
