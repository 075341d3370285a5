//! Which shard owns an entity, and how events and requests get there.
//!
//! ```text
//! event ──admit──▶ hash ──place──▶ lane of the owning shard
//! request ───────▶ hash ──place──▶ lane of the owning shard, or of all, and back
//! ```
//!
//! Invariants: placement is a pure function of hash and number of shards; nothing enters a ring
//! that [`Admission`] has not passed. Deliberately not here: threads, waiting, files. Hosts use the
//! `ebbtide` crate instead of this one.

#![forbid(unsafe_code)]

mod admission;
mod clock;
mod events;
mod placement;
mod requests;
mod sources;

pub use admission::{Admission, Rejected, Rejection, RejectionCounters};
pub use clock::{Clock, ManualClock, SystemClock};
pub use events::{EventRouter, OfferError, Ticket};
pub use placement::Placement;
pub use requests::RequestRouter;
pub use sources::{SourceEvent, SourceOfferError, SourceRouter};
