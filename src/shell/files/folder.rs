//! Reads the configuration folder, and what the system knows about itself.
//!
//! Files and folders whose names begin with a dot (`.git`) or end with `~`, and backup files of editors, are skipped.
//! Symbolic links are followed; if the end of a link is not a file (a pipe, a device), that is an error, and it is
//! never opened. A file that everybody may write to is refused, because anybody could put a hook, a user or a route
//! into it. Everything is bounded: the bytes of a file, the number of entries, the depth. Only
//! [`crate::shell::certificates::pairs`] reads `tls/`.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::address::Domain;
use crate::config::{Accounts, Folder, HOOKS, Rights, SystemDefaults};
use crate::engine::log::{Level, Line};
use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_ENTRIES_MAX, CONFIG_FILE_BYTES_MAX};
use crate::shell::files::access;
use crate::shell::process::log;

/// Why the folder cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FolderError {
    /// It is not there.
    Missing(PathBuf),
    /// It is not a folder.
    NotAFolder(PathBuf),
    /// The caller may not read something; with the command by which root lets a daemon read it, if a daemon may be the
    /// caller.
    Denied(PathBuf, Option<String>),
    /// The system did not let us read something.
    Read(PathBuf, io::ErrorKind),
    /// A name that is not UTF-8.
    Name(PathBuf),
    /// Something that is neither file nor folder.
    Kind(PathBuf),
    /// A file that is too long.
    TooLong(PathBuf),
    /// A file or folder that everybody may write to.
    Writable(PathBuf),
    /// Too many files and folders.
    TooMany(PathBuf),
    /// Folders that are too deep, or links in a circle.
    TooDeep(PathBuf),
}

impl fmt::Display for FolderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(
                out,
                "{}: there is no such folder; make it, or name another with -C",
                path.display()
            ),
            Self::NotAFolder(path) => write!(
                out,
                "{}: expected the configuration folder, found something else; name it with -C",
                path.display()
            ),
            Self::Denied(path, cure) => {
                let account = access::account_name();
                let path = path.display();
                write!(out, "{path}: permission denied to {account}; use sudo")?;
                match cure {
                    Some(cure) => write!(
                        out,
                        ". Where {account} is the account that chopar runs as: {cure}"
                    ),
                    None => Ok(()),
                }
            }
            Self::Read(path, kind) => write!(out, "{}: cannot be read: {kind}", path.display()),
            Self::Name(path) => write!(out, "{}: the name is not UTF-8; rename it", path.display()),
            Self::Kind(path) => write!(
                out,
                "{}: expected a file or a folder, found something else; remove it",
                path.display()
            ),
            Self::TooLong(path) => write!(
                out,
                "{}: the file is longer than {CONFIG_FILE_BYTES_MAX} bytes; it does not belong here",
                path.display()
            ),
            Self::Writable(path) => write!(
                out,
                "{}: every user may write to it, and so control chopar; run chmod o-w {0}",
                path.display()
            ),
            Self::TooMany(path) => write!(
                out,
                "{}: there are more than {CONFIG_ENTRIES_MAX} files; is this the configuration folder?",
                path.display()
            ),
            Self::TooDeep(path) => write!(
                out,
                "{}: folders are nested deeper than {CONFIG_DEPTH_MAX}, or links form a loop",
                path.display()
            ),
        }
    }
}

impl std::error::Error for FolderError {}

/// Reads the whole folder.
pub fn read(path: &Path) -> Result<Folder, FolderError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() && is_writable(&found) => {
            return Err(FolderError::Writable(path.into()));
        }
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(FolderError::NotAFolder(path.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FolderError::Missing(path.into()));
        }
        Err(error) => return Err(failed(path, &error)),
    }
    let mut folder = Folder::default();
    let mut entries = 0;
    read_into(&mut folder, path, "", 0, &mut entries)?;
    Ok(folder)
}

