//! The thin shell around the engine: sockets, TLS, files, threads, time.
//!
//! [`daemon::run`] puts the parts together. The event loop routes readiness to them and events to the engine, performs
//! the engine's actions, and sleeps. Nothing here decides about a message.

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
