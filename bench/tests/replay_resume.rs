//! `replay` on a store that holds part of the trace, or something else: killed at any moment, run
//! again, with other flags, with other traces. What comes out is held against uninterrupted runs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod call;

use call::{Bench, Ended, many_events};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Runs that are killed on the way, for one and for several producers.
const KILLS: [(u16, usize); 2] = [(1, 20), (3, 10)];
const EVENTS: u64 = 6_000;

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

fn count(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

/// Every event of the trace is accounted for once.
#[track_caller]
fn assert_adds_up(summary: &Value) {
    let keys = ["already_there", "applied", "duplicates", "repeated", "rejected"];
    let sum: u64 = keys.iter().map(|key| count(summary, key)).sum();
    assert_eq!(sum, count(summary, "events"), "{summary}");
}

#[test]
fn a_replay_that_is_killed_at_any_moment_ends_as_if_it_had_never_been() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(EVENTS));
    let begun = Instant::now();
    let right = bench.dump("--shards 1 --backend threads");
    // How long a run takes here, which kills are spread over.
    let span = u64::try_from(begun.elapsed().as_millis()).unwrap().max(100);
    let mut chance = Chance(7);
    for (producers, kills) in KILLS {
        let store = format!("store-{producers}");
        let flags = format!("--trace t.csv --data-dir {store} --producers {producers}");
        for _ in 0..kills {
            let shards = 1 + chance.below(4);
            let backend = ["threads", "auto"][usize::try_from(chance.below(2)).unwrap()];
            let rest = format!("{flags} --rate 1000 --shards {shards} --backend {backend}");
            let mut child = bench.replaying(&rest).spawn().unwrap();
            sleep(Duration::from_millis(chance.below(2 * span)));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(err, "", "it ran until it was killed, or to its end");
        }
        let rest = format!("{flags} --shards 3 --dump end.jsonl --verify --json");
        let summary = bench.replay(&rest).json();
        let there = count(&summary, "already_there");
        assert!(there > 0, "no kill came after an event: {summary}");
        assert!(count(&summary["opening"], "number") > 1, "{summary}");
        assert_adds_up(&summary);
        assert!(bench.read("end.jsonl").lines().eq(&right), "{producers} producers");
    }
}

#[test]
fn a_finished_replay_that_runs_again_does_nothing_and_says_so() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(1_000));
    for producers in [1, 3] {
        let flags = format!("--data-dir store-{producers} --producers {producers}");
        let first = bench.dump(&flags);
        let again = bench.dump(&format!("{flags} --shards 2 --backend threads --verify"));
        assert_eq!(again, first);
        let said = bench.replay(&format!("--trace t.csv {flags}"));
        assert!(said.out.contains("1,000 events were there already"), "{}", said.out);
        assert!(said.out.contains("nothing was new"), "{}", said.out);
        let summary = bench.replay(&format!("--trace t.csv {flags} --json")).json();
        assert_eq!(["applied", "already_there"].map(|key| count(&summary, key)), [0, 1_000]);
        assert_eq!(summary["bytes_per_event"], Value::Null);
        assert_adds_up(&summary);
    }
}

#[test]
fn another_number_of_producers_is_refused_with_the_one_it_was_begun_with() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(100));
    let right = bench.dump("--data-dir store --producers 2");
    for other in ["1", "3"] {
        let ended = bench.replay(&format!("--trace t.csv --data-dir store --producers {other}"));
        ended.failed(2, &["begun with --producers 2, not", "say --producers 2 to go on"]);
    }
    assert_eq!(bench.dump("--data-dir store --producers 2"), right);
}

#[test]
fn a_trace_that_has_grown_or_was_changed_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let whole = many_events(3_000);
    bench.write("t.csv", &whole);
    let right = bench.dump("--data-dir store");
    let last = whole.lines().last().unwrap();
    let half: Vec<_> = whole.lines().take(1_501).collect();
    let grown = format!("{whole}{last}\n");
    for other in [&grown, &whole.replace(last, &format!("{last}5")), &half.join("\n")] {
        bench.write("t.csv", other);
        let ended = bench.replay("--trace t.csv --data-dir store");
        ended.failed(2, &["begins like this one and goes on otherwise", "an empty directory"]);
    }
    bench.write("t.csv", &whole);
    assert_eq!(bench.dump("--data-dir store --verify"), right);
}

