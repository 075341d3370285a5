//! The operator's command line: what an engine needs of its machine, what a store's files hold.
//!
//! Promises: the commands here read and never change a store; each failure is one line and one of
//! three exit codes ([`fault`]); what is printed cannot steer a terminal ([`output`]).
//! Invariants: what is learned from the system is gathered first and judged by functions that ask
//! nothing.
//! Not here: how bytes are read; that is the packages' below.

pub mod args;
pub mod backup;
pub mod doctor;
pub mod dump;
pub mod fault;
pub mod inspect;
pub mod limits;
pub mod output;
pub mod salvage;
pub mod verify;
