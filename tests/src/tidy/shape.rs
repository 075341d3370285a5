//! The shape of a file: what its first line says, how wide and how long it is, how long its
//! functions are, and whether its limits are explained.

use super::source::Source;
use super::{Violation, file_name};

/// A function excused from the limit of lines.
#[derive(Clone, Copy, Debug)]
pub struct LongFunction {
    /// The file it is in.
    pub path: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// Files whose first line does not say what they are.
#[must_use]
pub fn undescribed_files(sources: &[Source]) -> Vec<Violation> {
    let described = |source: &Source| {
        let first = source.text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|page| !page.trim().is_empty())
    };
    let found = sources.iter().filter(|source| !described(source));
    let what = "the first line does not say what the file is";
    found.map(|source| Violation::new(&source.path, 1, what, "begin with a `//! …` line")).collect()
}

/// Lines wider than `columns_max`, but for comments that hold a link, which cannot be broken.
#[must_use]
pub fn wide_lines(sources: &[Source], columns_max: usize) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            let link = line.trim_start().starts_with("//") && line.contains("://");
            if columns > columns_max && !link {
                let what = format!("{columns} columns, more than {columns_max}");
                violations.push(Violation::new(&source.path, index + 1, what, "break the line"));
            }
        }
    }
    violations
}

/// Functions of more than `lines_max` lines, and exceptions that are no longer needed.
#[must_use]
pub fn long_functions(
    sources: &[Source],
    lines_max: usize,
    excused: &[LongFunction],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut needed = vec![false; excused.len()];
    for source in sources {
        for function in source.functions() {
            let lines = function.lines.clone().count();
            if lines <= lines_max {
                continue;
            }
            let excuse = excused
                .iter()
                .position(|listed| listed.path == source.path && listed.name == function.name);
            if let Some(excuse) = excuse {
                needed[excuse] = true;
                continue;
            }
            let what = format!("`{}` has {lines} lines, more than {lines_max}", function.name);
            let instead = "give its steps names and let it read as their list";
            violations.push(Violation::new(&source.path, *function.lines.start(), what, instead));
        }
    }
    let idle = excused.iter().zip(needed).filter(|(_, needed)| !needed);
    violations.extend(idle.map(|(listed, _)| {
        let what = format!("`{}` no longer needs its exception", listed.name);
        Violation::new(listed.path, 1, what, "take it off `LONG_FUNCTIONS`")
    }));
    violations
}

/// Files of more than `lines_max` lines without test modules, and exceptions no longer needed.
#[must_use]
pub fn long_files(sources: &[Source], lines_max: usize, excused: &[&str]) -> Vec<Violation> {
    let is_long = |source: &Source| lines_without_tests(source) > lines_max;
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| is_long(source)) {
        if !excused.contains(&source.path.as_str()) {
            let lines = lines_without_tests(source);
            let what = format!("{lines} lines without test modules, more than {lines_max}");
            let instead = "split it by step of the flow, not by kind of item";
            violations.push(Violation::new(&source.path, lines_max + 1, what, instead));
        }
    }
    for path in excused {
        if !sources.iter().any(|source| source.path == *path && is_long(source)) {
            let what = "the file no longer needs its exception";
            violations.push(Violation::new(path, 1, what, "take it off `LONG_FILES`"));
        }
    }
    violations
}

fn lines_without_tests(source: &Source) -> usize {
    let tests: usize = source.test_modules().into_iter().map(Iterator::count).sum();
    source.text.lines().count() - tests
}

/// Public constants in a `limits.rs` without a line of documentation.
#[must_use]
pub fn unexplained_limits(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| file_name(&source.path) == "limits.rs") {
        let mut explained = false;
        for (index, line) in source.text.lines().map(str::trim_start).enumerate() {
            let constant = line.starts_with("pub") && line.contains("const ");
            if constant && !explained {
                let instead = "say in a `///` line what it bounds and what depends on it";
                let what = "a limit without an explanation";
                violations.push(Violation::new(&source.path, index + 1, what, instead));
            }
            explained = line.starts_with("///") || (explained && line.starts_with("#["));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> [Source; 1] {
        [Source::new(path, text)]
    }

    fn lines(violations: &[Violation]) -> Vec<usize> {
        violations.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_file_says_what_it_is_in_its_first_line() {
        assert!(undescribed_files(&one("a.rs", "//! What it is.\n")).is_empty());
        for bad in ["", "use a;\n", "\n//! Late.\n", "//!\n//! Below.\n", "// A comment.\n"] {
            assert_eq!(undescribed_files(&one("a.rs", bad)).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn width_is_counted_in_characters() {
        let umlauts = "ü".repeat(100);
        assert!(wide_lines(&one("a.rs", &umlauts), 100).is_empty());
        assert_eq!(lines(&wide_lines(&one("a.rs", &format!("a\n{umlauts}ü")), 100)), [2]);
        let link = format!("/// See <https://{umlauts}>");
        assert!(wide_lines(&one("a.rs", &link), 100).is_empty());
    }

    #[test]
    fn a_long_function_is_found_unless_listed() {
        let text = format!("//! a\nfn long() {{\n{}}}\nfn short() {{}}\n", "    a();\n".repeat(69));
        let source = one("a.rs", &text);
        assert_eq!(lines(&long_functions(&source, 70, &[])), [2]);
        assert!(long_functions(&source, 71, &[]).is_empty());
        let excuse = [LongFunction { path: "a.rs", name: "long" }];
        assert!(long_functions(&source, 70, &excuse).is_empty());
        assert_eq!(long_functions(&source, 71, &excuse).len(), 1, "an idle exception");
    }

    #[test]
    fn a_long_file_is_found_unless_listed_and_tests_do_not_count() {
        let tests = "#[cfg(test)]\nmod tests {\n    // a\n}\n";
        let source = one("a.rs", &format!("// a\n// b\n// c\n{tests}"));
        assert!(long_files(&source, 3, &[]).is_empty());
        assert_eq!(lines(&long_files(&source, 2, &[])), [3]);
        assert!(long_files(&source, 2, &["a.rs"]).is_empty());
        assert_eq!(long_files(&source, 3, &["a.rs"]).len(), 1, "an idle exception");
    }

    #[test]
    fn a_limit_is_explained_where_it_stands() {
        let text = "/// Why.\npub const A: u8 = 1;\npub const B: u8 = 2;\n\
                    /// Why.\n#[cfg(not(loom))]\npub(crate) const C: u8 = 3;\nconst D: u8 = 4;\n";
        assert_eq!(lines(&unexplained_limits(&one("wal/src/limits.rs", text))), [3]);
        assert!(unexplained_limits(&one("wal/src/frame.rs", text)).is_empty());
    }
}
