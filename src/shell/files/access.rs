//! What prevents the calling account from reading a file, and the command with which root permits it.
//!
//! The answer comes from system calls of the calling thread, with that thread's rights. The daemon asks for itself;
//! `chopar check` asks from a thread that has become the daemon's account
//! ([`crate::shell::process::privilege::as_account`]).

use std::fs;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

/// Folders that are closed to the daemon whatever their modes are (`ProtectHome=` of the unit).
const HOMES: [&str; 3] = ["/root", "/home", "/run/user"];
/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// The first folder on the way to `path` that the caller may not enter, or the file or folder itself if it may not be
/// read; `None` if the caller may read it.
pub(in crate::shell) fn obstacle(path: &Path) -> Option<PathBuf> {
    obstacle_and_rest(path).map(|(obstacle, _)| obstacle)
}

/// The same, with the known rest of the path behind it.
fn obstacle_and_rest(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let found = walk(path, |next, rest| {
        let Ok(about) = fs::metadata(next) else {
            return ControlFlow::Break(None);
        };
        let wanted = match (about.is_dir(), rest.is_empty()) {
            (true, false) => Access::EXEC_OK,
            (true, true) => Access::READ_OK | Access::EXEC_OK,
            (false, _) => Access::READ_OK,
        };
        match access(next, wanted) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => {
                let rest = rest.iter().rev().collect();
                ControlFlow::Break(Some((next.to_owned(), rest)))
            }
        }
    });
    found?.flatten()
}

/// Whether the way to `path`, that of its links too, leads through `folder`, or cannot be followed to its end.
pub(in crate::shell) fn leads_through(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else {
        return false;
    };
    let found = walk(path, |next, _| match next.starts_with(&folder) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    });
    found.is_none_or(|found| found.is_some())
}

/// Walks `path` part by part, following links. `visit` gets each file and folder on it, with the remaining parts (the
/// next one last), and may stop the walk. `None` if the path has no end.
fn walk<T>(
    path: &Path,
    mut visit: impl FnMut(&Path, &[PathBuf]) -> ControlFlow<T>,
) -> Option<Option<T>> {
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
        if let ControlFlow::Break(found) = visit(&next, &rest) {
            return Some(Some(found));
        }
        at = next;
    }
    Some(None)
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

/// The remedy that lets the caller read `path`: a command, as far as there is one.
///
/// ACME clients keep the group and the mode of a key that they renew (certbot), or write into the existing file
/// (acme.sh, lego), so the command has to be run only once.
pub(in crate::shell) fn cure(path: &Path) -> String {
    let Some((obstacle, rest)) = obstacle_and_rest(path) else {
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
        // Only the folder of the file is opened, and the way to it: others on the way may hold other secrets (lego's
        // accounts).
        let mut command = String::new();
        let mut at = obstacle;
        for part in rest.parent().unwrap_or(Path::new("")).components() {
            command.push_str(&format!(
                "chgrp {group} {0} && chmod g+x {0} && ",
                at.display()
            ));
            at.push(part);
        }
        let shown = at.display();
        format!("run {command}chgrp -R {group} {shown} && chmod -R g+rX {shown}")
    } else {
        match obstacle.parent().filter(|_| is_archived(&obstacle)) {
            // The key has group and mode of the previous one; other files have those that the umask leaves.
            Some(folder) => format!(
                "run chgrp -R {group} {0} && chmod -R g+rX {0}; certbot ran under a umask that hides its files, so put that \
                 command into a script in renewal-hooks/deploy, or see that it runs under umask 022",
                folder.display()
            ),
            None => format!("run chgrp {group} {shown} && chmod g+r {shown}"),
        }
    }
}

/// Whether it is a file of certbot's.
fn is_archived(file: &Path) -> bool {
    let archive = file.parent().and_then(Path::parent);
    archive.is_some_and(|archive| {
        archive.ends_with("archive") && archive.with_file_name("live").is_dir()
    })
}

/// The folder to have a right to, so that the path can be read as soon as its modes allow it.
pub(in crate::shell) fn closed_folder(path: &Path) -> Option<PathBuf> {
    let obstacle = obstacle(path)?;
    let folder = match certbot_lineage(path, &obstacle) {
        Some(_) => obstacle.parent()?,
        None if obstacle.is_dir() => &obstacle,
        None => obstacle.parent()?,
    };
    Some(folder.to_owned())
}

