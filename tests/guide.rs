//! Checks the crate's documentation against the source: files and functions that the guide in `src/lib.rs` and README
//! name exist, and the index of `src/standards.rs` and the doc comments agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The module doc at the front of a file.
fn module_doc(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Whether a file has a function of this name outside of its tests.
fn has_function(text: &str, name: &str) -> bool {
    let code = text
        .split("\n#[cfg(test)]\nmod ")
        .next()
        .unwrap_or_default();
    code.match_indices(&format!("fn {name}"))
        .any(|(at, found)| {
            let behind = code[at + found.len()..].chars().next();
            let before = code[..at].chars().next_back();
            matches!(behind, Some('(' | '<')) && before.is_none_or(|c| c == ' ' || c == '\n')
        })
}

/// The texts in backquotes, in order.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The errors of a text that names files, each followed by the `functions()` that it contains.
fn mistakes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut file: Option<(&str, String)> = None;
        for word in quoted(line) {
            let is_path = ["src/", "tests/", "man/", ".ci/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            if is_path && !word.contains([' ', '*']) {
                let path = root().join(word);
                if !path.exists() {
                    found.push(format!("there is no {word}"));
                }
                let text = match path.is_file() {
                    true => read(word),
                    false => String::new(),
                };
                file = Some((word, text));
            } else if let Some(name) = word.strip_suffix("()") {
                match &file {
                    Some((_, text)) if has_function(text, name) => {}
                    Some((path, _)) => found.push(format!("there is no {name} in {path}")),
                    None => found.push(format!("{word} stands behind no file")),
                }
            }
        }
    }
    found
}

#[test]
fn every_file_and_function_that_the_guide_names_is_there() {
    let guide = module_doc(&read("src/lib.rs"));
    let named = quoted(&guide).filter(|word| word.ends_with("()")).count();
    assert!(named >= 60, "the guide was found: {named}");
    assert_eq!(mistakes(&guide), Vec::<String>::new());
}

#[test]
fn every_file_that_readme_names_is_there() {
    let text = read("README.md");
    let mut gone = mistakes(&text);
    gone.retain(|mistake| mistake.starts_with("there is no "));
    assert_eq!(gone, Vec::<String>::new());
}

#[test]
fn readme_names_the_package_of_this_version() {
    let package = format!("chopar_{}-1_amd64.deb", env!("CARGO_PKG_VERSION"));
    assert!(read("README.md").contains(&package), "{package}");
}

/// The states in a diagram: words that begin with a capital letter followed by a small one.
fn states_of_diagram(path: &str) -> BTreeSet<String> {
    let doc = module_doc(&read(path));
    let diagram = doc.split("```").nth(1).expect("a diagram").to_owned();
    let diagram = diagram.strip_prefix("text").expect("text").to_owned();
    let words = diagram.split(|c: char| !c.is_ascii_alphanumeric());
    let is_state = |word: &&str| {
        let mut messages = word.chars();
        messages.next().is_some_and(|c| c.is_ascii_uppercase())
            && messages.next().is_some_and(|c| c.is_ascii_lowercase())
    };
    words.filter(is_state).map(str::to_owned).collect()
}

/// The variants of an enum.
fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let text = read(path);
    let (_, body) = text
        .split_once(&format!("enum {name} {{\n"))
        .expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let names = variants.map(|line| line.split([' ', '(', ',']).next().unwrap_or_default());
    names.map(str::to_owned).collect()
}

#[test]
fn a_diagram_of_states_names_exactly_the_states() {
    for (doc, code, name) in [
        (
            "src/engine/delivery.rs",
            "src/engine/delivery/session.rs",
            "State",
        ),
        (
            "src/engine/server/acceptance.rs",
            "src/engine/server/acceptance.rs",
            "Acceptance",
        ),
    ] {
        let states = variants(code, name);
        assert!(states.len() > 5, "{code}: {states:?}");
        assert_eq!(states_of_diagram(doc), states, "{doc}");
    }
}