/// The mended trace counted its first lines once more, and the run ended with 0.
#[test]
fn a_mended_trace_is_not_counted_beside_the_one_that_ended_at_its_bad_line() {
    let bench = Bench::new();
    let good = many_events(20);
    let lines: Vec<_> = good.lines().collect();
    let bad = lines[10].rsplit_once(',').unwrap().0.to_owned() + ",NaN";
    bench.write("t.csv", &good.replace(lines[10], &bad));
    let advice = "t.csv:11: weight is not finite; give a decimal number, or leave it empty for 1; \
                  mend it and replay into an empty --data-dir, or use --skip-bad-lines";
    bench.replay("--trace t.csv --data-dir store").failed(2, &[advice]);
    bench.write("t.csv", &good);
    let again = bench.replay("--trace t.csv --data-dir store");
    again.failed(2, &["store holds another trace", "an empty directory", "--add"]);
    let added = bench.replay("--trace t.csv --data-dir store --add --json").json();
    assert_eq!((count(&added, "applied"), &added["holds_other_events"]), (20, &true.into()));
    let once_more = bench.replay("--trace t.csv --data-dir store --json").json();
    assert_eq!(count(&once_more, "already_there"), 20, "a trace that was added goes on");
    bench.replay("--trace t.csv --add").failed(2, &["--data-dir"]);
    let dumped = bench.replay("--trace t.csv --data-dir store --dump d.jsonl");
    let warned = "warning: the store holds other events beside this trace";
    assert!(dumped.code == 0 && dumped.err.starts_with(warned), "{}", dumped.err);
}

#[test]
fn other_events_in_the_store_stay_and_keep_a_replay_from_being_verified() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(300));
    let alone = bench.dump("--data-dir store");
    bench.write("t.csv", &many_events(300).replace("user-", "other-"));
    let ended = bench.replay("--trace t.csv --data-dir store --add --verify");
    ended.failed(2, &["holds other events beside this trace", "leave out --verify"]);
    assert_eq!(bench.dump("--data-dir store --add").len(), 2 * alone.len(), "both are there");
    let summary = bench.replay("--trace t.csv --data-dir store --json").json();
    assert_eq!(summary["holds_other_events"], true);
    assert_eq!(count(&summary, "already_there"), 300);
}

#[test]
fn repeats_are_left_out_as_the_schema_says_across_openings_too() {
    let bench = Bench::new();
    let of = |dedup: &str| {
        format!(
            "[signals.a]\nhalf_lives = [\"1h\"]\ndedup = \"{dedup}\"\n\
             [signals.b]\nhalf_lives = [\"1h\"]\ndedup = \"{dedup}\"\n"
        )
    };
    let events = |count: u64| format!("--synthetic events={count},entities=50,dup=0.1,seed=3");
    for dedup in ["id", "content"] {
        bench.write("s.toml", &of(dedup));
        let store = format!("store-{dedup}");
        let whole = events(4_000);
        let fresh = bench.replay(&format!("{whole} --verify --json --dump right.jsonl")).json();
        let duplicates = count(&fresh, "duplicates");
        assert!((300..600).contains(&duplicates), "{fresh}");
        assert_adds_up(&fresh);
        let part = bench.replay(&format!("{} --data-dir {store} --json", events(1_500))).json();
        let more = format!("{whole} --data-dir {store} --shards 3 --verify --json --dump d.jsonl");
        let rest = bench.replay(&more).json();
        assert_eq!(count(&part, "duplicates") + count(&rest, "duplicates"), duplicates);
        assert_eq!(bench.read("d.jsonl"), bench.read("right.jsonl"), "{dedup}");
    }
}

