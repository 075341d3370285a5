//! `ebbtide-bench replay` as its users call it: exit codes, messages, dumps, summaries. Numbers are
//! compared with plain formulas written out here.

mod call;

use call::{Bench, Ended, HOUR_NS, MINUTE_NS, START_NS, many_events};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const SECOND_NS: u64 = 1_000_000_000;

/// A trace of `(time, entity, signal, weight)`.
fn trace<W: std::fmt::Display>(events: &[(u64, &str, &str, W)]) -> String {
    let mut text = "timestamp,entity,signal,weight\n".to_owned();
    for (time, entity, signal, weight) in events {
        writeln!(text, "{time},{entity},{signal},{weight}").expect("text grows");
    }
    text
}

fn call(bench: &Bench, arguments: &[&str]) -> Ended {
    Ended::of(bench.command(arguments).output().expect("cargo built it"))
}

#[track_caller]
fn assert_close(value: &Value, right: f64) {
    let value = value.as_f64().expect("a number");
    assert!((value - right).abs() <= 1e-12 * right, "{value:?}, {right:?} is right");
}

#[test]
fn a_dump_says_what_plain_formulas_say() {
    let bench = Bench::new();
    let events = [
        (START_NS, "42", "view", 2.0),
        (START_NS + 30 * MINUTE_NS, "42", "view", 0.5),
        (START_NS + 10 * MINUTE_NS, "42", "view", 1.0),
        (START_NS + 26 * HOUR_NS, "42", "view", 4.0),
        (START_NS + 25 * HOUR_NS, "42", "buy", 3.0),
    ];
    bench.write("t.csv", &trace(&events));
    let as_of = START_NS + 26 * HOUR_NS + 5 * MINUTE_NS;
    for (flags, now) in [("", START_NS + 26 * HOUR_NS), (&*format!("--as-of {as_of}"), as_of)] {
        let lines = bench.dump(flags);
        let score = |signal: &str, half_life_ns: u64| -> f64 {
            let own = events.iter().filter(|event| event.2 == signal);
            own.map(|e| e.3 * (-((now - e.0) as f64) / half_life_ns as f64).exp2()).sum()
        };
        let [buy, view] = &lines[..] else { panic!("{lines:?}") };
        let view: Value = serde_json::from_str(view).unwrap();
        assert_eq!((&view["entity"], &view["signal"]), (&"42".into(), &"view".into()));
        for (label, hours) in [("1h", 1), ("24h", 24), ("7d", 168)] {
            assert_close(&view["scores"][label], score("view", hours * HOUR_NS));
        }
        // As of 02:00 or 02:05 of the second day the hours from 03:00 of the first day count.
        assert_eq!(view["counts"].to_string(), r#"{"1h":1,"24h":1}"#);
        assert_close(&view["velocity"]["1h"], 1.0 / 3_600.0);
        assert_close(&view["velocity"]["24h"], 1.0 / 86_400.0);
        assert_eq!(view["all_time"], 4);
        assert_eq!(view["last_update"], START_NS + 26 * HOUR_NS);
        let buy: Value = serde_json::from_str(buy).unwrap();
        assert_close(&buy["scores"]["30d"], score("buy", 720 * HOUR_NS));
        assert_eq!((&buy["all_time"], &buy["last_update"]), (&1.into(), &(events[4].0).into()));
    }
}

#[test]
fn a_window_counts_whole_minutes_and_hours_of_the_clock() {
    let bench = Bench::new();
    // At 02:30:30 the hour's window begins with 01:31:00 and the day's with 03:00:00 before.
    let now = START_NS + 26 * HOUR_NS + 30 * MINUTE_NS + 30 * SECOND_NS;
    let hour_begins = START_NS + 25 * HOUR_NS + 31 * MINUTE_NS;
    let day_begins = START_NS + 3 * HOUR_NS;
    let times = [now, hour_begins, hour_begins - 1, day_begins, day_begins - 1, START_NS];
    bench.write("t.csv", &trace(&times.map(|time| (time, "1", "view", ""))));
    let line: Value = serde_json::from_str(&bench.dump("")[0]).unwrap();
    assert_eq!(line["counts"].to_string(), r#"{"1h":2,"24h":4}"#);
    assert_eq!(line["all_time"], 6, "an empty weight counts as one");
}

#[test]
fn a_dump_line_has_the_form_of_the_contract() {
    let bench = Bench::new();
    let weightless = [(START_NS, "\"1 \"\"x\"\"\"", "view", 0), (START_NS, "77", "buy", 0)];
    bench.write("t.csv", &trace(&weightless));
    let (per_hour, per_day) = (1.0 / 3_600.0, 1.0 / 86_400.0);
    assert_eq!(
        bench.dump(""),
        [
            format!(
                "{{\"entity\":\"1 \\\"x\\\"\",\"signal\":\"view\",\
                 \"scores\":{{\"1h\":0.0,\"24h\":0.0,\"7d\":0.0}},\
                 \"counts\":{{\"1h\":1,\"24h\":1}},\
                 \"velocity\":{{\"1h\":{per_hour:?},\"24h\":{per_day:?}}},\
                 \"all_time\":1,\"last_update\":{START_NS}}}"
            ),
            format!(
                "{{\"entity\":\"77\",\"signal\":\"buy\",\"scores\":{{\"30d\":0.0}},\"counts\":{{}},\
                 \"velocity\":{{}},\"all_time\":1,\"last_update\":{START_NS}}}"
            ),
        ]
    );
}

#[test]
fn a_dump_stands_in_the_order_of_the_entities_texts_then_of_the_signals() {
    let bench = Bench::new();
    let entities = ["10", "9", "b", "Z", "10", "é", "a,b"];
    let mut text = "timestamp,entity,signal,weight\n".to_owned();
    for (n, entity) in entities.iter().enumerate() {
        let signal = if n < 4 { "view" } else { "buy" };
        writeln!(text, "{START_NS},\"{entity}\",{signal},1").unwrap();
    }
    bench.write("t.csv", &text);
    let lines = bench.dump("");
    let parsed = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let order: Vec<String> =
        parsed.map(|line| format!("{} {}", line["entity"], line["signal"])).collect();
    let right = [
        r#""10" "buy""#,
        r#""10" "view""#,
        r#""9" "view""#,
        r#""Z" "view""#,
        r#""a,b" "buy""#,
        r#""b" "view""#,
        r#""é" "buy""#,
    ];
    assert_eq!(order, right);
}

#[test]
fn the_same_trace_gives_the_same_dump_however_it_is_replayed() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(4_000));
    let right = bench.dump("--shards 1 --producers 1 --backend threads");
    assert_eq!(right.len(), 2 * 97);
    for shards in [1, 2, 4] {
        for producers in [1, 3] {
            let flags = format!("--shards {shards} --producers {producers}");
            assert_eq!(bench.dump(&flags), right, "{flags}");
            assert_eq!(bench.dump(&format!("{flags} --backend threads")), right, "{flags}");
        }
    }
    let uring = bench.replay("--trace t.csv --dump u.jsonl --backend uring --shards 2");
    match uring.code {
        0 => assert!(bench.read("u.jsonl").lines().eq(right.iter())),
        _ => uring.failed(3, &["io_uring", "use the automatic or the threads backend"]),
    }
    let verified = bench.replay("--trace t.csv --verify --shards 2");
    assert!(verified.code == 0 && verified.out.contains("all equal"), "{}", verified.out);
}

