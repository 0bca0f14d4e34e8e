//! Reads the files of another mail server: those in the given folder, or for Postfix those below the given root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::limits::{CONFIG_DEPTH_MAX, CONFIG_ENTRIES_MAX, CONFIG_FILE_BYTES_MAX};

/// A folder with its content; paths are relative to it.
#[derive(Default)]
pub struct ImportSource {
    /// Files that are text.
    pub files: BTreeMap<String, Zeroizing<String>>,
    pub folders: BTreeSet<String>,
    /// Files that could not be read, with the reason.
    pub unread: BTreeMap<String, String>,
}

/// Reads a folder; links in it are followed, as the other server does.
pub fn folder(path: &Path) -> Result<ImportSource, String> {
    let mut source = ImportSource::default();
    if !path.is_dir() {
        return Err(format!("{}: expected a folder", path.display()));
    }
    let mut entries = 0;
    gather(path, "", 0, &mut entries, &mut source);
    Ok(source)
}

fn gather(path: &Path, prefix: &str, depth: usize, entries: &mut usize, source: &mut ImportSource) {
    let mut unread = |why: String| drop(source.unread.insert(prefix.to_owned(), why));
    if depth > CONFIG_DEPTH_MAX {
        return unread(format!("folders are nested deeper than {CONFIG_DEPTH_MAX}"));
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

/// The text of a file; nothing but a regular file is opened.
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

/// The path of a file that main.cf names, for the folder in which main.cf was found: below the same root, so that a
/// copy of another machine's /etc can be read, or beside main.cf. Nothing else is read, even through links: the files
/// of this machine are not those of another machine's main.cf.
pub fn beside(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let root = folder
        .ends_with("etc/postfix")
        .then(|| folder.parent().and_then(Path::parent))
        .flatten();
    let bound = root.unwrap_or(folder);
    let outside = || {
        format!(
            "it lies outside of {}, where nothing is read: copy it there, or give a copy of the whole /etc by naming its \
             etc/postfix",
            bound.display()
        )
    };
    let usual = path.strip_prefix("/etc/postfix/");
    let found = match (usual, root, path.strip_prefix('/')) {
        (Some(rest), _, _) => folder.join(rest.trim_start_matches('/')),
        (None, Some(root), Some(rest)) => root.join(rest.trim_start_matches('/')),
        (None, None, Some(_)) => return Err(outside()),
        (None, _, None) => folder.join(path),
    };
    let whole = |path: &Path| fs::canonicalize(path).map_err(|error| error.to_string());
    let (found, bound) = (whole(&found)?, whole(bound)?);
    match found.starts_with(bound) {
        true => Ok(found),
        false => Err(outside()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_read_outside_of_the_root_that_was_named() {
        let place = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(place.path()).expect("a path").join("root");
        let (folder, flat) = (root.join("etc/postfix"), root.join("flat"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::create_dir_all(&flat).expect("a folder");
        fs::write(place.path().join("key"), "x").expect("a file");
        for path in ["etc/aliases", "etc/postfix/virtual", "flat/virtual"] {
            fs::write(root.join(path), "x").expect("a file");
        }
        for folder in [&folder, &flat] {
            symlink(place.path().join("key"), folder.join("link")).expect("a link");
        }
        let at = |path: &str| Ok(root.join(path));
        assert_eq!(beside(&folder, "/etc/aliases"), at("etc/aliases"));
        assert_eq!(beside(&folder, "virtual"), at("etc/postfix/virtual"));
        assert_eq!(
            beside(&folder, "/etc/postfix/virtual"),
            at("etc/postfix/virtual")
        );
        assert_eq!(beside(&flat, "/etc/postfix/virtual"), at("flat/virtual"));
        for (folder, path) in [
            (&folder, "/etc/postfix/link"),
            (&folder, "../../../key"),
            (&folder, "/../key"),
            (&flat, "link"),
            (&flat, "/etc/passwd"),
            (&flat, "/etc/postfix//../../key"),
            (&flat, "../etc/aliases"),
        ] {
            let why = beside(folder, path).expect_err(path);
            assert!(why.starts_with("it lies outside of "), "{path}: {why}");
        }
        assert_eq!(
            beside(Path::new("/etc/postfix"), "/usr/bin/env"),
            fs::canonicalize("/usr/bin/env").map_err(|error| error.to_string())
        );
    }
}
