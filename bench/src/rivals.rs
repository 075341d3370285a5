//! Rivals: other designs for the same signals, built as well as we can.
//!
//! A comparison is worth what its loser is worth. A rival is reviewed as if it were ours, gets
//! the data structures a careful engineer would choose for it, and is never tuned down.

mod shared_map;

pub use shared_map::{Reading, SharedMap};