#[test]
fn the_summary_is_one_object_with_the_keys_of_the_contract() {
    let bench = Bench::new();
    bench.write("t.csv", &many_events(1_000));
    let summary = bench.replay("--trace t.csv --json --shards 2 --producers 2 --verify").json();
    let numbers = ["events", "applied", "duplicates", "rejected"].map(|key| &summary[key]);
    assert_eq!(numbers.map(Value::as_u64), [Some(1_000), Some(1_000), Some(0), Some(0)]);
    let [seconds, rate] = ["seconds", "rate"].map(|key| summary[key].as_f64().expect("a number"));
    assert!(seconds > 0.0 && (rate * seconds - 1_000.0).abs() < 1e-6);
    for level in ["applied", "written", "durable"] {
        let order = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
        let latencies = order.map(|key| summary["latency"][level][key].as_f64().expect("a number"));
        assert!(latencies.is_sorted() && latencies[0] > 0.0, "{level}: {latencies:?}");
    }
    assert_eq!((&summary["shards"], &summary["producers"]), (&2.into(), &2.into()));
    assert_eq!((&summary["entities"], &summary["pairs"]), (&97.into(), &194.into()));
    assert_eq!(summary["verified"]["difference_count"], 0);
}

#[test]
fn a_schedule_is_kept() {
    let bench = Bench::new();
    let events: Vec<_> = (0..21).map(|n| (START_NS + n * SECOND_NS, "1", "view", 1)).collect();
    bench.write("t.csv", &trace(&events));
    for (rate, asked) in [("100", "100"), ("x100", "x100")] {
        let summary = bench.replay(&format!("--trace t.csv --json --rate {rate}")).json();
        let seconds = summary["seconds"].as_f64().unwrap();
        assert!(seconds >= 0.2, "{rate}: 20 gaps of 10 ms in {seconds} s");
        assert_eq!(summary["rate_asked"], asked);
        let latency = summary["latency"].as_object().unwrap();
        assert_eq!(latency.len(), 3, "{latency:?}");
        for percentiles in latency.values() {
            assert_eq!(percentiles["samples"], 21, "each event is timed");
        }
        let stall = &summary["machine_stall"];
        assert!(stall["samples"].as_u64().unwrap() > 0, "{stall}");
        assert!(stall["max_us"].as_f64() >= stall["p50_us"].as_f64(), "{stall}");
    }
    let summary = bench.replay("--trace t.csv --json").json();
    assert_eq!(summary["rate_asked"], Value::Null);
    let text = bench.replay("--trace t.csv --rate 100").out;
    let [latency, machine] = ["latency ", "machine "].map(|word| text.find(word).unwrap());
    assert!(latency < machine, "the machine's own stalls stand beside the latencies: {text}");
}

