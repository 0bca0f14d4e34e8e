//! The pairs under `tls/`, and those that chopar has obtained itself (`acme/certificates/` in `state_dir`): whether
//! their files have changed, and their current content.
//!
//! Links are followed, because ACME clients renew by replacing links. A problem of a pair is part of the result and
//! never stops the reading: [`crate::shell::tls`] decides what is served meanwhile.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::limits::{CONFIG_ENTRIES_MAX, CONFIG_FILE_BYTES_MAX};
use crate::shell::files::access;
use crate::shell::files::folder::is_passed_over;

/// Identifies a state of the files. The change time covers modes, owners and renames.
pub(in crate::shell) type Fingerprint = Vec<(PathBuf, Option<FileState>)>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) struct FileState {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The folders of pairs.
#[derive(Clone, Copy, Debug)]
pub struct PairPlaces<'a> {
    /// The configuration folder, with the operator's under `tls/`.
    pub config: &'a Path,
    /// `state_dir`, with the obtained pairs.
    pub state: &'a Path,
}

impl PairPlaces<'_> {
    /// The folder with this name, as in [`FoundPair`].
    fn folder(&self, name: &str) -> PathBuf {
        match name.strip_prefix(OBTAINED) {
            Some(name) => self.state.join(OBTAINED_FOLDER).join(name),
            None => self.config.join("tls").join(name),
        }
    }
}

/// How a person finds the folder with this name.
pub fn shown(name: &str) -> String {
    match name.strip_prefix(OBTAINED) {
        Some(name) => format!("{OBTAINED_FOLDER}/{name}"),
        None => format!("tls/{name}"),
    }
}

/// A pair of certificate and key that was found, with the state of its files.
pub struct FoundPair {
    /// The name of its folder, with [`OBTAINED`] in front if it is not under `tls/`; empty if the parent folder cannot
    /// be listed.
    pub name: Box<str>,
    /// Its two files, as far as they could be read.
    pub pair: Option<PairFiles>,
    pub error: Option<PairError>,
}

/// The two files of a pair.
pub struct PairFiles {
    /// `fullchain.pem`.
    pub chain: Vec<u8>,
    /// `privkey.pem`.
    pub key: Zeroizing<Vec<u8>>,
    /// The key's file, if everybody may read it.
    pub bare_key: Option<PathBuf>,
}

/// Why the files of a pair cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PairError {
    /// A file is not there.
    Missing(PathBuf),
    /// Neither file exists.
    Nothing(PathBuf),
    /// The account may not read it; with the remedy.
    Denied(PathBuf, String),
    /// The system refused otherwise.
    Read(PathBuf, ErrorKind),
    /// It is not a file.
    Kind(PathBuf),
    TooLong(PathBuf),
    /// Everybody may write to it.
    Writable(PathBuf),
}

impl fmt::Display for PairError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => {
                write!(out, "{}: the file is missing; put it there", path.display())
            }
            Self::Nothing(path) => write!(
                out,
                "{}: there is neither fullchain.pem nor privkey.pem; put both there, or remove the folder",
                path.display()
            ),
            Self::Denied(path, _) => write!(
                out,
                "{}: the account that chopar runs as may not read it",
                path.display()
            ),
            Self::Read(path, kind) => write!(out, "{}: cannot be read: {kind}", path.display()),
            Self::Kind(path) => write!(
                out,
                "{}: expected a file, found something else; remove it",
                path.display()
            ),
            Self::TooLong(path) => write!(
                out,
                "{}: the file is longer than {CONFIG_FILE_BYTES_MAX} bytes; it does not belong here",
                path.display()
            ),
            Self::Writable(path) => write!(
                out,
                "{}: every user may write to it; run chmod o-w {0}",
                path.display()
            ),
        }
    }
}

/// The state of the files, whether they can be read or not.
pub(in crate::shell) fn fingerprint(places: PairPlaces<'_>) -> Fingerprint {
    let mut paths = Vec::new();
    for (root, _) in roots(places) {
        let folders = folders(&root).unwrap_or_default();
        paths.push(root);
        for path in folders {
            paths.extend([path.join(CHAIN), path.join(KEY)]);
            paths.push(path);
        }
    }
    let state = |path: PathBuf| {
        let state = fs::metadata(&path).ok().map(|about| FileState {
            inode: about.ino(),
            len: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        });
        (path, state)
    };
    paths.into_iter().map(state).collect()
}

/// Reads `tls/` and the pairs that ACME has obtained; a pair that cannot be read is included, with its error.
pub fn read(places: PairPlaces<'_>) -> Vec<FoundPair> {
    let mut found = Vec::new();
    for (root, front) in roots(places) {
        read_root(&root, front, &mut found);
    }
    found
}

fn read_root(root: &Path, front: &str, found: &mut Vec<FoundPair>) {
    let folders = match folders(root) {
        Ok(folders) => folders,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            return found.push(FoundPair {
                name: "".into(),
                pair: None,
                error: Some(of_root(failed(root, &error), front)),
            });
        }
    };
    found.extend(folders.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy();
        let name = format!("{front}{name}").into();
        // A file beside the folders is nothing that could be served.
        if fs::metadata(&path).is_ok_and(|about| !about.is_dir()) {
            return None;
        }
        let (pair, error) = match read_pair(&path) {
            Ok(pair) => (Some(pair), None),
            Err(error) => (None, Some(of_root(error, front))),
        };
        Some(FoundPair { name, pair, error })
    }));
}

