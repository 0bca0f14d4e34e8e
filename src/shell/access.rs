//! What keeps the calling account from reading a file, and the command with which root lets it.
//!
//! All of it is judged by system calls of the calling thread, with that thread's rights: the daemon asks for itself, and
//! `chopar check` from a thread that has become the daemon's account ([`super::privilege::as_account`]).

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

/// Folders that are closed to the daemon whatever their modes are (`ProtectHome=` of the unit).
const HOMES: [&str; 3] = ["/root", "/home", "/run/user"];
/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// The first folder on the way to `path` that the caller may not pass, or the file or folder itself where it may not be
/// read; `None` where nothing is in the way.
pub(super) fn obstacle(path: &Path) -> Option<PathBuf> {
    let mut rest: Vec<PathBuf> = parts(&std::path::absolute(path).ok()?);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop() {
        let next = at.join(&part);
        if let Ok(target) = fs::read_link(&next) {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(parts(&target));
            continue;
        }
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let about = fs::metadata(&next).ok()?;
        let wanted = match (about.is_dir(), rest.is_empty()) {
            (true, false) => Access::EXEC_OK,
            (true, true) => Access::READ_OK | Access::EXEC_OK,
            (false, _) => Access::READ_OK,
        };
        if access(&next, wanted).is_err() {
            return Some(next);
        }
        at = next;
    }
    None
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        _ => None,
    });
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.reverse();
    parts
}

/// What to do so that the caller may read `path`: a command, as far as there is one.
///
/// ACME clients keep the group and the mode of a key that they renew (certbot), or write into the file that is there
/// (acme.sh, lego), so that the command has to be run once.
pub(super) fn cure(path: &Path) -> String {
    let Some(obstacle) = obstacle(path) else {
        return "see to its owner and mode".to_owned();
    };
    let group = group_name();
    if HOMES.iter().any(|home| obstacle.starts_with(home)) {
        return format!(
            "{} is closed to the daemon; keep the files outside of it (acme.sh: --install-cert with --key-file and \
             --fullchain-file)",
            obstacle.display()
        );
    }
    if let Some(lineage) = certbot_lineage(path, &obstacle) {
        let folder = obstacle.parent().unwrap_or(Path::new("/")).display();
        return format!(
            "run cd {folder} && chgrp {group} live archive && chmod g+x live archive && chgrp -R {group} archive/{lineage} && \
             chmod -R g+rX archive/{lineage}"
        );
    }
    let shown = obstacle.display();
    if obstacle.is_dir() {
        format!("run chgrp -R {group} {shown} && chmod -R g+rX {shown}")
    } else {
        format!("run chgrp {group} {shown} && chmod g+r {shown}")
    }
}

/// The folder to have a right to, so that the path can be read as soon as its modes allow it.
pub(super) fn closed_folder(path: &Path) -> Option<PathBuf> {
    let obstacle = obstacle(path)?;
    let folder = match certbot_lineage(path, &obstacle) {
        Some(_) => obstacle.parent()?,
        None if obstacle.is_dir() => &obstacle,
        None => obstacle.parent()?,
    };
    Some(folder.to_owned())
}

/// The name under `live/`, where the obstacle is certbot's: only `archive/NAME` has to be opened, not all keys.
fn certbot_lineage(path: &Path, obstacle: &Path) -> Option<String> {
    let is_live = obstacle.file_name()? == "live" && obstacle.with_file_name("archive").is_dir();
    let mut links = path.ancestors().filter(|_| is_live);
    let target = links.find_map(|link| fs::read_link(link).ok())?;
    let inside = target.strip_prefix(obstacle).ok()?.components().next()?;
    Some(inside.as_os_str().to_str()?.to_owned())
}

/// The caller's account, by its name where it has one.
pub(super) fn account_name() -> String {
    name_of(geteuid().as_raw(), "/etc/passwd")
}

/// The caller's group, by its name where it has one.
fn group_name() -> String {
    name_of(getegid().as_raw(), "/etc/group")
}

/// The name that a table of accounts or groups (passwd(5), group(5)) has for a number, else the number.
fn name_of(id: u32, table: &str) -> String {
    let id = id.to_string();
    let table = fs::read_to_string(table).unwrap_or_default();
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    named.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::shell::privilege::{self, Account};

    fn account() -> Account {
        Account {
            uid: 65_534,
            gid: 65_534,
            groups: vec![65_534],
        }
    }

    fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        privilege::as_account(Some(&account()), work).expect("an account")
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn place() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        set_mode(folder.path(), 0o755);
        folder
    }

    #[test]
    fn the_command_for_certbot_opens_live_and_archive_and_the_keys_of_one_name() {
        if !rustix::process::geteuid().is_root() {
            return; // another account cannot be taken on
        }
        let place = place();
        let root = fs::canonicalize(place.path()).expect("a path");
        for folder in ["etc/tls", "live/a", "archive/a", "archive/b"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::write(root.join("archive/a/privkey1.pem"), "key").expect("a file");
        fs::write(root.join("archive/b/privkey1.pem"), "key").expect("a file");
        set_mode(&root.join("archive/a/privkey1.pem"), 0o600);
        set_mode(&root.join("archive/b/privkey1.pem"), 0o600);
        symlink(
            "../../archive/a/privkey1.pem",
            root.join("live/a/privkey.pem"),
        )
        .expect("a link");
        symlink(root.join("live/a"), root.join("etc/tls/a")).expect("a link");
        for closed in ["live", "archive"] {
            set_mode(&root.join(closed), 0o700);
        }
        let key = root.join("etc/tls/a/privkey.pem");
        assert_eq!(as_nobody(|| obstacle(&key)), Some(root.join("live")));
        let cure = as_nobody(|| cure(&key));
        let command = cure.strip_prefix("run ").expect("a command");
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", command])
            .status();
        assert!(done.expect("a shell").success(), "{command}");
        assert_eq!(as_nobody(|| obstacle(&key)), None);
        assert_eq!(as_nobody(|| fs::read(&key).ok()), Some(b"key".to_vec()));
        let other = root.join("archive/b/privkey1.pem");
        assert_eq!(as_nobody(|| fs::read(&other).ok()), None);
    }

    #[test]
    fn the_command_for_a_closed_folder_or_file_lets_the_account_read_it() {
        if !rustix::process::geteuid().is_root() {
            return; // another account cannot be taken on
        }
        let place = place();
        let root = fs::canonicalize(place.path()).expect("a path");
        fs::create_dir_all(root.join("lego/certificates")).expect("a folder");
        let key = root.join("lego/certificates/a.key");
        fs::write(&key, "key").expect("a file");
        for (closed, mode) in [
            ("lego/certificates/a.key", 0o600),
            ("lego/certificates", 0o700),
        ] {
            set_mode(&root.join(closed), mode);
            assert_eq!(as_nobody(|| obstacle(&key)), Some(root.join(closed)));
            let cure = as_nobody(|| cure(&key));
            let command = cure.strip_prefix("run ").expect("a command");
            let done = std::process::Command::new("/bin/sh")
                .args(["-c", command])
                .status();
            assert!(done.expect("a shell").success(), "{command}");
            assert_eq!(as_nobody(|| fs::read(&key).ok()), Some(b"key".to_vec()));
        }
    }
}
