//! `spool/drop/`: messages that `sendmail` left as files while the relay was down.
//!
//! ```text
//! chopar-drop 1
//! OWNER 1000 1790000000               only in files of the relay's own: whose the message is, and since when
//! MAIL FROM:<a@example.com> SIZE=42
//! RCPT TO:<b@example.org>
//!                                     an empty line, then the message, lines ending in CRLF, dots not stuffed
//! ```
//!
//! The folder is 1733: everybody may add to it and nobody but the relay may list it. A file is written under a name
//! that begins with a dot, synced, and renamed to `RANDOM.msg`; it is readable, since the relay is not its owner, but
//! its name cannot be guessed. Who owns the file is who sends it: each is spoken to the relay's own submission as its
//! owner would have. `sendmail` has exited 0 for it, so each recipient gets the message, or its sender a DSN:
//!
//! ```text
//!                            .--> queued, or returned to the sender: removed once it is on the disk
//!   opened --> checked --> played --> some of it deferred: replaced by a file for these recipients alone
//!      |          |          '--> all of it deferred: waits, longer each time, and is returned after give_up_after
//!      '----------'--> not in this form: set aside in spool/damaged/ with one line in the log
//! ```
//!
//! Invariant: nothing that is in this form is set aside, and nothing that is not is looked at twice.

mod checked;
mod play;
mod returned;
mod round;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::time::SystemEntropy;
use crate::entropy::Entropy as _;

pub(super) use round::{Rules, Tries, is_anything_there, send_all};

/// The first line of a file.
const FORMAT: &str = "chopar-drop 1";
/// The end of the name of a file that is complete.
const COMPLETE: &str = ".msg";

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

/// A message in the folder that is not complete yet; it is removed when it is dropped before.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    complete: PathBuf,
}

impl Draft {
    /// Writes a message under a name that the relay does not look at. `envelope` is one MAIL line and one RCPT line a
    /// recipient, without line ends. When this returns the message is on the disk.
    pub fn write(
        folder: &Path,
        envelope: &[String],
        message: &mut dyn io::Read,
    ) -> io::Result<Self> {
        let mut random = [0; 16];
        SystemEntropy::default().fill(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Half a file is worth nothing to anybody; its sender is told.
        let draft = Self {
            path: folder.join(format!(".{name}")),
            complete: folder.join(format!("{name}.msg")),
        };
        write_file(&draft.path, envelope, message)?;
        Ok(draft)
    }

    /// Gives it the name under which the relay takes it.
    pub fn complete(self) -> io::Result<()> {
        fs::rename(&self.path, &self.complete)?;
        sync_folder(self.complete.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is complete there is nothing of this name.
        drop(fs::remove_file(&self.path));
    }
}

fn write_file(path: &Path, envelope: &[String], message: &mut dyn io::Read) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = BufWriter::new(&file);
    out.write_all(FORMAT.as_bytes())?;
    out.write_all(b"\n")?;
    for line in envelope {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")?;
    io::copy(message, &mut out)?;
    out.flush()?;
    drop(out);
    // Whatever the umask is: the relay has another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// Who cannot list the folder may not open it to sync it either; the file itself is synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