/// The error of a pair in a folder with this prefix. Obtained pairs belong to the account: a command that opens the
/// target of a link there would give the account a key that it must not have.
fn of_root(error: PairError, front: &str) -> PairError {
    match error {
        PairError::Denied(path, _) if front == OBTAINED => {
            PairError::Denied(path, OBTAINED_CURE.to_owned())
        }
        error => error,
    }
}

/// Reads pairs for the account with the caller's rights: they are served until they must be read again. Nothing is read
/// below `state_dir`, nor through a path that leads there, because the account can put any link there.
pub(in crate::shell) fn read_for(found: &mut [FoundPair], places: PairPlaces<'_>) {
    for found in found {
        let is_operators = !found.name.is_empty() && !found.name.starts_with(OBTAINED);
        if !is_operators || !matches!(found.error, Some(PairError::Denied(..))) {
            continue;
        }
        let folder = places.folder(&found.name);
        let leads_through = |file| access::leads_through(&folder.join(file), places.state);
        if ![CHAIN, KEY].into_iter().any(leads_through) {
            found.pair = read_pair(&folder).ok();
        }
    }
}

/// The parent folders, each with the prefix of the names in it.
fn roots(places: PairPlaces<'_>) -> [(PathBuf, &'static str); 2] {
    [
        (places.config.join("tls"), ""),
        (places.state.join(OBTAINED_FOLDER), OBTAINED),
    ]
}

/// The folders in one, in order.
fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_taken = name
            .to_str()
            .is_none_or(|name| !is_passed_over(name) && !name.starts_with(OBTAINED));
        if is_taken && paths.len() < CONFIG_ENTRIES_MAX {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads the pair of one folder.
pub fn read_pair(path: &Path) -> Result<PairFiles, PairError> {
    let (chain, key) = (path.join(CHAIN), path.join(KEY));
    let (chain_file, key_file) = (open(&chain), open(&key));
    if let (Err(PairError::Missing(_)), Err(PairError::Missing(_))) = (&chain_file, &key_file) {
        return Err(match fs::metadata(path) {
            Ok(_) => PairError::Nothing(path.to_owned()),
            Err(error) => failed(path, &error),
        });
    }
    let ((chain_file, _), (key_file, about)) = (chain_file?, key_file?);
    Ok(PairFiles {
        chain: contents(chain_file, &chain)?,
        key: Zeroizing::new(contents(key_file, &key)?),
        bare_key: (about.mode() & 0o004 != 0).then_some(key),
    })
}

/// Opens a regular file; nothing else is opened, because a pipe would wait.
fn open(path: &Path) -> Result<(File, Metadata), PairError> {
    let about = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if !about.is_file() {
        return Err(PairError::Kind(path.to_owned()));
    }
    if about.mode() & 0o002 != 0 {
        return Err(PairError::Writable(path.to_owned()));
    }
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    Ok((file, about))
}

fn contents(file: File, path: &Path) -> Result<Vec<u8>, PairError> {
    let mut bytes = Vec::new();
    let most = CONFIG_FILE_BYTES_MAX.saturating_add(1);
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(path, &error))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len < most) {
        Ok(bytes)
    } else {
        Err(PairError::TooLong(path.to_owned()))
    }
}

fn failed(path: &Path, error: &io::Error) -> PairError {
    match error.kind() {
        ErrorKind::NotFound => PairError::Missing(path.to_owned()),
        ErrorKind::PermissionDenied => PairError::Denied(path.to_owned(), access::cure(path)),
        kind => PairError::Read(path.to_owned(), kind),
    }
}

/// The chain of a pair.
pub const CHAIN: &str = "fullchain.pem";
/// The key of a pair.
pub const KEY: &str = "privkey.pem";
/// In front of the name of a pair that chopar has obtained.
pub const OBTAINED: &str = "acme:";
/// The remedy for one of them that the account cannot read.
const OBTAINED_CURE: &str =
    "that account must own it: remove its folder, and chopar obtains it again";