/// The first events were sent before the start, and waited no time at all.
#[test]
fn events_meant_for_the_start_are_not_sent_before_it() {
    let bench = Bench::new();
    let events: Vec<_> = (0..2_000).map(|_| (START_NS, "1", "view", 1)).collect();
    bench.write("t.csv", &trace(&events));
    let flags = "--trace t.csv --json --rate x1 --data-dir store";
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number: {value}"));
    let summary = bench.replay(flags).json();
    for percentiles in summary["latency"].as_object().unwrap().values() {
        assert!(number(&percentiles["p50_us"]) > 0.0, "{percentiles}");
    }
    assert!(number(&summary["seconds"]) > 0.0 && number(&summary["rate"]) > 0.0, "{summary}");
    let again = bench.replay(flags).json();
    assert_eq!(["applied", "rate"].map(|key| number(&again[key])), [0.0, 0.0], "{again}");
}

#[test]
fn a_schedule_is_saturated_when_its_events_are_late_and_not_when_a_ring_was_full() {
    let bench = Bench::new();
    // All at once: a ring holds fewer, and the last are far behind.
    let flags = "--synthetic events=300000,step=1s --json --ack applied --rate";
    let summary = bench.replay(&format!("{flags} 1e12")).json();
    assert_eq!(summary["saturated"], true, "{summary}");
    let lag = summary["lag_max_us"].as_f64().unwrap();
    assert!(lag > 5e4 && lag <= summary["seconds"].as_f64().unwrap() * 1e6, "{summary}");
    let summary = bench.replay("--synthetic events=100 --json --rate max").json();
    assert_eq!((&summary["saturated"], &summary["lag_max_us"]), (&false.into(), &Value::Null));
}

#[test]
fn a_dump_appears_whole_or_not_at_all() {
    let bench = Bench::new();
    bench.write("t.csv", &trace(&[(1, "1", "view", "1")]));
    bench.write("d.jsonl", "before");
    let flags = "--trace t.csv --dump d.jsonl --data-dir store";
    // Nothing is recorded for a dump that cannot be written.
    bench.replay(&flags.replace("d.jsonl", "nowhere/d.jsonl")).failed(3, &["cannot write nowhere"]);
    assert!(!bench.path("store").exists());
    bench.write("bad.csv", &trace(&[(1, "1", "view", "heavy")]));
    bench
        .replay(&flags.replace("t.csv", "bad.csv").replace("store", "bad"))
        .failed(2, &["bad.csv:2"]);
    assert_eq!(bench.read("d.jsonl"), "before");
    std::os::unix::fs::symlink("d.jsonl", bench.path("link")).unwrap();
    assert_eq!(bench.replay(&flags.replace("d.jsonl", "link")).code, 0);
    assert!(bench.path("link").is_symlink() && bench.read("d.jsonl").starts_with("{\"entity\""));
    let left = fs::read_dir(bench.0.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".ebbtide")));
}

