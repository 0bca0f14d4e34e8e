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
// What input could turn into a panic is denied below the shell; a proven exception carries its reason.
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

pub mod acme;
pub mod address;
pub mod auth;
pub mod cause;
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
pub mod setup;
pub mod shell;
pub mod smtp;
pub mod status;
pub mod workload;
pub mod xtext;
