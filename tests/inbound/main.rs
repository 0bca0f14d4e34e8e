//! Mail of unauthenticated clients: sender authentication, its effect, and forwarding to another host.
//!
//! The whole engine with a zone that each test defines, and a remote host that accepts everything; without sockets and
//! without real waiting.

mod authenticity;
mod authority;
mod deliveries;
mod examination;
mod forwarding;
mod leaks;
mod sessions;
mod shares;
#[allow(dead_code, reason = "shared with the dialogues, which use more of it")]
#[path = "../stage/mod.rs"]
mod stage;
mod submission;
mod turns;
mod world;
