//! The file rights of the running process (Landlock, landlock(7)). System calls are restricted by [`system_calls`].
//!
//! [`system_calls`]: crate::shell::process::system_calls
//!
//! | path | rights |
//! | --- | --- |
//! | the configuration folder and where links in it lead | read |
//! | /etc, and the folders that /etc/resolv.conf and the bundle of authorities lead to | read |
//! | the folders of `acme.ca_file` and `acme.eab_key_file` | read |
//! | /dev/null | read |
//! | `state_dir`, the spool, `runtime_dir` | read, write, make, rename and remove files, folders and sockets |
//!
//! The process may execute nothing, and make no device, pipe or link. A file is replaced by renaming another over it,
//! which a right to the old file does not cover; therefore rights are given to folders. The account is looked up
//! before.
//!
//! Programs that must be executed and files elsewhere are left to the [`helper`](crate::shell::helper). Not restricted:
//! sockets, including those with a path. If the kernel lacks a part of Landlock, the rest is enforced, and the log says
//! so. Without the right to rename between folders (before Linux 5.19) nothing is enforced, because damaged files could
//! not be set aside. Invariant: no thread runs before, because a thread inherits the rights of the thread that starts
//! it.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, path_beneath_rules,
};

use crate::config::Config;
use crate::engine::log::{Level, Line};
use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_ENTRIES_MAX};
use crate::shell::certificates::roots::bundle_path;
use crate::shell::files::access;

/// The files that may be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::shell) struct SandboxRules {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

/// How much of the rules is in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum Enforced {
    Full,
    /// What the kernel knows of them.
    Partial,
    None,
}

impl SandboxRules {
    /// For a relay with this configuration, read from `folder`.
    pub(in crate::shell) fn new(config: &Config, folder: &Path, spool: &Path) -> Self {
        let mut read = vec![folder.to_owned(), "/etc".into(), "/dev/null".into()];
        read.extend(home(Path::new("/etc/resolv.conf")));
        read.extend(home(&bundle_path()));
        let acme = &config.acme;
        let secret = acme.binding.as_ref().map(|binding| &binding.key_file);
        for file in acme.ca_file.iter().chain(secret) {
            read.extend(home(&folder.join(file)));
        }
        let mut entries = 0;
        follow(folder, 0, &mut entries, &mut read);
        let mut seen = std::collections::HashSet::new();
        read.retain(|path| seen.insert(path.clone()));
        Self {
            read,
            // The spool by itself, since it may be a link to another disk.
            write: [&config.state_dir, spool, &config.runtime_dir]
                .map(PathBuf::from)
                .into(),
        }
    }

    /// Whether a file may be read, or one that is created there later.
    pub(in crate::shell) fn opens(&self, file: &Path) -> bool {
        let opened = self.read.iter().chain(&self.write);
        let opened: Vec<PathBuf> = opened
            .map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()))
            .collect();
        let home = home(file).or_else(|| home(file.parent()?));
        home.is_some_and(|home| opened.iter().any(|opened| home.starts_with(opened)))
    }

    /// Restricts this thread, and those that it starts later.
    pub(in crate::shell) fn enforce(&self) -> Result<Enforced, RulesetError> {
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::Refer)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&self.read, reading()))?
            .add_rules(path_beneath_rules(&self.write, writing()))?
            .restrict_self()?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Enforced::Full,
            RulesetStatus::PartiallyEnforced => Enforced::Partial,
            RulesetStatus::NotEnforced => Enforced::None,
        })
    }
}

