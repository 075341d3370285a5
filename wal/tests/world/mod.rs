//! A log, a disk, and a model of what the log promised.
//!
//! Promises: after every reopening the log's records are a prefix of what was appended, whole
//! batch by whole batch, at least as long as what was acknowledged at the level the crash
//! spares; anything else is a [`Violation`].
//! Invariants: the world acts by its seed alone; the same seed does the same.
//! Fails by: `Violation`, so that a test may also expect one.
//! Not here: which faults happen when; each test decides.
//! Source: `docs/internals/vopr.md` of `TigerBeetle`.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use ebbtide_wal::storage::sim::{Rng, SimDisk};
use ebbtide_wal::{
    AppendError, CheckpointNote, CommitDone, CommitIo, CommitLane, Log, LogIdentity, LogOptions,
    Lsn, RecoverError, RecoveryReport, ReplayOptions, Replayed, StartError, StartOptions, StoreId,
    UpkeepDone, UpkeepIo, UpkeepLane, WalWriter, ready, replay,
};

/// Which log all tests write.
pub(crate) const IDENTITY: LogIdentity = LogIdentity { store: StoreId([0x5e; 16]), shard: 2 };

/// Sizes that rotate often.
pub(crate) const SMALL: LogOptions =
    LogOptions { group_bytes: 8192, segment_bytes: 32768, log_bytes_max: u64::MAX };

/// A broken promise, in words.
pub(crate) type Violation = String;

/// One appended batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) first: Lsn,
    pub(crate) count: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Appended {
    pub(crate) fn last(&self) -> Lsn {
        self.first.after(u64::from(self.count)).previous()
    }
}

/// What a crash takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process.
    Kill,
    /// The power, with this seed for what is kept.
    Power(u64),
}

/// A disk with a log, and what is known about it.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) options: LogOptions,
    pub(crate) rng: Rng,
    /// When the commit lane does ahead what it is asked for next.
    ahead: Rng,
    /// Every batch that may still be in the log.
    pub(crate) model: Vec<Appended>,
    pub(crate) written: Lsn,
    pub(crate) durable: Lsn,
    /// Covered by the last checkpoint that was made.
    pub(crate) restored: Lsn,
    pub(crate) made: bool,
    pub(crate) running: Option<Running>,
    pub(crate) last_report: RecoveryReport,
    pub(crate) lived: Lived,
}

/// What has happened in a world's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lived {
    pub(crate) rotations: u64,
    pub(crate) retired: u64,
    pub(crate) short_writes: u64,
    pub(crate) space_faults: u64,
    pub(crate) poisoned: u64,
    pub(crate) torn_tails: u64,
    pub(crate) unsealed: u64,
    pub(crate) skipped: u64,
    pub(crate) clean: u64,
}

/// A request on its way, or its answer on the way back.
pub(crate) enum Out<Request, Done> {
    Asked(Request),
    Answered(Done),
}

/// A log in use.
pub(crate) struct Running {
    pub(crate) log: Log,
    commit: CommitLane<SimDisk>,
    upkeep: UpkeepLane<SimDisk>,
    commit_out: Option<Out<CommitIo, CommitDone>>,
    upkeep_out: Option<Out<UpkeepIo, UpkeepDone>>,
}

/// Why a reopening did not give a running log.
#[derive(Debug)]
pub(crate) enum NotOpen {
    Violated(Violation),
    Recover(RecoverError),
    Start(StartError),
}

/// Reads the log on `disk`, collecting every batch.
pub(crate) fn read_log(
    disk: &SimDisk,
    options: ReplayOptions,
) -> (Vec<Appended>, Result<Replayed, RecoverError>) {
    let mut seen = Vec::new();
    let replayed = ready(replay(disk, IDENTITY, options, |batch| {
        let (first, count) = (batch.first, batch.count);
        seen.push(Appended { first, count, bytes: batch.records.to_vec() });
        Ok(())
    }));
    (seen, replayed)
}

impl World {
    pub(crate) fn new(seed: u64, options: LogOptions) -> Self {
        Self {
            disk: SimDisk::new(seed),
            options,
            rng: Rng::new(seed ^ 0xabcd),
            ahead: Rng::new(seed ^ 0x5ca1e),
            model: Vec::new(),
            written: Lsn::NONE,
            durable: Lsn::NONE,
            restored: Lsn::NONE,
            made: false,
            running: None,
            last_report: RecoveryReport::default(),
            lived: Lived::default(),
        }
    }

    pub(crate) fn replay_options(&self) -> ReplayOptions {
        ReplayOptions { restored: self.restored, must_exist: self.made, ..ReplayOptions::default() }
    }

