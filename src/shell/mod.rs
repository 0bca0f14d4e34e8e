//! The thin shell around the engine: sockets, TLS, files, threads, time.
//!
//! [`daemon::run`] puts the parts together; the event loop routes readiness to them and events to the engine, does what
//! the engine wants, and sleeps. Nothing here decides what becomes of a message.

pub mod daemon;
pub mod drop_folder;
pub mod file_disk;
pub mod folder;
pub mod handshake;
pub mod helper;
pub mod interruption;
pub mod journal_writer;
pub mod last_good;
pub mod link;
pub mod loading;
pub mod log;
pub mod own_folder;
pub mod ownership;
pub mod plain_file;
pub mod privilege;
pub mod published;
pub mod renewals;
pub mod replace;
pub mod signals;
pub mod time;
pub mod timed;
pub mod tls;

mod access;
mod alias_targets;
pub mod certificate;
pub mod certificate_files;
mod certificate_log;
mod drop_runs;
mod event_loop;
mod greylist_file;
mod handover;
pub mod listen;
pub mod passed;
pub mod roots;
mod run_error;
mod sandbox;
mod secret;
mod slab;
mod stream;
mod streams;
mod system_calls;
mod systemd;
mod udp;
mod workers;
