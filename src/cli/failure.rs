//! How a command ends when it could not do what it was asked.

use std::fmt;

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

    /// The exit code.
    pub const fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
