//! The one check command, the same for people and for continuous integration: `cargo ci`.
//!
//! Promises: each step prints the command it runs; a step that would check nothing fails; the
//! first failure ends the run (`--keep-going` goes on), and the last lines name the failed step
//! and the one command that reruns it.
//! Exit codes: 0 all chosen steps passed or were skipped with a reason, 1 a step failed, 2 a
//! wrong argument.

use ebbtide_tests::call::{Call, Ended};
use ebbtide_tests::tidy::root;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, io};

/// Time for one example; they show an interface, they measure nothing.
const EXAMPLE_LIMIT: Duration = Duration::from_mins(2);
/// Time for all loom models, for each of the two replays, and for all counts.
const LONG_RUN_LIMIT: Duration = Duration::from_mins(10);
/// Exit code by which our programs say that the machine lacks what they need.
const ENVIRONMENT_LACKS: i32 = 3;
/// Examples that need what a container may forbid; they may end with [`ENVIRONMENT_LACKS`].
const EXAMPLES_NEEDING_IO_URING: &[&str] = &["glommio"];
/// A synthetic stream with everything unpleasant in it: hot keys, late events, duplicates.
const SYNTHETIC: &str = "events=2e5,entities=1e4,zipf=1.1,late=0.02,dup=0.01,seed=7";

const USAGE: &str = "usage: cargo ci [--list] [--keep-going] [STEP ...]";

/// What came of a step.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
    NotRun,
}

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Path) -> io::Result<Outcome>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "clippy", about: "no warning from rustc or clippy", run: clippy },
    Step {
        name: "test",
        about: "all tests: unit, property, engine, tidy, documentation",
        run: test,
    },
    Step { name: "doc", about: "the documentation builds without a warning", run: doc },
    Step { name: "loom", about: "the models of what crosses threads, checked", run: loom },
    Step { name: "examples", about: "every example builds, runs and ends well", run: examples },
    Step { name: "deny", about: "licences, sources and bans of the dependencies", run: deny },
    Step { name: "replay", about: "the real trace and a synthetic one, verified", run: replay },
    Step { name: "count", about: "no stage takes more instructions than committed", run: count },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match Plan::read(&arguments) {
        Ok(Plan { list: true, .. }) => {
            for step in STEPS {
                println!("{:<10}{}", step.name, step.about);
            }
            ExitCode::SUCCESS
        }
        Ok(plan) => run(&plan),
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What the arguments ask for.
struct Plan {
    list: bool,
    keep_going: bool,
    steps: Vec<&'static Step>,
}

impl Plan {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut plan = Self { list: false, keep_going: false, steps: Vec::new() };
        let mut named = Vec::new();
        for argument in arguments {
            match argument.as_str() {
                "--list" | "--help" => plan.list = true,
                "--keep-going" => plan.keep_going = true,
                name if STEPS.iter().any(|step| step.name == name) => named.push(name),
                other => {
                    return Err(format!("`{other}` is not a step; `cargo ci --list` names them"));
                }
            }
        }
        let chosen = STEPS.iter().filter(|step| named.is_empty() || named.contains(&step.name));
        plan.steps = chosen.collect();
        Ok(plan)
    }
}

fn run(plan: &Plan) -> ExitCode {
    let root = root();
    let mut results = Vec::new();
    let mut failed = None;
    for step in &plan.steps {
        if failed.is_some() && !plan.keep_going {
            results.push((step.name, Outcome::NotRun, Duration::ZERO));
            continue;
        }
        println!("\n== {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)(&root)
            .unwrap_or_else(|error| Outcome::Failed(format!("a program cannot be run: {error}")));
        if matches!(outcome, Outcome::Failed(_)) {
            failed = failed.or(Some(step.name));
        }
        results.push((step.name, outcome, start.elapsed()));
    }
    print_table(&results);
    let Some(name) = failed else { return ExitCode::SUCCESS };
    println!("\nThe step `{name}` failed. Rerun it alone with: cargo ci {name}");
    ExitCode::FAILURE
}

fn print_table(results: &[(&str, Outcome, Duration)]) {
    println!("\n{:<10}{:>9}  result", "step", "seconds");
    for (name, outcome, took) in results {
        let result = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Skipped(reason) => format!("skipped: {reason}"),
            Outcome::Failed(reason) => format!("FAILED: {reason}"),
            Outcome::NotRun => "not run".to_owned(),
        };
        println!("{name:<10}{:>9.1}  {result}", took.as_secs_f64());
    }
}