/// The name under `live/`, if the obstacle is certbot's: only `archive/NAME` has to be opened, not all keys.
fn certbot_lineage(path: &Path, obstacle: &Path) -> Option<String> {
    let is_live = obstacle.file_name()? == "live" && obstacle.with_file_name("archive").is_dir();
    let mut links = path.ancestors().filter(|_| is_live);
    let target = links.find_map(|link| fs::read_link(link).ok())?;
    let inside = target.strip_prefix(obstacle).ok()?.components().next()?;
    Some(inside.as_os_str().to_str()?.to_owned())
}

/// The caller's account, by name if it has one.
pub(in crate::shell) fn account_name() -> String {
    name_of(geteuid().as_raw(), "/etc/passwd")
}

/// The caller's group, by name if it has one.
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
    use crate::shell::process::privilege::{self, SystemAccount};

    fn account() -> SystemAccount {
        SystemAccount {
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
        run(cure.strip_prefix("run ").expect("a command"));
        assert_eq!(as_nobody(|| obstacle(&key)), None);
        assert_eq!(as_nobody(|| fs::read(&key).ok()), Some(b"key".to_vec()));
        let other = root.join("archive/b/privkey1.pem");
        assert_eq!(as_nobody(|| fs::read(&other).ok()), None);
    }

    fn run(command: &str) {
        let done = std::process::Command::new("/bin/sh")
            .args(["-c", command])
            .status();
        assert!(done.expect("a shell").success(), "{command}");
    }

    /// As lego leaves them: a folder for accounts and one for certificates, inside a closed one.
    #[test]
    fn the_command_for_lego_opens_the_certificates_and_not_the_accounts() {
        if !rustix::process::geteuid().is_root() {
            return; // another account cannot be taken on
        }
        let place = place();
        let root = fs::canonicalize(place.path()).expect("a path");
        for folder in ["etc/tls/a", "lego/certificates", "lego/accounts"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for file in ["lego/certificates/a.key", "lego/accounts/account.key"] {
            fs::write(root.join(file), "key").expect("a file");
            set_mode(&root.join(file), 0o600);
        }
        for folder in ["lego/certificates", "lego/accounts", "lego"] {
            set_mode(&root.join(folder), 0o700);
        }
        let key = root.join("etc/tls/a/privkey.pem");
        symlink(root.join("lego/certificates/a.key"), &key).expect("a link");
        assert_eq!(as_nobody(|| obstacle(&key)), Some(root.join("lego")));
        let cure = as_nobody(|| cure(&key));
        run(cure.strip_prefix("run ").expect("a command"));
        assert_eq!(as_nobody(|| fs::read(&key).ok()), Some(b"key".to_vec()));
        let account = root.join("lego/accounts/account.key");
        assert_eq!(as_nobody(|| fs::read(&account).ok()), None);
    }

    /// As a renewal by certbot under umask 077 leaves them: the key with group and mode of the one before, the chain
    /// without.
    #[test]
    fn the_command_after_a_renewal_under_another_umask_says_how_to_have_it_last() {
        if !rustix::process::geteuid().is_root() {
            return; // another account cannot be taken on
        }
        let place = place();
        let root = fs::canonicalize(place.path()).expect("a path");
        for folder in ["live/a", "archive/a"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        let file = root.join("archive/a/fullchain2.pem");
        fs::write(&file, "chain").expect("a file");
        set_mode(&file, 0o600);
        let link = root.join("live/a/fullchain.pem");
        symlink("../../archive/a/fullchain2.pem", &link).expect("a link");
        let cure = as_nobody(|| cure(&link));
        let (command, more) = cure.split_once("; ").expect("a command and a sentence");
        assert!(more.contains("renewal-hooks/deploy"), "{more}");
        run(command.strip_prefix("run ").expect("a command"));
        assert_eq!(as_nobody(|| fs::read(&link).ok()), Some(b"chain".to_vec()));
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
            run(cure.strip_prefix("run ").expect("a command"));
            assert_eq!(as_nobody(|| fs::read(&key).ok()), Some(b"key".to_vec()));
        }
    }
}
