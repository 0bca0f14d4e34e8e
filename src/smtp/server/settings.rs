//! The settings of a session.

use crate::smtp::data::LongLines;

/// The role of a port: mail from other hosts, submission, or local programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PortRole {
    /// Port 25: any client, without AUTH.
    Relay,
    /// Ports 587 and 465: users, after AUTH under TLS.
    Submission,
    /// A Unix socket: programs of this machine, known by their uid.
    Local,
}

/// Whether a session is, or can become, encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// There is no certificate, or the socket needs none.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// TLS is on.
    Active,
}

/// The settings of the server that the session must know.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name in the banner and in the reply to EHLO.
    pub hostname: Box<str>,
    /// Bytes of a message (SIZE).
    pub message_bytes_max: u64,
    /// Recipients of a transaction (LIMITS RCPTMAX).
    pub recipients_max: usize,
    /// How long lines of text are handled.
    pub long_lines: LongLines,
}

/// Errors that a client may make. Users and programs of this machine may always deviate in the form of commands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tolerance {
    #[default]
    None,
    /// The form of commands.
    Form,
    /// That, and it may end lines with a LF alone.
    LineEnds,
}
