//! The process: its account, its rights, signals, systemd, clocks, and its log.

pub mod interruption;
pub mod log;
pub mod privilege;
pub(super) mod sandbox;
pub mod signals;
pub(super) mod system_calls;
pub(super) mod systemd;
pub mod time;
