//! chopar, a mail relay in one small static binary.
//!
//! The crate is laid out in floors; a module imports only from lower ones:
//!
//! | floor | modules | touches the world |
//! | --- | --- | --- |
//! | 6 | `main.rs`, [`cli`] | yes |
//! | 5 | [`setup`], [`shell`] | yes |
//! | 4 | [`engine`] | no |
//! | 3 | [`queue`] | through its `Disk` trait |
//! | 2 | [`config`], [`policy`] | no |
//! | 1 | [`smtp`], [`dns`], [`mail`], [`auth`], [`acme`], [`http`], [`metrics`], [`report`] | no |
//! | 0 | the vocabulary: addresses, dates, limits, … | no |
//!
//! All decisions are made by state machines that do no I/O and hold no clock. They take bytes, answers and the
//! time, and say what they want done; only `shell` and `cli` do it. `tests/layering.rs` holds the floors.

#![forbid(unsafe_code)]
// What input could turn into a panic is denied; a proven exception carries its reason.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::panic
    )
)]
// Whoever decides also counts without overflow, and has the time, chance and all of the world as arguments: .ci/clippy.toml
// lists what it may not name.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]

pub mod acme;
pub mod address;
pub mod auth;
pub mod cause;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "commands: they touch the world"
)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod date;
pub mod dns;
pub mod engine;
pub mod entropy;
pub mod envelope;
pub mod escape;
pub mod http;
pub mod limits;
pub mod mail;
pub mod metrics;
pub mod policy;
pub mod queue;
pub mod queue_id;
pub mod report;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what is done to the machine: it touches the world"
)]
pub mod setup;
#[allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what touches the world for those that decide"
)]
pub mod shell;
pub mod smtp;
pub mod status;
pub mod workload;
pub mod xtext;
