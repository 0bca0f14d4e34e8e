//! Checks the floors of the crate: what a module imports, and whether it touches the world.
//!
//! | floor | modules | may touch the world |
//! | --- | --- | --- |
//! | 6 | `main.rs`, `cli` | yes |
//! | 5 | `shell`, `setup` | yes |
//! | 4 | `engine` | no |
//! | 3 | `queue` | through `Disk` |
//! | 2 | `config`, `policy` | no |
//! | 1 | `smtp`, `hook`, `proxy`, `dns`, `mail`, `auth`, `login`, `acme`, `http`, `metrics`, `report` | no |
//! | 0 | every other file of `src/` | no |
//!
//! The check reads text, not syntax: it removes comments and tests and looks at every `crate::` and `super::` path.

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/comments.rs"]
mod comments;
#[path = "layering/names.rs"]
mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules above the vocabulary, with their floor.
const FLOORS: &[(&str, u8)] = &[
    ("cli", 6),
    ("main", 6),
    ("shell", 5),
    ("setup", 5),
    ("engine", 4),
    ("queue", 3),
    ("config", 2),
    ("policy", 2),
    ("smtp", 1),
    ("dns", 1),
    ("mail", 1),
    ("auth", 1),
    ("login", 1),
    ("hook", 1),
    ("proxy", 1),
    ("acme", 1),
    ("http", 1),
    ("metrics", 1),
    ("report", 1),
];

/// Permitted imports within one floor: signatures are about messages and have their keys in the DNS, policy depends on
/// the configuration, and setup and daemon share their changes to the machine.
const BESIDE: &[(&str, &str)] = &[
    ("auth", "mail"),
    ("auth", "dns"),
    ("report", "mail"),
    ("hook", "smtp"),
    ("policy", "config"),
    ("setup", "shell"),
    ("main", "cli"),
];

/// The lowest floor that may touch the world.
const SHELL: u8 = 5;

/// Names that touch the world: files, sockets, processes, threads, the environment, clocks, randomness.
const WORLD: &[&str] = &[
    "std::fs",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::process",
    "std::thread",
    "std::env",
    "std::os::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "File::open",
    "File::create",
    "Instant::now",
    "SystemTime",
    "SystemRandom",
    "println!",
    "mio::",
    "rustls::",
    "socket2::",
    "rustix::",
    "signal_hook",
    "landlock::",
    "listenfd",
    "seccompiler::",
    "libc::",
    "env_logger",
    "log::info!",
    "log::warn!",
    "log::error!",
    "log::debug!",
];

/// Permitted exceptions, with their reasons.
const EXEMPT: &[(&str, &str)] = &[
    // ring needs it to sign with RSA, although PKCS #1 v1.5 uses no randomness.
    ("auth/dkim/key.rs", "SystemRandom"),
    // A test that prints how much it has tried.
    ("queue/journal/tests/power_cuts.rs", "println!"),
];

/// A violation of the floors.
#[derive(Debug, Eq, PartialEq)]
enum Violation {
    /// A module imports another that is not below it.
    Upward { from: String, to: String },
    /// A module below the shell names a part of the world.
    World { word: &'static str },
    /// A file has no module doc.
    NoModuleDoc,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upward { from, to } => {
                write!(out, "`{from}` imports `{to}`, which is not below it")
            }
            Self::World { word } => write!(out, "`{word}` below the shell"),
            Self::NoModuleDoc => out.write_str("the file does not begin with a module doc"),
        }
    }
}

fn floor(module: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map_or(0, |(_, floor)| *floor)
}

fn may_import(from: &str, to: &str) -> bool {
    from == to
        || floor(to) < floor(from)
        || floor(from) == 0 && floor(to) == 0
        || BESIDE.contains(&(from, to))
}

/// Checks one file. `path` is relative to `src/`, `modules` are the names of the crate's modules.
fn check(path: &str, text: &str, modules: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !text.starts_with("//!") && !path.ends_with("/tests.rs") {
        violations.push(Violation::NoModuleDoc);
    }
    let parts = module_path(path);
    let Some(from) = parts
        .first()
        .map(String::as_str)
        .filter(|&name| name != "lib")
    else {
        return violations;
    };
    let code = without_comments(text);
    for to in imports(&code, parts.len(), modules) {
        if !may_import(from, &to) {
            let from = from.to_owned();
            violations.push(Violation::Upward { from, to });
        }
    }
    if floor(from) < SHELL && !path.ends_with("tests.rs") {
        let code = flat_imports(before_tests(&code));
        for word in WORLD.iter().copied().filter(|word| names(&code, word)) {
            if EXEMPT.contains(&(path, word)) {
                continue;
            }
            violations.push(Violation::World { word });
        }
    }
    violations
}

