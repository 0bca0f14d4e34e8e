//! Server sessions: the SMTP server side, with the identity of each client and what it may do.
//!
//! The session machine asks ([`Request`]). This file answers from policy at once, or after a worker or the disk has
//! answered.

mod abuse;
mod acceptance;
mod authentication;
mod blocks;
mod closing;
mod deadline;
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
