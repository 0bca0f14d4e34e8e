//! `chopar init`: sets up a machine and a folder, and is safe to run again.
//!
//! ```text
//!   facts (what the machine has) ──> plan (pure) ──> entries: done, kept, left to the operator
//!                                                      └──> perform (each step by itself)
//! ```
//!
//! Invariant: nothing that exists is changed. A plan only adds what is missing, activates lines that `init` itself
//! wrote as comments, and changes folders whose owner the daemon's account has become. Files of another program are
//! named, with the commands that move them, and left alone.

pub mod account;
pub mod certificate;
mod existing;
pub mod facts;
pub mod generated_password;
pub mod ignore_file;
pub mod links;
pub mod machine;
pub mod man_pages;
pub mod options;
pub mod perform;
pub mod plan;
pub mod ports;
pub mod service;
pub mod settings_text;
pub mod signing_keys;
pub mod step;
pub mod unused_options;
