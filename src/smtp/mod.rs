//! SMTP (RFC 5321): the grammar, the replies, and both sides of a session.
//!
//! These modules take bytes, verdicts and the time, and return requests; they do not know sockets. The server side is
//! [`server::Session`], the client side [`client::Session`].

pub mod client;
pub mod command;
pub mod data;
pub mod ehlo;
pub mod reply;
pub mod server;
