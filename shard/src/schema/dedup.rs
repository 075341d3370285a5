//! Deduplication: what makes an event of a signal type a repeat of an earlier one.
//!
//! Not here: how the earlier ones are remembered, and how many (see [`crate::dedup`]).

use std::fmt;

/// Which events of a signal type are repeats. A repeat is acknowledged and counted as such, and
/// changes nothing else.
///
/// An event is compared with those its shard counted before, at least the last
/// [`IDS_PER_GENERATION`](crate::limits::IDS_PER_GENERATION) of them.
///
/// ```
/// use ebbtide_shard::{Dedup, Schema};
/// let text = "[signals.view]\nhalf_lives = [\"1h\"]\ndedup = \"id\"";
/// let schema = Schema::from_toml(text)?;
/// assert_eq!(schema.def(schema.signal("view").unwrap()).dedup(), Dedup::Id);
/// # Ok::<(), ebbtide_shard::SchemaError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dedup {
    /// None: every event counts.
    #[default]
    None,
    /// Those with the entity and the id of an earlier one. An event without an id always counts.
    Id,
    /// Those with the entity, time and weight of an earlier one. Two events that are genuinely
    /// identical then collapse into one: use ids where that can happen.
    Content,
}

impl Dedup {
    const ALL: [Self; 3] = [Self::None, Self::Id, Self::Content];

    /// As schemas spell it: `none`, `id` or `content`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Id => "id",
            Self::Content => "content",
        }
    }

    /// The one that is spelled so.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dedup| dedup.name() == name)
    }

    /// What the fingerprint hashes.
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Id => 1,
            Self::Content => 2,
        }
    }
}

impl fmt::Display for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
