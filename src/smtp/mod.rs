//! SMTP (RFC 5321): the grammar, the replies, and both ends of a session.
//!
//! Everything here takes bytes, verdicts and the time and says what it wants; nothing knows a socket. The server's
//! end is [`server::Session`], the client's [`client::Session`].

pub mod client;
pub mod command;
pub mod data;
pub mod ehlo;
pub mod reply;
pub mod server;
