//! Inbound mail through the whole engine: sender authentication, forwarding, deliveries, limits and sessions.
//!
//! Each test defines its DNS zone and the behaviour of remote hosts. There are no sockets, and time is simulated.

mod authenticity;
mod authority;
mod deadlines;
mod deliveries;
mod examination;
mod forwarding;
mod leaks;
mod logins;
mod many_clients;
mod memory;
mod sessions;
mod shares;
mod slow_relay;
#[allow(dead_code, reason = "shared with the dialogues, which use more of it")]
#[path = "../stage/mod.rs"]
mod stage;
mod submission;
mod tools;
mod turns;
mod world;
