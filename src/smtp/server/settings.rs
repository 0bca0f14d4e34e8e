//! The settings of a session.

use crate::smtp::data::LongLines;

/// What a port is for: mail from other hosts, submission, or local programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PortRole {
    /// Port 25: anybody, without AUTH.
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

/// What the session must know of the server's configuration.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name in the banner and in the reply to EHLO.
    pub hostname: Box<str>,
    /// Bytes of a message (SIZE).
    pub message_bytes_max: u64,
    /// Recipients of a transaction (LIMITS RCPTMAX).
    pub recipients_max: usize,
    /// What is done about long lines of text.
    pub long_lines: LongLines,
}

/// What a client may get wrong. Users and programs of this machine may get the form of commands wrong anyway.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tolerance {
    #[default]
    None,
    /// The form of commands.
    Form,
    /// That, and it may end lines with a LF alone.
    LineEnds,
}
