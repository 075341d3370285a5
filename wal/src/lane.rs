//! The two lanes: performing what the log asks for, on any storage.
//!
//! Promises: each request is a fixed order of steps, and each step that makes something visible
//! comes after the sync of what it shows: a file gets its name after its content is durable, and
//! is used after its name is durable.
//! Invariants: a lane performs one request at a time; the two lanes never write to the same file
//! at once; nothing is tried twice; a sync that was done ahead is the answer to the next request.
//! Fails by: the `IoFault` of the step that failed; a half-made file is removed if it can be.
//! Not here: what to do and what a fault means (`log`).
//! Source: Pillai et al., OSDI 2014, for the order of every multi-file step.

use std::io;

use crate::aligned::AlignedBuf;
use crate::fault::{IoFault, Step};
use crate::io::{CommitDone, CommitIo, UpkeepDone, UpkeepIo};
use crate::limits::{BLOCK_BYTES, ZERO_CHUNK_BYTES, ZERO_CHUNK_BYTES_MIN, index};
use crate::storage::{FileName, Storage};

/// What drivers ask of a lane.
pub(crate) trait Lane {
    /// What it is asked for.
    type Request;
    /// What it answers.
    type Answer;

    /// Performs a request.
    async fn perform(&mut self, request: Self::Request) -> Self::Answer;

    /// Does ahead what is asked for next, once the answer was given.
    async fn ahead(&mut self) {}
}

/// Performs commit requests; owns the active segment's file.
#[derive(Debug)]
pub struct CommitLane<S: Storage> {
    storage: S,
    active: Option<(u64, S::File)>,
    zeroes: AlignedBuf,
    /// What the lane has done ahead, or may.
    ahead: Ahead,
}

/// A sync that is not asked for yet: what follows every write that was whole.
#[derive(Debug)]
enum Ahead {
    /// Nothing was written since.
    Nothing,
    /// It may be done.
    Due(u64),
    /// It was done.
    Done(u64, Result<(), IoFault>),
}

impl<S: Storage> CommitLane<S> {
    /// A lane without an active segment; recovery gives it one.
    pub(crate) fn new(storage: S) -> Self {
        let zeroes = AlignedBuf::zeroed(ZERO_CHUNK_BYTES_MIN);
        Self { storage, active: None, zeroes, ahead: Ahead::Nothing }
    }

