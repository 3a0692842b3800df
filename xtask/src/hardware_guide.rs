//! Holds `docs/hardware.md` against the sources: the lines of L1's that it quotes are L1's, its codes are the codes, and the
//! places that it names are there.

use crate::images::root;
use crate::soundness::files;
use std::fs;

/// What L1 is made of.
const SOURCES: [&str; 6] = [
    "l1-vmm",
    "tdcall",
    "vtpm",
    "defs",
    "l2-exit",
    "tdshim-config",
];

fn guide() -> String {
    fs::read_to_string(root().join("docs/hardware.md")).unwrap()
}

/// The rows of the tables whose header's first cell, or last one, is this.
fn rows(document: &str, header: impl Fn(&[&str]) -> bool) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut inside = None;
    for line in document.lines() {
        let Some(row) = line
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
        else {
            inside = None;
            continue;
        };
        let cells: Vec<&str> = row.split(" | ").collect();
        match inside {
            None => inside = Some(header(&cells)),
            Some(true) if !cells[0].starts_with("---") => found.push(cells),
            Some(_) => {}
        }
    }
    found
}

/// What stands between grave accents.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The string literals of a Rust source, lines that are continued in one.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("'\"'") {
            rest = &rest[3..];
        } else if first == '"' {
            let (literal, behind) = literal(&rest[1..]);
            found.push(literal);
            rest = behind;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// A literal behind its opening quotation mark, and what follows it.
fn literal(text: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (literal, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((_, '\n')) => {
                    while characters
                        .next_if(|(_, next)| next.is_whitespace())
                        .is_some()
                    {}
                }
                Some((_, escaped)) => literal.push(escaped),
                None => {}
            },
            _ => literal.push(character),
        }
    }
    (literal, "")
}

fn all_literals() -> Vec<String> {
    let mut paths = Vec::new();
    for source in SOURCES {
        files(&root().join(source), ".rs", &mut paths);
    }
    let tests = |path: &std::path::PathBuf| {
        let shown = path.to_str().unwrap();
        shown.contains("/tests/") || shown.ends_with("/tests.rs")
    };
    paths.retain(|path| !tests(path));
    let sources = paths.iter().map(|path| fs::read_to_string(path).unwrap());
    sources.flat_map(|source| literals(&source)).collect()
}

/// The parts of a quoted line between values, which are told by `…`.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let parts = line
        .split('…')
        .map(|part| part.trim_matches([' ', ':', ';', '(', ')']));
    parts.filter(|part| part.len() > 2)
}

fn is_a_line_of_l1(literals: &[String], line: &str) -> bool {
    let mut parts = parts(line);
    parts.all(|part| literals.iter().any(|literal| literal.contains(part)))
}

#[test]
fn every_quoted_line_is_one_of_l1s() {
    let document = guide();
    let literals = all_literals();
    let rows = rows(&document, |header| {
        ["line", "`fatal:`"].contains(&header[0])
    });
    assert!(rows.len() > 45, "{}", rows.len());
    let mut missing = Vec::new();
    for row in &rows {
        let lines: Vec<&str> = quoted(row[0]).collect();
        let [line] = lines[..] else {
            panic!("{row:?} quotes no line, or several");
        };
        assert!(parts(line).next().is_some(), "{line} is of values alone");
        if !is_a_line_of_l1(&literals, line) {
            missing.push(line);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_line_that_is_not_there_is_missed() {
    let of_l1 = all_literals();
    for line in [
        "this TD has no L2 VM: it must be created with NUM_L2_VMS of 2 or more",
        "the host has no fw_cfg device (its signature writes …)",
        // A comment's words.
        "What ends a start",
    ] {
        assert!(!is_a_line_of_l1(&of_l1, line), "{line}");
    }
    let continued = "a(\"one \\\n     two\", '\"', \"th\\\"ree\") // \"four\"";
    assert_eq!(literals(continued), ["one two", "th\"ree"]);
}

#[test]
fn codes_are_those_of_the_image() {
    let document = guide();
    let source = fs::read_to_string(root().join("l1-vmm/image/src/fatal.rs")).unwrap();
    let rows = rows(&document, |header| header[0] == "code");
    let codes = source.lines().filter(|line| {
        let line = line.trim();
        line.split_once(" = ").is_some_and(|(name, value)| {
            let number = value.trim_end_matches(',');
            name.chars().all(char::is_alphanumeric) && number.parse::<u32>().is_ok()
        })
    });
    assert_eq!(rows.len(), codes.count());
    for row in rows {
        let name = quoted(row[1]).next().unwrap();
        let declared = format!("    {name} = {},", row[0]);
        assert!(source.contains(&declared), "{declared}");
    }
}

#[test]
fn what_relies_on_the_specification_alone_is_where_the_guide_says() {
    let document = guide();
    let rows = rows(&document, |header| {
        header.last() == Some(&"what relies on it")
    });
    assert!(rows.len() > 15, "{}", rows.len());
    let mut missing = Vec::new();
    for row in &rows {
        let places = row[1];
        assert!(places == "–" || quoted(places).next().is_some(), "{row:?}");
        for place in places.split(';') {
            let mut names = quoted(place);
            let Some(path) = names.next() else { continue };
            let file = root().join(path);
            if !file.exists() {
                missing.push(path.to_owned());
                continue;
            }
            let source = fs::read_to_string(&file).unwrap_or_default();
            let has = |name: &str| {
                let mut words = source.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.any(|word| word == name)
            };
            let absent = names.filter(|name| !has(name));
            missing.extend(absent.map(|name| format!("{path}: {name}")));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
