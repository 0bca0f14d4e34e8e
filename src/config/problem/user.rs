//! Errors in users files.

use std::fmt;

use crate::login::credential::CredentialError;

/// An error of a user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UserProblem {
    /// No line of a users file.
    Line,
    Credential(CredentialError),
    /// An option of a user that is not known.
    UserOption {
        text: String,
    },
    /// No pattern of `send_as`.
    SendAs {
        text: String,
    },
}

impl fmt::Display for UserProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => out.write_str(
                "expected NAME:{SCRAM-SHA-256}...; add users with chopar user add NAME@DOMAIN",
            ),
            Self::Credential(error) => {
                write!(
                    out,
                    "{error}; set the password again with chopar user passwd"
                )
            }
            Self::UserOption { text } => {
                write!(
                    out,
                    "{text:?} is not an option of a user; send_as=PATTERN,... is the only one"
                )
            }
            Self::SendAs { text } => write!(
                out,
                "{text:?} is not a pattern; write name@example.com, *@example.com or *"
            ),
        }
    }
}
