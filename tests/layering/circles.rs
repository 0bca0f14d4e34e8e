//! No two files of src/ depend on each other, so each can be read and tested with the files below it.
//!
//! A file depends on another if a path in it leads to a name of that other. Declaring a module, or re-exporting its
//! names (`pub use`), is not a dependency. The check reads text like the one beside it, without tests.

use std::collections::{BTreeMap, BTreeSet};

use super::{before_tests, module_path, source_files, without_comments};

type Module = Vec<String>;
type Needs = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_files_form_a_circle() {
    let files: BTreeMap<Module, String> = source_files()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.contains("/tests/"))
        .map(|(path, text)| (module_path(&path), text))
        .collect();
    assert!(files.len() > 350, "the source was found");
    let circles = circles(&needs(&files));
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn the_check_finds_planted_circles() {
    let found = |files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(path, text)| (module_path(path), (*text).to_owned()))
            .collect();
        circles(&needs(&files))
    };
    let by_super = [
        (
            "setup/a.rs",
            "mod c;\n#[cfg(test)]\nmod tests;\n\nuse super::b::Thing;",
        ),
        ("setup/b.rs", "fn f() { super::a::g() }"),
    ];
    assert_eq!(found(&by_super), ["setup::a <-> setup::b"]);
    let by_parent = [
        ("setup/mod.rs", "mod a;\nuse a::Thing;"),
        ("setup/a.rs", "use super::Other;"),
    ];
    assert_eq!(found(&by_parent), ["setup <-> setup::a"]);
    let in_a_list = [
        ("setup/a.rs", "use crate::setup::{b::{X, Y}, c};"),
        ("setup/b.rs", "use super::{c, d};"),
        ("setup/d.rs", "use super::a;"),
        ("setup/c.rs", ""),
    ];
    assert_eq!(
        found(&in_a_list),
        [
            "setup::a <-> setup::b",
            "setup::a <-> setup::d",
            "setup::b <-> setup::d"
        ]
    );
    let none = [
        ("setup/mod.rs", "mod a;\npub use a::Thing;"),
        ("setup/a.rs", "use super::b;"),
        (
            "setup/b.rs",
            "\n#[cfg(test)]\nmod tests {\n    use super::super::a;\n}",
        ),
    ];
    assert_eq!(found(&none), [""; 0]);
}

/// The dependencies of each file.
fn needs(files: &BTreeMap<Module, String>) -> Needs {
    files
        .iter()
        .map(|(module, text)| {
            let code = without_comments(text);
            let others = paths(before_tests(&code), module, files)
                .into_iter()
                .filter_map(|path| owner(&path, files))
                .filter(|other| other != module);
            (module.clone(), others.collect())
        })
        .collect()
}

/// The file that a path leads to: the longest prefix that is a file.
fn owner(path: &[String], files: &BTreeMap<Module, String>) -> Option<Module> {
    (1..=path.len())
        .rev()
        .map(|len| path[..len].to_vec())
        .find(|part| files.contains_key(part))
}

/// Every path of the code, from the root of the crate.
fn paths(code: &str, module: &Module, files: &BTreeMap<Module, String>) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // A visibility is not a dependency.
        if code[..at].ends_with("(in ") {
            continue;
        }
        spread(&code[at + "crate::".len()..], Vec::new(), &mut found);
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut base = module.clone();
        while let Some(next) = rest.strip_prefix("super::") {
            base.pop();
            rest = next;
        }
        spread(rest, base, &mut found);
    }
    // A child by its bare name.
    for child in files.keys() {
        let Some((name, parent)) = child.split_last() else {
            continue;
        };
        if parent != module {
            continue;
        }
        for (at, _) in code.match_indices(&format!("{name}::")) {
            let before = code[..at].chars().next_back();
            let is_whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            let is_published = code[..at].ends_with("pub use ");
            if is_whole && !is_published {
                found.push(child.clone());
            }
        }
    }
    found
}

/// `a::{b, c::D}` as `a::b` and `a::c::D`, after a base; a name at the end of a path counts as a part of it.
fn spread(text: &str, base: Module, found: &mut Vec<Module>) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    let mut path = base;
    if !word.is_empty() {
        path.push(word.to_owned());
        match rest.strip_prefix("::") {
            Some(rest) => spread(rest, path, found),
            None => found.push(path),
        }
        return;
    }
    let Some(list) = rest.strip_prefix('{') else {
        found.push(path);
        return;
    };
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in list.char_indices() {
        match c {
            '}' | ',' if depth == 0 => {
                let element = list[start..at].trim();
                if !element.is_empty() {
                    spread(element, path.clone(), found);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// The pairs of files that depend on each other, directly or through others.
fn circles(needs: &Needs) -> Vec<String> {
    let reach: Needs = needs
        .keys()
        .map(|module| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&Module> = needs[module].iter().collect();
            while let Some(other) = next.pop() {
                if seen.insert(other.clone()) {
                    next.extend(&needs[other]);
                }
            }
            (module.clone(), seen)
        })
        .collect();
    let mut found = Vec::new();
    for (module, others) in &reach {
        for other in others.iter().filter(|other| *other > module) {
            if reach[other].contains(module) {
                found.push(format!("{} <-> {}", module.join("::"), other.join("::")));
            }
        }
    }
    found
}
