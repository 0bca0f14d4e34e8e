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

/// Whether a session is encrypted, or can become so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// There is no certificate, or the socket needs none.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// TLS is active.
    Active,
}

/// The settings that a session needs.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name in the banner and in the reply to EHLO.
    pub hostname: Box<str>,
    /// Largest size of a message in bytes (SIZE).
    pub message_bytes_max: u64,
    /// Largest number of recipients in a transaction (LIMITS RCPTMAX).
    pub recipients_max: usize,
    /// How overlong lines of the body are handled.
    pub long_lines: LongLines,
}

/// Deviations that are tolerated. Users and programs of this machine may always deviate in the form of commands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tolerance {
    #[default]
    None,
    /// Deviations in the form of commands.
    Form,
    /// Those, and bare LF as line end.
    LineEnds,
}
