//! The Debian package, built from the binary of the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::script::{end, ok};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// The date of the packed files, in seconds since 1970.
const SECONDS: &str = "1795000000";

/// A target folder with the output of make, for one test only.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(folder.join("completions")).expect("a folder");
    let release = std::env::var_os("CHOPAR_BINARY");
    let built = release.unwrap_or_else(|| env!("CARGO_BIN_EXE_chopar").into());
    let binary = folder.join("chopar");
    ok(end(
        Command::new("strip").arg("-o").arg(&binary).arg(built),
        "",
    ));
    for (shell, name) in [
        ("bash", "chopar"),
        ("fish", "chopar.fish"),
        ("zsh", "_chopar"),
    ] {
        let script = ok(end(Command::new(&binary).args(["completion", shell]), ""));
        fs::write(folder.join("completions").join(name), script).expect("a file");
    }
    folder
}

/// Runs one of the build scripts, whose result does not depend on umask or locale; returns its output.
pub(crate) fn build(kind: &str, target: &Path, umask: &str) -> PathBuf {
    let mut command = Command::new("sh");
    let script = format!("umask {umask}; exec sh src/setup/{kind}/build \"$0\" {TRIPLE} {SECONDS}");
    command
        .args(["-c", &script])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["MAKEFLAGS", "MAKELEVEL", "MFLAGS"] {
        command.env_remove(name);
    }
    let path = PathBuf::from(ok(end(&mut command, "")).trim());
    assert!(path.exists(), "{}", path.display());
    path
}