/// `smtp/server/tests.rs` as `smtp`, `server`, `tests`; `smtp/mod.rs` as `smtp`.
fn module_path(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// The text without comments. A `//` in a string removes the rest of its line too, which hides nothing that matters
/// here.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let is_comment = |at: &usize| !line[..*at].ends_with(':');
        let end = line.match_indices("//").map(|(at, _)| at).find(is_comment);
        code.push_str(&line[..end.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

/// A file up to its inline tests. A declared file of tests does not end it.
fn before_tests(text: &str) -> &str {
    let mut places = text.match_indices("\n#[cfg(test)]\nmod ");
    let inline = places.find(|(at, found)| {
        let rest = &text[at + found.len()..];
        rest.lines().next().is_some_and(|line| line.ends_with('{'))
    });
    inline.map_or(text, |(at, _)| &text[..at + 1])
}

/// The crate's modules that paths name: `crate::x`, `chopar::x`, and `super::` chains that reach the root.
fn imports(code: &str, depth: usize, modules: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "chopar::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_words(list)),
                None => found.push(word(rest).to_owned()),
            }
        }
    }
    for (at, _) in code.match_indices("super::") {
        let climb = code[..at].len() - code[..at].trim_end_matches("super::").len();
        let levels = climb / "super::".len() + 1;
        let next = word(&code[at + "super::".len()..]);
        if levels >= depth && modules.iter().any(|module| module == next) {
            // In the root's children, `super` is the root; inside `mod tests` it takes one more.
            found.push(next.to_owned());
        }
    }
    found.retain(|name| modules.contains(name));
    found.sort();
    found.dedup();
    found
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The first word of each element of `a, b::c, d::{e, f}}`.
fn first_words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut depth = 0;
    let mut fresh = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && (c.is_alphabetic() || c == '_') => {
                words.push(word(&list[at..]).to_owned());
                fresh = false;
            }
            _ => {}
        }
    }
    words
}

/// The code with `use std::{fs, io}` spelled out, so that a list hides nothing.
fn flat_imports(code: &str) -> String {
    let mut flat = code.to_owned();
    for (at, root) in code.match_indices("std::{") {
        for name in first_words(&code[at + root.len()..]) {
            flat.push_str(&format!("std::{name}\n"));
        }
    }
    flat
}

/// Whether the code has the word, not as the end of a longer one.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let open_ended = word.ends_with([':', '!']);
        !joined(before) && (open_ended || !joined(after))
    })
}

fn source_files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(&root)
                    .expect("inside")
                    .to_str()
                    .expect("ASCII");
                let text = fs::read_to_string(&path).expect("a source file");
                files.insert(name.to_owned(), text);
            }
        }
    }
    files
}

fn modules_of(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut modules: Vec<String> = files
        .keys()
        .filter_map(|path| module_path(path).into_iter().next())
        .filter(|name| name != "lib")
        .collect();
    modules.dedup();
    modules
}

