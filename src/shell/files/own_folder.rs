//! The folders of the relay, opened so that other users cannot redirect root by what they put in the way.
//!
//! The account of the relay owns `state_dir` and `runtime_dir`, and an attacker may control it when root restarts the
//! relay. Each part of a path is therefore opened separately and without following links. A link is followed only if
//! root alone can have made it: in a folder that root owns and no other user may write to. Changes go to the
//! descriptor, never to the path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::shell::process::systemd;

/// Why a folder cannot be had.
#[derive(Debug)]
pub enum OwnFolderError {
    /// A link that a user other than root may have made.
    Link(PathBuf),
    /// Something that is not a folder.
    NotAFolder(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for OwnFolderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(path) => write!(
                out,
                "{}: a symbolic link in a folder that others than root may write to is not followed; put the folder \
                 itself there, or name another in chopar.toml",
                path.display()
            ),
            Self::NotAFolder(path) => write!(
                out,
                "{}: expected a folder, found something else; remove it, or name another folder in chopar.toml",
                path.display()
            ),
            Self::Io(path, error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => write!(
                out,
                "{}: {error}; {}",
                path.display(),
                systemd::read_write_paths(path)
            ),
            Self::Io(path, error) => write!(
                out,
                "{}: the folder cannot be made: {error}; make it, or name another in chopar.toml",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OwnFolderError {}

/// Opens a folder; missing parts of its path are made, with this mode whatever the umask is.
pub(in crate::shell) fn open(path: &Path, mode: u32) -> Result<OwnedFd, OwnFolderError> {
    let whole = std::path::absolute(path).map_err(|error| io_error(path, error))?;
    let mut walk = Walk {
        at: root(path)?,
        so_far: PathBuf::from("/"),
        rest: parts(&whole),
        links: 0,
        mode: Mode::from_raw_mode(mode),
    };
    while let Some(name) = walk.rest.pop_front() {
        walk.enter(name)?;
    }
    // Until here the descriptors gave no more than the place.
    rustix::fs::openat(&walk.at, ".", FOLDER, Mode::empty())
        .map_err(|error| io_error(path, error.into()))
}

/// Whether the caller could make the missing part of a path, and use the existing part. A folder of another account is
/// the responsibility of that account.
pub(in crate::shell) fn could_be_made(path: &Path) -> Result<(), OwnFolderError> {
    let there = path
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    let there = there.unwrap_or(Path::new("/"));
    let about = there.metadata().map_err(|error| io_error(there, error))?;
    if !about.is_dir() {
        return Err(OwnFolderError::NotAFolder(there.to_owned()));
    }
    if there == path && about.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| io_error(path, error.into()))
}

/// The way to a folder.
struct Walk {
    at: OwnedFd,
    so_far: PathBuf,
    rest: VecDeque<OsString>,
    links: usize,
    mode: Mode,
}

impl Walk {
    fn enter(&mut self, name: OsString) -> Result<(), OwnFolderError> {
        let path = self.so_far.join(&name);
        let opened = match self.place(&name) {
            Err(Errno::NOENT) => self.make(&name),
            opened => opened,
        };
        match opened {
            Ok(folder) => {
                self.at = folder;
                self.so_far = path;
                Ok(())
            }
            Err(Errno::LOOP | Errno::NOTDIR) => self.follow(&name, path),
            Err(error) => Err(io_error(&path, error.into())),
        }
    }

    fn place(&self, name: &OsString) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.at, name.as_os_str(), PLACE, Mode::empty())
    }

    fn make(&self, name: &OsString) -> Result<OwnedFd, Errno> {
        match rustix::fs::mkdirat(&self.at, name.as_os_str(), self.mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => return self.place(name),
            Err(error) => return Err(error),
        }
        let flags = FOLDER.union(OFlags::NOFOLLOW);
        let made = rustix::fs::openat(&self.at, name.as_os_str(), flags, Mode::empty())?;
        rustix::fs::fchmod(&made, self.mode)?;
        self.place(name)
    }

    fn follow(&mut self, name: &OsString, path: PathBuf) -> Result<(), OwnFolderError> {
        let Ok(target) = rustix::fs::readlinkat(&self.at, name.as_os_str(), Vec::new()) else {
            return Err(OwnFolderError::NotAFolder(path));
        };
        let about = rustix::fs::fstat(&self.at).map_err(|error| io_error(&path, error.into()))?;
        if about.st_uid != 0 || about.st_mode & WRITABLE_BY_OTHERS != 0 {
            return Err(OwnFolderError::Link(path));
        }
        self.links = self.links.saturating_add(1);
        if self.links > LINKS_MAX {
            return Err(io_error(&path, Errno::LOOP.into()));
        }
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.at = root(&path)?;
            self.so_far = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            self.rest.push_front(part);
        }
        Ok(())
    }
}

