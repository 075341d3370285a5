//! No `.rs` file that nothing compiles: each is a root cargo knows, or is named by a `mod`.

use super::source::Source;
use super::{Document, Violation, extension, file_name, folder};
use std::collections::{BTreeMap, BTreeSet};

/// Files that no target of a package reaches, but for those in one of `free_folders`.
#[must_use]
pub fn orphans(
    sources: &[Source],
    manifests: &[&Document],
    free_folders: &[&str],
) -> Vec<Violation> {
    let files: BTreeMap<&str, &Source> =
        sources.iter().map(|source| (source.path.as_str(), source)).collect();
    let mut reached = BTreeSet::new();
    let mut queue: Vec<String> = manifests.iter().flat_map(|m| roots(m, &files)).collect();
    while let Some(path) = queue.pop() {
        let Some(source) = files.get(path.as_str()) else { continue };
        let is_root = is_target(&path, manifests);
        if reached.insert(path) {
            queue.extend(named_files(source, is_root));
        }
    }
    let is_free = |path: &str| folder(path).split('/').any(|part| free_folders.contains(&part));
    let lost = files.keys().filter(|path| !reached.contains(**path) && !is_free(path));
    let instead = "name it with a `mod`, or delete it";
    lost.map(|path| Violation::new(path, 1, "no `mod` names this file", instead)).collect()
}

/// The files of a package that cargo compiles without being told.
fn roots(manifest: &Document, files: &BTreeMap<&str, &Source>) -> Vec<String> {
    let found = files.keys().filter(|path| is_target(path, &[manifest]));
    let told = manifest.text.lines().filter_map(|line| {
        let path = line.trim().strip_prefix("path")?.split('"').nth(1)?;
        (extension(path) == "rs").then(|| join(folder(&manifest.path), path))
    });
    found.map(|path| (*path).to_owned()).chain(told).collect()
}

/// Whether `path` is where cargo looks for a target of one of the packages.
fn is_target(path: &str, manifests: &[&Document]) -> bool {
    manifests.iter().filter(|manifest| manifest.text.contains("[package]")).any(|manifest| {
        let package = folder(&manifest.path);
        let inside = path.strip_prefix(package).map(|rest| rest.trim_start_matches('/'));
        let parts: Vec<&str> = inside.unwrap_or_default().split('/').collect();
        matches!(
            parts[..],
            ["build.rs"]
                | ["src", "lib.rs" | "main.rs"]
                | ["src", "bin", _]
                | ["src", "bin", _, "main.rs"]
                | ["tests" | "examples" | "benches", _]
                | ["tests" | "examples" | "benches", _, "main.rs"]
        )
    })
}

/// Where the modules and inclusions of `source` may lie.
fn named_files(source: &Source, is_root: bool) -> Vec<String> {
    let here = folder(&source.path);
    let name = file_name(&source.path).trim_end_matches(".rs");
    let home = if is_root || name == "mod" { here.to_owned() } else { join(here, name) };
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let mut found: Vec<String> = Vec::new();
    for (line, module) in declared_modules(source) {
        let above = lines[..line - 1].iter().rev().take_while(|line| line.starts_with("#["));
        let told =
            above.filter(|line| line.starts_with("#[path")).find_map(|l| l.split('"').nth(1));
        found.extend(told.map(|path| join(here, path)));
        found.push(join(&home, &format!("{module}.rs")));
        found.push(join(&home, &format!("{module}/mod.rs")));
    }
    let included =
        source.text.split("include!(\"").skip(1).filter_map(|rest| rest.split('"').next());
    found.extend(included.map(|path| join(here, path)));
    found
}

/// Every `mod name;` with its line; inside `mod outer { … }` as `outer/name`.
fn declared_modules(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut outer: Vec<(usize, &str)> = Vec::new();
    for (at, window) in source.tokens.windows(3).enumerate() {
        outer.retain(|(end, _)| *end > at);
        if window[0].text != "mod" || !window[1].is_word() {
            continue;
        }
        let name = window[1].text.as_str();
        if window[2].text == "{" {
            outer.push((source.matching_brace(at + 2), name));
        } else {
            let path: Vec<&str> = outer.iter().map(|(_, name)| *name).chain([name]).collect();
            found.push((window[0].line, path.join("/")));
        }
    }
    found
}

/// `path` as seen from `folder`, with `.` and `..` resolved.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans_of(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(*path, *text)).collect();
        let text = "[package]\nname = \"a\"\n[[bin]]\npath = \"tools/told.rs\"\n".to_owned();
        let manifest = Document { path: "a/Cargo.toml".to_owned(), text };
        let found = orphans(&sources, &[&manifest], &["compile_fail"]);
        found.into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn files_that_cargo_or_a_module_names_are_no_orphans() {
        let files = [
            ("a/build.rs", ""),
            ("a/src/lib.rs", "mod b;\npub(crate) mod c;\nmod d { mod e; }\n"),
            ("a/src/b.rs", "mod f;"),
            ("a/src/b/f.rs", ""),
            ("a/src/c/mod.rs", "#[cfg(test)]\nmod g;\n#[path = \"h2.rs\"]\nmod h;"),
            ("a/src/c/g.rs", "include!(\"../table.rs\");"),
            ("a/src/c/h2.rs", ""),
            ("a/src/d/e.rs", ""),
            ("a/src/table.rs", ""),
            ("a/src/bin/i.rs", ""),
            ("a/tests/j.rs", "mod common;"),
            ("a/tests/common/mod.rs", ""),
            ("a/tests/compile_fail/k.rs", ""),
            ("a/tools/told.rs", ""),
        ];
        assert_eq!(orphans_of(&files), [""; 0]);
    }

    #[test]
    fn a_file_that_nothing_names_is_an_orphan() {
        let files = [
            ("a/src/lib.rs", "// mod b;\nmod c {}\nmod d;\n"),
            ("a/src/b.rs", "mod unreached;"),
            ("a/src/b/unreached.rs", ""),
            ("a/src/c.rs", ""),
            ("a/src/d.rs", ""),
            ("a/src/x/d.rs", ""),
            ("a/tests/common/mod.rs", ""),
        ];
        assert_eq!(
            orphans_of(&files),
            [
                "a/src/b.rs",
                "a/src/b/unreached.rs",
                "a/src/c.rs",
                "a/src/x/d.rs",
                "a/tests/common/mod.rs"
            ]
        );
    }
}