#[test]
fn a_column_of_ids_tells_repeats() {
    let bench = Bench::new();
    bench.write("s.toml", "[signals.view]\nhalf_lives = [\"1h\"]\ndedup = \"id\"\n");
    bench.write(
        "t.csv",
        "timestamp,entity,signal,weight,id\n1,a,view,1,7\n2,a,view,1,7\n3,a,view,1,\n\
         4,a,view,1,\n5,b,view,1,7\n",
    );
    let ended = bench.replay("--trace t.csv --verify --json --data-dir store");
    assert_eq!(["applied", "duplicates"].map(|key| count(&ended.json(), key)), [4, 1]);
    let line: Value = serde_json::from_str(&bench.dump("--data-dir store --verify")[0]).unwrap();
    assert_eq!((&line["all_time"], &line["last_update"]), (&3.into(), &4.into()));
}

#[test]
fn fewer_events_than_the_store_holds_are_refused() {
    let bench = Bench::new();
    let made_up = |count| format!("--synthetic events={count},seed=3 --data-dir store");
    assert_eq!(bench.replay(&made_up(400)).code, 0);
    bench.replay(&made_up(100)).failed(2, &["up to 400, and here it ends with 100"]);
    let more = bench.replay(&format!("{} --verify --json", made_up(500))).json();
    assert_eq!(["already_there", "applied"].map(|key| count(&more, key)), [400, 100]);
}

#[test]
fn the_quarantine_of_a_replay_that_goes_on_holds_all_of_the_trace() {
    let bench = Bench::new();
    let mut bad = many_events(50);
    bad.push_str("soon,1,view,1\n5,1,view,1e200\n");
    let bad = bad + many_events(50).split_once('\n').unwrap().1 + "6,1,vue,1\n7,1,view,1e201\n";
    bench.write("t.csv", &bad);
    let flags = "--trace t.csv --skip-bad-lines --data-dir store --json --quarantine";
    let first = bench.replay(&format!("{flags} first.csv --verify")).json();
    let again = bench.replay(&format!("{flags} again.csv --verify --shards 2")).json();
    assert_eq!(bench.read("first.csv"), bench.read("again.csv"));
    assert_eq!(bench.read("first.csv").matches("# t.csv:").count(), 4);
    for summary in [&first, &again] {
        assert_eq!(["rejected", "bad_lines"].map(|key| count(summary, key)), [2, 2]);
        assert_adds_up(summary);
    }
    let ended = bench.replay("--trace t.csv --data-dir store");
    ended.failed(2, &["t.csv:52: ", "--skip-bad-lines"]);
}

/// It was opened once more for its digest, which waited for ever.
#[test]
fn a_named_pipe_is_read_once() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(100));
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat t.csv > pipe"]).current_dir(bench.0.path());
    let mut writer = writer.spawn().unwrap();
    let mut child = bench.replaying("--trace pipe --json").spawn().unwrap();
    let ended = wait_for(&mut child);
    child.kill().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(ended, "it waits for somebody to write");
    let summary = Ended::of(child.wait_with_output().unwrap()).json();
    assert_eq!(count(&summary, "applied"), 100);
}

/// Whether a child ends by itself in good time.
fn wait_for(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_trace_from_a_pipe_goes_on_too() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(2_000));
    let right = bench.dump("");
    for there in [0, 2_000] {
        let file = File::open(bench.path("t.csv")).unwrap();
        let mut cat = Command::new("cat").stdin(file).stdout(Stdio::piped()).spawn().unwrap();
        let piped = "--trace /dev/stdin --data-dir store --verify --json --dump d.jsonl";
        let output = bench.replaying(piped).stdin(cat.stdout.take().unwrap()).output().unwrap();
        assert!(cat.wait().unwrap().success());
        let summary = Ended::of(output).json();
        assert_eq!(count(&summary, "already_there"), there);
        assert!(bench.read("d.jsonl").lines().eq(&right));
    }
}

/// A replay of `t.csv` that goes on for hours, once it has begun to record.
fn endless(bench: &Bench, rest: &str) -> Child {
    bench.write("t.csv", &many_events(100));
    let mut command = bench.replaying(&format!("--trace t.csv --rate 0.01 {rest}"));
    command.env("TMPDIR", bench.0.path()).spawn().unwrap()
}

