//! Holds `docs/soundness.md` against the sources: `unsafe` is where its table says, and nowhere else.

use crate::images::root;
use std::fs;
use std::path::{Path, PathBuf};

/// The lint's line in the root of a crate that has no `unsafe`.
const FORBID: &str = "#![forbid(unsafe_code)]";

/// The paths in the first column of the document's table, relative to the root folder.
fn places() -> Vec<PathBuf> {
    let document = fs::read_to_string(root().join("docs/soundness.md")).unwrap();
    let (_, section) = document.split_once("## Where").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split('|').next().unwrap());
    cells
        .flat_map(|cell| cell.split(','))
        .map(|path| root().join(path.trim().trim_matches('`')))
        .collect()
}

/// Every file below `folder` whose name ends in `end`, but for what is built or hidden.
pub(crate) fn files(folder: &Path, end: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, end, into);
            }
        } else if name.ends_with(end) {
            into.push(path);
        }
    }
}

/// Whether a line of Rust has the keyword, outside a comment.
fn has_keyword(line: &str) -> bool {
    let word = "unsafe";
    let code = line.split("//").next().unwrap();
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
            && matches!(after, None | Some(' ' | '(' | '{'))
    })
}

fn has_unsafe(file: &Path) -> bool {
    fs::read_to_string(file).unwrap().lines().any(has_keyword)
}

#[test]
fn unsafe_is_where_the_document_says() {
    let places = places();
    assert!(places.len() > 3, "{places:?}");
    let mut sources = Vec::new();
    files(&root(), ".rs", &mut sources);
    let (named, other): (Vec<_>, Vec<_>) = sources
        .into_iter()
        .filter(|file| has_unsafe(file))
        .partition(|file| places.iter().any(|place| file.starts_with(place)));
    assert!(other.is_empty(), "not named: {other:?}");
    for place in &places {
        let used = named.iter().any(|file| file.starts_with(place));
        assert!(used, "{} has none", place.display());
    }
}

/// A crate without a place in the table forbids `unsafe`, and every crate has the workspace's lints.
#[test]
fn crates_forbid_unsafe_where_the_document_names_nothing() {
    let places = places();
    let mut manifests = Vec::new();
    files(&root(), "Cargo.toml", &mut manifests);
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).unwrap();
        // The workspace itself, and the fuzz targets, which are a workspace of their own.
        if text.contains("[workspace]") {
            continue;
        }
        let inherits = text.contains("[lints]\nworkspace = true");
        assert!(inherits, "no lints in {}", manifest.display());
        let package = manifest.parent().unwrap();
        if places
            .iter()
            .any(|place| place.starts_with(package) && !nested(place, package))
        {
            continue;
        }
        for crate_root in ["src/lib.rs", "src/main.rs"].map(|name| package.join(name)) {
            if let Ok(source) = fs::read_to_string(&crate_root) {
                let forbids = source.lines().any(|line| line == FORBID);
                assert!(forbids, "{} does not forbid", crate_root.display());
            }
        }
    }
}

/// Whether `place` belongs to a package further down than `package`.
fn nested(place: &Path, package: &Path) -> bool {
    let folders = place.ancestors().take_while(|folder| *folder != package);
    folders
        .into_iter()
        .any(|folder| folder.join("Cargo.toml").exists())
}

#[test]
fn the_keyword_is_found_and_words_like_it_are_not() {
    let keyword = ["un", "safe"].concat();
    for line in ["{ }", "fn f()", "(no_mangle)", ""] {
        assert!(has_keyword(&format!("  {keyword} {line}")), "{line}");
    }
    assert!(!has_keyword(&format!("// {keyword} {{ }}")));
    assert!(!has_keyword(&format!("#![forbid({keyword}_code)]")));
}
