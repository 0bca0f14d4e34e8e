//! A message on its way into the folder. Invariant: when a draft is complete, file and name are on the disk.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::engine::drop_folder::{FORMAT, name_of};
use crate::entropy::Entropy as _;
use crate::shell::process::time::SystemEntropy;

/// A message in the folder that is not complete yet; it is removed when it is dropped before.
#[derive(Debug)]
pub struct Draft {
    file: File,
    path: PathBuf,
    complete: PathBuf,
}

impl Draft {
    /// Writes a message under a name that the relay ignores. `envelope` is one MAIL line and one RCPT line per
    /// recipient, without line ends. When this returns, the message is on the disk, but its name is not.
    pub fn write(
        folder: &Path,
        envelope: &[String],
        message: &mut dyn io::Read,
    ) -> io::Result<Self> {
        Self::write_for(folder, None, envelope, message)
    }

    /// The same as the relay, for the user whose turn the file takes.
    pub(in crate::shell) fn write_for(
        folder: &Path,
        user: Option<u32>,
        envelope: &[String],
        message: &mut dyn io::Read,
    ) -> io::Result<Self> {
        let name = random_name();
        let path = folder.join(format!(".{name}"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // Half a file is useless; its sender gets an error.
        let draft = Self {
            file,
            path,
            complete: folder.join(name_of(&name, user)),
        };
        write_file(&draft.file, envelope, message)?;
        Ok(draft)
    }

    /// Gives it the name under which the relay accepts it. If this fails, the relay does not accept it, unless the name
    /// cannot even be removed again.
    pub fn complete(self) -> io::Result<()> {
        Self::complete_all(vec![self]).map_err(|incomplete| incomplete.error)
    }

    /// The same for the drafts of one message: all of them get their names, or none keeps one, as far as possible.
    pub fn complete_all(drafts: Vec<Self>) -> Result<(), Incomplete> {
        let named = drafts
            .iter()
            .map(|draft| fs::rename(&draft.path, &draft.complete));
        let mut placed = 0_usize;
        let result = named
            .inspect(|named| placed = placed.saturating_add(usize::from(named.is_ok())))
            .collect::<io::Result<()>>()
            .and_then(|()| match drafts.first() {
                Some(draft) => sync_name(&draft.file, draft.folder()),
                None => Ok(()),
            });
        match result {
            Ok(()) => Ok(()),
            Err(error) => take_back(&drafts, placed, error),
        }
    }

    fn folder(&self) -> &Path {
        self.complete.parent().unwrap_or(Path::new("."))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is complete there is nothing of this name.
        drop(fs::remove_file(&self.path));
    }
}

/// Removes the names of the first `placed` drafts after an error. There is no error if the relay has taken all of them
/// already: then they are on the disk there.
fn take_back(drafts: &[Draft], placed: usize, error: io::Error) -> Result<(), Incomplete> {
    let (mut kept, mut taken) = (0_usize, 0_usize);
    for draft in drafts.iter().take(placed) {
        match fs::remove_file(&draft.complete) {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => taken = taken.saturating_add(1),
            Err(_) => kept = kept.saturating_add(1),
        }
    }
    match taken == drafts.len() {
        true => Ok(()),
        false => Err(Incomplete {
            error,
            left: kept.saturating_add(taken),
            of: drafts.len(),
        }),
    }
}

/// Drafts of one message did not all get their names.
#[derive(Debug)]
pub struct Incomplete {
    pub error: io::Error,
    /// This number of drafts is sent anyway: the relay has taken them, or their names could not be removed.
    pub left: usize,
    pub of: usize,
}

impl From<io::Error> for Incomplete {
    /// If none of them got its name.
    fn from(error: io::Error) -> Self {
        Self {
            error,
            left: 0,
            of: 0,
        }
    }
}

fn write_file(file: &File, envelope: &[String], message: &mut dyn io::Read) -> io::Result<()> {
    let mut out = BufWriter::new(file);
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
    // Whatever the umask is: the relay is another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// Syncs the name of a file. A caller that cannot list the folder may not open it to sync it either, and syncs the
/// whole file system, by a descriptor of the file.
fn sync_name(file: &File, folder: &Path) -> io::Result<()> {
    match sync_folder(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Ok(rustix::fs::syncfs(file)?)
        }
        result => result,
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Long enough that it cannot be guessed.
pub(super) fn random_name() -> String {
    let mut random = [0; 16];
    SystemEntropy::default().fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