fn read_into(
    folder: &mut Folder,
    path: &Path,
    prefix: &str,
    depth: usize,
    entries: &mut usize,
) -> Result<(), FolderError> {
    if depth > CONFIG_DEPTH_MAX {
        return Err(FolderError::TooDeep(path.into()));
    }
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let entry = entry.map_err(|error| failed(path, &error))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name
            .to_str()
            .ok_or_else(|| FolderError::Name(path.clone()))?;
        if is_passed_over(name) {
            let line = Line::new(Level::Debug, "passed-over");
            log::write(&line.with("path", path.display()));
            continue;
        }
        *entries = entries.saturating_add(1);
        if *entries > CONFIG_ENTRIES_MAX {
            return Err(FolderError::TooMany(path));
        }
        let relative = match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        if relative == TLS {
            continue;
        }
        if prefix == DOMAINS && Domain::parse(name).is_err() {
            folder.insert_folder(&relative);
            continue;
        }
        let metadata = fs::metadata(&path).map_err(|error| failed(&path, &error))?;
        if is_writable(&metadata) {
            return Err(FolderError::Writable(path));
        }
        if metadata.is_dir() {
            folder.insert_folder(&relative);
            read_into(folder, &path, &relative, depth.saturating_add(1), entries)?;
        } else if metadata.is_file() {
            // A hook is run, not read, and may be of any size.
            let bytes = match prefix {
                HOOKS => Vec::new(),
                _ => read_file(&path)?,
            };
            folder.insert_file(&relative, bytes);
            folder.set_rights(&relative, rights(&path, &metadata));
        } else {
            return Err(FolderError::Kind(path));
        }
    }
    Ok(())
}

fn rights(path: &Path, metadata: &Metadata) -> Rights {
    Rights {
        is_read_by_all: metadata.mode() & 0o004 != 0,
        is_executable: rustix::fs::access(path, Access::EXEC_OK).is_ok(),
    }
}

/// Whether everybody may write to it.
fn is_writable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o002 != 0
}

fn failed(path: &Path, error: &io::Error) -> FolderError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            // A person at a terminal has sudo, and need not open the folder to their own account.
            let cure = (!io::stderr().is_terminal()).then(|| access::cure(path));
            FolderError::Denied(path.into(), cure)
        }
        kind => FolderError::Read(path.into(), kind),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, FolderError> {
    let failed = |error: io::Error| failed(path, &error);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_BYTES_MAX.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= CONFIG_FILE_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err(FolderError::TooLong(path.into()))
    }
}

/// Hidden files, backup files of editors and package managers, and special files at the root of a volume.
pub(in crate::shell) fn is_passed_over(name: &str) -> bool {
    let left_over = [
        "~",
        ".swp",
        ".swo",
        ".bak",
        ".orig",
        ".tmp",
        ".dpkg-old",
        ".dpkg-dist",
    ];
    name.starts_with('.')
        || name == "lost+found"
        || (name.starts_with('#') && name.ends_with('#'))
        || left_over.iter().any(|end| name.ends_with(end))
}

/// The system's values for keys that the configuration leaves out. Values that cannot be read count as empty.
pub fn system_defaults() -> SystemDefaults {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let node = rustix::system::uname();
    let node = node.nodename().to_string_lossy();
    SystemDefaults {
        hostname: full_hostname(&node, &text("/etc/hostname"), &text("/etc/hosts")),
        resolv_conf: text("/etc/resolv.conf"),
    }
}

/// The accounts of /etc/passwd; none if it cannot be read.
pub fn accounts() -> Accounts {
    let mut text = String::new();
    let read = File::open("/etc/passwd")
        .and_then(|file| file.take(CONFIG_FILE_BYTES_MAX).read_to_string(&mut text));
    Accounts::parse(read.map_or("", |_| text.as_str()))
}

/// The name of this machine with its domain: the kernel's, else that of /etc/hostname, else the one beside it in
/// /etc/hosts.
fn full_hostname(node: &str, hostname_file: &str, hosts: &str) -> String {
    let in_file = hostname_file
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let beside = hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let names: Vec<&str> = line.split_whitespace().skip(1).collect();
        let known = names.iter().any(|name| name.eq_ignore_ascii_case(node));
        let known = known && !node.is_empty();
        names.into_iter().find(|name| known && is_full(name))
    });
    [Some(node), in_file, beside]
        .into_iter()
        .flatten()
        .find(|name| is_full(name))
        .unwrap_or(node)
        .to_owned()
}

const TLS: &str = "tls";

const DOMAINS: &str = "domains";

fn is_full(name: &str) -> bool {
    name.contains('.') && !name.starts_with("localhost.")
}

