//! The thin shell around the engine: sockets, TLS, files, threads, time.
//!
//! [`daemon::run`] puts the parts together; the event loop routes readiness to them and events to the engine, does what
//! the engine wants, and sleeps. Nothing here decides what becomes of a message.

pub mod certificates;
mod channel;
pub mod daemon;
mod event_loop;
pub mod files;
pub mod helper;
pub mod net;
pub mod process;
pub mod renewals;
mod run_error;
pub mod spool;
pub mod tls;
mod workers;