/// Where those lie in `state_dir`.
pub const OBTAINED_FOLDER: &str = "acme/certificates";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_mode_a_rename_and_a_link_that_leads_elsewhere_are_noticed() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        for folder in ["tls", "live", "archive"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for file in ["archive/1.pem", "archive/2.pem", "live/privkey.pem"] {
            fs::write(root.join(file), "same").expect("a file");
        }
        let link = root.join("live/fullchain.pem");
        symlink("../archive/1.pem", &link).expect("a link");
        symlink(root.join("live"), root.join("tls/a")).expect("a link");
        let places = PairPlaces {
            config: root,
            state: &root.join("state"),
        };
        let mut before = fingerprint(places);
        let mut differs = |what: &str| {
            let now = fingerprint(places);
            assert_ne!(now, before, "{what}");
            before = now;
        };
        let key = root.join("live/privkey.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
        differs("chmod");
        fs::write(root.join("live/new"), "same").expect("a file");
        fs::rename(root.join("live/new"), &key).expect("a rename");
        differs("rename");
        fs::remove_file(&link).expect("a link");
        symlink("../archive/2.pem", &link).expect("a link");
        differs("link");
        fs::set_permissions(root.join("live"), fs::Permissions::from_mode(0o700)).expect("a mode");
        differs("chmod of the folder");
        fs::remove_file(&key).expect("a file");
        differs("gone");
        fs::create_dir_all(root.join("state/acme/certificates/a.test")).expect("a folder");
        differs("obtained");
    }

    #[test]
    fn pairs_of_the_operator_and_of_chopar_itself_are_told_apart() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        let state = root.join("state");
        for folder in [
            root.join("tls/a.test"),
            root.join("tls/acme:b.test"),
            state.join("acme/certificates/a.test"),
        ] {
            fs::create_dir_all(&folder).expect("a folder");
            for file in [CHAIN, KEY] {
                fs::write(folder.join(file), folder.display().to_string()).expect("a file");
                fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600))
                    .expect("a mode");
            }
        }
        let places = PairPlaces {
            config: root,
            state: &state,
        };
        let found = read(places);
        let names: Vec<&str> = found.iter().map(|found| &*found.name).collect();
        assert_eq!(names, ["a.test", "acme:a.test"]);
        for found in &found {
            let pair = found.pair.as_ref().expect("a pair");
            assert_eq!(
                pair.chain,
                places
                    .folder(&found.name)
                    .display()
                    .to_string()
                    .into_bytes()
            );
        }
        let shown: Vec<String> = names.iter().map(|name| shown(name)).collect();
        assert_eq!(shown, ["tls/a.test", "acme/certificates/a.test"]);
    }

    #[test]
    fn for_the_account_nothing_is_read_by_a_way_through_its_own_folder() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        let state = root.join("state");
        let obtained = state.join(OBTAINED_FOLDER).join("b.test");
        for folder in ["tls/a.test", "tls/c.test", "elsewhere"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::create_dir_all(&obtained).expect("a folder");
        for file in [CHAIN, KEY] {
            let secret = root.join("elsewhere").join(file);
            fs::write(&secret, "x").expect("a file");
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
            symlink(&secret, obtained.join(file)).expect("a link");
            symlink(&secret, root.join("tls/a.test").join(file)).expect("a link");
            symlink(obtained.join(file), root.join("tls/c.test").join(file)).expect("a link");
        }
        let places = PairPlaces {
            config: root,
            state: &state,
        };
        let denied = |name: &str| FoundPair {
            name: name.into(),
            pair: None,
            error: Some(PairError::Denied(root.into(), String::new())),
        };
        let mut found = ["a.test", "c.test", "acme:b.test"].map(denied);
        read_for(&mut found, places);
        assert_eq!(
            found.map(|found| found.pair.is_some()),
            [true, false, false]
        );
        let error = PairError::Denied(obtained.clone(), "run chgrp".to_owned());
        let expected = PairError::Denied(obtained, OBTAINED_CURE.to_owned());
        assert_eq!(of_root(error.clone(), OBTAINED), expected);
        assert_eq!(of_root(error.clone(), ""), error);
    }

    #[test]
    fn what_is_wrong_with_the_files_is_found_and_the_rest_is_read() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path();
        let file = |path: &str, mode: u32| {
            let path = root.join("tls").join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, "x").expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        file("good/fullchain.pem", 0o644);
        file("good/privkey.pem", 0o640);
        file("bare/fullchain.pem", 0o644);
        file("bare/privkey.pem", 0o644);
        file("half/fullchain.pem", 0o644);
        file("open/fullchain.pem", 0o644);
        file("open/privkey.pem", 0o666);
        fs::create_dir_all(root.join("tls/none")).expect("a folder");
        symlink(root.join("nowhere"), root.join("tls/dangling")).expect("a link");
        fs::create_dir_all(root.join("tls/pipe/privkey.pem")).expect("a folder");
        fs::write(root.join("tls/pipe/fullchain.pem"), "x").expect("a file");
        let places = PairPlaces {
            config: root,
            state: &root.join("state"),
        };
        let found = read(places);
        let at = |path: &str| root.join("tls").join(path);
        let expected = [
            ("bare", None),
            ("dangling", Some(PairError::Missing(at("dangling")))),
            ("good", None),
            ("half", Some(PairError::Missing(at("half/privkey.pem")))),
            ("none", Some(PairError::Nothing(at("none")))),
            ("open", Some(PairError::Writable(at("open/privkey.pem")))),
            ("pipe", Some(PairError::Kind(at("pipe/privkey.pem")))),
        ];
        let shown: Vec<_> = found
            .iter()
            .map(|found| (&*found.name, found.error.clone()))
            .collect();
        assert_eq!(shown, expected);
        let bare = |at: usize| found[at].pair.as_ref().map(|pair| pair.bare_key.is_some());
        assert_eq!((bare(0), bare(2)), (Some(true), Some(false)));
    }
}
