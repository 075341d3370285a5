//! Reading one segment: good frames in order, then evidence about the first bad one.
//!
//! Promises: a frame is given only after it verified whole and continues the one before; memory
//! is bounded by one window, whatever the file says.
//! Invariants: evidence is gathered from headers that verify under this segment's own key, so
//! stale frames of a recycled file and a record's own bytes cannot pose as evidence.
//! Fails by: `io::Error` when the device cannot read; damage is a finding, not an error.
//! Not here: what the findings mean (`tail`), the order of segments (`recover`).
//! Source: forward scan as in etcd's and `RocksDB`'s logs, with the watermark in place of their
//! guesses.

use std::io;

use crate::aligned::AlignedBuf;
use crate::entry::entries;
use crate::frame::{FrameFault, FrameFields, FrameHeader, FrameKind, read_header};
use crate::key::{ChainHash, FrameKey};
use crate::limits::{BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, READ_WINDOW_BYTES, index};
use crate::lsn::Lsn;
use crate::note::CheckpointNote;
use crate::recover::{FrameSeen, ReplaySink, SinkError};
use crate::storage::Storage;

/// A moving view of one file.
#[derive(Debug)]
pub(crate) struct Window<'s, S: Storage> {
    storage: &'s S,
    file: S::File,
    file_bytes: u64,
    buffer: AlignedBuf,
    start: u64,
    filled: usize,
}

impl<'s, S: Storage> Window<'s, S> {
    /// A view of `file`, which is `file_bytes` long.
    pub(crate) fn new(storage: &'s S, file: S::File, file_bytes: u64) -> Self {
        let bytes = READ_WINDOW_BYTES.min(index(file_bytes).next_multiple_of(BLOCK_BYTES));
        let buffer = AlignedBuf::zeroed(bytes.max(BLOCK_BYTES));
        Self { storage, file, file_bytes, buffer, start: 0, filled: 0 }
    }

    /// The `len` bytes at `offset`, fewer where the file ends.
    pub(crate) async fn view(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        assert!(len <= FRAME_BYTES_MAX, "no length is believed beyond the cap");
        let rest = index(self.file_bytes.saturating_sub(offset));
        let len = len.min(rest);
        let inside = offset >= self.start && index(offset - self.start) + len <= self.filled;
        if !inside {
            self.fill(offset, len).await?;
        }
        let at = index(offset - self.start);
        let end = (at + len).min(self.filled);
        debug_assert!(end <= self.buffer.len(), "what is filled is in the buffer");
        Ok(&self.buffer[at.min(end)..end])
    }

    async fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "reads begin at a block");
        if len > self.buffer.len() {
            self.buffer = AlignedBuf::zeroed(FRAME_BYTES_MAX);
        }
        (self.start, self.filled) = (offset, 0);
        let rest = index(self.file_bytes - offset).next_multiple_of(BLOCK_BYTES);
        let wanted = self.buffer.len().min(rest);
        while self.filled < len {
            let at = offset + self.filled as u64;
            let into = &mut self.buffer[self.filled..wanted];
            let read = self.storage.read_at(&self.file, at, into).await?;
            self.filled += read;
            // The file ended earlier than it was listed, or inside a block.
            if read == 0 || !read.is_multiple_of(BLOCK_BYTES) {
                break;
            }
        }
        Ok(())
    }

    /// Gives the file back.
    pub(crate) fn into_file(self) -> S::File {
        self.file
    }

    /// Length of the file.
    pub(crate) const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

/// A place between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    /// The next record to come.
    pub(crate) lsn: Lsn,
    /// What the next frame must link to.
    pub(crate) chain: ChainHash,
}

/// The last good frame of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastFrame {
    pub(crate) kind: FrameKind,
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

/// What a walk over good frames found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Behind the last good frame.
    pub(crate) place: Place,
    /// Why there is no good frame here; `None` when the walk was to end here.
    pub(crate) fault: Option<FrameFault>,
    pub(crate) frames: u64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) last: Option<LastFrame>,
    pub(crate) note: Option<CheckpointNote>,
}

/// Why a walk was broken off.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    Sink { first: Lsn, source: SinkError },
}

/// Walks over the good frames of `segment` from a place on, giving each one and its batches to
/// `sink`; stops where the chain is `until`, else at the first thing that is not the next frame.
pub(crate) async fn walk<S: Storage>(
    window: &mut Window<'_, S>,
    segment: u64,
    key: &FrameKey,
    (place, until): (Place, Option<ChainHash>),
    sink: &mut impl ReplaySink,
) -> Result<Walk, WalkError> {
    let mut walk =
        Walk { place, fault: None, frames: 0, batches: 0, records: 0, last: None, note: None };
    while until != Some(walk.place.chain) {
        let (header, payload) = match next_frame(window, key, walk.place).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(fault)) => {
                walk.fault = Some(fault);
                break;
            }
            Err(cause) => return Err(WalkError::Io(cause)),
        };
        let seen = FrameSeen { segment, offset: walk.place.offset, fields: header.fields };
        sink.frame(seen);
        if let Err(fault) = walk.take(&header, payload, sink)? {
            walk.fault = Some(fault);
            break;
        }
    }
    Ok(walk)
}

