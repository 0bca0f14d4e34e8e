//! The installation files that the binary contains: the manual pages, and the files that `src/setup/installed` names.
//!
//! `build.rs` beside this file packs them. If only the binary was copied to a machine, `chopar man` shows the pages and
//! `chopar init` installs the missing files.

use std::path::{Path, PathBuf};

use miniz_oxide::inflate::decompress_to_vec_with_limit;

use super::init::machine::{InstallPlace, LOCAL_BINARY, Machine};

include!(concat!(env!("OUT_DIR"), "/carried.rs"));
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/carried.deflate"));

/// A file as it is in the source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Carried {
    /// Its path in the source.
    pub name: &'static str,
    pub text: String,
}

/// The unit files, man pages and hooks that the binary carries.
pub fn all() -> Vec<Carried> {
    let bytes = TABLE.iter().map(|(_, len)| len).sum();
    let text = decompress_to_vec_with_limit(PACKED, bytes)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let mut rest = text.as_str();
    TABLE
        .iter()
        .filter_map(|(name, len)| {
            let (text, behind) = rest.split_at_checked(*len)?;
            rest = behind;
            let text = text.to_owned();
            Some(Carried { name, text })
        })
        .collect()
}

/// The manual pages: name, section, text.
pub fn pages() -> Vec<(&'static str, &'static str, String)> {
    let pages = all().into_iter().filter_map(|file| {
        let (name, section) = file.name.strip_prefix("man/")?.rsplit_once('.')?;
        Some((name, section, file.text))
    });
    pages.collect()
}

/// The names of a page that another page describes: the other's name and section.
pub const ALSO: [(&str, &str, &str); 2] =
    [("mailq", "sendmail", "1"), ("newaliases", "sendmail", "1")];

/// The files missing on a machine to which only the binary was copied: manual pages, the given `completions` (path
/// below the prefix, text), and filter and jail if there is a fail2ban. An installation by a package or by `make
/// install`, below another prefix, has them from there.
pub fn missing(
    machine: &Machine,
    completions: Vec<(&'static str, String)>,
) -> Vec<(PathBuf, String)> {
    if machine.place != InstallPlace::Machine || machine.program() != Path::new(LOCAL_BINARY) {
        return Vec::new();
    }
    let local = |path: String| Path::new("/usr/local").join(path);
    let page =
        |name: &str, section: &str| local(format!("share/man/man{section}/{name}.{section}"));
    let mut files: Vec<(PathBuf, String)> = pages()
        .into_iter()
        .map(|(name, section, text)| (page(name, section), text))
        .collect();
    for (name, other, section) in ALSO {
        files.push((
            page(name, section),
            format!(".so man{section}/{other}.{section}\n"),
        ));
    }
    files.extend(
        completions
            .into_iter()
            .map(|(path, text)| (local(path.to_owned()), text)),
    );
    let carried = all();
    let installed = carried.iter().find(|file| file.name == INSTALLED);
    for (source, place) in places(installed.map_or("", |file| &file.text)) {
        let file = carried.iter().find(|file| file.name == source);
        let is_there = Path::new(place)
            .ancestors()
            .nth(2)
            .is_some_and(Path::is_dir);
        if let (Some(file), true) = (file, place.starts_with("/etc/") && is_there) {
            files.push((PathBuf::from(place), file.text.clone()));
        }
    }
    // A link that leads nowhere exists too.
    files.retain(|(path, _)| path.symlink_metadata().is_err());
    files
}

/// File of the source and place of each line.
fn places(installed: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = installed.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((words.next()?, words.next()?))
    })
}

const INSTALLED: &str = "src/setup/installed";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_carried_is_what_the_source_has() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let carried = all();
        assert_eq!(carried.len(), TABLE.len());
        for file in &carried {
            let text = fs::read_to_string(root.join(file.name)).expect("a file");
            assert_eq!(file.text, text, "{}", file.name);
        }
        let pages = fs::read_dir(root.join("man")).expect("a folder");
        for page in pages {
            let name = page.expect("an entry").file_name();
            let name = format!("man/{}", name.to_string_lossy());
            assert!(carried.iter().any(|file| file.name == name), "{name}");
        }
    }

    #[test]
    fn every_file_of_an_installation_is_carried() {
        let carried = all();
        let installed = carried
            .iter()
            .find(|file| file.name == INSTALLED)
            .expect("it");
        let sources: Vec<&str> = places(&installed.text).map(|(source, _)| source).collect();
        assert!(sources.contains(&"src/setup/chopar.service"), "{sources:?}");
        for source in sources {
            assert!(carried.iter().any(|file| file.name == source), "{source}");
        }
    }
}
