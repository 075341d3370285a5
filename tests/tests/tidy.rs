//! The house rules, held against this repository; `docs/STYLE.md` says what each is for.
//!
//! Lists and exceptions stand in `tests/src/tidy/lists.rs`.

use ebbtide_tests::tidy::{
    Document, Repository, Violation, bans, book, dependencies, layers, lists, modules, shape,
    unsafe_code,
};
use std::sync::LazyLock;

static REPOSITORY: LazyLock<Repository> =
    LazyLock::new(|| Repository::load().expect("the repository can be read"));

fn check(violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(|violation| format!("  {violation}")).collect();
    assert!(lines.is_empty(), "{} to mend:\n{}\n", lines.len(), lines.join("\n"));
}

fn document(path: &str) -> &'static Document {
    REPOSITORY.document(path).unwrap_or_else(|| panic!("`{path}` exists"))
}

#[test]
fn the_rules_read_the_repository() {
    for layer in lists::LAYERS {
        let root = format!("{}/src/", layer.folder);
        let seen = REPOSITORY.sources.iter().any(|source| source.path.starts_with(&root));
        assert!(seen, "no source of `{}` was read", layer.package);
    }
    assert!(REPOSITORY.manifests().count() >= 8);
}

#[test]
fn nothing_points_upward() {
    check(&layers::upward_names(&REPOSITORY.sources, lists::LAYERS));
    check(&layers::upward_dependencies(REPOSITORY.manifests(), lists::LAYERS));
}

#[test]
fn glommio_stays_behind_its_two_files() {
    check(&layers::glommio_names(&REPOSITORY.sources, lists::GLOMMIO_FILES));
    check(&layers::glommio_dependencies(REPOSITORY.manifests(), lists::GLOMMIO_MANIFESTS));
}

#[test]
fn the_log_knows_bytes_only() {
    check(&bans::foreign_words(&REPOSITORY.sources, "wal", lists::WAL_FOREIGN_WORDS));
}

#[test]
fn banned_code_is_not_written() {
    check(&bans::banned_code(&REPOSITORY.sources, lists::BANS));
}

#[test]
fn files_say_what_they_are() {
    check(&shape::undescribed_files(&REPOSITORY.sources));
}

#[test]
fn lines_fit_the_page() {
    check(&shape::wide_lines(&REPOSITORY.sources, lists::COLUMNS_MAX));
}

#[test]
fn functions_fit_a_screen() {
    let sources = &REPOSITORY.sources;
    check(&shape::long_functions(sources, lists::FUNCTION_LINES_MAX, lists::LONG_FUNCTIONS));
}

#[test]
fn files_stay_small() {
    check(&shape::long_files(&REPOSITORY.sources, lists::FILE_LINES_MAX, lists::LONG_FILES));
}

#[test]
fn limits_are_explained() {
    check(&shape::unexplained_limits(&REPOSITORY.sources));
}

#[test]
fn unsafe_code_is_listed_and_justified() {
    check(&unsafe_code::unlisted_unsafe(&REPOSITORY.sources, lists::UNSAFE_FILES));
    check(&unsafe_code::unjustified_unsafe(&REPOSITORY.sources));
}

#[test]
fn every_file_is_compiled() {
    let manifests: Vec<&Document> = REPOSITORY.manifests().collect();
    check(&modules::orphans(&REPOSITORY.sources, &manifests, lists::MODULE_FREE_FOLDERS));
}

#[test]
fn the_book_is_whole() {
    check(&book::book_gaps(document("docs/SUMMARY.md"), &REPOSITORY.documents));
}

#[test]
fn every_dependency_is_explained() {
    let table = document("docs/dependencies.md");
    check(&dependencies::unexplained_dependencies(document("Cargo.toml"), table));
}