/// When /etc/resolv.conf changed last, as far as is known.
pub(in crate::shell) fn resolv_conf_changed() -> Option<std::time::SystemTime> {
    fs::metadata("/etc/resolv.conf")
        .and_then(|about| about.modified())
        .ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    #[test]
    fn who_may_not_read_is_told_of_sudo_and_a_daemon_of_its_group() {
        let said = |cure: Option<&str>| {
            FolderError::Denied("/etc/chopar/x".into(), cure.map(str::to_owned)).to_string()
        };
        assert!(said(None).ends_with("; use sudo"), "{}", said(None));
        let told = said(Some("run chgrp chopar /etc/chopar/x"));
        assert!(told.contains("; use sudo. Where "), "{told}");
        assert!(told.ends_with(": run chgrp chopar /etc/chopar/x"), "{told}");
    }

    #[test]
    fn reads_files_folders_and_links_and_passes_over_the_rest() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        write(&root.join("etc/chopar.toml"), "x");
        write(&root.join("etc/.git/config"), "x");
        write(&root.join("etc/domains/example.com/aliases~"), "x");
        write(&root.join("etc/domains/example.com/#users#"), "x");
        write(&root.join("live/fullchain.pem"), "chain");
        write(&root.join("etc/domains/lost+found/x"), "x");
        write(&root.join("etc/tls/a/privkey.pem"), "not read here");
        symlink(root.join("live"), root.join("etc/secrets")).expect("a link");
        let folder = read(&root.join("etc")).expect("the folder");
        assert_eq!(
            format!("{folder:?}"),
            "[\"chopar.toml\", \"secrets/fullchain.pem\"]"
        );
        assert_eq!(folder.file("secrets/fullchain.pem"), Some(&b"chain"[..]));
        let domains: Vec<&str> = folder.children("domains").collect();
        assert_eq!(domains, ["example.com"]);
    }

    #[test]
    fn what_everybody_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path().join("etc");
        for file in ["hooks/post-data", "domains/example.com/users"] {
            write(&root.join(file), "x");
        }
        let places = ["", "hooks", "hooks/post-data", "domains/example.com/users"];
        for place in places {
            let path = match place {
                "" => root.clone(),
                place => root.join(place),
            };
            let mode = fs::metadata(&path).expect("it is there").permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode.mode() | 0o002))
                .expect("a mode");
            let error = read(&root).expect_err("everybody may write to it");
            assert_eq!(error, FolderError::Writable(path.clone()));
            assert!(error.to_string().contains("chmod o-w"), "{error}");
            fs::set_permissions(&path, mode).expect("a mode");
            assert!(read(&root).is_ok());
        }
    }

    #[test]
    fn says_what_cannot_be_read() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        assert_eq!(
            read(&root.join("no")).expect_err("missing"),
            FolderError::Missing(root.join("no"))
        );
        let file = root.join("file");
        write(&file, "x");
        assert_eq!(
            read(&file).expect_err("a file"),
            FolderError::NotAFolder(file.clone())
        );
        fs::remove_file(&file).expect("removed");

        let circle = root.join("circle");
        symlink(root, &circle).expect("a link");
        assert!(matches!(
            read(root),
            Err(FolderError::TooDeep(_) | FolderError::Read(..))
        ));
        fs::remove_file(&circle).expect("removed");

        let dangling = root.join("dangling");
        symlink(root.join("nowhere"), &dangling).expect("a link");
        let expected = FolderError::Read(dangling.clone(), io::ErrorKind::NotFound);
        assert_eq!(read(root).expect_err("dangling"), expected);
        fs::remove_file(&dangling).expect("removed");

        let socket = root.join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert_eq!(
            read(root).expect_err("a socket"),
            FolderError::Kind(socket.clone())
        );
        fs::remove_file(&socket).expect("removed");

        let long = root.join("long");
        let file = File::create(&long).expect("a file");
        file.set_len(CONFIG_FILE_BYTES_MAX + 1).expect("a length");
        assert_eq!(read(root).expect_err("long"), FolderError::TooLong(long));
    }

    #[test]
    fn the_name_with_a_domain_is_found() {
        let hosts = "127.0.0.1 localhost.localdomain localhost\n127.0.1.1 vps1.example.com vps1 # this one\n";
        assert_eq!(
            full_hostname("mail.example.com", "", hosts),
            "mail.example.com"
        );
        assert_eq!(
            full_hostname("vps1", "mx.example.com\n", hosts),
            "mx.example.com"
        );
        assert_eq!(full_hostname("VPS1", "vps1\n", hosts), "vps1.example.com");
        assert_eq!(full_hostname("localhost", "", hosts), "localhost");
        assert_eq!(full_hostname("other", "", hosts), "other");
        assert_eq!(full_hostname("", "", ""), "");
    }
}
