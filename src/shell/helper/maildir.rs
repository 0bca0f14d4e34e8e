//! Delivery into a maildir (as qmail and Courier define it): a file in `tmp`, synced, renamed into `new`, synced.
//!
//! A missing maildir is created if its parent folder exists. After a crash, files may remain in `tmp`; mail readers
//! remove them after 36 hours. Invariant: a file in `new` is complete and durable, and replaces no other file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::content::Content;
use crate::entropy::Entropy as _;
use crate::shell::process::time::SystemEntropy;

/// Delivers a message with `head` above it.
pub(super) fn deliver(maildir: &Path, head: &[u8], content: &Content) -> io::Result<()> {
    make(maildir)?;
    let name = unique_name();
    let (passing, new) = (maildir.join("tmp").join(&name), maildir.join("new"));
    let written = write(&passing, head, content).and_then(|()| {
        let to = new.join(&name);
        // The name is unique: it contains the time, this process's id, a counter and random digits.
        fs::rename(&passing, to)
    });
    if let Err(error) = written {
        // It may never have been made.
        drop(fs::remove_file(&passing));
        return Err(error);
    }
    sync_folder(&new)
}

fn write(path: &Path, head: &[u8], content: &Content) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(head)?;
    content.write_to(&mut file)?;
    file.sync_all()
}

/// Makes the missing folders of a maildir.
fn make(maildir: &Path) -> io::Result<()> {
    let mut made = make_folder(maildir)?;
    for name in ["tmp", "new", "cur"] {
        made |= make_folder(&maildir.join(name))?;
    }
    if made {
        sync_folder(maildir)?;
        maildir.parent().map_or(Ok(()), sync_folder)?;
    }
    Ok(())
}

/// Whether the folder was missing.
fn make_folder(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        result => result.map(|()| true),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A name in the form of the maildir convention: `time.unique.host`.
fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .replace('/', "\\057")
        .replace(':', "\\072");
    format!(
        "{}.M{}P{}Q{}R{:016x}.{host}",
        now.as_secs(),
        now.subsec_micros(),
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed),
        SystemEntropy::default().next_u64(),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn content(text: &[u8]) -> Content {
        let mut content = Content::default();
        content.push(text, Path::new("/")).expect("memory");
        content
    }

    #[test]
    fn makes_the_maildir_and_leaves_nothing_in_tmp() {
        let folder = tempfile::tempdir().expect("a folder");
        let maildir = folder.path().join("Maildir");
        for _ in 0..2 {
            deliver(
                &maildir,
                b"Return-Path: <>\n",
                &content(b"A: b\r\n\r\nhi\r\n"),
            )
            .expect("delivered");
        }
        let names = |name: &str| {
            let entries = fs::read_dir(maildir.join(name)).expect("a folder");
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect::<Vec<_>>()
        };
        assert_eq!((names("tmp").len(), names("cur").len()), (0, 0));
        let new = names("new");
        assert_eq!(new.len(), 2);
        assert_eq!(
            fs::read_to_string(&new[0]).expect("a file"),
            "Return-Path: <>\nA: b\n\nhi\n"
        );
        let mode = fs::metadata(&maildir).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o700);
    }

    #[test]
    fn a_maildir_in_a_folder_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let maildir = folder.path().join("missing/Maildir");
        let error = deliver(&maildir, b"", &content(b"A: b\r\n")).expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!folder.path().join("missing").exists());
    }
}