#[test]
fn answers_as_of_the_past_are_those_of_the_last_events_and_verify() {
    let bench = Bench::new();
    // By the scores as they are dumped 1 is before 2; as of any one instant 2 is before 1.
    let late = START_NS + 2 * HOUR_NS;
    bench.write("t.csv", &trace(&[(START_NS, "1", "view", 2.0), (late, "2", "view", 1.5)]));
    let lines = bench.dump("--as-of 2024-01-01T00:00:00Z --verify");
    for (line, right) in lines.iter().zip([2.0, 1.5]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_close(&line["scores"]["1h"], right);
    }
    let same = bench.dump(&format!("--as-of {START_NS}"));
    assert_eq!(same, lines, "nanoseconds and RFC 3339 are the same instant");
}

#[test]
fn a_bad_line_ends_the_run_with_its_place_and_reason() {
    let bench = Bench::new();
    for (line, reason) in [
        ("yesterday,1,view,1", "timestamp"),
        ("1,,view,1", "entity is empty"),
        ("1,1,click,1", "unknown signal \"click\""),
        ("1,1,view,-1", "weight is negative"),
        ("1,1,view,NaN", "weight is not finite"),
        ("1,1,view,heavy", "weight is not a number"),
        ("1,1,view", "3 fields where the header has 4"),
        ("1,\"1,view,1", "quote"),
        ("1,1,view,1e300", "above the largest allowed"),
    ] {
        bench.write("t.csv", &format!("{}{line}\n1,2,view,1\n", trace(&[(1, "1", "view", 1)])));
        let ended = bench.replay("--trace t.csv --dump d.jsonl");
        ended.failed(2, &["t.csv:3: ", reason, "--skip-bad-lines"]);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert!(!bench.path("d.jsonl").exists(), "half a state is no state");
        let summary = bench.replay("--trace t.csv --skip-bad-lines --json --verify").json();
        let counted = ["applied", "bad_lines", "rejected"].map(|key| summary[key].as_u64());
        let rejected = u64::from(line.ends_with("1e300"));
        assert_eq!(counted, [Some(2), Some(1 - rejected), Some(rejected)], "{line}");
    }
}

#[test]
fn what_was_set_aside_can_be_mended_and_replayed() {
    let bench = Bench::new();
    let good = trace(&[(START_NS, "1", "view", 1), (START_NS, "2", "view", 1)]);
    let bad = format!("{START_NS},a b,view,-3\n{START_NS},3,view,1e16\n{START_NS},4,vue,2\n");
    bench.write("t.csv", &(good + &bad));
    let quarantine = "--trace t.csv --skip-bad-lines --quarantine q.csv --json";
    let summary = bench.replay(quarantine).json();
    assert_eq!((&summary["applied"], &summary["rejected"]), (&2.into(), &1.into()));
    assert_eq!(summary["bad_lines"], 2);
    let set_aside = bench.read("q.csv");
    for told in ["# t.csv:4: weight is negative", "# t.csv:5: weight", "# t.csv:6: unknown signal"]
    {
        assert!(set_aside.contains(told), "{told} in {set_aside}");
    }
    bench.replay("--trace q.csv").failed(2, &["q.csv:3: "]);

    let mended = set_aside.replace(",-3\n", ",3\n").replace("vue", "view");
    let mended = mended.replace(",10000000000000000\n", ",5\n");
    assert_ne!(mended.replace(",5\n", ""), mended, "the rejected weight is spelled out");
    bench.write("t.csv", &mended);
    let lines = bench.dump("");
    let state: BTreeMap<String, f64> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["entity"].to_string(), line["scores"]["1h"].as_f64().unwrap()))
        .collect();
    let right = [("\"3\"", 5.0), ("\"4\"", 2.0), ("\"a b\"", 3.0)];
    let right = right.map(|(entity, score)| (entity.to_owned(), score));
    assert!(state.keys().eq(right.iter().map(|pair| &pair.0)), "{state:?}");
    assert!(right.iter().all(|(entity, score)| (state[entity] - score).abs() < 1e-12));
}

#[test]
fn nothing_bad_leaves_an_empty_quarantine() {
    let bench = Bench::new();
    bench.write("t.csv", &trace(&[(1, "1", "view", 1)]));
    let ended = bench.replay("--trace t.csv --quarantine q.csv");
    assert_eq!((ended.code, &*bench.read("q.csv")), (0, "timestamp,entity,signal,weight\n"));
}

