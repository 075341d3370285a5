//! Which files make up the log, before any record is read.
//!
//! Promises: segments in order without a gap, each one's header verified and of this log.
//! Invariants: only names count, never the order of the directory; a file's header must say what
//! its name says.
//! Fails by: `RecoverError`.
//! Not here: frames (`scan`).
//! Source: none.

use super::{RecoverError, ReplayOptions, read_block};
use crate::fault::{IoFault, Step};
use crate::key::{ChainHash, LogIdentity};
use crate::segment::SegmentHeader;
use crate::storage::{FileName, Listed, Storage};

/// A segment whose header verified.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) header: SegmentHeader,
    /// Link for its first frame.
    pub(super) chain: ChainHash,
    pub(super) file_bytes: u64,
}

/// A log's directory, sorted.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) segments: Vec<Found>,
    pub(super) spares: Vec<Listed>,
    pub(super) temps: Vec<Listed>,
    pub(super) strangers: u64,
}

/// Lists the directory and reads every segment's header.
pub(super) async fn find<S: Storage>(
    storage: &S,
    identity: LogIdentity,
    options: ReplayOptions,
) -> Result<Files, RecoverError> {
    let listed = storage.list().await;
    let (mut listed, strangers) =
        listed.map_err(|cause| RecoverError::Io(IoFault::directory(Step::List, &cause)))?;
    listed.sort_unstable_by_key(|file| file.name);
    let mut files = Files { strangers: strangers as u64, ..Files::default() };
    for file in listed {
        if !file.regular {
            return Err(RecoverError::NotRegular { file: file.name.to_string() });
        }
        match file.name {
            FileName::Segment(seq) => {
                let found = read_header(storage, identity, seq, &file).await?;
                files.segments.push(found);
            }
            FileName::Spare(_) => files.spares.push(file),
            FileName::Temp(_) => files.temps.push(file),
        }
    }
    check_order(&files.segments, options)?;
    Ok(files)
}

async fn read_header<S: Storage>(
    storage: &S,
    identity: LogIdentity,
    segment: u64,
    file: &Listed,
) -> Result<Found, RecoverError> {
    let block = read_block(storage, file).await?;
    let decoded = SegmentHeader::decode(&block);
    let (header, chain) = decoded.map_err(|fault| RecoverError::Header { segment, fault })?;
    if header.id.log != identity || header.id.seq != segment {
        let (found_seq, found) = (header.id.seq, header.id.log);
        return Err(RecoverError::Foreign { segment, found_seq, found });
    }
    Ok(Found { header, chain, file_bytes: file.bytes })
}

fn check_order(segments: &[Found], options: ReplayOptions) -> Result<(), RecoverError> {
    for pair in segments.windows(2) {
        let (before, after) = (&pair[0].header, &pair[1].header);
        if after.id.seq != before.id.seq + 1 {
            return Err(RecoverError::Missing { segment: before.id.seq + 1 });
        }
    }
    match segments.first() {
        Some(first) if first.header.prev_last > options.restored => {
            let begins_after = first.header.prev_last;
            Err(RecoverError::BeginsTooLate { begins_after, restored: options.restored })
        }
        None if options.must_exist || options.restored > crate::lsn::Lsn::NONE => {
            Err(RecoverError::Gone)
        }
        _ => Ok(()),
    }
}
