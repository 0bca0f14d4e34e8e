//! Runs a script on such a system.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::machine::command;

/// A folder that other accounts can enter, as they can enter /srv.
pub(crate) fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a mode");
    place
}

/// Exit code, standard output, standard error.
pub(crate) type Ended = (i32, String, String);

pub(crate) fn end(command: &mut Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("a pipe");
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().expect("its output");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[track_caller]
pub(crate) fn ok(ended: Ended) -> String {
    let (code, output, errors) = ended;
    assert_eq!(code, 0, "{output}{errors}");
    output
}

/// Runs a script as root on a whole system, with these files in /root under these names.
pub(crate) fn on_a_machine(script: &str, files: &[(&Path, &str)]) -> Ended {
    let place = place();
    let copies = files
        .iter()
        .map(|(path, name)| format!("cp {} $root/root/{name}\n", path.display()));
    let prepare = format!("mkdir -p $root/root\n{}", copies.collect::<String>());
    let mut command = command(place.path(), &prepare, script);
    command.env_remove("CHOPAR_CONFIG");
    end(&mut command, "")
}
