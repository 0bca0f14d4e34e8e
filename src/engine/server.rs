//! Sessions that come in: the SMTP server's end, with who is at the other side and what it may do.
//!
//! The session machine asks ([`Request`]), this file answers from policy at once, or later when a worker or the disk
//! has answered.

mod abuse;
mod acceptance;
mod authentication;
mod blocks;
mod closing;
mod derivations;
mod evictable;
mod examination;
mod guard;
mod holder;
mod holding;
mod hook;
mod intake;
mod login;
mod message;
mod opening;
mod question;
mod room;
mod sasl;
mod session;
mod turn;
mod verdict;
mod verification;

pub(super) use session::Server;
