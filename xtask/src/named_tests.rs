//! Holds that the tests which the documents name exist.

use crate::images::root;
use crate::soundness::files;
use std::collections::HashSet;
use std::fs;

/// What a document can name: the text of all sources, and the names of files, folders, modules and functions.
struct Tree {
    sources: String,
    names: HashSet<String>,
}

impl Tree {
    fn read() -> Self {
        let mut paths = Vec::new();
        files(&root(), ".rs", &mut paths);
        // This file's own words prove nothing.
        paths.retain(|path| !path.ends_with(file!()));
        let mut tree = Self {
            sources: String::new(),
            names: HashSet::new(),
        };
        for path in &paths {
            let relative = path.strip_prefix(root()).unwrap();
            for part in relative.with_extension("").iter() {
                tree.names.insert(part.to_str().unwrap().to_owned());
            }
            let source = fs::read_to_string(path).unwrap();
            for line in source.lines() {
                tree.names.extend(item(line).map(str::to_owned));
            }
            tree.sources.push_str(&source);
        }
        tree
    }

    /// Whether `named` exists: a path from the root folder, a path of modules that ends in one or in a function, a
    /// package, or the name of a boot. `…` stands for words that are left out.
    fn has(&self, named: &str) -> bool {
        let mut parts = named
            .split('…')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.all(|part| self.has_part(part))
    }

    fn has_part(&self, part: &str) -> bool {
        let part = part.trim_end_matches(':');
        if root().join(part).exists() {
            return true;
        }
        let word = |c: char| c.is_alphanumeric() || "_-:".contains(c);
        if part.chars().all(word) {
            let mut segments = part.split("::").filter(|segment| !segment.is_empty());
            return segments.all(|segment| {
                self.names.contains(segment)
                    || self.names.contains(&segment.replace('_', "-"))
                    || self.sources.contains(&format!("\"{segment}\""))
            });
        }
        // "KIND: NAME" may be made of both where the suite is.
        self.is_in_a_string(part)
            || part.match_indices(": ").any(|(at, between)| {
                let (kind, name) = (&part[..at], &part[at + between.len()..]);
                let made = ["{}", "{name}"].map(|hole| format!("\"{kind}: {hole}"));
                let made = made.iter().any(|made| self.sources.contains(made));
                // Or the kind is a constant of the suite.
                let constant = self.sources.contains(&format!("\"{kind}\""));
                (made || constant) && self.is_in_a_string(name)
            })
    }

    /// Whether a string of the sources begins or ends with these words.
    fn is_in_a_string(&self, words: &str) -> bool {
        self.sources.contains(&format!("\"{words}")) || self.sources.contains(&format!("{words}\""))
    }
}

/// The function or module that a line declares.
fn item(line: &str) -> Option<&str> {
    let (_, name) = ["fn ", "mod "]
        .iter()
        .find_map(|keyword| line.split_once(keyword))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .filter(|name| !name.is_empty())
}

/// What stands between grave accents.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of the column "test" of a document's tables, with the first cell of the row.
fn test_cells(document: &str) -> Vec<(&str, &str)> {
    let mut cells = Vec::new();
    let mut named = false;
    for line in document.lines() {
        let Some(row) = line
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
        else {
            named = false;
            continue;
        };
        let columns: Vec<&str> = row.split(" | ").collect();
        let (first, last) = (columns[0], columns[columns.len() - 1]);
        if last == "test" {
            named = true;
        } else if named && !first.starts_with("---") {
            cells.push((first, last));
        }
    }
    cells
}

#[test]
fn every_attack_of_the_threat_model_names_tests_that_exist() {
    names_tests_that_exist("docs/threat-model.md");
}

#[test]
fn every_rule_of_the_tpms_registers_names_tests_that_exist() {
    names_tests_that_exist("docs/conformance.md");
}

fn names_tests_that_exist(path: &str) {
    let tree = Tree::read();
    let document = fs::read_to_string(root().join(path)).unwrap();
    let cells = test_cells(&document);
    assert!(cells.len() > 30, "{}", cells.len());
    let mut missing = Vec::new();
    for (attack, cell) in cells {
        if quoted(cell).next().is_none() {
            missing.push(format!("{attack}: no test is named"));
        }
        missing.extend(
            quoted(cell)
                .filter(|named| !tree.has(named))
                .map(|named| format!("{attack}: no {named}")),
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let tree = Tree::read();
    for named in [
        "launch::hand_off",
        "tests/evidence",
        "tpm2-ref-sys",
        "bad input: processor 256 first",
        "bad input: TD HOB names …",
        "… second processor first",
        "boot: devices: console",
    ] {
        assert!(tree.has(named), "{named}");
    }
    for named in [
        "launch::hands_on",
        "tests/proof",
        "bad input: processor 257 first",
        "good input: processor 256 first",
        "… third processor first",
        "boot: devices: consul",
        "boot: gadgets: console",
    ] {
        assert!(!tree.has(named), "{named}");
    }
}