fn fmt(root: &Path) -> io::Result<Outcome> {
    passes(Call::cargo(root, &["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> io::Result<Outcome> {
    passes(Call::cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn test(root: &Path) -> io::Result<Outcome> {
    passes(Call::cargo(root, &["test", "--workspace"]))
}

fn doc(root: &Path) -> io::Result<Outcome> {
    let call = Call::cargo(root, &["doc", "--workspace", "--no-deps"]);
    passes(call.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The models run in a folder of their own: `--cfg loom` changes every dependency.
fn loom(root: &Path) -> io::Result<Outcome> {
    let call = |more: &[&str]| {
        let test = ["test", "-p", "ebbtide-shard", "--release", "--lib"].as_slice();
        let models = ["--target-dir", "target/loom", "loom"].as_slice();
        Call::cargo(root, &[test, models, more].concat()).env("RUSTFLAGS", "--cfg loom")
    };
    let (ended, models) = call(&["--", "--list"]).capture()?;
    if ended != Ended::Code(0) {
        return Ok(Outcome::Failed(format!("the models do not build: {ended}")));
    }
    if !models.lines().any(|line| line.ends_with(": test")) {
        return Ok(Outcome::Failed("no test with `loom` in its name was found".to_owned()));
    }
    passes(call(&[]).at_most(LONG_RUN_LIMIT))
}

fn examples(root: &Path) -> io::Result<Outcome> {
    let names = names_of_examples(&root.join("engine/examples"))?;
    if names.is_empty() {
        return Ok(Outcome::Failed("no example was found".to_owned()));
    }
    // For the whole workspace, so that what `cargo test` built is used again.
    let built = passes(Call::cargo(root, &["build", "--workspace", "--examples"]))?;
    if !matches!(built, Outcome::Passed) {
        return Ok(built);
    }
    let folder = folder_of_examples()?;
    for name in &names {
        let program = folder.join(name);
        let shown = format!("cargo run -p ebbtide --example {name}");
        let call = Call::new(program.as_os_str(), root, &shown, &[]);
        match call.at_most(EXAMPLE_LIMIT).run()? {
            Ended::Code(0) => {}
            Ended::Code(ENVIRONMENT_LACKS) if EXAMPLES_NEEDING_IO_URING.contains(&&**name) => {
                println!("`{name}` did not run: this machine does not allow io_uring");
            }
            ended => return Ok(Outcome::Failed(format!("example `{name}`: {ended}"))),
        }
    }
    Ok(Outcome::Passed)
}

fn names_of_examples(folder: &Path) -> io::Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_example =
            path.extension() == Some(OsStr::new("rs")) || path.join("main.rs").exists();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        names.extend(name.filter(|_| is_example));
    }
    names.sort();
    Ok(names)
}

/// Examples are built beside this program, which was built with the same profile.
fn folder_of_examples() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().ok_or_else(|| io::Error::other("a program lies in a folder"))?;
    Ok(folder.join("examples"))
}

fn deny(root: &Path) -> io::Result<Outcome> {
    let version = Call::new(OsStr::new("cargo-deny"), root, "cargo-deny", &["--version"]).capture();
    if version.is_err() {
        let reason = "cargo-deny is not installed; `cargo install cargo-deny --locked`";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    passes(Call::cargo(root, &["deny", "check", "bans", "licenses", "sources"]))
}

/// Apart from running it, which has a limit of time.
fn build_harness(root: &Path) -> io::Result<Outcome> {
    passes(Call::cargo(root, &["build", "--release", "-p", "ebbtide-bench"]))
}

fn replay(root: &Path) -> io::Result<Outcome> {
    let built = build_harness(root)?;
    if !matches!(built, Outcome::Passed) {
        return Ok(built);
    }
    let run = |more: &[&str]| {
        let replay = ["run", "--release", "-p", "ebbtide-bench", "--", "replay", "--verify"];
        passes(Call::cargo(root, &[replay.as_slice(), more].concat()).at_most(LONG_RUN_LIMIT))
    };
    let real = run(&[])?;
    if !matches!(real, Outcome::Passed) {
        return Ok(real);
    }
    run(&["--synthetic", SYNTHETIC, "--backend", "threads"])
}

fn count(root: &Path) -> io::Result<Outcome> {
    let version = Call::new(OsStr::new("valgrind"), root, "valgrind", &["--version"]).capture();
    if version.is_err() {
        let reason = "valgrind is not installed; `apt-get install valgrind`";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    let built = build_harness(root)?;
    if !matches!(built, Outcome::Passed) {
        return Ok(built);
    }
    let call = Call::cargo(root, &["run", "--release", "-p", "ebbtide-bench", "--", "count"]);
    let line = call.to_string();
    Ok(match call.at_most(LONG_RUN_LIMIT).run()? {
        Ended::Code(0) => Outcome::Passed,
        Ended::Code(ENVIRONMENT_LACKS) => {
            Outcome::Skipped("nothing can be counted here, as it says above".to_owned())
        }
        ended => Outcome::Failed(format!("{line}: {ended}")),
    })
}

fn passes(call: Call) -> io::Result<Outcome> {
    let line = call.to_string();
    Ok(match call.run()? {
        Ended::Code(0) => Outcome::Passed,
        ended => Outcome::Failed(format!("{line}: {ended}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        Plan::read(&arguments).map(|plan| plan.steps.iter().map(|step| step.name).collect())
    }

    #[test]
    fn no_name_means_every_step_and_names_keep_their_order() {
        assert_eq!(names(&[]).map(|all| all.len()), Ok(STEPS.len()));
        assert_eq!(names(&["test", "--keep-going", "fmt"]), Ok(vec!["fmt", "test"]));
    }

    #[test]
    fn an_unknown_step_is_an_error_that_says_where_to_look() {
        assert!(names(&["fmt", "tests"]).is_err_and(|message| message.contains("--list")));
    }

    #[test]
    fn examples_are_files_and_folders_in_a_fixed_order() {
        let here = root().join("tests/src");
        let names = names_of_examples(&here.join("bin")).expect("the folder can be read");
        assert!(names.is_sorted() && names.contains(&"ci".to_owned()));
        assert!(names_of_examples(&here.join("nowhere")).is_ok_and(|names| names.is_empty()));
    }
}