/// Waits until `is_so`.
#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it never came to that");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_process_is_refused_while_the_first_has_the_store() {
    let bench = Bench::new();
    let mut first = endless(&bench, "--data-dir store");
    wait_until(|| bench.path("store/MANIFEST").exists());
    let second = bench.replay("--trace t.csv --data-dir store");
    first.kill().unwrap();
    first.wait().unwrap();
    second.failed(3, &["the store", "is open already"]);
    assert_eq!(bench.replay("--trace t.csv --data-dir store --verify").code, 0);
}

/// The names of temporary stores.
fn own_stores(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.0.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("ebbtide-replay-")).collect()
}

#[test]
fn a_temporary_store_is_removed_whichever_way_the_replay_ends() {
    let bench = Bench::new();
    for (trace, code) in [(many_events(100), 0), (many_events(100) + "soon,1,view,1\n", 2)] {
        bench.write("t.csv", &trace);
        let mut command = bench.replaying("--trace t.csv --json");
        let ended = Ended::of(command.env("TMPDIR", bench.0.path()).output().unwrap());
        assert_eq!(ended.code, code, "{}", ended.err);
        assert_eq!(own_stores(&bench), [""; 0]);
    }
    for signal in [Signal::INT, Signal::TERM] {
        let child = endless(&bench, "");
        wait_until(|| own_stores(&bench).len() == 1);
        let ended = interrupt(child, signal);
        assert!(ended.contains("nothing of them is kept"), "{ended}");
        assert_eq!(own_stores(&bench), [""; 0]);
    }
    let nowhere = bench.replaying("--trace t.csv").env("TMPDIR", "/nowhere").output().unwrap();
    Ended::of(nowhere).failed(3, &["cannot make a directory in /nowhere", "set TMPDIR"]);
}

/// Ends a replay by `signal` in good order and gives back what it says.
fn interrupt(child: Child, signal: Signal) -> String {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.signal(), Some(signal.as_raw()), "{err}");
    assert!(err.starts_with("error: interrupted after ") && err.lines().count() == 1, "{err}");
    assert_eq!(output.stdout, b"");
    err
}

/// The first signal was seen when the pipe had something to read; the second left the store.
#[test]
fn a_replay_that_waits_for_a_pipe_is_interrupted_too() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(100));
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    let start = || {
        let mut command = bench.replaying("--trace pipe --rate 1000");
        command.env("TMPDIR", bench.0.path()).spawn().unwrap()
    };
    // Nobody has opened it to write.
    let mut child = start();
    sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(wait_for(&mut child), "it goes on to wait");
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    // More than the reader takes at once, and then nothing.
    let mut child = start();
    let mut pipe = File::options().write(true).open(bench.path("pipe")).unwrap();
    pipe.write_all(many_events(20_000).as_bytes()).unwrap();
    wait_until(|| own_stores(&bench).len() == 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(wait_for(&mut child), "it goes on to wait");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("error: interrupted after "), "{err}");
    assert_eq!(own_stores(&bench), [""; 0]);
}

#[test]
fn an_interrupted_replay_keeps_what_it_recorded() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(6_000));
    let right = bench.dump("");
    let flags = "--trace t.csv --data-dir store --producers 2";
    let child = bench.replaying(&format!("{flags} --rate 1000")).spawn().unwrap();
    wait_until(|| bench.path("store/MANIFEST").exists());
    sleep(Duration::from_millis(500));
    let said = interrupt(child, Signal::TERM);
    assert!(said.contains("call it again with the same arguments"), "{said}");
    let summary = bench.replay(&format!("{flags} --json --verify --dump d.jsonl")).json();
    let there = count(&summary, "already_there");
    assert!(said.contains(&format!("after {there} events")), "{said} {summary}");
    assert_eq!(summary["opening"]["clean_shutdown"], true);
    assert!(bench.read("d.jsonl").lines().eq(&right));
}