fn root(path: &Path) -> Result<OwnedFd, OwnFolderError> {
    rustix::fs::openat(CWD, "/", PLACE, Mode::empty()).map_err(|error| io_error(path, error.into()))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn io_error(path: &Path, error: io::Error) -> OwnFolderError {
    OwnFolderError::Io(path.to_owned(), error)
}

/// Opened as a path only: a caller that may enter a folder may not be able to list it.
const PLACE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn place() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        folder
    }

    #[test]
    fn what_is_missing_is_made_with_its_mode() {
        let place = place();
        let path = place.path().join("a/b");
        for _ in 0..2 {
            let folder = open(&path, 0o711).expect("a folder");
            let about = rustix::fs::fstat(&folder).expect("known");
            let there = fs::metadata(&path).expect("known");
            assert_eq!(about.st_ino, there.ino());
            assert_eq!(there.permissions().mode() & 0o7777, 0o711);
        }
        fs::write(place.path().join("file"), "").expect("a file");
        let error = open(&place.path().join("file/x"), 0o755).expect_err("a file");
        assert!(matches!(error, OwnFolderError::NotAFolder(path) if path.ends_with("file")));
    }

    #[test]
    fn a_link_is_followed_only_where_nobody_but_root_can_have_put_it() {
        if !rustix::process::geteuid().is_root() {
            return; // a folder of root's cannot be made
        }
        let place = place();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("victim")).expect("a folder");
        fs::create_dir(at("state")).expect("a folder");
        symlink("state/../victim", at("by-root")).expect("a link");
        symlink(at("victim"), at("state/spool")).expect("a link");
        let ino = |path: &Path| fs::metadata(path).expect("known").ino();
        for path in ["by-root", "state/spool"] {
            let folder = open(&at(path), 0o755).expect("a folder");
            let about = rustix::fs::fstat(&folder).expect("known");
            assert_eq!(about.st_ino, ino(&at("victim")));
        }
        // Once the account owns the folder, or anybody may write to it, a link in it proves nothing.
        chown(at("state"), Some(65_534), None).expect("an owner");
        let refused = |path: &str| match open(&at(path), 0o755) {
            Err(OwnFolderError::Link(path)) => path,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("state/spool"), at("state/spool"));
        assert_eq!(refused("state/spool/deeper"), at("state/spool"));
        fs::set_permissions(place.path(), Permissions::from_mode(0o1777)).expect("a mode");
        assert_eq!(refused("by-root"), at("by-root"));
    }

    #[test]
    fn a_folder_that_systemd_has_closed_is_named_with_what_opens_it() {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let said = OwnFolderError::Io("/srv/state".into(), error).to_string();
        assert!(said.contains("ReadWritePaths=/srv/state,"), "{said}");
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        let said = OwnFolderError::Io("/srv/state".into(), error).to_string();
        assert!(!said.contains("ReadWritePaths"), "{said}");
    }

    #[test]
    fn a_circle_of_links_ends() {
        if !rustix::process::geteuid().is_root() {
            return; // a folder of root's cannot be made
        }
        let place = place();
        symlink("b", place.path().join("a")).expect("a link");
        symlink("a", place.path().join("b")).expect("a link");
        let error = open(&place.path().join("a"), 0o755).expect_err("a circle");
        assert!(matches!(error, OwnFolderError::Io(..)), "{error}");
    }
}
