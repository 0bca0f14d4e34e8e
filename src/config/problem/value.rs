//! Errors in values of a form that many keys share.

use std::fmt;

/// An error of a value, for any key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueProblem {
    /// A path that does not begin with `/`.
    RelativePath {
        text: String,
    },
    /// No name of an account.
    Account {
        text: String,
    },
    Size {
        text: String,
    },
    Duration {
        text: String,
    },
    /// Too small a value.
    TooSmall {
        /// The least, as it would be written.
        least: &'static str,
    },
    /// No IP address of the family.
    IpAddress {
        text: String,
    },
    /// None of `any`, `ipv4`, `ipv6`.
    Family {
        text: String,
    },
    /// None of the words that a key takes.
    Word {
        text: String,
        /// The accepted words.
        words: String,
    },
    /// Characters that cannot have a meaning in local parts.
    Characters {
        text: String,
    },
    /// No server on which mail is read.
    Incoming {
        text: String,
    },
}

impl fmt::Display for ValueProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelativePath { text } => {
                write!(out, "{text:?} is not an absolute path; begin it with /")
            }
            Self::Account { text } => write!(
                out,
                "{text:?} is not an account; write the name of the account that chopar runs as, numbers like \"65534:65534\", or \
                 \"none\""
            ),
            Self::Size { text } => write!(
                out,
                "{text:?} is not a size; write a number with B, KiB, MiB or GiB, like \"50 MiB\""
            ),
            Self::Duration { text } => write!(
                out,
                "{text:?} is not a duration; write a number with s, m, h or d, like \"4d\" or \"30m\""
            ),
            Self::TooSmall { least } => {
                write!(out, "the value is too small; the minimum is {least}")
            }
            Self::IpAddress { text } => {
                write!(out, "{text:?} is not an IP address that can be used here")
            }
            Self::Family { text } => {
                write!(out, "{text:?} is not one of \"any\", \"ipv4\" and \"ipv6\"")
            }
            Self::Word { text, words } => {
                write!(
                    out,
                    "{text:?} is not one of the words allowed here: {words}"
                )
            }
            Self::Characters { text } => write!(
                out,
                "{text:?} holds letters, digits, white space or quotes; write characters like \"+\" or \"-\""
            ),
            Self::Incoming { text } => write!(
                out,
                "{text:?} is not the URL of a server for reading mail; write it like \"imaps://imap.example.net\""
            ),
        }
    }
}
