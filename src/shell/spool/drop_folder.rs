//! `spool/drop/`: writes and opens its files. [`crate::engine::drop_folder`] decides how they are handled.
//!
//! The folder is 1733: everybody may add files, and only the relay may list them. A file is written under a name that
//! begins with a dot, synced, and renamed to `RANDOM.msg`. It is readable, because the relay is not its owner, but its
//! name cannot be guessed. The owner of the file is the sender.

mod draft;
mod opened;
mod run;

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::date::Timestamp;

pub use draft::{Draft, Incomplete};
pub(in crate::shell) use run::{Relay, Runner, is_anything_there};

/// Makes the folder below the spool if it is not there.
pub fn make_folder(spool: &Path) -> io::Result<PathBuf> {
    let path = spool.join("drop");
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(&path, Permissions::from_mode(0o1733))?;
    Ok(path)
}

/// A message that waits, as far as the caller may read it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WaitingFile {
    /// The name of its file.
    pub name: String,
    /// Bytes of its file.
    pub size: u64,
    /// When it was left.
    pub written: Timestamp,
    /// Its sender.
    pub from: String,
    pub to: Vec<String>,
}

/// The messages that wait in the folder, the oldest first.
pub fn waiting(folder: &Path) -> io::Result<Vec<WaitingFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(about) = entry.metadata() else {
            continue; // it has just been taken
        };
        if name.starts_with('.') || !about.is_file() {
            continue;
        }
        let (from, to) = envelope(&entry.path()).unwrap_or_default();
        found.push(WaitingFile {
            name,
            size: about.len(),
            written: Timestamp::from_seconds(u64::try_from(about.mtime()).unwrap_or(0)),
            from,
            to,
        });
    }
    found.sort_by(|one, other| (one.written, &one.name).cmp(&(other.written, &other.name)));
    Ok(found)
}

/// The addresses in the lines of an envelope, read for people: nothing is decided by them.
fn envelope(path: &Path) -> Option<(String, Vec<String>)> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let lines = BufReader::new(file.ok()?.take(ENVELOPE_BYTES_SHOWN)).lines();
    let (mut from, mut to) = (String::new(), Vec::new());
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let address = line
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'));
        let Some((address, _)) = address else {
            continue;
        };
        match line.get(..4) {
            Some("MAIL") => address.clone_into(&mut from),
            Some("RCPT") => to.push(address.to_owned()),
            _ => {}
        }
    }
    Some((from, to))
}

/// Bytes of an envelope that are shown of a message that waits.
const ENVELOPE_BYTES_SHOWN: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
