//! Schemas as TOML: `[signals.NAME]` with `half_lives`, `windows`, `velocity`, `dedup`.
//!
//! Promises: an unknown key is an error, not a silence; whatever is understood goes through the
//! builder, so both ways of writing a schema obey the same rules.

use super::{Schema, SchemaBuilder, SchemaError};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaForm {
    #[serde(default)]
    signals: BTreeMap<String, SignalForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalForm {
    half_lives: Vec<String>,
    #[serde(default)]
    windows: Vec<String>,
    #[serde(default)]
    velocity: bool,
    dedup: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Schema, SchemaError> {
    let form: SchemaForm =
        toml::from_str(text).map_err(|error| SchemaError::Toml { message: said(text, &error) })?;
    let add = |builder: SchemaBuilder, (name, form): (String, SignalForm)| {
        builder.signal(&name, |signal| {
            let signal = signal.spelled(&form.half_lives, &form.windows, form.dedup);
            if form.velocity { signal.velocity() } else { signal }
        })
    };
    form.signals.into_iter().fold(Schema::builder(), add).build()
}

/// What the parser found, on one line, with the place.
fn said(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let form = "write [signals.NAME] with half_lives = [\"1h\"] and, if wanted, windows, velocity";
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
        let id = parse("[signals.view]\nhalf_lives = [\"1h\"]\ndedup = \"id\"\n");
        assert!(matches!(id, Err(SchemaError::DedupUnavailable { .. })));
        let bad = parse("[signals.view]\nhalf_lives = [\"soon\"]\n");
        assert!(matches!(bad, Err(SchemaError::BadHalfLife { .. })));
    }
}
