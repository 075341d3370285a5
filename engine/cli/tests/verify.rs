//! `ebbtide verify` as its users call it: on healthy stores, on damaged ones, on what is none, and
//! for a user who may only read.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod call;

use call::{Ended, ebbtide, ebbtide_by_other, ended, give_to_other};
use ebbtide::{Ack, Engine, EntityId, Event, LogOptions, Schema};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LONG: Duration = Duration::from_mins(1);

/// A store in a folder of its own.
struct Store(TempDir);

impl Store {
    /// A store with events before and after a checkpoint, closed in order.
    fn closed() -> Self {
        let store = Self(tempfile::tempdir().unwrap());
        store.open().close(LONG).unwrap();
        store
    }

    fn open(&self) -> Engine {
        let text = "[signals.view]\nhalf_lives = [\"1h\"]\nwindows = [\"24h\"]";
        let log = LogOptions { group_bytes: 8_192, segment_bytes: 32_768, ..LogOptions::default() };
        let builder = Engine::builder(self.path()).schema(Schema::from_toml(text).unwrap());
        let engine = builder.shards(2).log_options(log).open().unwrap();
        let (view, now) = (engine.schema().signal("view").unwrap(), engine.now());
        let mut producer = engine.producer().unwrap();
        for round in 0..20_u64 {
            for entity in 0..100 {
                producer.offer(Event::new(EntityId(entity * round), view, now)).unwrap();
            }
            producer.flush(Ack::Durable, LONG).unwrap();
            if round == 10 {
                engine.checkpoint().unwrap();
            }
        }
        engine
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn verify(&self, rest: &[&str]) -> Ended {
        verify(&self.path(), rest)
    }

    /// The largest file of a folder.
    fn largest(&self, folder: &str) -> PathBuf {
        let listed = fs::read_dir(self.path().join(folder)).unwrap();
        let files = listed.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

fn verify(data_dir: &Path, rest: &[&str]) -> Ended {
    let data_dir = data_dir.to_str().unwrap();
    ebbtide(["verify", "--data-dir", data_dir].iter().chain(rest))
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_healthy_store_is_told_to_be_whole_and_what_was_checked() {
    let store = Store::closed();
    let told = store.verify(&[]).done().to_owned();
    for part in ["checkpoint   sealed; ", "log 0 ", "log 1 ", "closed in order", "nothing is wrong"]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let told = store.verify(&["--json"]);
    told.done();
    let json = told.json();
    assert_eq!((&json["whole"], &json["findings_count"]), (&true.into(), &0.into()), "{json}");
    let pairs = json["checkpoint"]["pairs"].as_u64().unwrap();
    assert!(pairs > 400 && json["rebuilt"]["all"].as_u64().unwrap() >= pairs, "{json}");
    assert!(json["rebuilt"]["whole"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["logs"].as_array().unwrap().len(), 2);
    assert!(json["logs"][1]["frames"].as_u64().unwrap() > 10, "{json}");
    assert!(json["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn damage_is_an_exit_code_of_1_with_the_file_and_the_place() {
    let store = Store::closed();
    let log = store.largest("log/0001");
    let wrong = [
        (store.path().join("MANIFEST"), 40, "store-manifest-damaged"),
        (store.path().join("SEAL"), 100, "store-seal-damaged"),
        (store.largest("checkpoint"), 77, "store-seal-broken"),
        (log.clone(), 100, "log-header"),
        (log, 4_096 + 200, "log-damaged"),
    ];
    for (file, at, code) in wrong {
        flip(&file, at);
        let name = file.to_str().unwrap();
        store.verify(&[]).failed(1, &[name]);
        let json = store.verify(&["--json"]).failed(1, &[name]).json();
        let first = &json["findings"][0];
        assert_eq!((&first["code"], &first["path"]), (&code.into(), &name.into()), "{json}");
        if code == "log-damaged" {
            assert_eq!((&first["offset"], first["lsn"].is_u64()), (&4_096.into(), true), "{json}");
        }
        flip(&file, at);
    }
    store.verify(&[]).done();

    fs::write(store.path().join("LOCK"), "4711").unwrap();
    flip(&store.path().join("SEAL"), 30);
    let told = store.verify(&[]);
    told.failed(1, &["LOCK", "empty it", "(and 1 more)"]);
    assert!(told.out.contains("2 things are wrong"), "{}", told.out);
}

#[test]
fn a_manifest_that_is_lost_is_damage_and_no_store_at_all_is_bad_input() {
    let store = Store::closed();
    fs::remove_file(store.path().join("MANIFEST")).unwrap();
    store.verify(&[]).failed(1, &["MANIFEST", "missing", "backup"]);

    let home = tempfile::tempdir().unwrap();
    verify(home.path(), &[]).failed(2, &["holds no store"]);
    verify(&home.path().join("none"), &["--json"]).failed(2, &["holds no store", "check the path"]);
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    verify(&file, &[]).failed(2, &["holds no store"]);
    for rubbish in [&["verify"][..], &["verify", "--data-dir"], &["verify", "--frames"]] {
        ebbtide(rubbish).failed(2, &[]);
    }
    store.verify(&["more"]).failed(2, &["unexpected"]);
}

#[test]
fn a_store_that_is_open_is_not_looked_at() {
    let store = Store(tempfile::tempdir().unwrap());
    let engine = store.open();
    store.verify(&["--json"]).failed(3, &["open already", "close it there first"]);
    engine.close(LONG).unwrap();
    store.verify(&[]).done();
}

#[test]
fn a_link_and_a_file_that_others_may_write_are_told() {
    let store = Store::closed();
    let (seal, kept) = (store.path().join("SEAL"), store.0.path().join("kept"));
    fs::rename(&seal, &kept).unwrap();
    symlink(&kept, &seal).unwrap();
    store.verify(&[]).failed(1, &["SEAL", "symbolic link"]);
    fs::remove_file(&seal).unwrap();
    fs::rename(&kept, &seal).unwrap();
    fs::set_permissions(store.path(), Permissions::from_mode(0o770)).unwrap();
    store.verify(&[]).failed(1, &["changed by other users", "chmod"]);
}

#[test]
fn without_a_place_for_the_copy_the_environment_is_told_and_how_much_it_takes() {
    let store = Store::closed();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(["verify", "--data-dir", store.path().to_str().unwrap()]);
    let none = store.0.path().join("none");
    let told = ended(command.env("TMPDIR", &none));
    told.failed(3, &["bytes of", "checkpoint", none.to_str().unwrap(), "TMPDIR"]);
}

/// Lets nobody write to a folder and its files.
fn freeze(path: &Path) {
    let is_folder = fs::metadata(path).unwrap().is_dir();
    if is_folder {
        for entry in fs::read_dir(path).unwrap() {
            freeze(&entry.unwrap().path());
        }
    }
    fs::set_permissions(path, Permissions::from_mode(if is_folder { 0o500 } else { 0o400 }))
        .unwrap();
}

/// Lets the owner write again, so that the folder can be removed.
fn thaw(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            thaw(&path);
        }
    }
}

#[test]
fn a_user_who_may_only_read_can_verify() {
    let store = Store::closed();
    freeze(&store.path());
    give_to_other(&store.path());
    fs::set_permissions(store.0.path(), Permissions::from_mode(0o755)).unwrap();
    let told = ebbtide_by_other(["verify", "--data-dir", store.path().to_str().unwrap()]);
    thaw(&store.path());
    assert!(told.done().contains("nothing is wrong"), "{}", told.out);
}

#[test]
fn a_store_on_a_read_only_mount_can_be_verified() {
    let store = Store::closed();
    let path = store.path();
    let path = path.to_str().unwrap();
    let program = env!("CARGO_BIN_EXE_ebbtide");
    let mount = format!(
        "mount --bind {path} {path} && mount -o remount,ro,bind {path} || exit 77
         exec {program} verify --data-dir {path}"
    );
    let told = ended(Command::new("unshare").args(["--mount", "sh", "-c", &mount]));
    if told.code != 0 && told.code != 1 && !told.err.starts_with("error: ") {
        println!("not tested: no mounts of one's own: {}", told.err);
        return;
    }
    assert!(told.done().contains("nothing is wrong"), "{}", told.out);
}

#[test]
fn a_database_that_stops_short_at_damage_says_nothing_by_itself() {
    let store = Store::closed();
    fs::remove_file(store.path().join("SEAL")).unwrap();
    let mut files = vec![store.largest("checkpoint")];
    for keyspace in 0..3 {
        files.push(store.path().join(format!("checkpoint/keyspaces/{keyspace}/current")));
        files.push(store.largest(&format!("checkpoint/keyspaces/{keyspace}")));
    }
    let mut damaged = 0;
    for file in files {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(whole.len().div_ceil(7).max(1)) {
            flip(&file, at);
            let told = store.verify(&[]);
            if told.code == 0 {
                told.done();
            } else {
                damaged += 1;
                told.failed(1, &["checkpoint"]);
            }
            fs::write(&file, &whole).unwrap();
        }
    }
    assert!(damaged > 5, "{damaged}");
}

/// What an engine would refuse is exit code 1 of every command that looks, in the same words.
#[test]
fn what_lies_wrongly_in_a_store_is_the_same_to_every_command() {
    let store = Store::closed();
    let (path, new) = (store.path(), store.0.path().join("new"));
    let (data_dir, new) = (path.to_str().unwrap(), new.to_str().unwrap());
    let all = |told: &[&str], what: &str| {
        let commands = [
            &["verify"][..],
            &["inspect"],
            &["dump"],
            &["backup", "--to", new],
            &["verify", "--json"],
        ];
        for command in commands {
            let found = ebbtide(command.iter().chain(&["--data-dir", data_dir]));
            assert_eq!(found.code, 1, "{what}: {command:?}: {}{}", found.out, found.err);
            found.failed(1, told);
        }
    };
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };

    let odd = path.join("checkpoint/odd");
    fifo(&odd);
    all(&["checkpoint/odd", "is not a regular file; move it away"], "a fifo in the checkpoint");
    fs::remove_file(&odd).unwrap();

    let stray = path.join("log/stray");
    fs::write(&stray, "").unwrap();
    all(&["log/stray", "is not a log; move it away"], "a stray file");
    fs::remove_file(&stray).unwrap();

    let (segment, kept) =
        (path.join("log/0001/seg-0000000000000999.wal"), store.0.path().join("kept"));
    fs::create_dir(&segment).unwrap();
    all(&["seg-0000000000000999.wal", "not a regular file"], "a folder as a segment");
    fs::remove_dir(&segment).unwrap();

    let lock = path.join("LOCK");
    mode(&lock, 0o664);
    all(&["LOCK can be changed by other users (mode 664)"], "a lock of others");
    mode(&lock, 0o600);
    fs::rename(&lock, &kept).unwrap();
    symlink(&kept, &lock).unwrap();
    all(&["LOCK is a symbolic link; a store follows none"], "a lock that is a link");
    fs::remove_file(&lock).unwrap();
    fs::rename(&kept, &lock).unwrap();
    store.verify(&[]).done();
}
