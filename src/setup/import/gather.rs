//! Reads the files of another mail server. Nothing is followed out of the folder but what the caller names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_ENTRIES_MAX, CONFIG_FILE_BYTES_MAX};

/// A folder with what is in it; paths are relative to it.
#[derive(Default)]
pub struct Source {
    /// Files that are text.
    pub files: BTreeMap<String, Zeroizing<String>>,
    /// Folders.
    pub folders: BTreeSet<String>,
    /// What could not be read, and why.
    pub unread: BTreeMap<String, String>,
}

/// Reads a folder; links in it are followed, as the other server does.
pub fn folder(path: &Path) -> Result<Source, String> {
    let mut source = Source::default();
    if !path.is_dir() {
        return Err(format!("{}: expected a folder", path.display()));
    }
    let mut entries = 0;
    gather(path, "", 0, &mut entries, &mut source);
    Ok(source)
}

fn gather(path: &Path, prefix: &str, depth: usize, entries: &mut usize, source: &mut Source) {
    let mut unread = |why: String| drop(source.unread.insert(prefix.to_owned(), why));
    if depth > CONFIG_DEPTH_MAX {
        return unread(format!("folders lie deeper than {CONFIG_DEPTH_MAX}"));
    }
    let listed = match fs::read_dir(path) {
        Ok(listed) => listed,
        Err(error) => return unread(error.to_string()),
    };
    let mut names: Vec<String> = listed
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    for name in names {
        *entries = entries.saturating_add(1);
        let relative = match prefix {
            "" => name.clone(),
            prefix => format!("{prefix}/{name}"),
        };
        if *entries > CONFIG_ENTRIES_MAX {
            let why = format!("there are more than {CONFIG_ENTRIES_MAX} files");
            source.unread.insert(relative, why);
            return;
        }
        let path = path.join(&name);
        if path.is_dir() {
            source.folders.insert(relative.clone());
            gather(&path, &relative, depth.saturating_add(1), entries, source);
            continue;
        }
        match text(&path) {
            Ok(text) => drop(source.files.insert(relative, text)),
            Err(why) => drop(source.unread.insert(relative, why)),
        }
    }
}

/// The text of a file; what is not a file is never opened.
pub fn text(path: &Path) -> Result<Zeroizing<String>, String> {
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| {
            file.take(CONFIG_FILE_BYTES_MAX.saturating_add(1))
                .read_to_end(&mut bytes)
        })
        .map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).map_or(true, |len| len > CONFIG_FILE_BYTES_MAX) {
        return Err(format!("it is longer than {CONFIG_FILE_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Where a path of main.cf lies, for the folder that main.cf was found in: below the same root, so that a copy of another
/// machine's /etc can be read; or beside main.cf.
pub fn beside(folder: &Path, path: &str) -> PathBuf {
    let usual = "/etc/postfix/";
    if let Some(rest) = path.strip_prefix(usual) {
        return folder.join(rest);
    }
    let root = folder
        .ends_with("etc/postfix")
        .then(|| folder.parent().and_then(Path::parent))
        .flatten();
    match (root, path.strip_prefix('/')) {
        (Some(root), Some(rest)) => root.join(rest),
        (None, Some(_)) => path.into(),
        (_, None) => folder.join(path),
    }
}
