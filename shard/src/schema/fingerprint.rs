//! A schema's identity: BLAKE3 over a canonical writing-down of every definition.
//!
//! Promises: equal for schemas of equal names, half-lives, windows, velocity flags and
//! deduplication; labels do not matter (`60m` is `1h`). The bytes hashed are frozen by a golden
//! test: a store remembers them.

use super::{Dedup, Schema};
use std::fmt;

/// 32 bytes that stand for a schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

pub(super) fn of(schema: &Schema) -> Fingerprint {
    let mut hasher = blake3::Hasher::new_derive_key("ebbtide schema v1");
    let mut number = |n: u64| {
        hasher.update(&n.to_le_bytes());
    };
    number(schema.signals.len() as u64);
    for def in &schema.signals {
        number(def.name.len() as u64);
        def.name.bytes().for_each(|byte| number(u64::from(byte)));
        number(def.half_lives.len() as u64);
        def.half_lives.iter().for_each(|half_life| number(half_life.as_nanos()));
        number(def.windows.len() as u64);
        def.windows.iter().for_each(|window| number(window.as_nanos()));
        number(u64::from(def.velocity));
    }
    // Hashed only where there is some, so that schemas without keep the fingerprint they had. The
    // number of signal types stands in front, so nothing else can be taken for this.
    if schema.signals.iter().any(|def| def.dedup != Dedup::None) {
        schema.signals.iter().for_each(|def| number(def.dedup.code()));
    }
    Fingerprint(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(text: &str) -> Fingerprint {
        Schema::from_toml(text).unwrap().fingerprint()
    }

    #[test]
    fn the_fingerprint_is_frozen_and_sees_every_change_of_meaning() {
        let base = fingerprint("[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\n");
        assert_eq!(
            base.to_string(),
            "038a3b2fad097ffed8ee2d666ddf1ae6e80392c423122ec0c2628d816bfb750c"
        );
        assert_eq!(base, fingerprint("[signals.a]\nhalf_lives=[\"60m\"]\nwindows=[\"60min\"]\n"));
        for other in [
            "[signals.b]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\n",
            "[signals.a]\nhalf_lives=[\"2h\"]\nwindows=[\"1h\"]\n",
            "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"2h\"]\n",
            "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[]\n",
            "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\nvelocity=true\n",
            "[signals.a]\nhalf_lives=[\"1h\", \"2h\"]\nwindows=[\"1h\"]\n",
            "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\ndedup=\"id\"\n",
            "[signals.a]\nhalf_lives=[\"1h\"]\nwindows=[\"1h\"]\ndedup=\"content\"\n",
        ] {
            assert_ne!(base, fingerprint(other), "{other}");
        }
    }

    #[test]
    fn deduplication_is_frozen_in_the_fingerprint_and_tells_signal_types_apart() {
        let of = |a: &str, b: &str| {
            fingerprint(&format!(
                "[signals.a]\nhalf_lives=[\"1h\"]\ndedup=\"{a}\"\n\
                 [signals.b]\nhalf_lives=[\"1h\"]\ndedup=\"{b}\"\n"
            ))
        };
        assert_eq!(
            of("id", "content").to_string(),
            "28cb23b72e3c0a9bed14e2d374007cfde03454cc4229869c5d7b8c102f08a06f"
        );
        assert_ne!(of("id", "content"), of("content", "id"));
        assert_ne!(of("id", "none"), of("none", "id"));
        assert_ne!(of("none", "none"), of("none", "id"));
    }
}