#[test]
fn a_wrong_call_is_told_apart_from_an_environment_that_fails() {
    let bench = Bench::new();
    bench.write("t.csv", &trace(&[(1, "1", "view", 1)]));
    bench.write("bad.toml", "[signals.view]\nhalf_lives = []\n");
    bench.write("latin.toml", "");
    fs::write(bench.path("latin.toml"), b"# caf\xe9\n").unwrap();
    bench.write("headless.csv", "1,1,view,1\n");
    fs::create_dir(bench.path("folder")).unwrap();
    for (rest, code, told) in [
        ("--trace nowhere.csv", 2, "nowhere.csv"),
        ("--trace headless.csv", 2, "headless.csv:1: expected the header"),
        ("--trace folder", 2, "cannot open trace folder"),
        ("--trace t.csv/t.csv", 2, "cannot open trace t.csv/t.csv"),
        ("--trace t.csv --data-dir t.csv", 2, "--data-dir t.csv is no directory"),
        ("--trace t.csv --shards 0", 2, "0 shards"),
        ("--trace t.csv --shards 1025", 2, "1 to 1024 are possible"),
        ("--trace t.csv --cores 4000", 2, "core 4000"),
        ("--trace t.csv --dump t.csv", 2, "t.csv is read by this run"),
        ("--trace t.csv --quarantine s.toml", 2, "s.toml is read by this run"),
        ("--trace t.csv --dump nowhere/d.jsonl", 3, "cannot write nowhere/d.jsonl"),
        ("--trace t.csv --dump folder", 3, "cannot write folder"),
        ("--trace t.csv --dump /dev/full", 3, "cannot write /dev/full"),
        ("--trace t.csv --quarantine nowhere/q.csv", 3, "cannot write quarantine nowhere/q.csv"),
        ("--synthetic events=many", 2, "events=many"),
    ] {
        let ended = bench.replay(rest);
        ended.failed(code, &[told]);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert_eq!(ended.out, "", "{rest}");
    }
    let schema = |name| call(&bench, &["replay", "--trace", "t.csv", "--schema", name]);
    schema("nowhere.toml").failed(2, &["cannot read schema nowhere.toml"]);
    schema("bad.toml").failed(2, &["bad.toml", "'view' has 0 half-lives"]);
    schema("latin.toml").failed(2, &["cannot read schema latin.toml"]);
    schema("folder").failed(2, &["cannot read schema folder"]);
    assert_eq!(bench.read("t.csv"), "timestamp,entity,signal,weight\n1,1,view,1\n", "untouched");
}

#[test]
fn names_reserved_for_later_and_words_not_understood_are_usage_errors() {
    let bench = Bench::new();
    bench.write("t.csv", &trace(&[(1, "1", "view", 1)]));
    for rest in [
        "--report out",
        "--metrics 127.0.0.1:0",
        "--ack accepted",
        "--data-dir",
        "--backend gpu",
        "--rate fast",
        "--producers 0",
        "--as-of tomorrow",
        "--synthetic events=1",
        "--frobnicate",
    ] {
        let ended = bench.replay(&format!("--trace t.csv {rest}"));
        let flag = rest.split(' ').next().unwrap_or_default();
        ended.failed(2, &[flag]);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
    for command in ["top", "simulate", "frobnicate"] {
        call(&bench, &[command]).failed(2, &[command]);
    }
    let left: Vec<_> = fs::read_dir(bench.0.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "nothing was written: {left:?}");
    let help = call(&bench, &["replay", "--help"]);
    assert!(help.code == 0 && help.out.contains("--trace"), "{}", help.out);
}

#[test]
fn a_summary_that_cannot_be_written_is_a_failure_of_the_environment() {
    let bench = Bench::new();
    for rest in ["", "--json"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide-bench"));
        command.args(["replay", "--synthetic", "events=10"]).args(rest.split_whitespace());
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = command.current_dir(bench.0.path()).stdout(full).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{err}");
        assert!(err.starts_with("error: cannot write the summary"), "{err}");
    }
}

#[test]
fn without_a_schema_a_trace_has_that_of_the_bundled_one() {
    let bench = Bench::new();
    bench.write("t.csv", &trace(&[(1, "BOS", "flight", 1)]));
    let ended = call(&bench, &["replay", "--trace", "t.csv", "--json", "--verify"]);
    assert_eq!(ended.json()["applied"], 1);
}

#[test]
fn a_trace_without_events_is_an_empty_state() {
    let bench = Bench::new();
    bench.write("t.csv", "timestamp,entity,signal,weight\n");
    assert_eq!(bench.dump("--verify"), [""; 0]);
}
