//! What becomes of the mail that unauthenticated clients bring: whose it is, what follows, and how it goes on to
//! another host.
//!
//! The whole engine with a zone that says what a test tells it to, and a far host that takes everything; without
//! sockets, in the time that it takes to compute.

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
