//! SMTP dialogues in files, run without sockets against the whole engine: each once with the client's input in one
//! piece, and once one byte at a time. A new case is a new `.smtp` file; `script.rs` describes the format.
//!
//! They cover the classes of bugs that have hurt mail servers: smuggling, commands hidden in line ends, other
//! protocols, injection around STARTTLS, addresses as code, open relays in disguise, AUTH in the wrong place, header
//! injection, loops, limits, and malicious remote servers.

mod play;
mod script;
#[allow(
    dead_code,
    reason = "shared with the tests of inbound mail, which use more of it"
)]
#[path = "../stage/mod.rs"]
mod stage;

use std::fs;
use std::path::Path;

use play::{Pieces, Play};
use script::Script;

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the dialogues")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "smtp")
        })
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().expect("a name").to_str().expect("ASCII");
            Script::parse(name, &fs::read_to_string(path).expect("a dialogue"))
        })
        .collect()
}

/// Runs every dialogue; panics with the errors of all that failed.
fn play_all(pieces: Pieces) {
    let scripts = scripts();
    assert!(scripts.len() > 20, "the dialogues were found");
    let mut failures = String::new();
    for script in &scripts {
        if script.only_whole && pieces == Pieces::Bytes {
            continue;
        }
        let played = std::panic::catch_unwind(|| Play::new(script, pieces).play());
        let why = match played {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_) => "it panicked".to_owned(),
        };
        failures.push_str(&format!("{}.smtp: {why}\n", script.name));
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_dialogue_runs_as_written() {
    play_all(Pieces::Whole);
}

#[test]
fn every_dialogue_runs_as_written_one_byte_at_a_time() {
    play_all(Pieces::Bytes);
}
