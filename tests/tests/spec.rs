//! `docs/SPECIFICATION.md` and `README.md` keep to the code: every promise names a test that
//! exists, or is marked as pending; the README's example is the one that runs.
//!
//! Not held here: that a test proves its promise. That is for a reviewer.

use ebbtide_tests::tidy::Repository;
use ebbtide_tests::tidy::source::{Source, Token};

const PENDING: &str = "**pending**";

/// One line of the specification: its number, and what is said to hold it.
#[derive(Debug, PartialEq)]
struct Promise<'t> {
    number: &'t str,
    held_by: &'t str,
}

impl<'t> Promise<'t> {
    /// The promise of a table's row; the heading and the line below it are none.
    fn of_row(row: &'t str) -> Option<Self> {
        let cells = row.strip_prefix("| ")?.strip_suffix(" |")?;
        let (number, _) = cells.split_once(" | ")?;
        let (_, held_by) = cells.rsplit_once(" | ")?;
        (number != "#").then_some(Self { number, held_by })
    }

    /// What it names as `path::test`.
    fn tests(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        self.held_by.split('`').skip(1).step_by(2).filter_map(|name| name.split_once("::"))
    }

    /// What is wrong with it.
    fn faults(&self, sources: &[Source]) -> Vec<String> {
        let number = self.number;
        if !self.held_by.contains(PENDING) && self.tests().next().is_none() {
            return vec![format!("{number} names no test; if there is none, say {PENDING}")];
        }
        self.tests()
            .filter(|&(path, test)| {
                !sources.iter().any(|source| source.path == path && has_test(source, test))
            })
            .map(|(path, test)| format!("{number}: `{path}` has no test `{test}`"))
            .collect()
    }
}

fn promises(specification: &str) -> Vec<Promise<'_>> {
    specification.lines().filter_map(Promise::of_row).collect()
}

/// Whether `source` has a function of this name marked as a test, or an example that must not
/// compile.
fn has_test(source: &Source, name: &str) -> bool {
    if name == "compile_fail" {
        return source.text.contains("/ ```compile_fail")
            || source.text.contains("! ```compile_fail");
    }
    let tokens = &source.tokens;
    let functions = tokens.windows(2).enumerate();
    functions
        .filter(|(_, pair)| pair[0].text == "fn" && pair[1].text == name)
        .any(|(at, _)| is_marked_as_test(&tokens[..at]))
}

/// Whether the attributes at the end of `before` include `#[test]`.
fn is_marked_as_test(before: &[Token]) -> bool {
    let ends_item = |token: &Token| matches!(token.text.as_str(), "{" | "}" | ";");
    let start = before.iter().rposition(ends_item).map_or(0, |at| at + 1);
    let texts: Vec<&str> = before[start..].iter().map(|token| token.text.as_str()).collect();
    texts.windows(4).any(|seen| seen == ["#", "[", "test", "]"])
}

fn document(repository: &Repository, path: &str) -> String {
    repository.document(path).unwrap_or_else(|| panic!("`{path}` exists")).text.clone()
}

#[test]
fn every_promise_names_a_test_that_exists_or_is_pending() {
    let repository = Repository::load().expect("the repository can be read");
    let specification = document(&repository, "docs/SPECIFICATION.md");
    let promises = promises(&specification);
    assert!(promises.len() >= 40, "{} promises were read", promises.len());
    let faults: Vec<String> =
        promises.iter().flat_map(|promise| promise.faults(&repository.sources)).collect();
    assert!(faults.is_empty(), "{} to mend:\n{}\n", faults.len(), faults.join("\n"));
}

#[test]
fn every_promise_has_a_number_of_its_own() {
    let repository = Repository::load().expect("the repository can be read");
    let specification = document(&repository, "docs/SPECIFICATION.md");
    let mut numbers: Vec<&str> = promises(&specification).iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    let repeated: Vec<_> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}

#[test]
fn the_readme_shows_the_quickstart() {
    let repository = Repository::load().expect("the repository can be read");
    let readme = document(&repository, "README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let path = "engine/examples/quickstart.rs";
    let example = repository.sources.iter().find(|source| source.path == path);
    let example = example.and_then(|source| source.text.split_once("\n\n"));
    assert_eq!(shown, example.map(|(_its_page, code)| code), "the README and `{path}` differ");
}

#[test]
fn a_promise_without_its_test_is_found() {
    let text = "| # | promise | held by |\n|---|---|---|\n| A1 | a | `a.rs::holds` |\n\
                | A2 | b | `a.rs::helper` |\n| A3 | c | prose |\n| A4 | d | **pending**: later |\n\
                | A5 | e | `b.rs::holds`, `a.rs::holds` |\n| A6 | f | `a.rs::throws` |\n\
                | A7 | g | `a.rs::compile_fail` |\n| A8 | h | `a.rs::law` |\n";
    let code = "fn helper() {}\n#[test]\nfn holds() {}\nproptest! {\n#![config(A { b: 1 })]\n\
                #[test]\nfn law(a: u8) {}\n}\n#[test]\n#[should_panic(expected = \"}\")]\n\
                fn throws() {}\n";
    let sources = [Source::new("a.rs", code)];
    let faulty = promises(text).into_iter().filter(|one| !one.faults(&sources).is_empty());
    let numbers: Vec<&str> = faulty.map(|one| one.number).collect();
    assert_eq!(numbers, ["A2", "A3", "A5", "A7"]);
}
