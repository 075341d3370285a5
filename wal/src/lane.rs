//! The two lanes: performing what the log asks for, on any storage.
//!
//! Promises: each request is a fixed order of steps, and each step that makes something visible
//! comes after the sync of what it shows: a file gets its name after its content is durable, and
//! is used after its name is durable.
//! Invariants: a lane performs one request at a time; the two lanes never hold the same file at
//! once; nothing is tried twice.
//! Fails by: the `IoFault` of the step that failed; a half-made spare is removed if it can be.
//! Not here: what to do and what a fault means (`log`).
//! Source: Pillai et al., OSDI 2014, for the order of every multi-file step.

use std::io;

use crate::aligned::AlignedBuf;
use crate::fault::{IoFault, Step};
use crate::io::{CommitDone, CommitIo, UpkeepDone, UpkeepIo};
use crate::limits::{BLOCK_BYTES, ZERO_CHUNK_BYTES, index};
use crate::storage::{FileName, Storage};

/// Performs commit requests; owns the active segment's file.
#[derive(Debug)]
pub struct CommitLane<S: Storage> {
    storage: S,
    active: Option<(u64, S::File)>,
}

impl<S: Storage> CommitLane<S> {
    /// A lane without an active segment; recovery gives it one.
    pub(crate) const fn new(storage: S) -> Self {
        Self { storage, active: None }
    }

    /// Performs `request`.
    ///
    /// # Panics
    ///
    /// When it names another segment than the active one: the driver mixed up two logs.
    pub async fn perform(&mut self, request: CommitIo) -> CommitDone {
        match request {
            CommitIo::Write { segment, offset, buffer, range } => {
                let file = self.active(segment);
                let written = self.storage.write_at(file, offset, &buffer[range]).await;
                let result = written.map_err(|cause| frame_fault(segment, &cause));
                CommitDone::Write { buffer, result }
            }
            CommitIo::Sync { segment } => {
                let synced = self.storage.sync(self.active(segment)).await;
                let name = FileName::Segment(segment);
                CommitDone::Sync(synced.map_err(|cause| IoFault::new(Step::Sync, name, &cause)))
            }
            CommitIo::Activate { spare, segment, header } => {
                CommitDone::Activate(self.activate(spare, segment, &header).await)
            }
            CommitIo::Trim { segment, bytes } => CommitDone::Trim(self.trim(segment, bytes).await),
        }
    }

    /// Makes a spare the active segment: header, sync, rename, directory sync.
    pub(crate) async fn activate(
        &mut self,
        spare: u64,
        segment: u64,
        header: &[u8],
    ) -> Result<(), IoFault> {
        let (from, to) = (FileName::Spare(spare), FileName::Segment(segment));
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

fn frame_fault(segment: u64, cause: &io::Error) -> IoFault {
    IoFault::new(Step::WriteFrame, FileName::Segment(segment), cause)
}

/// Performs upkeep requests; holds no file between them.
#[derive(Debug)]
pub struct UpkeepLane<S: Storage> {
    storage: S,
}

impl<S: Storage> UpkeepLane<S> {
    /// A lane on the log's directory.
    pub const fn new(storage: S) -> Self {
        Self { storage }
    }

    /// Performs `request`.
    ///
    /// # Errors
    ///
    /// The fault of the step that failed; it goes to `Log::upkeep_done` as it is.
    pub async fn perform(&mut self, request: UpkeepIo) -> UpkeepDone {
        match request {
            UpkeepIo::Seal { segment, offset, frame } => self.seal(segment, offset, &frame).await,
            UpkeepIo::Prepare { spare, bytes } => self.prepare(spare, bytes).await,
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

    /// Makes a zeroed file of `bytes` under the spare's name.
    pub(crate) async fn prepare(&self, spare: u64, bytes: u64) -> Result<(), IoFault> {
        let temp = FileName::Temp(spare);
        let made = self.make(temp, bytes).await;
        if made.is_err() {
            // Whoever else needs the space gets it back; a failure here changes nothing.
            let _ = self.storage.remove(temp).await;
            return made;
        }
        let named = self.rename(temp, FileName::Spare(spare)).await;
        if named.is_err() {
            let _ = self.storage.remove(temp).await;
            let _ = self.storage.remove(FileName::Spare(spare)).await;
        }
        named
    }

    async fn make(&self, name: FileName, bytes: u64) -> Result<(), IoFault> {
        let fault = |step| move |cause: io::Error| IoFault::new(step, name, &cause);
        let file = self.storage.create(name).await.map_err(fault(Step::Create))?;
        self.storage.allocate(&file, bytes).await.map_err(fault(Step::Allocate))?;
        // Zeroes are written although the file reads as zero: a first write into reserved space
        // would change the file's extents, and each commit would pay for that.
        let zeroes = AlignedBuf::zeroed(ZERO_CHUNK_BYTES.min(index(bytes)));
        let mut offset = 0;
        while offset < bytes {
            let chunk = zeroes.len().min(index(bytes - offset));
            let written = write_all(&self.storage, &file, offset, &zeroes[..chunk]).await;
            written.map_err(fault(Step::Allocate))?;
            offset += chunk as u64;
        }
        self.storage.sync(&file).await.map_err(fault(Step::Sync))
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
