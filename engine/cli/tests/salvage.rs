//! `ebbtide salvage` as its users call it: each kind of damage, what is saved, what is told.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod call;
mod stores;

use call::{Ended, ebbtide, ebbtide_by_other, give_to_other};
use ebbtide::LogOptions;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use stores::{Home, NOW, SOURCE, builder, dump_by_engine, files, flip, make, record, segments};

const EVENTS: u64 = 600;

fn salvage(store: &Path, to: &Path, rest: &[&str]) -> Ended {
    let (store, to) = (store.to_str().unwrap(), to.to_str().unwrap());
    ebbtide(["salvage", "--data-dir", store, "--to", to].iter().chain(rest))
}

/// How often each pair was counted, by the lines of a dump.
fn counts(dump: &str) -> BTreeMap<(String, String), u64> {
    let pair = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        ((text("entity"), text("signal")), line["all_time"].as_u64().unwrap())
    };
    dump.lines().map(pair).collect()
}

/// A store that is damaged in one way, beside one that is not.
struct Damaged {
    home: Home,
    whole: String,
    told: Value,
    salvaged: String,
}

impl Damaged {
    /// Salvages a copy of a store after `harm` was done to it.
    #[track_caller]
    fn by(shards: usize, checkpoint: Option<u64>, rest: &[&str], harm: &dyn Fn(&Path)) -> Self {
        let home = Home::new();
        make(&home.store(), shards, EVENTS, checkpoint);
        Self::of(home, rest, harm)
    }

    /// The same, of a store that is there.
    #[track_caller]
    fn of(home: Home, rest: &[&str], harm: &dyn Fn(&Path)) -> Self {
        stores::copy(&home.store(), &home.at("damaged"));
        harm(&home.at("damaged"));
        let before = files(&home.at("damaged"));
        let rest: Vec<_> = rest.iter().copied().chain(["--json"]).collect();
        let ended = salvage(&home.at("damaged"), &home.at("new"), &rest);
        assert_eq!(files(&home.at("damaged")), before, "the damaged store is left as it is");
        let told = ended.json();
        let code = i32::from(told["losses"].as_u64() > Some(0));
        assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
        let whole = dump_by_engine(&home.store());
        let salvaged = dump_by_engine(&home.at("new"));
        let this = Self { home, whole, told, salvaged };
        this.assert_nothing_is_made_up();
        this
    }

    #[track_caller]
    fn assert_nothing_is_made_up(&self) {
        let whole = counts(&self.whole);
        for (pair, count) in counts(&self.salvaged) {
            assert!(whole.get(&pair) >= Some(&count), "{pair:?}: {count}, {}", self.told);
        }
    }

    /// Nothing was lost, and the new store says what the old one said.
    #[track_caller]
    fn is_saved_whole(&self) -> &Self {
        assert_eq!(self.told["losses"].as_u64(), Some(0), "{}", self.told);
        assert_eq!(self.salvaged, self.whole);
        self
    }

    /// Something was lost, and a trouble's message says so.
    #[track_caller]
    fn lost(&self, told: &str) -> &Self {
        let troubles = self.told["troubles"].as_array().unwrap();
        let lost = |trouble: &&Value| {
            trouble["loss"] == true && trouble["message"].as_str().unwrap().contains(told)
        };
        assert!(troubles.iter().any(|trouble| lost(&trouble)), "`{told}` in {}", self.told);
        self
    }

    /// Sending everything again fills what is missing and counts nothing twice.
    #[track_caller]
    fn is_filled_by_sending_again(&self) -> &Self {
        let engine = builder(&self.home.at("new"), 3).open().unwrap();
        let resumes = engine.resume_offset(SOURCE).unwrap().unwrap_or(0);
        let said = self.told["sources"].as_array().unwrap();
        let said = said.iter().find(|source| source["name"] == SOURCE);
        let said = said.map_or(0, |source| source["resume_offset"].as_u64().unwrap());
        assert_eq!(resumes, said, "{}", self.told);
        record(&engine, resumes + 1, EVENTS);
        engine.close(stores::PATIENCE).unwrap();
        assert_eq!(dump_by_engine(&self.home.at("new")), self.whole);
        self
    }

    fn total(&self) -> u64 {
        counts(&self.salvaged).values().sum()
    }
}

