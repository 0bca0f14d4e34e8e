//! Why the relay does not run, and the exit code for that.

use std::path::PathBuf;
use std::{fmt, io};

use crate::queue::OpenError;
use crate::shell::files::loading::LoadError;
use crate::shell::files::own_folder::OwnFolderError;
use crate::shell::net::listen::ListenError;
use crate::shell::process::privilege::PrivilegeError;
use crate::shell::spool::file_disk::SpoolError;
use crate::shell::tls::TlsError;

/// Why the relay does not run.
#[derive(Debug)]
pub enum RunError {
    /// The configuration has errors, each a sentence.
    Config(Vec<String>),
    /// A folder cannot be made, or has a wrong owner or mode.
    Folder(OwnFolderError),
    /// A socket cannot be bound.
    Listen(ListenError),
    /// The process cannot switch to the account.
    Privilege(PrivilegeError),
    /// The spool cannot be opened.
    Spool(PathBuf, SpoolError),
    /// The journal cannot be read.
    Journal(PathBuf, OpenError),
    /// The SRS secret cannot be read or made.
    Secret(PathBuf, io::Error),
    /// TLS cannot be set up.
    Tls(TlsError),
    /// A basic system service is missing.
    System(&'static str, io::Error),
    /// The journal's thread has ended.
    Writer,
    /// The helper has ended.
    Helper,
}

impl RunError {
    /// The exit code of sysexits.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Folder(..) | Self::Listen(_) | Self::Spool(..) => 73,
            Self::Privilege(_) => 77,
            Self::Journal(..) | Self::Secret(..) => 74,
            Self::Tls(_) | Self::System(..) => 71,
            Self::Writer | Self::Helper => 70,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => {
                for error in errors {
                    writeln!(out, "{error}")?;
                }
                write!(
                    out,
                    "the configuration has errors; correct them until chopar check prints none"
                )
            }
            Self::Folder(error) => write!(out, "{error}"),
            Self::Listen(error) => write!(out, "{error}"),
            Self::Privilege(error) => write!(out, "{error}"),
            Self::Spool(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Journal(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Secret(path, error) => write!(
                out,
                "{}: {error}; the file holds a secret of 16 bytes or more on each line, and a new one is created if \
                 it is missing",
                path.display()
            ),
            Self::Tls(error) => write!(out, "{error}"),
            Self::System(what, error) => write!(out, "the system gives no {what}: {error}"),
            Self::Helper => out.write_str(
                "the helper has ended, without which no hook, program or maildir is reached; start chopar again",
            ),
            Self::Writer => {
                out.write_str("the journal's thread has ended; everything that it accepted is on the disk")
            }
        }
    }
}

impl std::error::Error for RunError {}

impl From<LoadError> for RunError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Config(errors) => Self::Config(errors),
            LoadError::Privilege(error) => Self::Privilege(error),
        }
    }
}