#[test]
fn every_module_keeps_to_its_floor() {
    let files = source_files();
    let modules = modules_of(&files);
    assert!(
        files.len() > 50 && modules.len() > 15,
        "the source was found"
    );
    let mut report = String::new();
    for (path, text) in &files {
        for violation in check(path, text, &modules) {
            report.push_str(&format!("src/{path}: {violation}\n"));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_folder_of_the_source_has_a_floor() {
    for module in modules_of(&source_files()) {
        let is_folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(&module)
            .is_dir();
        assert!(
            !is_folder || floor(&module) > 0,
            "give src/{module} a floor"
        );
    }
}

/// The engine's actions have one interpreter. The compiler keeps `Action` inside of the engine; this test checks that
/// only the driver matches on actions there.
#[test]
fn only_the_driver_takes_actions_apart() {
    let files = source_files();
    let event = &files["engine/event.rs"];
    assert!(
        event.contains("\npub(super) enum Action {"),
        "an Action can be named outside of the engine"
    );
    let takes = |text: &str| without_comments(text).contains(".next_action()");
    let takers: Vec<&str> = files
        .iter()
        .filter(|(path, text)| path.starts_with("engine/") && takes(text))
        .map(|(path, _)| path.as_str())
        .collect();
    // The resolver has actions of its own, which become those of the engine.
    assert_eq!(takers, ["engine/driver.rs", "engine/lookups.rs"]);
    let engine = &files["engine/mod.rs"];
    assert!(engine.contains("\n    fn next_action(&mut self)"));
}

/// The checker itself, on planted violations.
mod checker {
    use super::*;

    fn violations(path: &str, code: &str) -> Vec<Violation> {
        let mut modules: Vec<String> = FLOORS.iter().map(|(name, _)| (*name).to_owned()).collect();
        modules.push("limits".to_owned());
        check(path, &format!("//! Doc.\n\n{code}\n"), &modules)
    }

    fn upward(from: &str, to: &str) -> Vec<Violation> {
        let (from, to) = (from.to_owned(), to.to_owned());
        vec![Violation::Upward { from, to }]
    }

    fn world(word: &'static str) -> Vec<Violation> {
        vec![Violation::World { word }]
    }

    #[test]
    fn lets_a_module_import_what_is_below_it() {
        for (path, code) in [
            ("smtp/server.rs", "use crate::limits::X;"),
            ("smtp/server.rs", "use super::command::Command;"),
            (
                "auth/dkim/sign.rs",
                "use crate::mail::header::Header; use crate::dns::Answer;",
            ),
            (
                "policy/relay.rs",
                "use crate::config::Config; use crate::smtp::command::X;",
            ),
            (
                "engine/mod.rs",
                "use crate::{queue, policy::{relay, route}, dns};",
            ),
            ("shell/tls.rs", "use std::fs; use crate::engine::Engine;"),
            ("main.rs", "use chopar::cli;"),
            (
                "smtp/mod.rs",
                "// crate::engine and std::fs may be spoken of",
            ),
        ] {
            assert_eq!(violations(path, code), [], "{path}: {code}");
        }
    }

    #[test]
    fn finds_an_import_of_a_higher_floor() {
        assert_eq!(
            violations("smtp/data.rs", "use crate::engine::Engine;"),
            upward("smtp", "engine")
        );
        assert_eq!(
            violations("queue/mod.rs", "fn f(_: &crate::shell::X) {}"),
            upward("queue", "shell")
        );
        assert_eq!(
            violations("limits.rs", "use crate::smtp::reply::Reply;"),
            upward("limits", "smtp")
        );
        assert_eq!(
            violations("config/mod.rs", "use crate::policy::relay;"),
            upward("config", "policy")
        );
        assert_eq!(
            violations("shell/tls.rs", "use crate::cli::run;"),
            upward("shell", "cli")
        );
    }

    #[test]
    fn finds_an_import_beside_it() {
        assert_eq!(
            violations("smtp/data.rs", "use crate::mail::header::X;"),
            upward("smtp", "mail")
        );
        assert_eq!(
            violations("dns/name.rs", "use crate::smtp::X;"),
            upward("dns", "smtp")
        );
        assert_eq!(
            violations("mail/dsn.rs", "use crate::auth::X;"),
            upward("mail", "auth")
        );
        assert_eq!(
            violations("login/sasl.rs", "use crate::smtp::X;"),
            upward("login", "smtp")
        );
    }

    #[test]
    fn finds_an_import_in_a_list_or_through_super() {
        assert_eq!(
            violations("dns/name.rs", "use crate::{limits::X, engine::{A, B}};"),
            upward("dns", "engine")
        );
        assert_eq!(
            violations("limits.rs", "use super::smtp::reply;"),
            upward("limits", "smtp")
        );
        assert_eq!(
            violations("smtp/data.rs", "use super::super::mail::header;"),
            upward("smtp", "mail")
        );
    }

    #[test]
    fn finds_names_that_touch_the_world() {
        assert_eq!(
            violations("queue/journal.rs", "use std::fs::File;"),
            world("std::fs")
        );
        assert_eq!(
            violations("config/mod.rs", "use std::{env, fmt};"),
            world("std::env")
        );
        assert_eq!(
            violations("dns/resolver.rs", "let s: UdpSocket;"),
            world("UdpSocket")
        );
        assert_eq!(
            violations("engine/mod.rs", "let t = Instant::now();"),
            world("Instant::now")
        );
        assert_eq!(
            violations("login/scram.rs", "ring::rand::SystemRandom::new()"),
            world("SystemRandom")
        );
        assert_eq!(
            violations("smtp/client.rs", "fn f(_: rustls::ClientConnection) {}"),
            world("rustls::")
        );
    }

    #[test]
    fn does_not_mistake_one_name_for_another() {
        assert_eq!(
            violations("smtp/client.rs", "use std::net::IpAddr; fn mystd_fs() {}"),
            []
        );
        assert_eq!(
            violations(
                "engine/mod.rs",
                "let a = dynamio::x(); let i = crate_now();"
            ),
            []
        );
    }

    #[test]
    fn asks_for_a_module_doc() {
        let modules = ["smtp".to_owned()];
        assert_eq!(
            check("smtp/data.rs", "use std::fmt;\n", &modules),
            [Violation::NoModuleDoc]
        );
    }
}
