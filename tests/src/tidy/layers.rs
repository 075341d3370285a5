//! The direction of use: `engine → router → shard → wal`, and glommio behind two files.

use super::source::Source;
use super::{Document, Violation, folder, lies_in};

/// A package and the folder it lives in.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Path from the repository's root.
    pub folder: &'static str,
    /// Name in its manifest.
    pub package: &'static str,
}

impl Layer {
    fn crate_name(&self) -> String {
        self.package.replace('-', "_")
    }
}

/// Code that names a package which comes later in `layers` than its own.
#[must_use]
pub fn upward_names(sources: &[Source], layers: &[Layer]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        let Some(own) = layer_of(&source.path, layers) else { continue };
        for above in &layers[own + 1..] {
            for line in source.lines_with(&above.crate_name()) {
                violations.push(upward(&source.path, line, layers[own], *above));
            }
        }
    }
    violations
}

/// Manifests that depend on a package which comes later in `layers` than their own.
pub fn upward_dependencies<'a>(
    manifests: impl Iterator<Item = &'a Document>,
    layers: &[Layer],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for manifest in manifests.filter(|manifest| !folder(&manifest.path).is_empty()) {
        let Some(own) = layer_of(&manifest.path, layers) else { continue };
        for (line, name) in dependencies_of(&manifest.text) {
            if let Some(above) = layers[own + 1..].iter().find(|above| above.package == name) {
                violations.push(upward(&manifest.path, line, layers[own], *above));
            }
        }
    }
    violations
}

fn upward(path: &str, line: usize, own: Layer, above: Layer) -> Violation {
    let what = format!("`{}` names `{}`, which builds on it", own.package, above.package);
    Violation::new(path, line, what, "return it upward, or move it down to who needs it")
}

/// Code that names glommio, in words of any form, outside of `allowed`.
#[must_use]
pub fn glommio_names(sources: &[Source], allowed: &[&str]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        if allowed.iter().any(|place| lies_in(&source.path, place)) {
            continue;
        }
        for token in source.tokens.iter().filter(|t| t.text.to_lowercase().contains("glommio")) {
            let instead = "go through the runtime or storage trait that hides it";
            let what = "glommio is named here";
            violations.push(Violation::new(&source.path, token.line, what, instead));
        }
    }
    violations
}

/// Manifests outside of `allowed` that depend on glommio.
pub fn glommio_dependencies<'a>(
    manifests: impl Iterator<Item = &'a Document>,
    allowed: &[&str],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for manifest in manifests.filter(|manifest| !allowed.contains(&manifest.path.as_str())) {
        for (line, _) in dependencies_of(&manifest.text).iter().filter(|(_, n)| n == "glommio") {
            let instead = "depend on the package that hides it";
            let what = "this package depends on glommio";
            violations.push(Violation::new(&manifest.path, *line, what, instead));
        }
    }
    violations
}

/// Position of the layer whose folder is the closest one above `path`.
fn layer_of(path: &str, layers: &[Layer]) -> Option<usize> {
    let holders = layers.iter().enumerate().filter(|(_, layer)| lies_in(path, layer.folder));
    holders.max_by_key(|(_, layer)| layer.folder.len()).map(|(at, _)| at)
}

/// Names in every dependency table of a manifest, with their lines; a renamed one counts under
/// both names.
#[must_use]
pub fn dependencies_of(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut name = "";
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            in_table = header.ends_with("dependencies");
            name = header.rsplit_once("dependencies.").map_or("", |(_, name)| name);
        } else if in_table {
            name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        }
        let renamed = line.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
        let names = [name.trim_matches('"'), renamed.filter(|_| in_table).unwrap_or_default()];
        let names = names.into_iter().filter(|name| !name.is_empty());
        found.extend(names.map(|name| (index + 1, name.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::lists::LAYERS;
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn code_may_look_down_and_not_up() {
        let up =
            Source::new("shard/src/turn.rs", "use ebbtide_wal::Log;\nuse ebbtide_router::R;\n");
        let found = upward_names(&[up], LAYERS);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [2]);
        let facade = Source::new("router/src/lib.rs", "use ::ebbtide::Engine;");
        assert_eq!(upward_names(&[facade], LAYERS).len(), 1);
        let down = Source::new("engine/src/lib.rs", "use ebbtide_router::R; use ebbtide_wal::W;");
        assert!(upward_names(&[down], LAYERS).is_empty());
    }

    #[test]
    fn a_package_inside_another_folder_is_its_own() {
        let cli = Source::new("engine/cli/src/main.rs", "use ebbtide_cli::run; use ebbtide::E;");
        assert!(upward_names(&[cli], LAYERS).is_empty());
        let engine = Source::new("engine/src/lib.rs", "use ebbtide_cli::run;");
        assert_eq!(upward_names(&[engine], LAYERS).len(), 1);
    }

    #[test]
    fn manifests_may_depend_down_and_not_up() {
        let text = "[package]\nname = \"ebbtide-wal\"\n[dependencies]\nblake3.workspace = true\n\
                    [target.'cfg(loom)'.dev-dependencies]\nebbtide-shard.workspace = true\n\
                    [dev-dependencies.ebbtide-router]\npath = \"../router\"\n\
                    [build-dependencies]\nwhole = { package = \"ebbtide\" }\n";
        let found = upward_dependencies([document("wal/Cargo.toml", text)].iter(), LAYERS);
        assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [6, 7, 10]);
        let root = [document("Cargo.toml", "[workspace.dependencies]\nebbtide.path = \"engine\"")];
        assert!(upward_dependencies(root.iter(), LAYERS).is_empty());
    }

    #[test]
    fn glommio_stays_where_it_is_allowed() {
        let text = "use glommio::Local;\nstruct GlommioError;\n// glommio\n";
        let named = |path: &str| glommio_names(&[Source::new(path, text)], &["wal/src/dma.rs"]);
        assert_eq!(named("engine/src/lib.rs").len(), 2);
        assert!(named("wal/src/dma.rs").is_empty());
    }

    #[test]
    fn a_manifest_without_leave_may_not_depend_on_glommio() {
        let shard = [document("shard/Cargo.toml", "[dependencies]\nglommio.workspace = true\n")];
        assert_eq!(glommio_dependencies(shard.iter(), &["wal/Cargo.toml"]).len(), 1);
        assert!(glommio_dependencies(shard.iter(), &["shard/Cargo.toml"]).is_empty());
    }
}
