//! `chopar init`: a machine and a folder made ready, safe to run again.
//!
//! ```text
//!   facts (what the machine has) ──> plan (pure) ──> entries: done, kept, left to the operator
//!                                                      └──> perform (each step by itself)
//! ```
//!
//! Invariant: nothing that is there is changed. What a plan has is missing, or is a line that `init` itself wrote as a
//! comment, or is a folder of which the daemon's account has become the owner; what belongs to another program is named, with
//! the commands that move it, and left alone.

pub mod account;
pub mod certificate;
mod existing;
pub mod facts;
pub mod ignore_file;
pub mod links;
pub mod machine;
pub mod man_pages;
pub mod passed_over;
pub mod perform;
pub mod plan;
pub mod ports;
pub mod secret_word;
pub mod service;
pub mod settings_text;
pub mod signing_keys;
pub mod step;
pub mod wishes;
