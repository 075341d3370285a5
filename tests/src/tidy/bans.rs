//! Code that must not be written, each with what to write instead, and words a package must not
//! know.

use super::source::Source;
use super::{Violation, lies_in};

/// Code that is banned somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Ban {
    /// Folders or files it holds for.
    pub under: &'static [&'static str],
    /// The banned code, as [`Source::lines_with`] reads it.
    pub code: &'static str,
    /// What to write instead.
    pub instead: &'static str,
    /// Files that may contain it, each of which must.
    pub except: &'static [&'static str],
    /// Whether test modules may contain it.
    pub tests_may: bool,
}

impl Ban {
    /// Bans `code` under some folders, without exception.
    #[must_use]
    pub const fn new(
        under: &'static [&'static str],
        code: &'static str,
        instead: &'static str,
    ) -> Self {
        Self { under, code, instead, except: &[], tests_may: false }
    }

    /// Excuses `files`.
    #[must_use]
    pub const fn except(self, files: &'static [&'static str]) -> Self {
        Self { except: files, ..self }
    }

    /// Excuses test modules.
    #[must_use]
    pub const fn outside_tests(self) -> Self {
        Self { tests_may: true, ..self }
    }

    fn lines_in(&self, source: &Source) -> Vec<usize> {
        if !self.under.iter().any(|place| lies_in(&source.path, place)) {
            return Vec::new();
        }
        let excused = if self.tests_may { source.test_modules() } else { Vec::new() };
        let mut lines = source.lines_with(self.code);
        lines.retain(|line| !excused.iter().any(|module| module.contains(line)));
        lines
    }
}

/// Code that a ban names, and exceptions to a ban that are no longer needed.
#[must_use]
pub fn banned_code(sources: &[Source], bans: &[Ban]) -> Vec<Violation> {
    bans.iter().flat_map(|ban| uses_of(sources, ban)).collect()
}

fn uses_of(sources: &[Source], ban: &Ban) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| !ban.except.contains(&source.path.as_str())) {
        for line in ban.lines_in(source) {
            let what = format!("`{}` is banned here", ban.code);
            violations.push(Violation::new(&source.path, line, what, ban.instead));
        }
    }
    for path in ban.except {
        let source = sources.iter().find(|source| source.path == *path);
        if source.is_none_or(|source| ban.lines_in(source).is_empty()) {
            let what = format!("the exception to the ban of `{}` is no longer needed", ban.code);
            violations.push(Violation::new(path, 1, what, "take the file off the ban's list"));
        }
    }
    violations
}

/// Identifiers of `package` with one of `words` in them, in singular or plural.
#[must_use]
pub fn foreign_words(sources: &[Source], package: &str, words: &[&str]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| lies_in(&source.path, package)) {
        for token in source.tokens.iter().filter(|token| token.is_word()) {
            let parts = parts_of(&token.text);
            let known = words.iter().find(|word| parts.iter().any(|part| names(part, word)));
            if let Some(word) = known {
                let what =
                    format!("`{}` says `{word}`, which `{package}` must not know", token.text);
                let instead = "name what it is to this package, or move it up";
                violations.push(Violation::new(&source.path, token.line, what, instead));
            }
        }
    }
    violations
}

fn names(part: &str, word: &str) -> bool {
    let plural = word.strip_suffix('y').map_or(format!("{word}s"), |stem| format!("{stem}ies"));
    part == word || part == plural
}

/// The words of an identifier, `LikeThis` or `like_this`, in small letters.
fn parts_of(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_small = false;
    for sign in identifier.chars() {
        if sign == '_' || (sign.is_uppercase() && was_small) {
            parts.push(String::new());
        }
        was_small = sign.is_lowercase();
        if let Some(last) = parts.last_mut().filter(|_| sign != '_') {
            last.extend(sign.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(violations: &[Violation]) -> Vec<usize> {
        violations.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn banned_code_is_found_in_its_place_only() {
        let bans = [Ban::new(&["shard/src"], "Instant::now", "an argument")];
        let text = "//! a\nfn f() {\n    let a = std::time::Instant::now();\n}\n// Instant::now\n";
        let inside = [Source::new("shard/src/turn.rs", text)];
        assert_eq!(lines(&banned_code(&inside, &bans)), [3]);
        assert!(banned_code(&[Source::new("bench/src/lib.rs", text)], &bans).is_empty());
    }

    #[test]
    fn every_ban_on_the_list_can_fail() {
        for ban in super::super::lists::BANS {
            let bad = ban.code.replace('*', "");
            let path = format!("{}/planted.rs", ban.under[0]);
            let found = banned_code(&[Source::new(path, bad)], &[*ban]);
            assert!(!found.is_empty(), "`{}` was not found", ban.code);
        }
    }

    #[test]
    fn a_group_does_not_hide_banned_code() {
        let bans = [Ban::new(&["shard/src/signal"], "std::fs", "bytes")];
        let source = Source::new("shard/src/signal/decay.rs", "use std::{\n    fmt,\n    fs,\n};");
        assert_eq!(lines(&banned_code(&[source], &bans)), [3]);
    }

    #[test]
    fn an_exception_holds_and_must_be_needed() {
        let bans = [Ban::new(&["shard/src"], "Instant::now", "-").except(&["shard/src/a.rs"])];
        let needed = [Source::new("shard/src/a.rs", "f(Instant::now())")];
        assert!(banned_code(&needed, &bans).is_empty());
        let idle = [Source::new("shard/src/a.rs", "f()")];
        assert_eq!(banned_code(&idle, &bans).len(), 1);
        assert_eq!(banned_code(&[], &bans).len(), 1);
    }

    #[test]
    fn tests_may_print_when_the_ban_says_so() {
        let bans = [Ban::new(&["wal/src"], "println!(", "return it").outside_tests()];
        let text =
            "fn a() { println!(\"a\") }\n#[cfg(test)]\nmod tests {\n    println!(\"b\")\n}\n";
        assert_eq!(lines(&banned_code(&[Source::new("wal/src/lib.rs", text)], &bans)), [1]);
    }

    #[test]
    fn a_foreign_word_is_found_inside_identifiers_and_not_in_prose() {
        let text = "// score\nfn late_score() {}\nstruct EntityId;\nlet underscore = \"signal\";\n\
                    let entities = 1;\nconst SIGNAL_BYTES: u8 = 1;\n";
        let source = Source::new("wal/src/frame.rs", text);
        let found = foreign_words(&[source], "wal", &["score", "signal", "entity"]);
        assert_eq!(lines(&found), [2, 3, 5, 6]);
    }
}
