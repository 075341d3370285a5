//! Every list the rules go by, in one place: what is banned, where, and who is excused.
//!
//! An exception carries its reason in the comment above it and fails the rule once it is no longer
//! needed. Only [`GLOMMIO_FILES`] may name files that do not exist.

use super::bans::Ban;
use super::layers::Layer;
use super::shape::LongFunction;

/// Columns of a line.
pub const COLUMNS_MAX: usize = 100;
/// Lines of a function, from `fn` to the closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file without its test module.
pub const FILE_LINES_MAX: usize = 500;

/// The packages, lowest first. A package may name those above it in this list only.
pub const LAYERS: &[Layer] = &[
    Layer { folder: "wal", package: "ebbtide-wal" },
    Layer { folder: "shard", package: "ebbtide-shard" },
    Layer { folder: "router", package: "ebbtide-router" },
    Layer { folder: "engine", package: "ebbtide" },
    Layer { folder: "engine/cli", package: "ebbtide-cli" },
    Layer { folder: "bench", package: "ebbtide-bench" },
    Layer { folder: "tests", package: "ebbtide-tests" },
];

/// Files and folders that may name glommio in code; it is an implementation detail elsewhere.
pub const GLOMMIO_FILES: &[&str] = &[
    "wal/src/storage/dma.rs",
    "engine/src/runtime/uring.rs",
    // A host that runs glommio itself, and tests of the engine inside of one.
    "engine/examples/glommio.rs",
    "engine/tests",
    "tests",
    // Tests of the log on an executor of its own.
    "wal/tests",
];
/// Manifests that may depend on glommio.
pub const GLOMMIO_MANIFESTS: &[&str] =
    &["Cargo.toml", "wal/Cargo.toml", "engine/Cargo.toml", "tests/Cargo.toml"];

/// Words the log must not say: it carries bytes, it does not know what they mean.
pub const WAL_FOREIGN_WORDS: &[&str] = &["score", "signal", "entity"];

/// Functions excused from [`FUNCTION_LINES_MAX`].
pub const LONG_FUNCTIONS: &[LongFunction] = &[];
/// Files excused from [`FILE_LINES_MAX`].
pub const LONG_FILES: &[&str] = &[];
/// Files that may contain `unsafe`.
pub const UNSAFE_FILES: &[&str] = &[
    // A hint to the processor: several times the rate where the state is larger than the caches.
    "shard/src/prefetch.rs",
    // Advice to the kernel: a third off each event where the state is larger than the caches.
    "shard/src/blocks.rs",
    // The same code for wider processors: vectors of four numbers, and shorter shifts and counts.
    "shard/src/wide.rs",
];

/// Folders whose `.rs` files are input to a test and so belong to no module tree.
pub const MODULE_FREE_FOLDERS: &[&str] = &["compile_fail"];

const LIBRARIES: &[&str] = &["wal/src", "shard/src", "router/src", "engine/src"];
const EVERYWHERE: &[&str] = &[""];
const MATHEMATICS: &[&str] = &["shard/src/signal"];
const TIME_IS_A_FIELD: &str = "take the time from the event or as an argument";
const NO_IO: &str = "take bytes and give bytes; the turn does I/O";
const ONE_OWNER: &str = "let the shard own it; what crosses threads stays outside the mathematics";
const RETURN_IT: &str = "return it, or emit a `tracing` event; the host owns its output";
const NO_EXECUTOR: &str = "write a plain function; the runtime calls it";

/// Code that is banned, where, and what stands in its place.
pub const BANS: &[Ban] = &[
    Ban::new(MATHEMATICS, "Instant", TIME_IS_A_FIELD),
    Ban::new(MATHEMATICS, "SystemTime", TIME_IS_A_FIELD),
    Ban::new(MATHEMATICS, "UNIX_EPOCH", TIME_IS_A_FIELD),
    Ban::new(MATHEMATICS, "std::fs", NO_IO),
    Ban::new(MATHEMATICS, "std::io", NO_IO),
    Ban::new(MATHEMATICS, "std::net", NO_IO),
    Ban::new(MATHEMATICS, "std::env", "take it as an argument"),
    Ban::new(MATHEMATICS, "std::process", NO_IO),
    Ban::new(MATHEMATICS, "std::thread", ONE_OWNER),
    Ban::new(MATHEMATICS, "std::sync", ONE_OWNER),
    Ban::new(MATHEMATICS, "core::sync", ONE_OWNER),
    Ban::new(MATHEMATICS, "loom", ONE_OWNER),
    Ban::new(MATHEMATICS, "Atomic*", ONE_OWNER),
    Ban::new(MATHEMATICS, "glommio", NO_EXECUTOR),
    Ban::new(MATHEMATICS, "tokio", NO_EXECUTOR),
    Ban::new(MATHEMATICS, "async", NO_EXECUTOR),
    Ban::new(MATHEMATICS, "await", NO_EXECUTOR),
    Ban::new(
        &["shard/src"],
        "Instant::now",
        "take the instant as an argument: a turn asks no clock",
    ),
    Ban::new(
        &["shard/src"],
        "SystemTime::now",
        "take the time from the event or as an argument: a turn asks no clock",
    ),
    Ban::new(EVERYWHERE, "todo!(", "write it, or return an error that says what is missing"),
    Ban::new(EVERYWHERE, "unimplemented!(", "write it, or take the promise out of the API"),
    Ban::new(EVERYWHERE, "dbg!(", "assert what you looked for"),
    // The child that the kill tests start, and kill.
    Ban::new(EVERYWHERE, "#[ignore", "make it fast, or give it a command and a step of its own")
        .except(&["wal/tests/files.rs"]),
    Ban::new(
        EVERYWHERE,
        "glommio::channels",
        "`rtrb`: glommio's queues are unsound from safe code",
    ),
    Ban::new(LIBRARIES, "println!(", RETURN_IT).outside_tests(),
    Ban::new(LIBRARIES, "eprintln!(", RETURN_IT).outside_tests(),
    Ban::new(LIBRARIES, "print!(", RETURN_IT).outside_tests(),
    Ban::new(LIBRARIES, "eprint!(", RETURN_IT).outside_tests(),
];
