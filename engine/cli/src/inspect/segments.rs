//! The files of one log, each segment by its own header.
//!
//! Promises: a header that cannot be read hides no other segment.
//! Invariants: only regular files are opened.
//! Fails by: `io::Error`, when the folder cannot be listed.
//! Not here: frames, and whether the segments fit together (`log`).

use ebbtide_wal::aligned::AlignedBuf;
use ebbtide_wal::frame::{FrameFields, FrameKind};
use ebbtide_wal::limits::SEGMENT_HEADER_BYTES;
use ebbtide_wal::segment::SegmentHeader;
use ebbtide_wal::storage::{FileName, Listed, Storage};
use ebbtide_wal::{Lsn, StoreId};
use serde::Serialize;
use std::io;

/// One segment file.
#[derive(Debug, Default, Serialize)]
pub(super) struct Segment {
    pub(super) seq: u64,
    pub(super) bytes: u64,
    /// Number of the first record in it or after it, if its header can be read.
    pub(super) lsn_first: Option<u64>,
    /// The last record in it; there may be none.
    pub(super) lsn_last: Option<u64>,
    pub(super) records: u64,
    pub(super) frames: u64,
    pub(super) sealed: bool,
    /// Why its header cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Segment {
    /// Counts a frame of it.
    pub(super) fn add(&mut self, fields: &FrameFields) {
        self.frames += 1;
        self.sealed |= fields.kind == FrameKind::Seal;
        if fields.lsn_count > 0 {
            self.records += u64::from(fields.lsn_count);
            let behind = fields.lsn_first.after(u64::from(fields.lsn_count));
            self.lsn_last = Some(behind.previous().get());
        }
    }
}

/// A log's folder.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// In the order of their numbers.
    pub(super) segments: Vec<Segment>,
    pub(super) spare_files: u64,
    pub(super) temporary_files: u64,
    pub(super) stranger_files: u64,
    /// The store that the first readable header names.
    pub(super) store: Option<StoreId>,
    /// The last record before the first segment.
    pub(super) begins_after: Option<Lsn>,
}

/// Lists the folder and reads the headers.
///
/// # Errors
///
/// When the folder cannot be listed.
pub(super) async fn list<S: Storage>(storage: &S) -> io::Result<Folder> {
    let (mut listed, strangers) = storage.list().await?;
    listed.sort_unstable_by_key(|file| file.name);
    let mut folder = Folder { stranger_files: strangers as u64, ..Folder::default() };
    for file in listed {
        match file.name {
            FileName::Segment(seq) => add(&mut folder, storage, seq, &file).await,
            FileName::Spare(_) => folder.spare_files += 1,
            FileName::Temp(_) => folder.temporary_files += 1,
        }
    }
    Ok(folder)
}

async fn add<S: Storage>(folder: &mut Folder, storage: &S, seq: u64, file: &Listed) {
    let mut segment = Segment { seq, bytes: file.bytes, ..Segment::default() };
    match header(storage, file).await {
        Ok(header) => {
            segment.lsn_first = Some(header.lsn_first.get());
            folder.store = folder.store.or(Some(header.id.log.store));
            if folder.segments.is_empty() {
                folder.begins_after = Some(header.prev_last);
            }
        }
        Err(why) => segment.error = Some(why),
    }
    folder.segments.push(segment);
}

async fn header<S: Storage>(storage: &S, file: &Listed) -> Result<SegmentHeader, String> {
    if !file.regular {
        return Err("it is not a regular file".into());
    }
    let mut block = AlignedBuf::zeroed(SEGMENT_HEADER_BYTES);
    let opened = storage.open(file.name).await.map_err(|error| error.to_string())?;
    let read = storage.read_at(&opened, 0, &mut block).await.map_err(|error| error.to_string())?;
    let (header, _chain) =
        SegmentHeader::decode(&block[..read]).map_err(|fault| fault.to_string())?;
    Ok(header)
}
