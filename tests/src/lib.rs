//! What the whole-system tests and the check command share.
//!
//! Deliberately not here: product code. Nothing in the engine depends on this package.

pub mod call;
pub mod tidy;
