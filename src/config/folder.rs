//! What the shell read: the configuration folder as paths and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use zeroize::Zeroizing;

use super::error::Errors;
use super::problem::ConfigProblem;

/// The configuration folder. Paths are relative to it, with `/` between their parts. It contains secrets, so its
/// content is wiped when it is dropped.
#[derive(Default)]
pub struct Folder {
    files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    rights: BTreeMap<String, Rights>,
    folders: BTreeSet<String>,
}

/// The permissions of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rights {
    /// Everybody on the machine may read it.
    pub is_read_by_all: bool,
    /// The account that read the folder may execute it.
    pub is_executable: bool,
}

/// The system's values for keys that the configuration leaves out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SystemDefaults {
    /// The system's hostname, with its domain if known.
    pub hostname: String,
    /// The text of /etc/resolv.conf.
    pub resolv_conf: String,
}

impl Folder {
    /// Adds a file, and its parent folders.
    pub fn insert_file(&mut self, path: &str, bytes: Vec<u8>) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.insert_folder(parent);
        }
        self.files.insert(path.to_owned(), Zeroizing::new(bytes));
    }

    /// Adds a folder, and its parents.
    pub fn insert_folder(&mut self, path: &str) {
        let mut path = path;
        loop {
            self.folders.insert(path.to_owned());
            let Some((parent, _)) = path.rsplit_once('/') else {
                return;
            };
            path = parent;
        }
    }

    /// The content of a file.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(|bytes| bytes.as_slice())
    }

    /// Sets the permissions of a file.
    pub fn set_rights(&mut self, path: &str, rights: Rights) {
        self.rights.insert(path.to_owned(), rights);
    }

    /// The permissions of a file, if known.
    pub fn rights(&self, path: &str) -> Option<Rights> {
        self.rights.get(path).copied()
    }

    /// The names of the folders directly in a folder.
    pub fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        direct(self.folders.iter(), path)
    }

    /// The names of the files directly in a folder.
    pub fn files_in<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        direct(self.files.keys(), path)
    }
}

/// Shows the paths, but no content.
impl fmt::Debug for Folder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.files.keys()).finish()
    }
}

fn direct<'a>(
    paths: impl Iterator<Item = &'a String>,
    parent: &'a str,
) -> impl Iterator<Item = &'a str> {
    paths.filter_map(move |path| {
        path.strip_prefix(parent)?
            .strip_prefix('/')
            .filter(|name| !name.contains('/'))
    })
}

/// Warns of a secret that everybody on the machine may read.
pub(super) fn keep_secret(folder: &Folder, path: &str, errors: &mut Errors) {
    if folder
        .rights(path)
        .is_some_and(|rights| rights.is_read_by_all)
    {
        errors.warn(path, ConfigProblem::ReadByAll);
    }
}