    /// Performs `request`.
    ///
    /// # Panics
    ///
    /// When it names another segment than the active one, or is no sync where one was done ahead:
    /// the driver mixed up two logs.
    pub async fn perform(&mut self, request: CommitIo) -> CommitDone {
        let ahead = std::mem::replace(&mut self.ahead, Ahead::Nothing);
        let is_sync = matches!(request, CommitIo::Sync { .. });
        assert!(
            is_sync || !matches!(ahead, Ahead::Done(..)),
            "a sync done ahead is asked for next"
        );
        match request {
            CommitIo::Write { segment, offset, buffer, range } => {
                assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "frames begin at a block");
                let file = self.active(segment);
                let bytes = range.len();
                let written = self.storage.write_at(file, offset, &buffer[range]).await;
                if written.as_ref().is_ok_and(|&written| written == bytes) {
                    self.ahead = Ahead::Due(segment);
                }
                let result = written.map_err(|cause| frame_fault(segment, &cause));
                CommitDone::Write { buffer, result }
            }
            CommitIo::Sync { segment } => CommitDone::Sync(match ahead {
                Ahead::Done(synced, result) => {
                    assert_eq!(synced, segment, "only the active segment is synced");
                    result
                }
                _ => self.sync(segment).await,
            }),
            CommitIo::Zero { segment, offset, bytes } => {
                let zeroes = &self.zeroes[..bytes];
                let written = write_all(&self.storage, self.active(segment), offset, zeroes).await;
                CommitDone::Zero(written.map_err(|cause| frame_fault(segment, &cause)))
            }
            CommitIo::Activate { from, segment, header } => {
                CommitDone::Activate(self.activate(from, segment, &header).await)
            }
            CommitIo::Trim { segment, bytes } => CommitDone::Trim(self.trim(segment, bytes).await),
        }
    }

    /// Syncs what was just written, if all of it was: that is asked for next, and whoever asks has
    /// to be woken first. Call it once the answer to the write was given, or not at all.
    pub async fn sync_ahead(&mut self) {
        if let Ahead::Due(segment) = self.ahead {
            self.ahead = Ahead::Done(segment, self.sync(segment).await);
        }
    }

    async fn sync(&self, segment: u64) -> Result<(), IoFault> {
        let synced = self.storage.sync(self.active(segment)).await;
        synced.map_err(|cause| IoFault::new(Step::Sync, FileName::Segment(segment), &cause))
    }

    /// Makes a file the active segment: header, sync, rename, directory sync.
    pub(crate) async fn activate(
        &mut self,
        from: FileName,
        segment: u64,
        header: &[u8],
    ) -> Result<(), IoFault> {
        let to = FileName::Segment(segment);
        let fault = |step| move |cause: io::Error| IoFault::new(step, from, &cause);
        let file = self.storage.open(from).await.map_err(fault(Step::Open))?;
        let written = write_all(&self.storage, &file, 0, header).await;
        written.map_err(fault(Step::WriteHeader))?;
        self.storage.sync(&file).await.map_err(fault(Step::Sync))?;
        self.storage.rename(from, to).await.map_err(fault(Step::Rename))?;
        self.storage.sync_dir().await.map_err(fault(Step::SyncDirectory))?;
        self.active = Some((segment, file));
        Ok(())
    }

    async fn trim(&mut self, segment: u64, bytes: u64) -> Result<(), IoFault> {
        let name = FileName::Segment(segment);
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        let file = self.active(segment);
        self.storage.set_len(file, bytes).await.map_err(fault(Step::Truncate))?;
        self.storage.sync(file).await.map_err(fault(Step::Sync))?;
        self.active = None;
        Ok(())
    }

    fn active(&self, segment: u64) -> &S::File {
        match &self.active {
            Some((seq, file)) if *seq == segment => file,
            other => {
                let seq = other.as_ref().map(|(seq, _)| seq);
                panic!("segment {segment} is asked for, active is {seq:?}")
            }
        }
    }
}

impl<S: Storage> Lane for CommitLane<S> {
    type Request = CommitIo;
    type Answer = CommitDone;

    async fn perform(&mut self, request: CommitIo) -> CommitDone {
        Self::perform(self, request).await
    }

    async fn ahead(&mut self) {
        self.sync_ahead().await;
    }
}

impl<S: Storage> Lane for UpkeepLane<S> {
    type Request = UpkeepIo;
    type Answer = UpkeepDone;

    async fn perform(&mut self, request: UpkeepIo) -> UpkeepDone {
        Self::perform(self, request).await
    }
}

fn frame_fault(segment: u64, cause: &io::Error) -> IoFault {
    IoFault::new(Step::WriteFrame, FileName::Segment(segment), cause)
}

/// Performs upkeep requests; between them it holds the file it zeroes, and no other.
#[derive(Debug)]
pub struct UpkeepLane<S: Storage> {
    storage: S,
    zeroing: Option<(FileName, S::File)>,
    zeroes: AlignedBuf,
}

