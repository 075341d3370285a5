//! The documentation is whole: every page the summary lists exists, every page is listed.

use super::{Document, Violation, extension};

/// Pages that are listed in `summary` and missing, or there and not listed.
#[must_use]
pub fn book_gaps(summary: &Document, documents: &[Document]) -> Vec<Violation> {
    let listed = listed_pages(&summary.text);
    let pages: Vec<&str> = documents
        .iter()
        .filter_map(|document| document.path.strip_prefix("docs/"))
        .filter(|page| extension(page) == "md" && *page != "SUMMARY.md")
        .collect();
    let mut violations = Vec::new();
    for (line, page) in &listed {
        if !pages.contains(&page.as_str()) {
            let what = format!("the page `{page}` does not exist");
            let instead = "write it, or take it off the summary";
            violations.push(Violation::new(&summary.path, *line, what, instead));
        }
    }
    for page in pages {
        if !listed.iter().any(|(_, listed)| listed == page) {
            let path = format!("docs/{page}");
            let instead = "list it in `docs/SUMMARY.md`";
            violations.push(Violation::new(
                &path,
                1,
                "the summary does not list this page",
                instead,
            ));
        }
    }
    violations
}

/// Targets of the links in a summary, with their lines.
fn listed_pages(summary: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in summary.lines().enumerate() {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let pages = targets.map(|target| target.trim_start_matches("./").to_owned());
        found.extend(pages.map(|page| (index + 1, page)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_unlisted_pages_are_found() {
        let document = |path: &str, text: &str| Document { path: path.into(), text: text.into() };
        let summary = document("docs/SUMMARY.md", "# Book\n- [A](A.md)\n  - [B](./d/b.md)\n");
        let all = [
            summary.clone(),
            document("docs/A.md", ""),
            document("docs/d/b.md", ""),
            document("docs/book.toml", ""),
            document("README.md", ""),
        ];
        assert!(book_gaps(&summary, &all).is_empty());
        let missing = book_gaps(&summary, &all[..2]);
        assert_eq!((missing.len(), missing[0].line), (1, 3));
        let unlisted = [&all[..], &[document("docs/c.md", "")]].concat();
        assert_eq!(book_gaps(&summary, &unlisted)[0].path, "docs/c.md");
    }
}
