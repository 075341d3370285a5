//! Checkpoints in a fjall database: one keyspace for each tag, batches across all of them.
//!
//! ```text
//! a few changes ─▶ journal, then a list sorted by key in memory
//! a run of pairs, sorted, and the meta record ─▶ journal synced ─▶ tables of their own
//! ```
//!
//! Promises: a batch is atomic and survives the end of the process once it is applied, and a power
//! cut once it is flushed; every failure is a typed error, also where the database would panic on
//! files that do not hold together.
//! Invariants: the meta record is kept in the keyspace of pairs. Tables that are taken in are
//! atomic for one keyspace only, and a run of pairs changes the meta record with it. Stores of
//! before have it in a keyspace of its own; the first batch moves it.
//! Fails by: [`StorageError`]. After a failed write the database takes no more until it is opened
//! again (`Poisoned`); reads go on.
//! Not promised: that a call returns soon. A write waits while compaction lags behind, and closing
//! waits for the database's own threads; whoever calls keeps a watch.

mod precheck;

use super::{background, files};
use ebbtide_shard::checkpoint::{
    Batch, Key, StorageAction, StorageEngine, StorageError, StorageErrorKind, Tag, Visit,
    key_bounds,
};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::fs::DirBuilder;
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Threads of the database. With more, one of them would ask the others for a compaction again and
/// again while they are at it, and keep a core busy with that.
const WORKERS: usize = 1;
/// From so many bytes of pairs on a batch becomes tables: fewer would make them small and many.
const RUN_BYTES_MIN: usize = 8 << 20;
/// Bytes of blocks it keeps in memory. Checkpoints are written, and read once.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// A checkpoint's keyspaces, open.
pub(crate) struct FjallStorage {
    path: PathBuf,
    database: Database,
    /// One for each tag, in their order.
    keyspaces: [Keyspace; Tag::ALL.len()],
    /// Whether the meta record is still in a keyspace of its own.
    is_meta_apart: bool,
}

/// What went wrong inside of the database.
enum Trouble {
    Error(fjall::Error),
    Panic(String),
}

impl FjallStorage {
    /// Opens the database in a directory, and makes both if they are not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        // The database's own threads are as the one that starts them.
        let opened = background::apart(|| guarded(|| Self::open_files(path)));
        let opened = opened.unwrap_or_else(|error| Err(Trouble::Error(error.into())));
        opened.map_err(|trouble| error(path, StorageAction::Open, trouble))
    }

    fn open_files(path: &Path) -> fjall::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(no_directory)?;
        precheck::check(path)?;
        let database =
            Database::builder(path).worker_threads(WORKERS).cache_size(CACHE_BYTES).open()?;
        let [meta, sig, src, ids] = Tag::ALL.map(|tag| database.keyspace(tag.name(), options));
        let keyspaces = [meta?, sig?, src?, ids?];
        let is_meta_apart = keyspaces[Tag::Meta as usize].contains_key(&*Key::Meta.to_bytes())?;
        Ok(Self { path: path.to_owned(), database, keyspaces, is_meta_apart })
    }

    /// The same, for a copy: errors say it lies at `original`.
    pub(crate) fn open_copy(path: &Path, original: &Path) -> Result<Self, StorageError> {
        let mut opened = Self::open(path).map_err(|mut error| {
            error.cause =
                error.cause.replace(&*path.to_string_lossy(), &original.to_string_lossy());
            error.place = original.display().to_string();
            error
        })?;
        original.clone_into(&mut opened.path);
        Ok(opened)
    }

    /// Lets go of the files and makes them durable. What the database removed or cut short at its
    /// end is durable too, so a seal that is written now still fits after a power cut.
    pub(crate) fn close(self) -> Result<(), StorageError> {
        let Self { path, database, keyspaces, .. } = self;
        guarded(|| {
            let synced = database.persist(PersistMode::SyncAll);
            drop(keyspaces);
            drop(database);
            synced.and_then(|()| files::sync_tree(&path).map_err(fjall::Error::Io))
        })
        .map_err(|trouble| error(&path, StorageAction::Close, trouble))
    }

    /// Lets go of the files as they are.
    pub(crate) fn abandon(self) {
        let _whatever_it_says = guarded(|| {
            drop(self);
            Ok(())
        });
    }

    /// The keyspace that keys of a tag go to.
    fn keyspace(&self, tag: Tag) -> &Keyspace {
        let kept_in = if tag == Tag::Meta { Tag::Sig } else { tag };
        &self.keyspaces[kept_in as usize]
    }

    /// Writes changes through the journal.
    fn commit(&mut self, batch: &Batch) -> fjall::Result<()> {
        let mut writes = self.database.batch();
        for (key, value) in batch.changes() {
            let (keyspace, key) = (self.keyspace(key.tag()), key.to_bytes());
            match value {
                Some(value) => writes.insert(keyspace, &*key, value),
                None => writes.remove(keyspace, &*key),
            }
        }
        if self.is_meta_apart {
            writes.remove(&self.keyspaces[Tag::Meta as usize], &*Key::Meta.to_bytes());
        }
        writes.commit()?;
        self.is_meta_apart = false;
        Ok(())
    }

    /// Writes a run of pairs, in the order of their keys, as tables.
    fn take_in(&self, run: &Batch) -> fjall::Result<()> {
        // What came before must not be lost where the run is not.
        self.database.persist(PersistMode::SyncAll)?;
        let mut tables = self.keyspace(Tag::Sig).start_ingestion()?;
        for (key, value) in run.changes().filter_map(|(key, value)| Some((key, value?))) {
            tables.write(&*key.to_bytes(), value)?;
            background::give_way();
        }
        tables.finish()
    }

    fn run<T>(
        &self,
        action: StorageAction,
        work: impl FnOnce() -> fjall::Result<T>,
    ) -> Result<T, StorageError> {
        guarded(work).map_err(|trouble| error(&self.path, action, trouble))
    }
}

