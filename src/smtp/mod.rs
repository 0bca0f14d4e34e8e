//! SMTP (RFC 5321): the grammar, the replies, and both sides of a session.
//!
//! Everything here takes bytes, verdicts and the time, and returns what it wants done; nothing knows a socket. The
//! server side is [`server::Session`], the client side [`client::Session`].

pub mod client;
pub mod command;
pub mod data;
pub mod ehlo;
pub mod reply;
pub mod server;