#[test]
fn a_name_that_is_gone_is_found() {
    let text =
        "| `src/lib.rs` `gone()` | `src/gone.rs` | `tests/guide.rs` `mistakes()` |\n`alone()`";
    let expected = [
        "there is no gone in src/lib.rs",
        "there is no src/gone.rs",
        "alone() stands behind no file",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn the_guide_with_frequent_questions_is_linked_from_readme() {
    assert!(
        read("README.md").contains("(src/lib.rs)"),
        "README links to the guide"
    );
    let guide = module_doc(&read("src/lib.rs"));
    for (what, function) in [
        ("durable", "message_committed()"),
        ("unknown recipient", "refusal_reply()"),
        ("`cv=`", "status()"),
        ("idle", "timeout()"),
        ("SIGHUP", "read_configuration()"),
        ("recipient refused", "recipient_verdict()"),
        ("result is recorded", "record()"),
        ("DSN is written", "compose()"),
        ("`5.1.1`", "status()"),
        ("EHLO list", "greet()"),
        ("bare LF", "parse()"),
        ("SRS address", "unwrap()"),
        ("AUTH failures", "note_failure()"),
        ("memory limit", "room_verdict()"),
        ("4xx", "delay()"),
        ("paused", "pause_hop()"),
        ("destination", "put_envelope()"),
    ] {
        let says = |line: &str| line.contains(what) && quoted(line).any(|word| word == function);
        assert!(guide.lines().any(says), "{what}: {function}");
    }
    assert!(read("src/smtp/reply.rs").contains("\"5.1.1\""));
}

mod standards {
    use super::*;

    /// A section of a standard, and the function that decides it.
    type Decided = BTreeSet<(String, String, String)>;

    /// The rows of the index.
    fn index() -> Decided {
        let doc = module_doc(&read("src/standards.rs"));
        let mut standard = "";
        let mut rows = Decided::new();
        for line in doc.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix("# ") {
                standard = title.split_once(": ").expect("a title").0;
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let ["", section, _, file, function, ""] = cells[..]
                && section.starts_with(|c: char| c.is_ascii_digit())
            {
                let row = (
                    format!("{standard} section {section}"),
                    file.trim_matches('`').to_owned(),
                    function.trim_matches('`').to_owned(),
                );
                assert!(rows.insert(row), "twice: {line}");
            }
        }
        rows
    }

    /// The name of the function that a line begins.
    fn function(line: &str) -> Option<&str> {
        let (before, rest) = line.split_once("fn ")?;
        let is_head = before
            .split_ascii_whitespace()
            .all(|word| word.starts_with("pub") || matches!(word, "const" | "in" | "async"))
            || before.starts_with("pub(");
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        is_head.then(|| &rest[..end])
    }

    /// The sections that the doc comments of a file attribute to their functions.
    fn decided(path: &str, text: &str) -> Decided {
        let mut found = Decided::new();
        let mut open: Vec<String> = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(said) = line.strip_prefix("/// Decides ") {
                let said = said.strip_suffix('.').expect("a sentence");
                open.extend(said.split(", ").map(str::to_owned));
            } else if let Some(name) = function(line) {
                let rows = open.drain(..);
                found.extend(rows.map(|section| (section, path.to_owned(), name.to_owned())));
            } else {
                let is_between = line.starts_with("///") || line.starts_with("#[");
                assert!(open.is_empty() || is_between, "{path}: {line} decides");
            }
        }
        found
    }

    fn collect(folder: &Path, found: &mut Decided) {
        for entry in fs::read_dir(folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).expect("a file of ours");
                let name = name.to_str().expect("UTF-8");
                found.extend(decided(name, &read(name)));
            }
        }
    }

    #[test]
    fn every_row_is_in_the_doc_of_its_function_and_the_reverse() {
        let mut there = Decided::new();
        collect(&root().join("src"), &mut there);
        let index = index();
        let unsaid: Vec<_> = index.difference(&there).collect();
        let unlisted: Vec<_> = there.difference(&index).collect();
        assert!(
            unsaid.is_empty() && unlisted.is_empty(),
            "not in the doc of the function: {unsaid:?}; not in the index: {unlisted:?}"
        );
    }

    #[test]
    fn the_index_covers_the_standards_of_a_mail_relay() {
        let mut rows = BTreeMap::new();
        for (section, _, _) in index() {
            let standard = section.split_once(" section ").expect("a section").0;
            *rows.entry(standard.to_owned()).or_insert(0) += 1;
        }
        assert!(rows.values().sum::<usize>() >= 60, "{rows:?}");
        for standard in [
            "RFC 5321",
            "RFC 3207",
            "RFC 4954",
            "RFC 6409",
            "RFC 3461",
            "RFC 3462",
            "RFC 3463",
            "RFC 3464",
            "RFC 6376",
            "RFC 7208",
            "RFC 9989",
            "RFC 8617",
            "RFC 8601",
            "PROXY protocol",
        ] {
            assert!(rows.contains_key(standard), "{standard}");
        }
    }

    #[test]
    fn a_function_that_decides_is_found_by_its_doc() {
        let text = "/// Says so.\n/// Decides RFC 1 section 2.3, RFC 1 section 4.\n#[must_use]\npub(super) const fn it() {}\n/// Not this.\nfn other() {}\n";
        let expected = ["RFC 1 section 2.3", "RFC 1 section 4"]
            .map(|section| (section.to_owned(), "a.rs".to_owned(), "it".to_owned()));
        assert_eq!(decided("a.rs", text), Decided::from(expected));
    }
}
