//! How fast traces are parsed: events a second on one core, for the bundled trace (RFC 3339,
//! zstd, names) and for integers (nanoseconds, digits, plain text).
//!
//! ```text
//! cargo run --release -p ebbtide-bench --example parse_rate [-- TRACE.csv[.zst] SIGNAL…]
//! ```
//!
//! With a trace named, that one is measured instead. Each is read several times; the best time is
//! the one least disturbed by other work on the machine, the median says how much there was.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use ebbtide_bench::trace::{BatchEnd, TraceError, TraceReader};

/// Times each trace is read.
const REPEATS: usize = 9;
/// Rows of the integer trace.
const INTEGER_ROWS: u64 = 2_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [path, signals @ ..] = &arguments[..] {
        return Ok(measure(path, || TraceReader::open(Path::new(path), signals))?);
    }
    measure("bundled", || TraceReader::bundled(&["flight", "delay"]))?;
    let integers: &'static [u8] = integer_trace()?.leak();
    measure("integers", || TraceReader::from_bytes("integers", integers, &["get", "set"]))?;
    Ok(())
}

/// Rows such as `1357019940000123456,98123,get,17`.
fn integer_trace() -> Result<Vec<u8>, std::fmt::Error> {
    let mut text = String::from("timestamp,entity,signal,weight\n");
    let mut state = 7_u64;
    for row in 0..INTEGER_ROWS {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let random = state >> 33;
        let time_ns = 1_357_019_940_000_000_000 + row * 1_000 + random % 997;
        let signal = if random & 1 == 0 { "get" } else { "set" };
        writeln!(text, "{time_ns},{},{signal},{}", random % 1_000_000, random % 300)?;
    }
    Ok(text.into_bytes())
}

fn measure(
    name: &str,
    mut open: impl FnMut() -> Result<TraceReader, TraceError>,
) -> Result<(), TraceError> {
    let mut rates = Vec::new();
    for _ in 0..REPEATS {
        let started = Instant::now();
        let mut reader = open()?;
        let (mut events, mut event_count, mut bad_count) = (Vec::new(), 0, 0);
        loop {
            events.clear();
            let end = reader.read_batch(4096, &mut events)?;
            event_count += events.len();
            match end {
                BatchEnd::Full => {}
                BatchEnd::BadLine(_) => bad_count += 1,
                BatchEnd::EndOfTrace => break,
            }
        }
        let rate = event_count as f64 / started.elapsed().as_secs_f64() / 1e6;
        rates.push((rate, event_count, bad_count));
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, event_count, bad_count) = rates[REPEATS / 2];
    let best = rates[REPEATS - 1].0;
    println!(
        "{name}: {event_count} events, {bad_count} bad lines: {best:.1} M/s (median {median:.1})"
    );
    Ok(())
}