/// Flips a bit in the payload of a segment's last frame that holds records; frames without any lie
/// between where the log had rested.
fn flip_records(segment: &Path) {
    let bytes = fs::read(segment).unwrap();
    let blocks = bytes.chunks(4096).enumerate().skip(1);
    let mut frames = blocks.filter(|(_, block)| block[12] == 1).map(|(at, _)| at * 4096);
    let frame = frames.next_back().unwrap();
    flip(segment, |_| frame + 200);
}

#[test]
fn of_a_store_without_damage_nothing_is_lost() {
    for (shards, checkpoint) in [(1, None), (3, Some(250))] {
        let saved = Damaged::by(shards, checkpoint, &[], &|_| {});
        saved.is_saved_whole().is_filled_by_sending_again();
        assert_eq!(saved.told["troubles_count"].as_u64(), Some(0));
        // The new store is another one, and whole.
        let id =
            |name: &str| fs::read(saved.home.at(name).join("MANIFEST")).unwrap()[16..32].to_vec();
        assert_ne!(id("store"), id("new"));
        let verified =
            ["verify", "--data-dir", saved.home.at("new").to_str().unwrap()].map(String::from);
        ebbtide(verified).done();
        let dump = |name: &str| {
            let (store, now) = (saved.home.at(name), NOW.0.to_string());
            let store = store.to_str().unwrap();
            ebbtide(["dump", "--data-dir", store, "--as-of", &now]).done().to_owned()
        };
        assert_eq!(dump("new"), dump("store"));
    }
}

#[test]
fn a_store_that_was_killed_is_salvaged_as_the_next_opening_finds_it() {
    let home = Home::new();
    stores::make_killed(&home, "killed");
    let told = salvage(&home.at("killed"), &home.at("new"), &[]);
    assert!(told.done().contains("nothing is lost"), "{}", told.out);
    assert_eq!(dump_by_engine(&home.at("new")), dump_by_engine(&home.store()));
}

#[test]
fn a_frame_in_the_middle_costs_its_records_and_sending_again_fills_them() {
    for shards in [1, 2] {
        let harm = |store: &Path| flip_records(&segments(store, 0)[1]);
        let damaged = Damaged::by(shards, None, &[], &harm);
        damaged.lost("log 0, segment 2").is_filled_by_sending_again();
        // Kept, they stay, and what is missing is a frame.
        let kept = Damaged::by(shards, None, &["--keep-sourced"], &harm);
        let missing = counts(&kept.whole).values().sum::<u64>() - kept.total();
        assert!((1..=20).contains(&missing), "{missing} of {}", kept.total());
        assert!(kept.total() > damaged.total());
        let engine = builder(&kept.home.at("new"), 2).open().unwrap();
        record(&engine, 1, EVENTS);
        engine.close(stores::PATIENCE).unwrap();
        assert_eq!(dump_by_engine(&kept.home.at("new")), kept.salvaged, "nothing counts twice");
    }
}

#[test]
fn lost_segments_headers_and_ends_are_told_and_filled_by_sending_again() {
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let harms: [Harm<'_>; 4] = [
        ("segment 3", &|store| fs::remove_file(&segments(store, 1)[2]).unwrap()),
        ("segment 3", &|store| flip(&segments(store, 1)[2], |_| 100)),
        ("it is not known how many", &|store| {
            fs::remove_file(segments(store, 1).pop().unwrap()).unwrap();
        }),
        ("log 1 is gone", &|store| fs::remove_dir_all(store.join("log/0001")).unwrap()),
    ];
    for (told, harm) in harms {
        Damaged::by(2, None, &[], harm).lost(told).is_filled_by_sending_again();
    }
}

#[test]
fn a_manifest_with_a_flipped_bit_is_mended_and_without_one_entities_are_placed_anew() {
    let flipped = |store: &Path| flip(&store.join("MANIFEST"), |_| 40);
    Damaged::by(2, Some(250), &[], &flipped).is_saved_whole().is_filled_by_sending_again();
    for checkpoint in [None, Some(250)] {
        let gone = |store: &Path| fs::remove_file(store.join("MANIFEST")).unwrap();
        let damaged = Damaged::by(2, checkpoint, &[], &gone);
        damaged.lost("MANIFEST is lost");
        assert_eq!(damaged.salvaged, damaged.whole);
        damaged.is_filled_by_sending_again();
    }
}

#[test]
fn a_seal_that_does_not_fit_costs_nothing_while_the_records_are_whole() {
    Damaged::by(1, Some(250), &[], &|store| flip(&store.join("SEAL"), |length| length / 2))
        .is_saved_whole();
    Damaged::by(1, Some(250), &[], &|store| fs::remove_file(store.join("SEAL")).unwrap())
        .is_saved_whole();
}

