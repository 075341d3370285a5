//! A redis-server of our own.
//!
//! Promises: it works in its folder and listens there only; when the handle is dropped, or this
//! process ends in any way, it is killed. It keeps what [`Keeping`] says and nothing else.
//!
//! A shell stands between: it starts the server and waits for the end of its own input, which only
//! this process holds open. No signal of the terminal reaches either.

use super::client::{Client, RedisError};
use crate::rivals::files_below;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Starts the server, and ends it when nobody is there any more.
const GUARD: &str = r#""$@" </dev/null & read -r _; kill -KILL $!; wait"#;
const SOCKET: &str = "redis.sock";
const LOG: &str = "redis.log";
/// How long it may take until it listens.
const LISTENS_MAX: Duration = Duration::from_secs(10);
/// How long it may take to load, or to answer.
const ANSWERS_MAX: Duration = Duration::from_mins(2);
/// Between two looks at whether it is there.
const LOOK: Duration = Duration::from_millis(5);
/// What it rounds to no time at all is at most this.
const LOADING_LEAST: Duration = Duration::from_micros(500);

/// What a server keeps on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// A log of all writes, synced every second.
    LogEverySecond,
    /// A snapshot when it is told to, which it loads when it starts.
    Snapshot,
}

/// A server that is running.
#[derive(Debug)]
pub struct RedisServer {
    guard: Child,
    folder: PathBuf,
    client: Client<UnixStream>,
}

impl RedisServer {
    /// Starts one in `folder`, its main thread on `core`, and waits until it has loaded what is
    /// there.
    ///
    /// # Errors
    ///
    /// If there is no program, or it does not answer.
    pub fn start(folder: &Path, keeping: Keeping, core: Option<usize>) -> Result<Self, RedisError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find_in(&path).ok_or(RedisError::Absent)?;
        let failed = |error: io::Error| not_started(folder, &error);
        fs::create_dir_all(folder).map_err(failed)?;
        // What an earlier one left there would be taken for the new one's.
        for name in [SOCKET, LOG] {
            let _mostly_there_is_none = fs::remove_file(folder.join(name));
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD, "sh"]).arg(program).args(settings(keeping));
        if let Some(core) = core {
            command.args(["--server_cpulist", &core.to_string()]);
        }
        command.current_dir(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = command.spawn().map_err(failed)?;
        match connect(folder) {
            Ok(client) => Ok(Self { guard, folder: folder.to_owned(), client }),
            Err(error) => {
                end(guard);
                Err(error)
            }
        }
    }

    /// The connection to it.
    pub fn client(&mut self) -> &mut Client<UnixStream> {
        &mut self.client
    }

    /// Writes the snapshot.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub fn save(&mut self) -> Result<(), RedisError> {
        self.client.call(&[b"SAVE"]).map(drop)
    }

    /// How many keys it holds.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn keys(&mut self) -> Result<u64, RedisError> {
        let keys = self.client.call(&[b"DBSIZE"])?.integer()?;
        u64::try_from(keys).map_err(|_| RedisError::Strange(format!("{keys} keys")))
    }

    /// How long it took to load its snapshot, as it says itself: in whole milliseconds.
    ///
    /// # Errors
    ///
    /// If it says nothing of that.
    pub fn loaded_in(&self) -> Result<Duration, RedisError> {
        let log = fs::read_to_string(self.folder.join(LOG))?;
        let took = loading_seconds(&log).and_then(|told| Duration::try_from_secs_f64(told).ok());
        let took =
            took.ok_or_else(|| RedisError::Strange("its log tells no time of loading".into()))?;
        Ok(took.max(LOADING_LEAST))
    }

    /// Brings to the disk what it wrote, so that nothing of that happens later.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn settle(&self) -> Result<(), RedisError> {
        for (file, _) in files_below(&self.folder)? {
            if file.extension().is_some_and(|extension| extension == "aof") {
                File::open(file)?.sync_all()?;
            }
        }
        Ok(())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _it_has_ended = self.guard.wait();
    }
}

fn end(mut guard: Child) {
    drop(guard.stdin.take());
    let _it_has_ended = guard.wait();
}

fn settings(keeping: Keeping) -> Vec<&'static str> {
    let log = if keeping == Keeping::LogEverySecond { "yes" } else { "no" };
    let mut settings = vec!["--port", "0", "--unixsocket", SOCKET, "--logfile", LOG];
    settings.extend(["--daemonize", "no", "--save", "", "--rdbcompression", "no"]);
    settings.extend(["--appendonly", log, "--appendfsync", "everysec"]);
    settings.extend(["--auto-aof-rewrite-percentage", "0"]);
    settings
}

/// The first file of that name that can be run, in a list of folders as `PATH` is.
fn find_in(path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        file.metadata().is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 > 0)
    };
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("redis-server"))
        .find(runs)
}

/// A connection to a server that has loaded what it has.
fn connect(folder: &Path) -> Result<Client<UnixStream>, RedisError> {
    let begun = Instant::now();
    let stream = loop {
        match UnixStream::connect(folder.join(SOCKET)) {
            Ok(stream) => break stream,
            // It is too long a path.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(not_started(folder, &error));
            }
            Err(error) if begun.elapsed() > LISTENS_MAX => return Err(not_started(folder, &error)),
            Err(_) => sleep(LOOK),
        }
    };
    stream.set_read_timeout(Some(ANSWERS_MAX))?;
    stream.set_write_timeout(Some(ANSWERS_MAX))?;
    let mut client = Client::new(stream);
    loop {
        match client.call(&[b"PING"]) {
            Ok(_) => return Ok(client),
            Err(RedisError::Refused(why)) if why.starts_with("LOADING") => {
                if begun.elapsed() > ANSWERS_MAX {
                    return Err(not_started(folder, &why));
                }
                sleep(LOOK);
            }
            Err(error) => return Err(not_started(folder, &error)),
        }
    }
}

fn not_started(folder: &Path, why: &impl ToString) -> RedisError {
    let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let said = log.lines().next_back().map(|line| format!("; its log ends with: {line}"));
    let why = why.to_string() + &said.unwrap_or_default();
    RedisError::Start { folder: folder.display().to_string(), why }
}

/// Of the last loading that a log tells of.
fn loading_seconds(log: &str) -> Option<f64> {
    let (_, rest) = log.rsplit_once("DB loaded from disk: ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_file_in_the_path_that_can_be_run() {
        let home = tempfile::tempdir().unwrap();
        let [none, other, good] = ["none", "other", "good"].map(|name| home.path().join(name));
        for folder in [&none, &other, &good] {
            fs::create_dir(folder).unwrap();
        }
        let path = std::env::join_paths([&none, &other, &good]).unwrap();
        fs::write(other.join("redis-server"), "#!/bin/sh\n").unwrap();
        assert_eq!(find_in(&path), None);
        let program = good.join("redis-server");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in(&path), Some(program));
        assert_eq!(find_in(OsStr::new("")), None);
    }

    #[test]
    fn the_time_of_loading_is_the_last_that_is_told() {
        let log = "1:M * DB loaded from disk: 0.100 seconds\n\
                   1:M * Done loading RDB, keys loaded: 3, keys expired: 0.\n\
                   1:M * DB loaded from disk: 0.275 seconds\n";
        assert_eq!(loading_seconds(log), Some(0.275));
        assert_eq!(loading_seconds("1:M * Ready to accept connections\n"), None);
        assert_eq!(loading_seconds("DB loaded from disk: soon"), None);
    }
}
