//! Who takes what a replay reads.
//!
//! Promises: frames in the order of the log, each before its batches; batches in the order of
//! their numbers.
//! Invariants: a frame is shown only after all of it verified.
//! Fails by: a sink's own error, which ends the replay.
//! Not here: reading (`scan`).
//! Source: none.

use std::error::Error;

use crate::entry::Batch;
use crate::frame::FrameFields;

/// Why a batch was not accepted by whoever replays it.
pub type SinkError = Box<dyn Error + Send + Sync>;

/// One verified frame and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSeen {
    /// The segment it is in.
    pub segment: u64,
    /// Where in its file.
    pub offset: u64,
    /// What its header says.
    pub fields: FrameFields,
}

/// A segment before the last that has no whole seal. All its records were read; what lies behind
/// them is under no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsealedSeen {
    /// Which.
    pub segment: u64,
    /// Where its last frame ends.
    pub offset: u64,
    /// Bytes of the file behind that.
    pub loose_bytes: u64,
    /// Whether a seal lies there that was altered, rather than none.
    pub damaged: bool,
}

/// Takes what a replay reads: records to rebuild a state, frames to show progress or to inspect.
pub trait ReplaySink {
    /// Takes the next batch.
    ///
    /// # Errors
    ///
    /// Whatever makes the batch unacceptable; the replay ends with it.
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), SinkError>;

    /// Is told of the next frame.
    fn frame(&mut self, _seen: FrameSeen) {}

    /// Is told, with `read_covered`, of a segment that a crash left unsealed, or whose seal is
    /// damaged.
    fn unsealed(&mut self, _seen: UnsealedSeen) {}
}

/// A sink for batches alone.
pub(super) struct Batches<F>(pub(super) F);

impl<F: FnMut(Batch<'_>) -> Result<(), SinkError>> ReplaySink for Batches<F> {
    fn batch(&mut self, batch: Batch<'_>) -> Result<(), SinkError> {
        (self.0)(batch)
    }
}
