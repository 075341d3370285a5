//! Lanes: the rings between one producer or one reader and one shard. The one crossing between
//! threads.
//!
//! ```text
//! EventSender ─events, tags─▶ EventInbox      EventSender ◀─────watermarks────── EventInbox
//! RequestSender ──requests──▶ RequestInbox    RequestSender ◀─────replies──────── RequestInbox
//!               ──question──▶                               ◀─────reading────────
//! ```
//!
//! Promises: each ring has one end on either side, by ownership: no end is `Clone`, none is `Sync`,
//! so two threads cannot push to, or pop from, one ring. A full ring gives the event back. When one
//! side goes away, for whatever reason, the other is woken and told.
//!
//! ```compile_fail,E0599
//! fn twice(sender: ebbtide_shard::lane::EventSender) {
//!     let _second = sender.clone();
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn shared<T: Sync>() {}
//! shared::<ebbtide_shard::lane::EventSender>();
//! ```

mod events;
mod exchange;
mod requests;

pub(crate) use events::Waiting;
pub use events::{EventInbox, EventSender, LaneKind, Level, Tag, TagKind, event_lane};
pub(crate) use requests::{Answered, Answering};
pub use requests::{RequestInbox, RequestSender, request_lane};

use crate::port::ShardPort;
use std::sync::Arc;

/// Rings the shard when a producer or reader goes away.
#[derive(Debug)]
struct Departing(Arc<ShardPort>);

impl Drop for Departing {
    fn drop(&mut self) {
        self.0.doorbell().ring();
    }
}
