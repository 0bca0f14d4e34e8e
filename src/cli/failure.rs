//! How a command ends when it fails.

use std::fmt;
use std::io;
use std::path::Path;

/// One sentence for a person and one code for a program (`sysexits`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// A failure with this exit code; the sentence says what to do next.
    pub fn new(code: u8, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    /// A file or folder of the configuration that cannot be read or written.
    pub fn of_file(code: u8, path: &Path, error: &io::Error) -> Self {
        Self::new(code, format!("{}: {error}{}", path.display(), cure(error)))
    }

    /// The code of `sysexits.h` that the process ends with.
    pub const fn exit_code(&self) -> u8 {
        self.code
    }
}

/// The remedy for a system error, to be put behind it.
pub(super) fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; use sudo",
        _ => "",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
