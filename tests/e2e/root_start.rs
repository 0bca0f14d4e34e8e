//! A start as root, whose account owns the folders and may have put anything into them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::process::{Guard, PATIENCE};
use crate::relay::Relay;

const NOBODY: u32 = 65_534;

/// A relay that starts as root and runs as nobody, and does not run now.
fn relay() -> Relay {
    let mut relay = Relay::start();
    relay.stop();
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a configuration");
    let text = text.replace("user = \"root\"", "user = \"nobody\"");
    fs::write(&path, text).expect("a file");
    // What it made as root it could not read.
    fs::remove_dir_all(relay.folder().join("state")).expect("a folder");
    relay
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let about = fs::symlink_metadata(path).expect("a file");
    (about.uid(), about.permissions().mode() & 0o7777)
}

/// Starts it in vain; gives what it said.
fn refusal(relay: &Relay) -> String {
    let before = relay.log().len();
    assert_eq!(Guard::spawn(&mut relay.command()).wait(PATIENCE), 73);
    relay.log().split_off(before)
}

#[test]
fn root_gives_nothing_away_through_a_link_that_the_account_has_left() {
    if !rustix::process::geteuid().is_root() {
        return; // only root gives something away
    }
    let mut relay = relay();
    relay.run();
    let at = |name: &str| relay.folder().join(name);
    for (name, mode) in [
        ("state", 0o755),
        ("state/spool", 0o711),
        ("run", 0o755),
        ("run/submit.sock", 0o666),
        ("run/control.sock", 0o666),
    ] {
        assert_eq!(owner_and_mode(&at(name)), (NOBODY, mode), "{name}");
    }
    relay.stop();

    let at = |name: &str| relay.folder().join(name);
    fs::create_dir(at("victim")).expect("a folder");
    fs::set_permissions(at("victim"), fs::Permissions::from_mode(0o700)).expect("a mode");
    fs::rename(at("state/spool"), at("state/other")).expect("a folder");
    symlink(at("victim"), at("state/spool")).expect("a link");
    let said = refusal(&relay);
    assert!(said.contains("state/spool: a symbolic link"), "{said}");
    fs::remove_file(at("state/spool")).expect("a link");
    fs::rename(at("state/other"), at("state/spool")).expect("a folder");

    // The same for runtime_dir, where its folder is not root's alone.
    chown(relay.folder(), Some(NOBODY), None).expect("an owner");
    fs::remove_dir_all(at("run")).expect("a folder");
    symlink(at("victim"), at("run")).expect("a link");
    let said = refusal(&relay);
    assert!(said.contains("run: a symbolic link"), "{said}");
    assert_eq!(owner_and_mode(&at("victim")), (0, 0o700));
    assert_eq!(fs::read_dir(at("victim")).expect("a folder").count(), 0);

    fs::remove_file(at("run")).expect("a link");
    relay.run();
    relay.stop();
}
