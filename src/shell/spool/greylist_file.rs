//! The file that keeps the greylist between two runs: read at the start, replaced at the end.
//!
//! It is only a convenience: if it cannot be read or written, the log says so and mail continues.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::engine::log::{Level, Line};
use crate::policy::greylist::IMAGE_BYTES_MAX;
use crate::shell::files::replace::replace;
use crate::shell::process::log;

pub(in crate::shell) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("greylist")
}

/// Reads the file; `None` if there is none.
pub(in crate::shell) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than it may have is enough to see that it is too long.
    let read = File::open(path).and_then(|file| {
        file.take(IMAGE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            say(path, &error);
            None
        }
    }
}

/// Replaces it whole.
pub(in crate::shell) fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = replace(path, bytes, 0o600) {
        say(path, &error);
    }
}

fn say(path: &Path, error: &io::Error) {
    let line = Line::new(Level::Warning, "greylist").with("file", path.display());
    log::write(&line.with("why", error));
}