impl<S: Storage> UpkeepLane<S> {
    /// A lane on the log's directory.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self { storage, zeroing: None, zeroes: AlignedBuf::zeroed(ZERO_CHUNK_BYTES) }
    }

    /// Performs `request`.
    ///
    /// # Errors
    ///
    /// The fault of the step that failed; it goes to `Log::upkeep_done` as it is.
    pub async fn perform(&mut self, request: UpkeepIo) -> UpkeepDone {
        if !matches!(request, UpkeepIo::Zero { .. }) {
            self.zeroing = None;
        }
        match request {
            UpkeepIo::Seal { segment, offset, frame } => self.seal(segment, offset, &frame).await,
            UpkeepIo::Prepare { number, bytes } => self.prepare(number, bytes).await,
            UpkeepIo::Zero { name, offset, bytes } => self.zero(name, offset, bytes).await,
            UpkeepIo::Recycle { segment, spare } => {
                self.rename(FileName::Segment(segment), FileName::Spare(spare)).await
            }
            UpkeepIo::Delete { name } => self.delete(name).await,
        }
    }

    /// Writes a segment's last frame and syncs it.
    pub(crate) async fn seal(
        &self,
        segment: u64,
        offset: u64,
        frame: &[u8],
    ) -> Result<(), IoFault> {
        let name = FileName::Segment(segment);
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        let file = self.storage.open(name).await.map_err(fault(Step::Open))?;
        let written = write_all(&self.storage, &file, offset, frame).await;
        written.map_err(fault(Step::WriteFrame))?;
        self.storage.sync(&file).await.map_err(fault(Step::Sync))
    }

    /// Makes a file of `bytes` whose space is reserved.
    pub(crate) async fn prepare(&mut self, number: u64, bytes: u64) -> Result<(), IoFault> {
        let name = FileName::Temp(number);
        let made = self.make(name, bytes).await;
        if made.is_err() {
            self.zeroing = None;
            // Whoever else needs the space gets it back; a failure here changes nothing.
            let _ = self.storage.remove(name).await;
        }
        made
    }

    async fn make(&mut self, name: FileName, bytes: u64) -> Result<(), IoFault> {
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        let file = self.storage.create(name).await.map_err(fault(Step::Create))?;
        let allocated = self.storage.allocate(&file, bytes).await;
        let reserved = allocated.map_err(fault(Step::Allocate))?;
        self.zeroing = Some((name, file));
        // Where space cannot be reserved, it is taken.
        if reserved { Ok(()) } else { self.zero_all(name, bytes).await }
    }

    /// Zeroes a whole file.
    pub(crate) async fn zero_all(&mut self, name: FileName, bytes: u64) -> Result<(), IoFault> {
        let mut offset = 0;
        while offset < bytes {
            let part = ZERO_CHUNK_BYTES.min(index(bytes - offset));
            self.zero(name, offset, part).await?;
            offset += part as u64;
        }
        Ok(())
    }

    /// Writes zeroes, although reserved space reads as zero already: a first write into it
    /// changes the file's extents, and each commit would pay for that.
    async fn zero(&mut self, name: FileName, offset: u64, bytes: usize) -> Result<(), IoFault> {
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        let file = match self.zeroing.take() {
            Some((held, file)) if held == name => file,
            _ => self.storage.open(name).await.map_err(fault(Step::Open))?,
        };
        let written = write_all(&self.storage, &file, offset, &self.zeroes[..bytes]).await;
        self.zeroing = Some((name, file));
        written.map_err(fault(Step::Allocate))
    }

    async fn rename(&self, from: FileName, to: FileName) -> Result<(), IoFault> {
        let fault = |step| move |cause: io::Error| IoFault::new(step, from, &cause);
        self.storage.rename(from, to).await.map_err(fault(Step::Rename))?;
        self.storage.sync_dir().await.map_err(fault(Step::SyncDirectory))
    }

    /// Removes a file, durably.
    pub(crate) async fn delete(&self, name: FileName) -> Result<(), IoFault> {
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        self.storage.remove(name).await.map_err(fault(Step::Remove))?;
        self.storage.sync_dir().await.map_err(fault(Step::SyncDirectory))
    }
}

/// Writes all of `bytes`, going on after a short write as long as whole blocks get through.
pub(crate) async fn write_all<S: Storage>(
    storage: &S,
    file: &S::File,
    offset: u64,
    bytes: &[u8],
) -> io::Result<()> {
    assert!(offset.is_multiple_of(BLOCK_BYTES as u64), "writes begin at a block");
    assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "writes fill their blocks");
    let mut done = 0;
    while done < bytes.len() {
        let written = storage.write_at(file, offset + done as u64, &bytes[done..]).await?;
        let whole =
            if done + written == bytes.len() { written } else { written - written % BLOCK_BYTES };
        if whole == 0 {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the write stayed short"));
        }
        done += whole;
    }
    Ok(())
}
