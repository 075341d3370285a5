//! What the whole-system tests and the check command share.
//!
//! * [`setting`] says on which engines a test runs, [`stream`] what is recorded there, [`truth`]
//!   what has to come out; [`stopped`] holds a shard still meanwhile.
//! * [`crash`] says the same for tests that end the process, which [`victim`] starts and
//!   [`oracle`] judges; [`alone`] runs a test in other surroundings, [`cut_disk`] on a disk whose
//!   power is cut.
//! * [`frozen`] are stores of every format there was, which must open for ever.
//! * [`call`] and [`tidy`] serve the check command and the house rules.
//!
//! Deliberately not here: product code. Nothing in the engine depends on this package.

pub mod alone;
pub mod call;
pub mod crash;
pub mod cut_disk;
pub mod frozen;
pub mod oracle;
pub mod setting;
pub mod stopped;
pub mod stream;
pub mod tidy;
pub mod truth;
pub mod victim;