#[test]
fn without_a_checkpoint_the_logs_and_a_schema_are_what_there_is() {
    let gone = |store: &Path| fs::remove_dir_all(store.join("checkpoint")).unwrap();
    let home = Home::new();
    make(&home.store(), 2, 100, None);
    gone(&home.store());
    salvage(&home.store(), &home.at("new"), &[]).failed(1, &["--schema FILE.toml", "schema"]);
    assert!(!home.at("new").exists());
    // A database that does not open is told with its place once, and one advice.
    fs::create_dir(home.store().join("checkpoint")).unwrap();
    fs::write(home.store().join("checkpoint/version"), "no").unwrap();
    let told = salvage(&home.store(), &home.at("new"), &[]);
    told.failed(1, &["--schema FILE.toml"]);
    assert_eq!(told.err.matches("/checkpoint").count(), 1, "{}", told.err);
    assert!(!told.err.contains("backup"), "{}", told.err);

    fs::write(home.at("schema.toml"), stores::SCHEMA).unwrap();
    let schema = home.at("schema.toml");
    let schema = ["--schema", schema.to_str().unwrap()];
    // The logs hold everything: nothing is lost.
    Damaged::by(2, None, &schema, &gone).is_saved_whole().is_filled_by_sending_again();
    let both_gone = |store: &Path| {
        gone(store);
        fs::remove_file(store.join("MANIFEST")).unwrap();
        fs::remove_file(store.join("SEAL")).unwrap();
    };
    let damaged = Damaged::by(2, None, &schema, &both_gone);
    assert_eq!(damaged.salvaged, damaged.whole);
    damaged.lost("MANIFEST is lost").is_filled_by_sending_again();
    // They do not.
    let damaged = Damaged::by(2, Some(450), &schema, &gone);
    damaged.lost("the checkpoint in").is_filled_by_sending_again();
    let kept = Damaged::by(2, Some(450), &[&schema[..], &["--keep-sourced"]].concat(), &gone);
    assert!(kept.total() >= 100, "what the logs hold is kept: {}", kept.told);
    salvage(&home.store(), &home.at("new"), &["--schema", "/nowhere"]).failed(2, &["/nowhere"]);
}

#[test]
fn of_a_batch_only_the_events_of_unknown_signal_types_are_lost() {
    let home = Home::new();
    make(&home.store(), 1, 60, None);
    fs::remove_dir_all(home.store().join("checkpoint")).unwrap();
    let (clicks, _) = stores::SCHEMA.split_once("[signals.view]").unwrap();
    fs::write(home.at("clicks.toml"), clicks).unwrap();
    let schema = home.at("clicks.toml");
    let rest = ["--schema", schema.to_str().unwrap(), "--keep-sourced", "--json"];
    let told = salvage(&home.store(), &home.at("new"), &rest).json().to_string();
    assert!(told.contains("the schema does not have their signal type"), "{told}");
    let new = home.at("new");
    let dump = ebbtide(["dump", "--data-dir", new.to_str().unwrap()]);
    // Every third event is a view.
    assert_eq!(counts(dump.done()).values().sum::<u64>(), 40);
}

#[test]
fn any_damage_to_the_files_of_a_checkpoint_costs_no_more_than_is_told() {
    let home = Home::new();
    make(&home.store(), 1, EVENTS, Some(400));
    let whole = dump_by_engine(&home.store());
    fs::write(home.at("schema.toml"), stores::SCHEMA).unwrap();
    let schema = home.at("schema.toml");
    let mut lossy = 0;
    for (name, part) in [("0.jnl", 0), ("0.jnl", 1), ("0.jnl", 2), ("0.jnl", 3), ("version", 0)] {
        stores::copy(&home.store(), &home.at("damaged"));
        flip(&home.at("damaged/checkpoint").join(name), |length| length * part / 4);
        let rest = ["--json", "--schema", schema.to_str().unwrap()];
        let ended = salvage(&home.at("damaged"), &home.at("new"), &rest);
        let told = ended.json();
        let salvaged = dump_by_engine(&home.at("new"));
        if told["losses"].as_u64() == Some(0) {
            assert_eq!(salvaged, whole, "{name}, part {part}: {told}");
        } else {
            assert_eq!(ended.code, 1, "{name}, part {part}: {told}");
            lossy += 1;
        }
        let right = counts(&whole);
        for (pair, count) in counts(&salvaged) {
            assert!(right.get(&pair) >= Some(&count), "{name}, part {part}: {told}");
        }
        fs::remove_dir_all(home.at("damaged")).unwrap();
        fs::remove_dir_all(home.at("new")).unwrap();
    }
    assert!(lossy > 0);
}