    /// Opens the log and checks what it holds against `promised`.
    pub(crate) fn open(&mut self, promised: Lsn) -> Result<(), NotOpen> {
        let (seen, replayed) = read_log(&self.disk, self.replay_options());
        let replayed = replayed.map_err(NotOpen::Recover)?;
        self.check(&seen, &replayed.report, promised).map_err(NotOpen::Violated)?;
        self.last_report = replayed.report;
        self.lived.torn_tails += u64::from(replayed.report.truncated_bytes > 0);
        self.lived.unsealed += replayed.report.unsealed_segments;
        self.lived.skipped += replayed.report.skipped_segments;
        self.lived.clean += u64::from(replayed.report.clean_shutdown);
        let last = replayed.report.last;
        self.model.retain(|batch| batch.first <= last);
        let mut epochs = [0; 32];
        epochs[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        let options = StartOptions { log: self.options, seed: epochs, lsn_first_min: Lsn::NONE };
        let started = ready(replayed.start(&self.disk, options)).map_err(NotOpen::Start)?;
        let marks = started.log.watermarks();
        assert_eq!((marks.appended, marks.durable), (last, Some(last)));
        (self.written, self.durable, self.made) = (last, last, true);
        let (log, commit, upkeep) = (started.log, started.commit, started.upkeep);
        self.running = Some(Running { log, commit, upkeep, commit_out: None, upkeep_out: None });
        Ok(())
    }

    /// Compares what was read with the model.
    pub(crate) fn check(
        &self,
        seen: &[Appended],
        report: &RecoveryReport,
        promised: Lsn,
    ) -> Result<(), Violation> {
        if report.last < promised {
            return Err(format!("promised up to {promised}, found up to {}", report.last));
        }
        let begins = seen.first().map_or(report.last.next(), |batch| batch.first);
        if begins > self.restored.next() {
            return Err(format!("restored up to {}, the log begins at {begins}", self.restored));
        }
        let expected: Vec<_> = self
            .model
            .iter()
            .filter(|batch| batch.first >= begins && batch.last() <= report.last)
            .cloned()
            .collect();
        if expected != seen {
            return Err(format!("{} batches expected, {} differ", expected.len(), seen.len()));
        }
        let ends = seen.last().map_or(Lsn::NONE, Appended::last);
        if ends != report.last && report.last > self.restored {
            return Err(format!("the log says it ends at {}, its batches at {ends}", report.last));
        }
        Ok(())
    }

    /// The last record ever appended.
    pub(crate) fn model_last(&self) -> Lsn {
        self.model.last().map_or(Lsn::NONE, Appended::last)
    }

    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.running.as_mut().expect("the log is open").log
    }

    /// Appends a batch of `bytes` bytes; says whether it was taken.
    pub(crate) fn append(&mut self, bytes: usize, count: u32) -> Result<Lsn, AppendError> {
        let bytes: Vec<u8> = {
            let mut rng = self.rng.split();
            (0..bytes).map(|_| rng.next().to_le_bytes()[0]).collect()
        };
        let first = self.log().append(&bytes, count)?;
        self.model.push(Appended { first, count, bytes });
        Ok(first)
    }

    /// Takes one lane one step further; says whether anything moved.
    pub(crate) fn step_commit(&mut self) -> bool {
        let ahead = self.ahead.one_in(2);
        let Running { log, commit, commit_out, .. } = self.running.as_mut().expect("open");
        *commit_out = match commit_out.take() {
            None => log.next_commit().map(Out::Asked),
            Some(Out::Asked(request)) => {
                let done = ready(commit.perform(request));
                if ahead {
                    ready(commit.sync_ahead());
                }
                Some(Out::Answered(done))
            }
            Some(Out::Answered(done)) => {
                log.commit_done(done);
                let marks = log.watermarks();
                self.written = marks.written.expect("a log writes");
                self.durable = marks.durable.expect("a log syncs");
                return true;
            }
        };
        commit_out.is_some()
    }

    /// Like `step_commit`, for the other lane.
    pub(crate) fn step_upkeep(&mut self) -> bool {
        let Running { log, upkeep, upkeep_out, .. } = self.running.as_mut().expect("open");
        *upkeep_out = match upkeep_out.take() {
            None => log.next_upkeep().map(Out::Asked),
            Some(Out::Asked(request)) => Some(Out::Answered(ready(upkeep.perform(request)))),
            Some(Out::Answered(done)) => {
                log.upkeep_done(done);
                return true;
            }
        };
        upkeep_out.is_some()
    }

    /// Lets both lanes run until nothing moves.
    pub(crate) fn settle(&mut self) {
        while self.step_commit() | self.step_upkeep() {}
    }

    /// A checkpoint of everything durable, and its note.
    pub(crate) fn checkpoint(&mut self) {
        let covered = self.durable;
        if self.log().note_checkpoint(CheckpointNote { covered, digest: [7; 32] }).is_ok() {
            self.restored = covered;
        }
    }

    /// Closes in order; says whether it came to an end.
    pub(crate) fn close(&mut self) -> bool {
        self.log().close();
        self.settle();
        self.log().is_closed()
    }

    /// Ends the running log. Gives what the crash must spare.
    pub(crate) fn crash(&mut self, crash: Crash) -> Lsn {
        if let Some(Running { log, .. }) = self.running.take() {
            let stats = log.stats();
            self.lived.rotations += stats.rotations;
            self.lived.retired += stats.retired;
            self.lived.short_writes += stats.short_writes;
            self.lived.space_faults += stats.space_faults;
            self.lived.poisoned += u64::from(log.poison().is_some());
        }
        match crash {
            Crash::Kill => {
                self.disk = self.disk.kill();
                self.written
            }
            Crash::Power(seed) => {
                self.disk = self.disk.power_loss(seed);
                self.written = self.durable;
                self.durable
            }
        }
    }

    /// One random act of whoever uses the log, or of a lane.
    pub(crate) fn act(&mut self) {
        match self.rng.below(32) {
            0..=11 => {
                let (bytes, count) = self.random_batch();
                match self.append(bytes, count) {
                    Ok(_) | Err(AppendError::BackPressure(_) | AppendError::Poisoned(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            12..=23 => {
                self.step_commit();
            }
            24..=28 => {
                self.step_upkeep();
            }
            29 => self.log().rest(),
            30 => self.log().retry_space(),
            _ => {
                if self.rng.one_in(4) {
                    self.checkpoint();
                }
            }
        }
    }

    fn random_batch(&mut self) -> (usize, u32) {
        let count = 1 + u32::try_from(self.rng.below(32)).expect("small");
        let most = if self.rng.one_in(8) { 7000 } else { 64 * u64::from(count) };
        (usize::try_from(self.rng.below(most)).expect("small"), count)
    }
}
