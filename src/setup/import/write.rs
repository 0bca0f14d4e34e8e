//! Writes an imported configuration into a folder that does not exist yet, or is empty.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::NewFile;
use crate::setup::init::perform::{StepError, make_config_folder};
use crate::shell::files::ownership::make_folders;
use crate::shell::files::replace::replace_in;

/// Why nothing, or not all, was written.
#[derive(Debug)]
pub enum WriteError {
    /// There is something in the folder.
    NotEmpty(PathBuf),
    /// A file or folder cannot be made.
    Failed(PathBuf, io::Error),
    /// The folder itself cannot be made.
    Folder(StepError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty(path) => write!(
                out,
                "{} is not empty, and nothing is written over: name a new folder with --into",
                path.display()
            ),
            Self::Failed(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Folder(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Writes the files.
pub fn write(into: &Path, files: &[NewFile]) -> Result<(), WriteError> {
    let failed = |path: &Path, error| WriteError::Failed(path.to_owned(), error);
    match fs::read_dir(into).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(WriteError::NotEmpty(into.to_owned())),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_config_folder(into).map_err(WriteError::Folder)?;
        }
        Err(error) => return Err(failed(into, error)),
    }
    for file in files {
        let path = into.join(&file.path);
        let folder = path.parent().unwrap_or(into);
        make_folders(into, folder).map_err(|error| failed(folder, error))?;
        let mode = match file.is_secret {
            true => 0o640,
            false => 0o644,
        };
        replace_in(into, &path, &file.bytes, mode).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
