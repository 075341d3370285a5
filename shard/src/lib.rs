//! One core's share of an Ebbtide engine: the signal mathematics, the ledger, the turn.

pub mod event;
pub mod limits;
pub mod schema;
pub mod signal;

pub use event::{
    EntityHash, EntityId, Event, RoutedEvent, SignalId, Timestamp, WeightError, checked_weight,
};
pub use schema::{Fingerprint, Schema, SchemaBuilder, SchemaError, SignalBuilder, SignalTypeDef};
pub mod hash;
pub mod ledger;
pub mod materializer;
pub mod model;
pub mod reading;
pub use hash::PartitionKey;
pub use ledger::SignalLedger;
pub use materializer::Materializer;
pub use reading::{Feature, Plan, PlanError, SignalReading, TopEntry};
