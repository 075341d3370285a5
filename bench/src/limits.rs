//! Every bound of the harness in one place, followed by the relations between them.

/// Longest line of a trace, without its line ending. A longer one is a bad line, not an
/// allocation: a file without line ends must not take the memory of the machine.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes kept of a line that is longer than [`LINE_BYTES_MAX`], so that it can be recognised.
pub const OVERLONG_BYTES_KEPT: usize = 256;
/// Bytes read from a trace at a time. Fits the second-level cache beside the parsed events.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Rows at the beginning of a trace by which it is known again.
pub const HEAD_ROWS_MAX: usize = 1024;
/// Bytes of a digest in the name of a source.
pub const SOURCE_DIGEST_BYTES: usize = 16;
/// Columns of a trace: timestamp, entity, signal, weight and the optional id.
pub const COLUMNS_MAX: usize = 5;
/// Signals one schema may name.
pub const SIGNALS_MAX: usize = 64;
/// Bytes of a field repeated in the reason why its line is bad.
pub const QUOTED_BYTES_MAX: usize = 80;
/// Earlier events among which a synthetic duplicate picks the one it repeats.
pub const REPEATABLE_EVENTS: usize = 4096;
/// Most entities a synthetic trace may have: each has a whole number that `f64` holds exactly.
pub const ENTITIES_MAX: u64 = 1 << 53;
/// Steepest Zipf distribution of a synthetic trace; beyond it one entity has all events anyway.
pub const ZIPF_MAX: f64 = 10.0;
/// Longest step within a burst of synthetic events, exclusive.
pub const BURST_STEP_NS_MAX: u64 = 1_000;
/// Lock shards of the shared map: see there.
pub const RIVAL_LOCK_SHARDS: usize = 256;
/// Running decays a rival keeps for one signal.
pub const HALF_LIVES_MAX: usize = 3;
/// Buckets of one minute: the 1 h window.
pub const MINUTES: usize = 60;
/// Buckets of one hour: the 24 h and 7 d windows.
pub const HOURS: usize = 168;
/// Percent by which a stage may take more instructions than is committed. More is a decision, and
/// less is noise of other versions of the C library.
pub const COUNT_GROWTH_PERCENT_MAX: f64 = 5.0;

const _: () = {
    // A whole line always fits in a block, with the start of the next one behind it.
    assert!(BLOCK_BYTES >= 2 * LINE_BYTES_MAX);
    assert!(OVERLONG_BYTES_KEPT <= LINE_BYTES_MAX);
    // The first row of any trace is part of its head: it is read in with the header.
    assert!(BLOCK_BYTES >= 3 * LINE_BYTES_MAX);
    // A digest is cut from 32 bytes; 16 are enough against chance.
    assert!(SOURCE_DIGEST_BYTES <= 32);
    // A signal is one byte of a `TraceEvent`.
    assert!(SIGNALS_MAX <= 1 << u8::BITS);
    // A duplicate picks its event with a mask, not with a division.
    assert!(REPEATABLE_EVENTS.is_power_of_two());
    // The longest window asked of the hour buckets is 7 days.
    assert!(HOURS == 7 * 24);
};
