//! The replay harness of Ebbtide: where its events come from and what it is measured against.
//!
//! ```text
//! trace CSV ──▶ trace ──┐
//!                       ├──▶ TraceEvent ──▶ the engine under test, or a rival
//! SPEC ──▶ synthetic ───┘
//! ```
//!
//! * [`trace`] reads real events, says exactly what is wrong with a line that is not one, and
//!   sets such lines aside in a form that can be repaired and replayed;
//! * [`synthetic`] makes up events from a seed: the same text always gives the same events;
//! * [`rivals`] holds the designs that Ebbtide is compared with, each built as well as we can;
//! * [`mod@replay`] sends a trace through an engine and checks every answer; [`mod@compare`]
//!   measures Ebbtide beside its rivals;
//! * [`stages`] are the steps of the way, each by itself; [`mod@count`] counts their instructions.
//!
//! No event takes its time from a clock: it is a field. Clocks only measure.

pub mod compare;
mod cores;
pub mod count;
pub mod fault;
mod interrupt;
pub mod limits;
mod output;
pub mod replay;
pub mod rivals;
pub mod stages;
mod stalls;
pub mod synthetic;
pub mod trace;