#[test]
fn damage_is_one_and_a_directory_of_others_is_two() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(2_000));
    bench.dump("--data-dir store --shards 1");
    let segment = fs::read_dir(bench.path("store/log/0000")).unwrap().map(|e| e.unwrap().path());
    let segment = segment.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let ended = bench.replay("--trace t.csv --data-dir store");
    ended.failed(1, &["store/log/0000"]);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);

    fs::create_dir(bench.path("photos")).unwrap();
    bench.write("photos/cat.jpg", "cat");
    bench.replay("--trace t.csv --data-dir photos").failed(2, &["photos holds `cat.jpg`"]);
    assert_eq!(bench.read("photos/cat.jpg"), "cat");
}

#[test]
fn a_schema_that_does_not_fit_the_store_is_refused() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(10));
    bench.dump("--data-dir store");
    let schema = bench.read("s.toml");
    bench.write("s.toml", &schema.replace("\"30d\"", "\"31d\""));
    bench.replay("--trace t.csv --data-dir store").failed(2, &["the schema does not fit"]);
    bench.write("s.toml", &schema.replace("[\"1h\", \"24h\"]", "[\"1h\", \"7d\"]"));
    let line: Value = serde_json::from_str(&bench.dump("--data-dir store --verify")[1]).unwrap();
    assert!(line["counts"].get("7d").is_some(), "windows may change: {line}");
}

#[test]
fn a_directory_that_may_not_be_written_is_the_environment() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(10));
    fs::set_permissions(bench.0.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let program = File::open(env!("CARGO_BIN_EXE_ebbtide-bench")).unwrap();
    // By its open file, so that the folders on the way may be closed to the other user.
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args("replay --schema s.toml --trace t.csv --data-dir store".split(' '));
    command.current_dir(bench.0.path());
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let ended = Ended::of(command.output().unwrap());
    fs::set_permissions(bench.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    ended.failed(3, &["store", "Permission denied"]);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[test]
fn the_summary_says_where_the_store_lies_and_what_that_is_worth() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(500));
    for (ack, levels) in [("applied", 1), ("written", 2), ("durable", 3)] {
        let summary = bench.replay(&format!("--trace t.csv --json --ack {ack}")).json();
        assert_eq!((&summary["ack"], &summary["data_dir_kept"]), (&ack.into(), &false.into()));
        assert_eq!(summary["latency"].as_object().unwrap().len(), levels);
    }
    let summary = bench.replay("--trace t.csv --json --data-dir store").json();
    assert_eq!((&summary["data_dir"], &summary["data_dir_kept"]), (&"store".into(), &true.into()));
    assert_eq!(summary["opening"]["created"], true);
    assert_eq!(count(&summary, "log_bytes") % 4_096, 0, "whole blocks");
    let per_event = summary["bytes_per_event"].as_f64().unwrap();
    assert!((10.0..200.0).contains(&per_event), "{per_event}");
    let again = bench.replay("--trace t.csv --json --data-dir store").json();
    assert_eq!(
        (&again["opening"]["number"], &again["opening"]["events"]),
        (&2.into(), &500.into())
    );

    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else { return };
    let store = memory.path().join("store");
    let rest = format!("--trace t.csv --json --data-dir {}", store.display());
    let worth = &bench.replay(&rest).json()["durability"];
    if worth["file_system"] == "tmpfs" {
        let told = ["medium", "durable_survives"].map(|key| worth[key].as_str().unwrap());
        assert_eq!(told, ["memory", "process_end"]);
    }
}

#[test]
fn a_schedule_that_goes_on_begins_with_what_is_new() {
    let bench = Bench::new();
    // An event a second, most of them there already.
    let made_up = |count: u64| format!("--synthetic events={count},step=1s --data-dir store");
    assert_eq!(bench.replay(&made_up(4_000)).code, 0);
    let summary = bench.replay(&format!("{} --rate x100 --json", made_up(4_011))).json();
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!(seconds < 20.0, "11 seconds take 0.1 s, 4,000 take 40 s: {seconds}");
    assert_eq!(summary["latency"]["durable"]["samples"], 11);
}