impl StorageEngine for FjallStorage {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StorageError> {
        self.run(StorageAction::Get, || {
            let apart = key == Key::Meta && self.is_meta_apart;
            let keyspace =
                if apart { &self.keyspaces[Tag::Meta as usize] } else { self.keyspace(key.tag()) };
            Ok(keyspace.get(&*key.to_bytes())?.map(|value| value.to_vec()))
        })
    }

    fn scan(
        &self,
        tag: Tag,
        ids: RangeInclusive<u64>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StorageError> {
        let meta = Key::Meta.to_bytes();
        if tag == Tag::Meta {
            let value = self.get(Key::Meta)?.filter(|_| ids.contains(&Key::Meta.id()));
            let _visited = value.map(|value| visit(&meta, &value));
            return Ok(());
        }
        let mut range = self.run(StorageAction::Scan, || {
            Ok(self.keyspace(tag).range::<[u8; 8], _>(key_bounds(&ids)))
        })?;
        // The visitor is called outside of the guard: a panic of its own is not the database's.
        while let Some((key, value)) = self
            .run(StorageAction::Scan, || range.next().map(fjall::Guard::into_inner).transpose())?
        {
            if *key != *meta && visit(&key, &value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let written = if !self.is_meta_apart && is_run(batch) {
            guarded(|| self.take_in(batch))
        } else {
            guarded(|| self.commit(batch))
        };
        written.map_err(|trouble| error(&self.path, StorageAction::Batch, trouble))
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.run(StorageAction::Flush, || self.database.persist(PersistMode::SyncAll))
    }

    fn give_way(&self) {
        background::give_way();
    }

    /// Those of its tables: what is in memory is bounded.
    fn stored_bytes(&self) -> u64 {
        self.keyspace(Tag::Sig).disk_space()
    }
}

/// How keyspaces are made. Whoever asks for a key knows that it is there.
fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().expect_point_read_hits(true)
}

/// Whether a batch keeps pairs only, many of them, and the meta record.
fn is_run(batch: &Batch) -> bool {
    let kept = |(key, value): (Key, Option<&[u8]>)| {
        value.is_some() && matches!(key.tag(), Tag::Sig | Tag::Meta)
    };
    let mut last = None;
    batch.value_bytes() >= RUN_BYTES_MIN
        && batch.changes().all(|(key, value)| {
            let ascends = last.replace(key).is_none_or(|last| last < key);
            ascends && kept((key, value))
        })
}

/// Something else that has the name is no damage to a database.
fn no_directory(cause: io::Error) -> io::Error {
    match cause.kind() {
        io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
        _ => cause,
    }
}

/// Does `work` in the database, and turns its panics into values.
fn guarded<T>(work: impl FnOnce() -> fjall::Result<T>) -> Result<T, Trouble> {
    // What may be left half-done is inside of the database, which poisons itself.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Trouble::Error),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(Trouble::Panic(text.unwrap_or_else(|| "it does not say why".into())))
        }
    }
}

fn error(path: &Path, action: StorageAction, trouble: Trouble) -> StorageError {
    let (kind, cause) = match trouble {
        Trouble::Error(error) => (kind_of(&error), cause_of(&error)),
        Trouble::Panic(text) => {
            (StorageErrorKind::Damaged, format!("the database stopped short: {text}"))
        }
    };
    StorageError { action, place: path.display().to_string(), kind, cause }
}

fn kind_of(error: &fjall::Error) -> StorageErrorKind {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            match error.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => StorageErrorKind::OutOfSpace,
                // A place or a file that is not there, by what its files say of each other, or one
                // that is, where a damaged database believes it is being made.
                io::ErrorKind::InvalidData
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotFound => StorageErrorKind::Damaged,
                _ => StorageErrorKind::Io,
            }
        }
        fjall::Error::Locked => StorageErrorKind::Locked,
        fjall::Error::Poisoned => StorageErrorKind::Poisoned,
        _ => StorageErrorKind::Damaged,
    }
}

/// In words, since the database's own are its debug form.
fn cause_of(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            error.to_string()
        }
        fjall::Error::Locked => "it is open elsewhere".into(),
        fjall::Error::Poisoned => "an earlier write failed".into(),
        other => format!("its files are damaged ({other:?})"),
    }
}

#[cfg(test)]
pub(super) mod tests;
