//! A whole machine to run scripts on as root: an overlay over this one that is thrown away.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder that others can pass, as they can through /srv.
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

/// A script that runs as root on a whole system: what it changes is thrown away, and it has a network of its own. `files` are copied into /root
/// there, by these names.
pub(crate) fn on_a_machine(script: &str, files: &[(&Path, &str)]) -> Ended {
    let place = place();
    let copies: String = files
        .iter()
        .map(|(path, name)| {
            format!(
                "cp {} {}/root/root/{name}\n",
                path.display(),
                place.path().display()
            )
        })
        .collect();
    let layers = format!(
        "set -e\nmount --make-rprivate /\nmount -t tmpfs tmpfs {0}\nmkdir {0}/up {0}/work {0}/root\n\
         mount -t overlay overlay -o lowerdir=/,upperdir={0}/up,workdir={0}/work {0}/root\n\
         mount --bind /proc {0}/root/proc\nmount --bind /dev {0}/root/dev\nmkdir -p {0}/root/root\n\
         {copies}exec chroot {0}/root /bin/sh -c \"$1\"\n",
        place.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "sh", "-c", &layers, "sh", script]);
    command.env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    command.env_remove("CHOPAR_CONFIG");
    end(&mut command, "")
}
