//! A dependency enters with a reason: each one the workspace names has its line in the table.

use super::layers::dependencies_of;
use super::{Document, Violation};

/// Dependencies of `manifest` that `table` does not explain. Our own packages need no reason.
#[must_use]
pub fn unexplained_dependencies(manifest: &Document, table: &Document) -> Vec<Violation> {
    let explained = |name: &str| {
        let row = format!("| `{name}`");
        table.text.lines().any(|line| line.starts_with(&row))
    };
    let ours = |name: &str| name == "ebbtide" || name.starts_with("ebbtide-");
    let dependencies = dependencies_of(&manifest.text).into_iter();
    dependencies
        .filter(|(_, name)| !ours(name) && !explained(name))
        .map(|(line, name)| {
            let what = format!("`{name}` has no row in `{}`", table.path);
            let instead = "add one: its job, its known risk; or use what is there already";
            Violation::new(&manifest.path, line, what, instead)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_row_is_found() {
        let document = |path: &str, text: &str| Document { path: path.into(), text: text.into() };
        let manifest = document(
            "Cargo.toml",
            "[workspace.dependencies]\nebbtide = { path = \"engine\" }\n\
             rtrb = \"0.4\"\nlibc = \"0.2\"\n",
        );
        let table = document("docs/dependencies.md", "| `rtrb` | rings | none known |\nlibc\n");
        let found = unexplained_dependencies(&manifest, &table);
        assert_eq!((found.len(), found[0].line), (1, 4));
    }
}
