//! Commands that need root: the help, the pages and README agree on them, and the other commands work without root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::commands::help;
use super::root;

/// The example of each command and group, by its words.
fn examples(command: &[&str], found: &mut Vec<(String, String)>) {
    let output = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .args(command)
        .arg("--help")
        .output()
        .expect("chopar runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, example) = text.split_once("\nExample:\n").expect("an example");
    found.push((command.join(" "), example.trim().to_owned()));
    for word in help(command).0 {
        examples(&[command, &[word.as_str()]].concat(), found);
    }
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    examples(&[], &mut found);
    found.retain(|(command, _)| !command.is_empty());
    found
}

/// The blocks of commands in a page or in README.
fn blocks(text: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut block = None;
    for line in text.lines() {
        match &mut block {
            None if line.starts_with(".Bd -literal") || line == "```" => block = Some(Vec::new()),
            None => {}
            Some(_) if line == ".Ed" || line == "```" => found.extend(block.take()),
            Some(lines) => lines.push(line),
        }
    }
    found
}

#[test]
fn a_block_with_sudo_uses_it_only_where_it_is_needed() {
    let all = all();
    let needs_root = |rest: &str| {
        let named = all.iter().filter(|(command, _)| {
            let behind = rest.strip_prefix(command.as_str());
            behind.is_some_and(|behind| behind.is_empty() || behind.starts_with(' '))
        });
        let (_, example) = named
            .max_by_key(|(command, _)| command.len())
            .unwrap_or_else(|| panic!("{rest} is not a command"));
        example.starts_with("sudo ")
    };
    let pages = fs::read_dir(root().join("man")).expect("a folder");
    let mut files: Vec<_> = pages.map(|entry| entry.expect("an entry").path()).collect();
    files.push(root().join("README.md"));
    let mut seen = 0;
    for path in files {
        let text = fs::read_to_string(&path).expect("a text");
        for block in blocks(&text) {
            if !block.iter().any(|line| line.starts_with("sudo ")) {
                continue; // a root shell
            }
            for line in block {
                let (is_root, rest) = match line.strip_prefix("sudo ") {
                    Some(rest) => (true, rest),
                    None => (false, line),
                };
                if let Some(rest) = rest.strip_prefix("chopar ") {
                    assert_eq!(needs_root(rest), is_root, "{}: {line}", path.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

/// Commands that change nothing, but read what only root and the daemon may read.
const READ_SECRETS: [&str; 9] = [
    "alias list",
    "alias resolve",
    "check",
    "dkim record",
    "dns",
    "doctor",
    "report",
    "send",
    "user list",
];

#[test]
fn commands_that_need_root_say_so_and_the_rest_work_for_every_account() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can change to another account
    }
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a mode");
    let folder = place.path().join("etc");
    fs::create_dir_all(&folder).expect("a folder");
    let program = place.path().join("chopar");
    // Copied by another process: a test beside this one could inherit the writable descriptor, and the file could not
    // be executed.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_chopar"))
        .arg(&program)
        .status();
    assert!(copied.expect("cp runs").success());
    let toml = "hostname = \"mail.example.com\"\nuser = \"65532:65532\"\nadmin = \"you@example.org\"\n\
                state_dir = \"/nonexistent/state\"\nruntime_dir = \"/nonexistent/run\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n";
    fs::write(folder.join("chopar.toml"), toml).expect("a file");
    let added = Command::new(&program)
        .arg("-C")
        .arg(&folder)
        .args(["domain", "add", "example.com"])
        .output()
        .expect("chopar runs");
    assert!(added.status.success(), "{added:?}");
    let home = folder.join("domains/example.com");
    fs::write(home.join("users"), "").expect("a file");
    fs::set_permissions(home.join("users"), Permissions::from_mode(0o640)).expect("a mode");
    for (command, example) in all() {
        let is_root = example.starts_with("sudo ");
        let is_tried = match is_root {
            true => READ_SECRETS.contains(&command.as_str()),
            false => !matches!(command.as_str(), "demo" | "run"),
        };
        if is_tried {
            let said = as_nobody(&example, place.path(), &folder);
            assert_eq!(
                said.contains("use sudo"),
                is_root,
                "{command}: {example}: {said}"
            );
        }
    }
}

fn as_nobody(example: &str, place: &Path, folder: &Path) -> String {
    let line = example.trim_start_matches("sudo ");
    let line = line.split(" > ").next().unwrap_or_default();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["sh", "-c", line])
        .env("PATH", format!("{}:/usr/bin:/bin", place.display()))
        .env("CHOPAR_CONFIG", folder)
        .current_dir(place)
        .output()
        .expect("setpriv runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}
