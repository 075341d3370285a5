//! `unsafe` stands in listed files only, and each use under a comment that justifies it.

use super::Violation;
use super::source::Source;

/// Files outside of `allowed` with `unsafe` in them, and listed files without.
#[must_use]
pub fn unlisted_unsafe(sources: &[Source], allowed: &[&str]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| !allowed.contains(&source.path.as_str())) {
        for line in source.lines_with("unsafe") {
            let instead = "use a safe interface; else add the file to `UNSAFE_FILES`, with reasons";
            violations.push(Violation::new(
                &source.path,
                line,
                "`unsafe` in an unlisted file",
                instead,
            ));
        }
    }
    for path in allowed {
        let source = sources.iter().find(|source| source.path == *path);
        if source.is_none_or(|source| source.lines_with("unsafe").is_empty()) {
            let what = "the file no longer contains `unsafe`";
            violations.push(Violation::new(path, 1, what, "take it off `UNSAFE_FILES`"));
        }
    }
    violations
}

/// Blocks and implementations that are `unsafe` without a safety comment directly above.
#[must_use]
pub fn unjustified_unsafe(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        let text: Vec<&str> = source.text.lines().map(str::trim_start).collect();
        let mut lines = source.lines_with("unsafe {");
        lines.extend(source.lines_with("unsafe impl"));
        for line in lines.into_iter().filter(|line| !is_justified(&text[..line - 1])) {
            let instead = "write above it, in a safety comment, what it needs and why that holds";
            violations.push(Violation::new(
                &source.path,
                line,
                "`unsafe` without a reason",
                instead,
            ));
        }
    }
    violations
}

/// Whether the lines above end in a safety comment, attributes aside.
fn is_justified(above: &[&str]) -> bool {
    let comment = above.iter().rev().skip_while(|line| line.starts_with("#["));
    comment.take_while(|line| line.starts_with("//")).any(|line| line.starts_with("// SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "// unsafe\nfn f() {\n    let a = unsafe { g() };\n}\n";
    const JUSTIFIED: &str =
        "// SAFETY:\n// - needs: nothing.\n#[inline]\nunsafe impl Send for A {}\n";

    #[test]
    fn unsafe_needs_its_file_listed() {
        let source = [Source::new("wal/src/a.rs", BARE)];
        let found = unlisted_unsafe(&source, &[]);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [3]);
        assert!(unlisted_unsafe(&source, &["wal/src/a.rs"]).is_empty());
        let safe = [Source::new("wal/src/a.rs", "#![forbid(unsafe_code)]")];
        assert!(unlisted_unsafe(&safe, &[]).is_empty());
        assert_eq!(unlisted_unsafe(&safe, &["wal/src/a.rs"]).len(), 1, "an idle exception");
    }

    #[test]
    fn unsafe_needs_a_reason_directly_above() {
        assert_eq!(unjustified_unsafe(&[Source::new("a.rs", BARE)]).len(), 1);
        assert!(unjustified_unsafe(&[Source::new("a.rs", JUSTIFIED)]).is_empty());
        let far = JUSTIFIED.replace("#[inline]", "");
        assert_eq!(unjustified_unsafe(&[Source::new("a.rs", far)]).len(), 1);
    }
}