#[test]
fn what_cannot_be_salvaged_is_told_by_its_kind() {
    let home = Home::new();
    salvage(&home.store(), &home.at("new"), &[]).failed(2, &["holds no store"]);
    make(&home.store(), 1, 20, None);
    salvage(&home.store(), &home.store(), &[]).failed(2, &["is there already"]);
    salvage(&home.store(), &home.at("new"), &["rubbish"]).failed(2, &["rubbish"]);
    salvage(&home.store(), &home.store().join("new"), &[]).failed(2, &["inside of the store"]);
    let engine = builder(&home.store(), 1).open().unwrap();
    salvage(&home.store(), &home.at("new"), &[]).failed(3, &["is open already"]);
    drop(engine);
    assert!(!home.at("new").exists());
}

/// What a log lost at its end looks like an end, unless somebody asks how far it has to reach.
#[test]
fn a_log_that_ends_before_the_checkpoint_does_has_lost_records() {
    let home = Home::new();
    let engine = builder(&home.store(), 2).log_options(LogOptions::default()).open().unwrap();
    record(&engine, 1, 450);
    engine.checkpoint().unwrap();
    record(&engine, 451, EVENTS);
    engine.close(stores::PATIENCE).unwrap();
    let harm = |store: &Path| {
        let path = &segments(store, 1)[0];
        let mut bytes = fs::read(path).unwrap();
        bytes[8192..].fill(0);
        // As long as while it was written to.
        bytes.resize(usize::try_from(LogOptions::default().segment_bytes).unwrap(), 0);
        fs::write(path, bytes).unwrap();
    };
    let damaged = Damaged::of(home, &[], &harm);
    damaged.lost("log 1, segment 1 from offset 8192").is_filled_by_sending_again();
    assert!(damaged.total() < EVENTS);
}

#[test]
fn a_file_whose_name_alone_is_strange_is_told_as_a_gap() {
    let harm = |store: &Path| {
        fs::write(store.join("log/0000/seg-ffffffffffffffff.wal"), "").unwrap();
    };
    Damaged::by(1, None, &[], &harm).lost("it is not known how many").is_filled_by_sending_again();
}

#[test]
fn a_file_that_may_not_be_read_is_a_matter_of_permissions_and_costs_nothing() {
    let home = Home::new();
    make(&home.store(), 2, EVENTS, Some(300));
    give_to_other(home.path());
    let segment = segments(&home.store(), 1).pop().unwrap();
    let may_not = |path: &Path, to: &str| {
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        let (store, new) = (home.store(), home.at("new"));
        let (store, new) = (store.to_str().unwrap(), new.to_str().unwrap());
        let told = ebbtide_by_other(["salvage", "--data-dir", store, "--to", new]);
        told.failed(3, &["Permission denied", to]);
        assert!(!told.err.contains("TMPDIR"), "{}", told.err);
        assert!(!home.at("new").exists());
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    };
    may_not(&segment, "log/0001");
    may_not(&home.store().join("checkpoint/0.jnl"), "checkpoint/0.jnl");
    may_not(&home.store().join("MANIFEST"), "MANIFEST");
}

/// The database makes such a file anew, and then finds others there.
#[test]
fn a_checkpoint_without_one_of_its_files_is_a_lost_one() {
    for name in ["version", "keyspaces/0/current"] {
        for is_sealed in [true, false] {
            let harm = |store: &Path| {
                fs::remove_file(store.join("checkpoint").join(name)).unwrap();
                if !is_sealed {
                    fs::remove_file(store.join("SEAL")).unwrap();
                }
                let store = store.to_str().unwrap();
                ebbtide(["verify", "--data-dir", store]).failed(1, &["checkpoint"]);
                ebbtide(["inspect", "--data-dir", store]).failed(1, &["checkpoint"]);
            };
            let home = Home::new();
            fs::write(home.at("schema.toml"), stores::SCHEMA).unwrap();
            let schema = home.at("schema.toml");
            let schema = ["--schema", schema.to_str().unwrap()];
            Damaged::by(2, None, &schema, &harm).is_saved_whole().is_filled_by_sending_again();
        }
    }
}