/// The line of the log about it.
pub(in crate::shell) fn line(
    result: &Result<Enforced, RulesetError>,
    filter: Result<(), String>,
) -> Line {
    let (level, word) = match result {
        Ok(Enforced::Full) => (Level::Info, "full"),
        Ok(Enforced::Partial) => (Level::Info, "partial"),
        Ok(Enforced::None) | Err(_) => (Level::Warning, "none"),
    };
    let (level, calls) = match filter {
        Ok(()) => (level, "full"),
        Err(_) => (Level::Warning, "none"),
    };
    let cause = result.as_ref().err().map(ToString::to_string);
    Line::new(level, "sandbox")
        .with("landlock", word)
        .with("seccomp", calls)
        .with_some("cause", cause.or(filter.err()))
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn writing() -> BitFlags<AccessFs> {
    reading()
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Adds the targets of the links below a folder; a certificate client keeps its files elsewhere and renews them there.
fn follow(folder: &Path, depth: usize, entries: &mut usize, found: &mut Vec<PathBuf>) {
    if depth > CONFIG_DEPTH_MAX {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        *entries = entries.saturating_add(1);
        if *entries > CONFIG_ENTRIES_MAX {
            return;
        }
        let path = entry.path();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link {
            found.extend(home(&path));
        }
        if path.is_dir() {
            follow(&path, depth.saturating_add(1), entries, found);
        }
    }
}

/// The target of a path if that is a folder, otherwise its parent folder. Not the root, which would be everything.
///
/// If the way there is closed, it is the closed folder: once its modes are corrected the link can be followed.
fn home(path: &Path) -> Option<PathBuf> {
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(_) => access::closed_folder(path)?,
    };
    let folder = if path.is_dir() {
        Some(path.as_path())
    } else {
        path.parent()
    };
    let folder = folder.filter(|folder| folder.parent().is_some());
    Some(folder.unwrap_or(&path).to_owned()).filter(|path| path.parent().is_some())
}

/// The rights that are taken away: those of Linux 6.10. Later ones are about sockets, which are not restricted.
const KNOWN: ABI = ABI::V5;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn config(state: &Path) -> Config {
        let text = format!(
            "state_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n",
            state.display()
        );
        Config::of_files(&[("chopar.toml", &text)])
    }

    /// A configuration folder with a certificate as certbot links it: folder, then file, then file.
    fn world() -> (tempfile::TempDir, PathBuf, SandboxRules) {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(temporary.path()).expect("a path");
        for folder in [
            "etc/tls",
            "live/a",
            "archive/a",
            "state/spool",
            "run",
            "other",
        ] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::write(root.join("etc/chopar.toml"), "").expect("a file");
        fs::write(root.join("archive/a/privkey1.pem"), "old").expect("a file");
        fs::write(root.join("other/secret"), "").expect("a file");
        symlink(root.join("live/a"), root.join("etc/tls/a")).expect("a link");
        let link = root.join("live/a/privkey.pem");
        symlink("../../archive/a/privkey1.pem", link).expect("a link");
        let (etc, spool) = (root.join("etc"), root.join("state/spool"));
        let rules = SandboxRules::new(&config(&root), &etc, &spool);
        (temporary, root, rules)
    }

    #[test]
    fn reads_the_configuration_and_where_its_links_lead_and_writes_to_state_alone() {
        let (_temporary, root, rules) = world();
        for expected in ["etc", "live/a", "archive/a"] {
            assert!(rules.read.contains(&root.join(expected)), "{rules:?}");
        }
        for expected in ["/etc", "/dev/null"] {
            assert!(rules.read.contains(&expected.into()), "{rules:?}");
        }
        assert!(!rules.read.contains(&root.join("other")), "{rules:?}");
        assert!(rules.opens(&root.join("etc/tls/new.pem")));
        assert!(rules.opens(&root.join("live/a/privkey.pem")));
        assert!(!rules.opens(&root.join("other/secret")));
        assert_eq!(
            rules.write,
            ["state", "state/spool", "run"].map(|name| root.join(name))
        );
    }

    #[test]
    fn a_link_to_the_root_opens_nothing() {
        assert_eq!(home(Path::new("/")), None);
        assert_eq!(home(Path::new("/etc/passwd")), Some("/etc".into()));
    }

    #[test]
    fn no_right_to_execute_is_given() {
        assert!(!(reading() | writing()).contains(AccessFs::Execute));
        assert!(!reading().contains(AccessFs::WriteFile));
    }

    #[test]
    fn what_the_rules_name_works_and_the_rest_does_not() {
        let (temporary, root, rules) = world();
        let restricted = move || {
            if rules.enforce().expect("rules") == Enforced::None {
                return; // this kernel has no such thing
            }
            // Renewed: another file, and the link replaced.
            let renewed = root.join("etc/tls/a/privkey.pem");
            assert_eq!(fs::read(renewed).expect("read"), b"new");
            let (drop, damaged) = (root.join("state/spool/drop"), root.join("state/damaged"));
            for folder in [&drop, &damaged] {
                fs::create_dir(folder).expect("made");
            }
            fs::write(drop.join("a"), "x").expect("written");
            fs::write(drop.join("a"), "").expect("cut");
            fs::rename(drop.join("a"), damaged.join("a")).expect("set aside");
            fs::remove_file(damaged.join("a")).expect("removed");
            fs::read_dir(&drop).expect("listed");
            let socket = root.join("run/submit.sock");
            std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
            fs::remove_file(socket).expect("removed");
            fs::File::open("/dev/null").expect("opened");
            fs::read("/etc/passwd").expect("read");

            fs::read(root.join("other/secret")).expect_err("read");
            fs::write(root.join("etc/chopar.toml"), "x").expect_err("written");
            fs::write(root.join("other/new"), "x").expect_err("written");
            symlink("/etc/passwd", root.join("state/link")).expect_err("a link");
            std::process::Command::new("/bin/true")
                .status()
                .expect_err("executed");
        };
        fs::write(temporary.path().join("archive/a/privkey2.pem"), "new").expect("a file");
        let link = temporary.path().join("live/a/privkey.pem");
        fs::remove_file(&link).expect("removed");
        symlink("../../archive/a/privkey2.pem", link).expect("a link");
        std::thread::spawn(restricted).join().expect("as it should");
    }
}