impl Walk {
    fn take(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        sink: &mut impl ReplaySink,
    ) -> Result<Result<(), FrameFault>, WalkError> {
        let fields = &header.fields;
        match fields.kind {
            FrameKind::Records => {
                let batches = match entries(payload, fields.lsn_first, fields.lsn_count) {
                    Ok(batches) => batches,
                    Err(fault) => return Ok(Err(fault)),
                };
                for batch in batches {
                    self.batches += 1;
                    let first = batch.first;
                    sink.batch(batch).map_err(|source| WalkError::Sink { first, source })?;
                }
            }
            FrameKind::Checkpoint => match CheckpointNote::decode(payload) {
                Some(note) => self.note = Some(note),
                None => return Ok(Err(FrameFault::Entries)),
            },
            FrameKind::Watermark | FrameKind::Shutdown | FrameKind::Seal => {}
        }
        self.frames += 1;
        self.records += u64::from(fields.lsn_count);
        let (offset, bytes) = (self.place.offset, fields.frame_bytes());
        self.last = Some(LastFrame { kind: fields.kind, offset, bytes });
        assert!(header.lsn_end() >= self.place.lsn, "numbers go forward");
        assert!(fields.durable < fields.lsn_first, "a frame that vouches for itself is a fault");
        self.place = Place {
            offset: self.place.offset + fields.frame_bytes() as u64,
            lsn: header.lsn_end(),
            chain: header.chain,
        };
        Ok(Ok(()))
    }
}

/// The frame at `place`, if it is whole and continues the log.
async fn next_frame<'w, S: Storage>(
    window: &'w mut Window<'_, S>,
    key: &FrameKey,
    place: Place,
) -> io::Result<Result<(FrameHeader, &'w [u8]), FrameFault>> {
    let header = match read_header(key, window.view(place.offset, BLOCK_BYTES).await?) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };
    let fields = &header.fields;
    if fields.prev != place.chain || fields.lsn_first != place.lsn {
        return Ok(Err(FrameFault::Chain { found: fields.lsn_first }));
    }
    let frame = window.view(place.offset, fields.frame_bytes()).await?;
    if frame.len() < fields.frame_bytes() {
        return Ok(Err(FrameFault::Short));
    }
    let verified = header.verify_payload(key, frame);
    let payload = &frame[FRAME_HEADER_BYTES..][..fields.payload_bytes];
    Ok(verified.map(|()| (header, payload)))
}

/// The seal at `place`, when the segment ends with it and the file too.
pub(crate) async fn seal_at<S: Storage>(
    window: &mut Window<'_, S>,
    key: &FrameKey,
    place: Place,
) -> io::Result<Option<FrameFields>> {
    let file_bytes = window.file_bytes();
    let frame = next_frame(window, key, place).await?;
    Ok(frame.ok().map(|(header, _)| header.fields).filter(|fields| {
        let end = place.offset + fields.frame_bytes() as u64;
        fields.kind == FrameKind::Seal && end == file_bytes
    }))
}

/// Whether a seal lies at `place` of which a byte was altered, which a crash does not do: it leaves
/// none, or a torn one. An opening writes both anew, but not where a checkpoint covers the segment.
pub(crate) async fn has_broken_seal<S: Storage>(
    window: &mut Window<'_, S>,
    key: &FrameKey,
    place: Place,
) -> io::Result<bool> {
    let block = window.view(place.offset, BLOCK_BYTES).await?;
    let is_seal = |header: &[u8]| {
        read_header(key, header).is_ok_and(|header| {
            header.fields.kind == FrameKind::Seal && header.fields.prev == place.chain
        })
    };
    let Some(mut header) = block.first_chunk::<FRAME_HEADER_BYTES>().copied() else {
        return Ok(false);
    };
    let altered = (0..FRAME_HEADER_BYTES).any(|at| {
        let found = header[at];
        let mended = (1..=u8::MAX).any(|change| {
            header[at] = found ^ change;
            is_seal(&header)
        });
        header[at] = found;
        mended
    });
    if altered || !is_seal(&header) {
        return Ok(altered);
    }
    let Ok(seal) = read_header(key, &header) else { return Ok(false) };
    let seal = window.view(place.offset, seal.fields.frame_bytes()).await?;
    // It holds zeroes. Where it is torn lie whole sectors of what was there before.
    let payload = seal.get(FRAME_HEADER_BYTES..).unwrap_or_default();
    Ok(payload.iter().filter(|&&byte| byte != 0).count() == 1)
}

/// What lies at and behind the place where a walk stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The highest watermark that a verified header carries.
    pub(crate) durable: Option<Lsn>,
    /// A verified header is a seal's.
    pub(crate) sealed: bool,
    /// Verified headers, whatever became of their payloads.
    pub(crate) frames: u64,
    /// From the place to the end of the last thing that belongs to this segment's life.
    pub(crate) bytes: u64,
}

/// Looks at every block from `place` to the end of the file.
pub(crate) async fn remains<S: Storage>(
    window: &mut Window<'_, S>,
    key: &FrameKey,
    place: Place,
) -> io::Result<Remains> {
    assert!(place.offset.is_multiple_of(BLOCK_BYTES as u64), "a walk stops between blocks");
    let mut found = Remains::default();
    let mut offset = place.offset;
    while offset < window.file_bytes() {
        let seen = read_header(key, window.view(offset, BLOCK_BYTES).await?);
        let end = match &seen {
            Ok(header) => {
                found.frames += 1;
                found.durable = found.durable.max(Some(header.fields.durable));
                found.sealed |= header.fields.kind == FrameKind::Seal;
                offset + header.fields.frame_bytes() as u64
            }
            Err(FrameFault::Foreign | FrameFault::Short) => place.offset,
            Err(_) => offset + BLOCK_BYTES as u64,
        };
        let end = end.min(window.file_bytes());
        found.bytes = found.bytes.max(end.saturating_sub(place.offset));
        offset += BLOCK_BYTES as u64;
    }
    Ok(found)
}
