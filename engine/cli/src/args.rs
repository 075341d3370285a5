//! Arguments that several commands share, and those of commands that read whole stores.
//!
//! Promises: one spelling for one thing in every command. An argument that cannot be read is a
//! usage error before anything is opened.

use clap::Args;
use ebbtide::Timestamp;
use std::path::PathBuf;

/// Which store, and for whom to print.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// The store's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Check that every record of a store can be read, unaltered
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The store, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Write the whole state, or some of it, as JSON lines
#[derive(Args, Clone, Debug)]
pub struct DumpArgs {
    /// The store, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
    /// As of which instant: RFC 3339, or nanoseconds since 1970; by default the newest event's
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    pub as_of: Option<Timestamp>,
    /// Only these entities, by number; may be given again
    #[arg(long, value_name = "ENTITY")]
    pub entity: Vec<u64>,
    /// Write here instead of to stdout; the file must not exist
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Copy a store to a new directory and check the copy
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The store, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where the copy goes; must not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Save what can be read of a damaged store to a new one, and say what was lost
#[derive(Args, Clone, Debug)]
pub struct SalvageArgs {
    /// The store, and for whom to print.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Where the new store goes; must not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The schema the store was made with, should its checkpoint not tell it any more
    #[arg(long, value_name = "FILE.toml")]
    pub schema: Option<PathBuf>,
    /// Keep what sources recorded behind a gap; what is missing is then never filled
    #[arg(long)]
    pub keep_sourced: bool,
}

/// Reads an instant.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    if let Ok(time_ns) = text.parse() {
        return Ok(Timestamp(time_ns));
    }
    let instant = text.parse::<jiff::Timestamp>().map_err(
        |_| "is neither RFC 3339 such as 2013-01-01T05:59:00Z nor an integer of nanoseconds",
    )?;
    u64::try_from(instant.as_nanosecond())
        .map(Timestamp)
        .map_err(|_| "lies outside of 1970 to 2554, the nanoseconds of 64 bits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_rfc_3339_or_nanoseconds() {
        assert_eq!(timestamp("17"), Ok(Timestamp(17)));
        assert_eq!(timestamp("1970-01-01T01:00:00.5+01:00"), Ok(Timestamp(500_000_000)));
        assert!(timestamp("1969-12-31T23:59:59Z").unwrap_err().contains("outside"));
        assert!(timestamp("yesterday").unwrap_err().contains("RFC 3339"));
    }
}
