//! A schema's identity: BLAKE3 over a canonical writing-down of every definition.
//!
//! Promises: equal for schemas of equal names, half-lives, windows and velocity flags; labels do
//! not matter (`60m` is `1h`). The bytes hashed are frozen by a golden test: a store remembers
//! them.

use super::Schema;
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
        ] {
            assert_ne!(base, fingerprint(other), "{other}");
        }
    }
}
