//! Errors in aliases files.

use std::fmt;

use crate::limits::ALIAS_TARGETS_MAX;

/// An error of an alias.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AliasProblem {
    /// No line of an aliases file.
    Line,
    /// The name of an alias is not a local part.
    Name { text: String },
    /// The name of an alias is an address of another domain.
    Foreign {
        /// The domain whose file it belongs in.
        domain: String,
    },
    /// An alias that leads nowhere.
    Empty,
    /// No target of an alias.
    Target { text: String },
    /// An alias with too many targets.
    Targets,
    /// No command of an alias.
    Command,
    /// A command in quotes, which must be written without.
    Quoted,
    /// A file as a target.
    File,
    /// An alias that leads to itself.
    Loop,
}

impl fmt::Display for AliasProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => out.write_str("expected NAME: TARGET, TARGET; the colon is missing"),
            Self::Name { text } => write!(
                out,
                "{text:?} is not a name; write the part before the @, or * for all other names"
            ),
            Self::Foreign { domain } => write!(
                out,
                "this is an address of another domain; write it into domains/{domain}/aliases"
            ),
            Self::Empty => {
                out.write_str("the alias has no target; write an address after the colon")
            }
            Self::Target { text } => write!(
                out,
                "{text:?} is not a target; write an address, \"ADDRESS via HOST\", lmtp:/path, lmtp:HOST:PORT, maildir:/path, \
                 discard: or \"| /path/to/program\""
            ),
            Self::Targets => {
                write!(
                    out,
                    "the alias has more than {ALIAS_TARGETS_MAX} targets; use a list server"
                )
            }
            Self::Command => out.write_str(
                "expected the full path of a program after the |, with its arguments; quotes must be closed",
            ),
            Self::Quoted => out.write_str(
                "the quotes enclose the |; write it outside of them, like: | /path/to/program \"an argument\"",
            ),
            Self::File => out.write_str(
                "chopar does not write mail to files; write maildir:/path for a maildir, or discard: to discard it",
            ),
            Self::Loop => out.write_str(
                "the alias leads back to itself, or through too many others; let one of them lead elsewhere",
            ),
        }
    }
}
